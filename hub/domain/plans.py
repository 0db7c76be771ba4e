"""Plans: a procedure's rules, compiled so that finding who is competent is a few look-ups.

Business of this file: the index, from a procedure with its subscriptions and the successions. What a plan
answers is `matching`'s; nothing here depends on a submission or on the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import NamedTuple, assert_never

from hub.domain.conditions import Facts, Holds, Not, Read, compiled
from hub.domain.decisions import Reason, SetAside, Unroutable
from hub.domain.errors import RuleBookError
from hub.domain.identity import Subscriber
from hub.domain.rules import (
    QUARANTINE,
    Competent,
    Everyone,
    FactType,
    Named,
    Period,
    Procedure,
    Rule,
    Subscription,
    SubscriptionState,
    Succession,
)
from hub.domain.submission import AttachmentFacts
from hub.domain.territory import ANY_COUNTRY_SLOT, SLOT_OF, Level, Place, PlaceType, Resolution, Territory

_COMMUNAL = frozenset(
    SLOT_OF[level]
    for level in (
        Level.ARRONDISSEMENT,
        Level.ARRONDISSEMENTS,
        Level.COMMUNE_DELEGUEE,
        Level.COMMUNE_ASSOCIEE,
        Level.COMMUNE,
    )
)
"""What a commune that handed over its competence is no longer asked for."""

PART_SLOTS = frozenset(
    SLOT_OF[level] for level in (Level.ARRONDISSEMENT, Level.COMMUNE_DELEGUEE, Level.COMMUNE_ASSOCIEE)
)
"""Whoever is found there was found at the place that was written, without a step."""

_ALWAYS = Period()

Served = Mapping[str, list[Subscription]]
"""Who subscribes, by the text of a place that is there today; those of one place in one order."""


@dataclass(slots=True)
class Candidate:
    """A subscriber that a rule may find. `sure`: it counts at any time, as it stands here; else its
    subscription and the successions must be asked. `reasons` is the one of a place found without a step."""

    subscriber: Subscriber
    reasons: tuple[Reason]
    subscription: Subscription | None
    sure: bool


@dataclass(slots=True, eq=False)
class Found:
    """Somebody a rule finds, and why. `grant`: what that comes to when no other rule finds the same, once it was
    asked for; where an answer is sure, all choices share it."""

    subscriber: Subscriber
    reasons: tuple[Reason, ...]
    grant: Grant | None = None


Chosen = tuple[Found, ...]
"""Whom a rule finds."""


@dataclass(slots=True)
class Answer:
    """Whom a rule finds at one place. `sure`: them all, when each is sure; else None, and `dates` are those by
    which it may come to somebody else."""

    candidates: tuple[Candidate, ...]
    sure: Chosen | None
    dates: tuple[datetime, ...] = ()


@dataclass(slots=True)
class PlannedRule:
    """A rule made ready. `bit` is its own among those of the procedure. `slots`: where around the place of
    `fact` it looks, in order; `unless_handed` and `if_handed` the same for a commune that kept and one that
    handed over its competence. `anywhere`: its answer when no place is asked for."""

    rule: Rule
    id: str
    bit: int
    recipient: str
    priority: int
    period: Period | None
    holds: Holds | None
    fact: str
    slots: tuple[int, ...]
    unless_handed: tuple[int, ...]
    if_handed: tuple[int, ...]
    answers: Mapping[str | None, Answer]
    anywhere: Answer | None
    dated: bool
    """Whether anything it finds may change with the time."""
    mailbox: bool
    quarantine: bool
    otherwise: PlannedRule | None
    contrary: int = 0
    """The bit of an earlier rule whose condition is the contrary of its own: it applies when that does not."""
    alone: tuple[PlannedRule, ...] = field(default=(), repr=False)
    """This one: what most grants are by, so they all share it."""
    files: dict[tuple[AttachmentFacts, ...], tuple[int, ...]] = field(default_factory=dict, repr=False)
    """The numbers of the files it gives, for the lists of files seen so far: most submissions of a procedure
    bear the same. `matching` bounds it."""


@dataclass(slots=True)
class Grant:
    """A subscriber that rules chose, whatever the files: it gets those that any of `rules` gives. `written` is a
    place for what somebody wrote of the rest of it, who is asked for it again and again."""

    subscriber: Subscriber
    reasons: tuple[Reason, ...]
    mailbox: bool
    rules: tuple[PlannedRule, ...]
    written: bytes | None = field(default=None, compare=False, repr=False)


class Choice(NamedTuple):
    """What the rules come to: `grants`, by subscriber; where there are none, `verdict` says why. `period`:
    the time for which it holds; None: no date has a part in it."""

    grants: tuple[Grant, ...]
    verdict: SetAside | Unroutable | None
    period: Period | None


Places = str | None | tuple[str | None, ...]
"""What a submission says for the one place fact of its procedure, or for each of them."""


@dataclass(slots=True)
class Plan:
    """A procedure, compiled. `rules`: those that act by themselves, by recipient, the highest priority
    first; `conditional`: those, and others to fall back on, that do not always apply. `handed`: for each
    commune (as text) when its competence was with its EPCI; None where the procedure declares no transfers.
    `dormant`: subscriptions that can find nobody.

    `known`: by the rules that do not apply (the sum of their bits) and the places as they were written, what was
    chosen there; `matching` fills and bounds it. One subscriber for ever, as most choices are, stands there as
    its grant alone. What a walk through the index looks at lies scattered over the memory, and to fetch it costs
    more than all the rest."""

    procedure: Procedure
    subscriptions: tuple[Subscription, ...]
    dormant: tuple[Subscription, ...]
    place_facts: tuple[str, ...]
    rules: tuple[PlannedRule, ...]
    successions: Mapping[Subscriber, Succession]
    handed: Mapping[str, tuple[Period, ...]] | None
    conditional: tuple[PlannedRule, ...]
    place: str | None
    """The one fact that names a place; None where there are several, or none."""
    known: dict[int, dict[Places, Choice | Grant]] = field(default_factory=dict, repr=False)


def compile_plan(
    procedure: Procedure,
    subscriptions: tuple[Subscription, ...],
    successions: Mapping[Subscriber, Succession],
    territory: Territory,
) -> Plan:
    """`procedure` has passed `check_procedure`. Raises RuleBookError for a subscription to no place."""
    served, dormant = _served(subscriptions, successions, territory)
    ready: dict[str, PlannedRule] = {}
    written = {rule.id: rule for rule in procedure.rules}
    for rule in procedure.rules:
        _ready(rule, written, ready, _Ground(procedure, served, successions, territory))
    conditional = tuple(rule for rule in ready.values() if rule.period is not None or rule.holds is not None)
    for place, planned in enumerate(conditional):
        planned.contrary = next((one.bit for one in conditional[:place] if _contrary(one, planned)), 0)
    acting = (ready[rule.id] for rule in procedure.rules if rule.id not in procedure.fallbacks)
    places = tuple(sorted(name for name, spec in procedure.facts.items() if spec.type is FactType.PLACE))
    return Plan(
        procedure,
        subscriptions,
        dormant,
        places,
        tuple(sorted(acting, key=lambda rule: (rule.recipient, -rule.priority, rule.id))),
        successions,
        _handed(procedure, territory) if procedure.transfers else None,
        conditional,
        places[0] if len(places) == 1 else None,
    )


@dataclass(frozen=True, slots=True)
class _Ground:
    """What the rules of one procedure are compiled on."""

    procedure: Procedure
    served: Served
    successions: Mapping[Subscriber, Succession]
    territory: Territory


def _ready(
    rule: Rule, written: Mapping[str, Rule], ready: dict[str, PlannedRule], on: _Ground
) -> PlannedRule:
    """A rule after those it falls back on, whose chain has an end."""
    if rule.id in ready:
        return ready[rule.id]
    falls = rule.otherwise not in (None, QUARANTINE)
    otherwise = _ready(written[rule.otherwise or ""], written, ready, on) if falls else None
    slots = _slots(rule.to.levels) if isinstance(rule.to, Competent) else ()
    answers = _answers(rule, rule.to, on) if isinstance(rule.to, Competent) else {}
    anywhere = _anywhere(rule, on)
    every = answers.values() if anywhere is None else (anywhere,)
    ready[rule.id] = PlannedRule(
        rule=rule,
        id=rule.id,
        bit=1 << len(ready),
        recipient=rule.recipient,
        priority=rule.priority,
        period=None if rule.period == _ALWAYS else rule.period,
        holds=None if rule.when is None else compiled(rule.when, _readers(on)),
        fact=rule.to.fact if isinstance(rule.to, Competent) else "",
        slots=slots,
        unless_handed=tuple(slot for slot in slots if slot != SLOT_OF[Level.EPCI]),
        if_handed=tuple(slot for slot in slots if slot not in _COMMUNAL),
        answers=answers,
        anywhere=anywhere,
        dated=bool(slots and on.procedure.transfers) or any(answer.sure is None for answer in every),
        mailbox=isinstance(rule.to, Named) and rule.to.mailbox,
        quarantine=rule.otherwise == QUARANTINE,
        otherwise=otherwise,
    )
    ready[rule.id].alone = (ready[rule.id],)
    return ready[rule.id]


def _contrary(one: PlannedRule, other: PlannedRule) -> bool:
    asked, then = one.rule.when, other.rule.when
    if asked is None or then is None or one.period is not None or other.period is not None:
        return False
    return asked == Not(then) or then == Not(asked)


def _slots(levels: Iterable[Level]) -> tuple[int, ...]:
    slots: list[int] = []
    for level in levels:
        slots.append(SLOT_OF[level])
        if level is Level.ABROAD:
            slots.append(ANY_COUNTRY_SLOT)
    return tuple(slots)


def _readers(on: _Ground) -> dict[str, Read]:
    """Conditions compare a place by the code it means today."""
    places = (name for name, spec in on.procedure.facts.items() if spec.type is FactType.PLACE)
    return {name: _place_code(name, on.territory) for name in places}


def _place_code(fact: str, territory: Territory) -> Read:
    def read(facts: Facts) -> str | None:
        value = facts.get(fact)
        resolution = None if value is None else territory.read(value)
        return None if resolution is None else resolution.place.code

    return read


# --- where subscriptions stand ------------------------------------------------------------------------


def _served(
    subscriptions: Iterable[Subscription],
    successions: Mapping[Subscriber, Succession],
    territory: Territory,
) -> tuple[Served, tuple[Subscription, ...]]:
    """Whose commune was merged counts where it went, if somebody succeeded the subscriber: nobody else may
    be taken to answer for more than it subscribed to."""
    served: dict[str, list[Subscription]] = {}
    dormant: list[Subscription] = []
    for one in sorted(subscriptions, key=_in_order):
        if territory.knows(one.place):
            served.setdefault(intern(str(one.place)), []).append(one)
            continue
        resolution = _went(one.place, territory)
        if resolution is not None and one.subscriber in successions:
            served.setdefault(intern(str(resolution.place)), []).append(one)
        elif resolution is not None or one.state in _UNHEARD:
            dormant.append(one)
        else:
            raise RuleBookError(f"subscription {one.id}: there is no such place", ("subscriptions", one.id))
    return served, tuple(dormant)


def _went(place: Place, territory: Territory) -> Resolution | None:
    """Where a place lies that is one no longer: a commune that was merged, a commune déléguée that was
    given up. A place of another type under its code is not what was meant."""
    if place.type not in (PlaceType.COMMUNE, PlaceType.COMMUNE_DELEGUEE, PlaceType.COMMUNE_ASSOCIEE):
        return None
    found = territory.resolve(place.code)
    return None if found is None or found.place.type is not PlaceType.COMMUNE else found


_UNHEARD = (SubscriptionState.INACTIVE, SubscriptionState.REFUSED)


# --- whom a rule finds --------------------------------------------------------------------------------


def _answers(rule: Rule, to: Competent, on: _Ground) -> dict[str | None, Answer]:
    wanted = frozenset(str(level) for level in to.levels)
    found: dict[str | None, Answer] = {}
    for place, subscriptions in on.served.items():
        if place.partition(":")[0] in wanted:
            found[place] = _answer(rule, f"{to.fact} → {place}", subscriptions, on)
    if Level.ARRONDISSEMENTS in to.levels:
        for commune in on.territory.divided:
            parts = on.territory.parts_of(commune, PlaceType.ARRONDISSEMENT)
            those = [one for part in parts for one in on.served.get(str(part), ())]
            if those:
                place = f"{Level.ARRONDISSEMENTS}:{commune}"
                found[place] = _answer(rule, f"{to.fact} → {place}", those, on)
    return found


def _anywhere(rule: Rule, on: _Ground) -> Answer | None:
    match rule.to:
        case Competent():
            return None
        case Named(subscriber=subscriber):
            reason = Reason(rule.id, rule.recipient, None, ())
            sure = subscriber not in on.successions
            return _whole([Candidate(subscriber, (reason,), None, sure)], on)
        case Everyone():
            everyone = [one for subscriptions in on.served.values() for one in subscriptions]
            return _answer(rule, None, sorted(everyone, key=_in_order), on)
        case _:
            assert_never(rule.to)


def _answer(rule: Rule, step: str | None, subscriptions: Iterable[Subscription], on: _Ground) -> Answer:
    steps = () if step is None else (step,)
    return _whole(
        [
            Candidate(
                one.subscriber,
                (Reason(rule.id, rule.recipient, one.id, steps),),
                one,
                one.state is SubscriptionState.ACTIVE
                and one.period == _ALWAYS
                and one.subscriber not in on.successions,
            )
            for one in subscriptions
        ],
        on,
    )


def _whole(candidates: list[Candidate], on: _Ground) -> Answer:
    if all(candidate.sure for candidate in candidates):
        return Answer(tuple(candidates), tuple(Found(one.subscriber, one.reasons) for one in candidates))
    dates = {date for candidate in candidates for date in _dates(candidate, on)}
    return Answer(tuple(candidates), None, tuple(sorted(dates)))


def _dates(candidate: Candidate, on: _Ground) -> Iterator[datetime]:
    if candidate.subscription is not None:
        yield from (candidate.subscription.period.since, candidate.subscription.period.until)
    subscriber = candidate.subscriber
    while (succession := on.successions.get(subscriber)) is not None:
        yield succession.since
        subscriber = succession.subscriber


def _in_order(subscription: Subscription) -> tuple[Subscriber, str]:
    return subscription.subscriber, subscription.id


def _handed(procedure: Procedure, territory: Territory) -> dict[str, tuple[Period, ...]]:
    found: dict[str, tuple[Period, ...]] = {}
    for transfer in procedure.transfers:
        for place in territory.members_of(transfer.epci):
            if transfer.communes is None or place.code in transfer.communes:
                found[str(place)] = (*found.get(str(place), ()), transfer.period)
    return found
