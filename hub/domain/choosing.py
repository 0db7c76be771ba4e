"""Choosing: whom the rules of a procedure come to at some places, and for how long that holds. Pure.

Business of this file: the walk through a plan, which is what an explanation tells. Which rules apply has been
asked before; which files each gets is `matching`'s, and so is remembering what was chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

from hub.domain.decisions import Reason, SetAside, Unroutable
from hub.domain.identity import Subscriber
from hub.domain.plans import (
    PART_SLOTS,
    Answer,
    Candidate,
    Choice,
    Chosen,
    Found,
    Grant,
    Plan,
    PlannedRule,
)
from hub.domain.rules import ALWAYS, Period, SubscriptionState
from hub.domain.territory import SLOT_OF, Level, Resolution


class Trace(Protocol):
    """Who wants to know why: told of each step that does not show in the verdict."""

    def outranked(self, rule: PlannedRule) -> None: ...

    def not_in_force(self, rule: PlannedRule) -> None: ...

    def condition_fails(self, rule: PlannedRule) -> None: ...

    def looks_at(self, rule: PlannedRule, place: str | None) -> None:
        """A place around, or None: the rule asks for no place, or the submission does not say it."""
        ...

    def weighs(self, candidate: Candidate, why_not: str | None) -> None:
        """A candidate there; None: it is chosen."""
        ...


class Situation(NamedTuple):
    """What a choice depends on: `places` by fact, the sum of the bits of the rules that do `not_apply`, and
    the instant."""

    plan: Plan
    places: Mapping[str, Resolution]
    not_apply: int
    at: datetime
    trace: Trace | None = None


def choose(situation: Situation) -> Choice:
    walk = _Walk(situation)
    return Choice(walk.grants(), walk.verdict(), walk.period())


@dataclass(slots=True)
class _Walk:
    on: Situation
    found: list[tuple[PlannedRule, Chosen]] = field(default_factory=list)
    missed: list[tuple[PlannedRule, bool]] = field(default_factory=list)
    asked: list[PlannedRule] = field(default_factory=list)
    quarantined: str | None = None

    def grants(self) -> tuple[Grant, ...]:
        decided, rank = "", 0
        for rule in self.on.plan.rules:
            if rule.recipient == decided and rule.priority < rank:
                if self.on.trace is not None:
                    self.on.trace.outranked(rule)
            elif self._applies(rule):
                decided, rank = rule.recipient, rule.priority
                self._ask(rule)
            else:
                self.missed.append((rule, False))
            if self.quarantined is not None:
                return ()
        return _grants(self.found)

    def _ask(self, rule: PlannedRule) -> None:
        """And then, as long as nobody is found, the rules that act in its stead."""
        acting: PlannedRule | None = rule
        while acting is not None:
            applies = acting is rule or self._applies(acting)
            chosen = self._find(acting) if applies else ()
            if chosen:
                self.found.append((acting, chosen))
                return
            self.missed.append((acting, applies))
            if acting.quarantine:
                self.quarantined = acting.id
                return
            acting = acting.otherwise

    def _applies(self, rule: PlannedRule) -> bool:
        applies, trace = not rule.bit & self.on.not_apply, self.on.trace
        if trace is not None and not applies:
            in_force = rule.period is None or rule.period.holds(self.on.at)
            (trace.condition_fails if in_force else trace.not_in_force)(rule)
        return applies

    def _find(self, rule: PlannedRule) -> Chosen:
        self.asked.append(rule)
        return find(rule, self.on)

    def verdict(self) -> SetAside | Unroutable | None:
        if self.quarantined is not None:
            return SetAside(f"quarantined:{self.quarantined}")
        if self.found:
            return None
        return Unroutable(tuple(_where(rule, applies, self.on.places) for rule, applies in self.missed))

    def period(self) -> Period | None:
        """The time around the instant in which none of the dates lies that it may have looked at."""
        at = self.on.at
        dates = {date for rule in self.asked if rule.dated for date in _dates(rule, self.on)}
        if not dates:
            return None
        around = Period(
            max((date for date in dates if date <= at), default=ALWAYS.since),
            min((date for date in dates if date > at), default=ALWAYS.until),
        )
        return None if around == ALWAYS else around


def _grants(found: Sequence[tuple[PlannedRule, Chosen]]) -> tuple[Grant, ...]:
    """One for a subscriber, however many rules end at it."""
    each = [(one.subscriber, one, rule) for rule, chosen in found for one in chosen]
    if len(each) > 1:
        each.sort(key=_BY_SUBSCRIBER)
    return tuple([_grant(list(those)) for _, those in groupby(each, _BY_SUBSCRIBER)])


_BY_SUBSCRIBER = itemgetter(0)


def _grant(those: Sequence[tuple[Subscriber, Found, PlannedRule]]) -> Grant:
    subscriber, one, rule = those[0]
    if len(those) == 1:
        if one.grant is None:
            one.grant = Grant(subscriber, one.reasons, rule.mailbox, rule.alone)
        return one.grant
    return Grant(
        subscriber,
        # Two rules may fall back on one, whose reason then comes twice.
        tuple(dict.fromkeys(reason for _, one, _ in those for reason in one.reasons)),
        all(rule.mailbox for _, _, rule in those),
        tuple(rule for _, _, rule in those),
    )


# --- finding whom a rule names ------------------------------------------------------------------------


def find(rule: PlannedRule, on: Situation) -> Chosen:
    """Whom a rule that applies finds."""
    if rule.anywhere is not None:
        if on.trace is not None:
            on.trace.looks_at(rule, None)
        return _weigh(rule.anywhere, on)
    resolution = on.places.get(rule.fact)
    if resolution is None:
        if on.trace is not None:
            on.trace.looks_at(rule, None)
        return ()
    for slot in _slots(rule, resolution.around, on):
        if on.trace is not None and resolution.around[slot] is not None:
            on.trace.looks_at(rule, resolution.around[slot])
        answer = rule.answers.get(resolution.around[slot])
        chosen = () if answer is None else _weigh(answer, on)
        if chosen:
            return chosen if slot in PART_SLOTS else _by_way_of(resolution, chosen)
    return ()


def _slots(rule: PlannedRule, around: tuple[str | None, ...], on: Situation) -> tuple[int, ...]:
    if on.plan.handed is None:
        return rule.slots
    handed = any(period.holds(on.at) for period in _handed(on.plan, around))
    return rule.if_handed if handed else rule.unless_handed


def _handed(plan: Plan, around: tuple[str | None, ...]) -> tuple[Period, ...]:
    return (plan.handed or {}).get(around[_COMMUNE] or "", ())


_COMMUNE = SLOT_OF[Level.COMMUNE]


def _weigh(answer: Answer, on: Situation) -> Chosen:
    """Those of its candidates that count at this instant, each as who stands for it then."""
    if answer.sure is not None and on.trace is None:
        return answer.sure
    chosen: list[Found] = []
    for candidate in answer.candidates:
        why_not = None if candidate.sure else _why_not(candidate, on.at)
        if on.trace is not None:
            on.trace.weighs(candidate, why_not)
        if why_not is None:
            chosen.append(_succeeded(candidate, on.plan, on.at))
    return tuple(chosen)


def _why_not(candidate: Candidate, at: datetime) -> str | None:
    subscription = candidate.subscription
    if subscription is None:
        return None
    if subscription.state is not SubscriptionState.ACTIVE:
        return f"the subscription is {subscription.state}"
    if at < subscription.period.since:
        return "the subscription had not begun"
    if at >= subscription.period.until:
        return "the subscription had ended"
    return None


def _succeeded(candidate: Candidate, plan: Plan, at: datetime) -> Found:
    subscriber, reasons = candidate.subscriber, candidate.reasons
    while (succession := plan.successions.get(subscriber)) is not None and succession.since <= at:
        step = f"{subscriber} → {succession.subscriber} (succession)"
        reasons = (reasons[0]._replace(steps=(*reasons[0].steps, step)),)
        subscriber = succession.subscriber
    return Found(subscriber, reasons)


def _by_way_of(resolution: Resolution, chosen: Chosen) -> Chosen:
    """The steps that led to the place come before those from there."""
    if not resolution.steps:
        return chosen
    led = tuple(map(str, resolution.steps))
    return tuple([Found(one.subscriber, tuple([_led(led, why) for why in one.reasons])) for one in chosen])


def _led(steps: tuple[str, ...], reason: Reason) -> Reason:
    return Reason(reason.rule, reason.recipient, reason.subscription, steps + reason.steps)


# --- when it changes, and where it looked -------------------------------------------------------------


def _dates(rule: PlannedRule, on: Situation) -> Iterator[datetime]:
    """Those by which `find` may come to something else, with this rule at these places."""
    if rule.anywhere is not None:
        yield from rule.anywhere.dates
    resolution = on.places.get(rule.fact)
    if resolution is None:
        return
    around = resolution.around
    if on.plan.handed is not None:
        for period in _handed(on.plan, around):
            yield from (period.since, period.until)
    for slot in rule.slots:
        answer = rule.answers.get(around[slot])
        if answer is not None and answer.dates:
            yield from answer.dates


def _where(rule: PlannedRule, applies: bool, places: Mapping[str, Resolution]) -> str:
    """Where a rule looked, for the operator."""
    if not applies:
        return f"{rule.id}: it does not apply"
    if rule.anywhere is not None:
        return f"{rule.id}: nobody subscribes"
    resolution = places.get(rule.fact)
    if resolution is None:
        return f"{rule.id}: the submission does not say {rule.fact}"
    looked = ", ".join(place for slot in rule.slots if (place := resolution.around[slot]) is not None)
    return f"{rule.id}: nobody subscribes for {looked or resolution.place}"
