"""Matching: from a submission's routing facts and a rule book to a verdict. Pure, and a few look-ups.

How many candidates are looked at depends on who subscribes around one place, never on how many partners
there are. The lines of `match` are few and plain because a national register passes through them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Protocol
from uuid import UUID

from hub.domain.decisions import Decision, Reason, Recipient, Routed, SetAside, Unroutable, Verdict
from hub.domain.identity import ParcelKind, Subscriber, delivery_id
from hub.domain.plans import PART_SLOTS, Answer, Candidate, Plan, PlannedRule
from hub.domain.rule_book import RuleBook, Snapshot
from hub.domain.rules import Period, Rule, SubscriptionState
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.domain.territory import SLOT_OF, Level, Resolution

FIRST = 1

_UNKNOWN_PROCEDURE = SetAside("unknown_procedure")
_UNKNOWN_PLACE = SetAside("unknown_place")

Chosen = Sequence[tuple[Subscriber, tuple[Reason, ...]]]
"""Whom a rule found, each with its reason."""
Found = tuple[PlannedRule, Chosen]


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


def decide(submission: RoutingFacts, snapshot: Snapshot) -> Decision:
    """The first decision of a submission: the same for ever, whoever asks, whenever."""
    verdict = match(submission, snapshot.book)
    return Decision(submission.submission, FIRST, snapshot.number, verdict, _names(submission, verdict))


def _names(submission: RoutingFacts, verdict: Verdict) -> tuple[UUID, ...]:
    if not isinstance(verdict, Routed):
        return ()
    return tuple(
        delivery_id(submission.submission, recipient.subscriber, ParcelKind.SUBMISSION, FIRST)
        for recipient in verdict.recipients
    )


def match_all(submissions: Iterable[RoutingFacts], book: RuleBook) -> list[Verdict]:
    """One verdict for each, in order."""
    return [match(submission, book) for submission in submissions]


def match(submission: RoutingFacts, book: RuleBook, trace: Trace | None = None) -> Verdict:
    plan = book.plans.get(submission.procedure)
    if plan is None:
        return _UNKNOWN_PROCEDURE
    facts = submission.facts
    codes = book.territory.codes
    places: dict[str, Resolution] = {}
    for name in plan.place_facts:
        value = facts.get(name)
        if value is not None:
            resolution = codes.get(value) or book.territory.read(value)
            if resolution is None:
                return _UNKNOWN_PLACE
            places[name] = resolution
    at = submission.received_at
    found: list[Found] = []
    missed: list[tuple[PlannedRule, bool]] = []
    decided, rank = "", 0
    for rule in plan.rules:
        if not rule.plain:
            if rule.recipient == decided and rule.priority < rank:
                if trace is not None:
                    trace.outranked(rule)
                continue
            if not _applies(rule, facts, at, trace):
                missed.append((rule, False))
                continue
            decided, rank = rule.recipient, rule.priority
        applies = True
        chosen = _find(rule, places, plan, at, trace)
        while not chosen:
            missed.append((rule, applies))
            if rule.quarantine:
                return SetAside(f"quarantined:{rule.id}")
            if rule.otherwise is None:
                break
            rule = rule.otherwise  # the fallback acts in its stead
            applies = _applies(rule, facts, at, trace)
            if applies:
                chosen = _find(rule, places, plan, at, trace)
        if chosen:
            found.append((rule, chosen))
    if not found:
        return Unroutable(tuple(_where(rule, applies, places) for rule, applies in missed))
    if len(found) == 1 and len(found[0][1]) == 1:
        rule, ((subscriber, reasons),) = found[0]
        numbers = _files(rule, submission.attachments)
        return Routed((_new(Recipient, (subscriber, numbers, reasons, rule.mailbox)),))
    return Routed(_recipients(submission.attachments, found))


def _applies(rule: PlannedRule, facts: Mapping[str, str], at: datetime, trace: Trace | None) -> bool:
    period = rule.period
    if period is not None and not period.since <= at < period.until:
        if trace is not None:
            trace.not_in_force(rule)
        return False
    if rule.holds is not None and not rule.holds(facts):
        if trace is not None:
            trace.condition_fails(rule)
        return False
    return True


# --- finding whom a rule names ------------------------------------------------------------------------


def _find(
    rule: PlannedRule, places: Mapping[str, Resolution], plan: Plan, at: datetime, trace: Trace | None
) -> Chosen:
    answer = rule.anywhere
    if answer is not None:
        if trace is not None:
            trace.looks_at(rule, None)
        if answer.sure is not None and trace is None:
            return answer.sure
        return _weigh(answer, plan, at, trace)
    resolution = places.get(rule.fact)
    if resolution is None:
        if trace is not None:
            trace.looks_at(rule, None)
        return ()
    around = resolution.around
    slots = rule.slots if plan.handed is None else _competent_slots(rule, plan.handed, around, at)
    for slot in slots:
        if trace is not None and around[slot] is not None:
            trace.looks_at(rule, around[slot])
        answer = rule.answers.get(around[slot])
        if answer is None:
            continue
        chosen: Chosen | None = answer.sure
        if chosen is None or trace is not None:
            chosen = _weigh(answer, plan, at, trace)
            if not chosen:
                continue
        if resolution.steps and slot not in PART_SLOTS:
            return _by_way_of(resolution, chosen)
        return chosen
    return ()


def _competent_slots(
    rule: PlannedRule,
    handed: Mapping[str, tuple[Period, ...]],
    around: tuple[str | None, ...],
    at: datetime,
) -> tuple[int, ...]:
    for period in handed.get(around[_COMMUNE] or "", ()):
        if period.since <= at < period.until:
            return rule.if_handed
    return rule.unless_handed


_COMMUNE = SLOT_OF[Level.COMMUNE]


def _weigh(answer: Answer, plan: Plan, at: datetime, trace: Trace | None) -> Chosen:
    """Those of its candidates that count at this instant, each as who stands for it then."""
    chosen = []
    for candidate in answer.candidates:
        why_not = None if candidate.sure else _why_not(candidate, at)
        if trace is not None:
            trace.weighs(candidate, why_not)
        if why_not is None:
            chosen.append(_succeeded(candidate, plan, at))
    return chosen


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


def _succeeded(candidate: Candidate, plan: Plan, at: datetime) -> tuple[Subscriber, tuple[Reason, ...]]:
    subscriber, reasons = candidate.subscriber, candidate.reasons
    while (succession := plan.successions.get(subscriber)) is not None and succession.since <= at:
        step = f"{subscriber} → {succession.subscriber} (succession)"
        reasons = (reasons[0]._replace(steps=(*reasons[0].steps, step)),)
        subscriber = succession.subscriber
    return subscriber, reasons


def _by_way_of(resolution: Resolution, chosen: Chosen) -> Chosen:
    """The steps that led to the place come before those from there."""
    led = tuple(map(str, resolution.steps))
    return [
        (subscriber, tuple(reason._replace(steps=led + reason.steps) for reason in reasons))
        for subscriber, reasons in chosen
    ]


# --- what each gets -----------------------------------------------------------------------------------


def _recipients(attachments: tuple[AttachmentFacts, ...], found: Sequence[Found]) -> tuple[Recipient, ...]:
    """One delivery for a subscriber, however many rules end at it: with the union of their files."""
    each = [(subscriber, reasons, rule) for rule, chosen in found for subscriber, reasons in chosen]
    if len({one[0] for one in each}) == len(each):
        each.sort(key=_BY_SUBSCRIBER)
        return tuple(
            [
                _new(Recipient, (subscriber, _files(rule, attachments), reasons, rule.mailbox))
                for subscriber, reasons, rule in each
            ]
        )
    together: dict[Subscriber, tuple[tuple[Reason, ...], list[PlannedRule]]] = {}
    for subscriber, reasons, rule in each:
        before, rules = together.get(subscriber, ((), []))
        # Two rules may fall back on one.
        added = tuple([reason for reason in reasons if reason not in before])
        together[subscriber] = (before + added, [*rules, rule])
    return tuple(
        Recipient(subscriber, _union(rules, attachments), reasons, all(rule.mailbox for rule in rules))
        for subscriber, (reasons, rules) in sorted(together.items(), key=_BY_SUBSCRIBER)
    )


_BY_SUBSCRIBER = itemgetter(0)
_new = tuple.__new__
"""A named tuple's own constructor costs three times as much."""


def _union(rules: Sequence[PlannedRule], attachments: tuple[AttachmentFacts, ...]) -> tuple[int, ...]:
    if len(rules) == 1:
        return _files(rules[0], attachments)
    given = {number for rule in rules for number in _files(rule, attachments)}
    return tuple([file.number for file in attachments if file.number in given])


_MOST_LISTS_OF_FILES = 1000


def _files(rule: PlannedRule, attachments: tuple[AttachmentFacts, ...]) -> tuple[int, ...]:
    """The numbers of the files a rule gives to its recipients."""
    known = rule.files.get(attachments)
    if known is not None:
        return known
    numbers = tuple([file.number for file in attachments if grants(rule.rule, file)])
    if len(rule.files) < _MOST_LISTS_OF_FILES:
        rule.files[attachments] = numbers
    return numbers


def grants(rule: Rule, attachment: AttachmentFacts) -> bool:
    """Whether a rule gives this file to its recipients. The sender's wish narrows, it never widens."""
    given = rule.attachments is None or attachment.type in rule.attachments
    return given and (attachment.recipients is None or rule.recipient in attachment.recipients)


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
