"""The rule book: what procedures know, who subscribes to what, which rule names whom, and who succeeded whom.

Business of this file: immutable values, and refusing what contradicts itself. Indexing them is `plans`',
deciding is `matching`'s; reading files is not here. Dates have become instants before they come here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from hub.domain.cases import USUAL, CaseMoves
from hub.domain.conditions import Condition, Range, facts_of, tests_of
from hub.domain.errors import RuleBookError
from hub.domain.identity import Subscriber
from hub.domain.territory import Level, Place, PlaceType, Territory

QUARANTINE = "quarantine"
"""Instead of a rule to fall back on: a person must look at the submission."""

_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` on, until before `until`."""

    since: datetime = _EVER
    until: datetime = _NEVER

    def holds(self, instant: datetime) -> bool:
        return self.since <= instant < self.until

    def overlaps(self, other: Period) -> bool:
        return self.since < other.until and other.since < self.until


ALWAYS = Period()


class FactType(StrEnum):
    """What a routing fact is: a place in the official geographic code, an establishment, a word, a number
    or a date."""

    PLACE = "place"
    SIRET = "siret"
    WORD = "word"
    NUMBER = "number"
    DATE = "date"


@dataclass(frozen=True, slots=True)
class FactSpec:
    name: str
    type: FactType
    required: bool
    values: tuple[str, ...] = ()
    """The words allowed, for a WORD; empty: any short word."""


@dataclass(frozen=True, slots=True)
class Competent:
    """Whoever subscribes for the place that `fact` names, at the first of `levels` where anybody does."""

    fact: str
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """One partner, by its number, whatever the place; `mailbox`: by its mailbox, whatever its channel."""

    subscriber: Subscriber
    mailbox: bool = False


@dataclass(frozen=True, slots=True)
class Everyone:
    """Every subscriber of the procedure, whatever the place."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`recipient` is the kind of recipient this rule finds (a word senders may narrow files to);
    `attachments` the types it gives (None: all).

    Among the rules of one recipient that apply (their period and `when` hold), those of the highest
    priority decide, all of them; whether they find anybody or not. A rule that applies and finds nobody
    hands over to `otherwise`: another rule's id, or QUARANTINE. A rule that another one names there does
    nothing else; when its turn comes and it does not apply, it hands over too.
    """

    id: str
    recipient: str
    to: Competent | Named | Everyone
    attachments: tuple[str, ...] | None = None
    when: Condition | None = None
    period: Period = ALWAYS
    priority: int = 0
    otherwise: str | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """Member communes (None: all) of the EPCI with this SIREN handed it the competence for a procedure."""

    epci: str
    communes: frozenset[str] | None = None
    period: Period = ALWAYS


@dataclass(frozen=True, slots=True)
class Procedure:
    """A démarche. `attachment_types` None: any type is accepted.

    `transfers` say where the EPCI is competent instead of the commune and its parts. While none are declared
    at all, an EPCI's subscription is taken for its word. `case_moves`: what partners may report of it.
    """

    code: str
    title: str
    facts: Mapping[str, FactSpec]
    rules: tuple[Rule, ...]
    attachment_types: tuple[str, ...] | None = None
    transfers: tuple[Transfer, ...] = ()
    case_moves: CaseMoves = USUAL

    @property
    def recipients(self) -> frozenset[str]:
        return frozenset(rule.recipient for rule in self.rules)

    @property
    def fallbacks(self) -> frozenset[str]:
        """Rules that act only when another one finds nobody."""
        return frozenset(rule.otherwise for rule in self.rules if rule.otherwise not in (None, QUARANTINE))


class SubscriptionState(StrEnum):
    """Only an active subscription receives."""

    INACTIVE = "inactive"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A partner's standing wish to get a procedure's submissions for a place."""

    procedure: str
    subscriber: Subscriber
    place: Place
    state: SubscriptionState = SubscriptionState.ACTIVE
    period: Period = ALWAYS

    @property
    def id(self) -> str:
        return f"{self.procedure}/{self.place}/{self.subscriber}"


@dataclass(frozen=True, slots=True)
class Succession:
    """`subscriber` takes the place of `former` in what is received from `since` on, and in what is still
    to be delivered then."""

    former: Subscriber
    subscriber: Subscriber
    since: datetime = _EVER


# --- what is refused ----------------------------------------------------------------------------------


def check_procedure(procedure: Procedure, territory: Territory) -> None:
    """Raises RuleBookError for the first contradiction, `where` naming the rule and its field."""
    code = procedure.code
    known: dict[str, Rule] = {}
    for rule in procedure.rules:
        where = (code, "rules", rule.id)
        if rule.id in known:
            raise RuleBookError(f"{code}: two rules are named {rule.id}", where)
        known[rule.id] = rule
        if rule.id == QUARANTINE:
            raise RuleBookError(f"{code}: no rule may be named {QUARANTINE}", where)
        _check_rule(procedure, rule, where)
    for rule in procedure.rules:
        _check_fallbacks(code, rule, known)
    for number, transfer in enumerate(procedure.transfers):
        _check_transfer(code, number, transfer, territory)


def _check_rule(procedure: Procedure, rule: Rule, where: tuple[str, ...]) -> None:
    label = f"{procedure.code}, rule {rule.id}"
    if rule.period.since >= rule.period.until:
        raise RuleBookError(f"{label}: it ends before it begins", (*where, "until"))
    if isinstance(rule.to, Competent):
        fact = procedure.facts.get(rule.to.fact)
        if fact is None or fact.type is not FactType.PLACE:
            raise RuleBookError(
                f"{label}: {rule.to.fact} is no fact of this procedure that names a place",
                (*where, "competent", "place"),
            )
    for name in () if rule.when is None else facts_of(rule.when):
        if name not in procedure.facts:
            raise RuleBookError(
                f"{label}: its condition asks for {name}, no fact of this procedure", (*where, "when")
            )
    for test in () if rule.when is None else tests_of(rule.when):
        if isinstance(test, Range):
            _check_range(procedure, test, label, where)
    unknown = set(rule.attachments or ()) - set(procedure.attachment_types or rule.attachments or ())
    if unknown:
        raise RuleBookError(
            f"{label}: {min(unknown)} is no type of attachment of this procedure", (*where, "attachments")
        )


def _check_range(procedure: Procedure, condition: Range, label: str, where: tuple[str, ...]) -> None:
    type = procedure.facts[condition.fact].type
    wanted = {FactType.NUMBER: Decimal, FactType.DATE: str}.get(type)
    bounds = [bound for bound in (condition.low, condition.high) if bound is not None]
    if wanted is None:
        raise RuleBookError(
            f"{label}: a range needs a number or a date, and {condition.fact} is neither", (*where, "when")
        )
    if not bounds or not all(isinstance(bound, wanted) for bound in bounds):
        raise RuleBookError(f"{label}: the bounds of {condition.fact} must be {type}s", (*where, "when"))


def _check_fallbacks(code: str, rule: Rule, known: Mapping[str, Rule]) -> None:
    """Follow `otherwise` to its end."""
    passed = [rule.id]
    while (following := known[passed[-1]].otherwise) not in (None, QUARANTINE):
        assert following is not None
        where = (code, "rules", passed[-1], "otherwise")
        if following not in known:
            raise RuleBookError(f"{code}, rule {passed[-1]}: there is no rule {following}", where)
        if following in passed:
            circle = " → ".join([*passed, following])
            raise RuleBookError(f"{code}: these rules fall back on each other for ever: {circle}", where)
        passed.append(following)


def _check_transfer(code: str, number: int, transfer: Transfer, territory: Territory) -> None:
    where = (code, "transfers", number)
    if transfer.period.since >= transfer.period.until:
        raise RuleBookError(f"{code}, transfer {number + 1}: it ends before it begins", (*where, "until"))
    if not territory.knows(Place(PlaceType.EPCI, transfer.epci)):
        raise RuleBookError(f"{code}: there is no EPCI {transfer.epci}", (*where, "epci"))
    members = {place.code for place in territory.members_of(transfer.epci)}
    for commune in sorted(transfer.communes or ()):
        if commune not in members:
            raise RuleBookError(
                f"{code}: commune {commune} is no member of EPCI {transfer.epci}", (*where, "communes")
            )


def check_successions(successions: Iterable[Succession]) -> Mapping[Subscriber, Succession]:
    """By the former subscriber. Raises RuleBookError: one has two successors, or a circle."""
    found: dict[Subscriber, Succession] = {}
    for succession in successions:
        if succession.former in found:
            raise RuleBookError(
                f"{succession.former} has two successors", ("successions", str(succession.former))
            )
        found[succession.former] = succession
    settled: set[Subscriber] = set()
    for former in found:
        passed: list[Subscriber] = []
        at: Subscriber = former
        while at in found and at not in settled:
            if at in passed:
                circle = " → ".join(map(str, [*passed[passed.index(at) :], at]))
                raise RuleBookError(
                    f"these partners succeed each other for ever: {circle}", ("successions", str(at))
                )
            passed.append(at)
            at = found[at].subscriber
        settled.update(passed)
    return found


def successor(
    subscriber: Subscriber, successions: Mapping[Subscriber, Succession], at: datetime
) -> Subscriber:
    """Who stands for `subscriber` at this instant: itself, if nobody succeeded it by then."""
    while (succession := successions.get(subscriber)) is not None and succession.since <= at:
        subscriber = succession.subscriber
    return subscriber
