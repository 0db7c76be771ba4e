"""Small random registers, and submissions to them: every word the rules know, on a handful of places.

One seed, one world. Few instants, places and subscribers, so that they meet: periods begin and end exactly
when something is received, and several subscriptions stand at one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

from hub.domain.conditions import All, Any, Condition, Equals, Exists, In, Not, NotIn, Prefix, Range
from hub.domain.identity import Subscriber
from hub.domain.rules import (
    ALWAYS,
    QUARANTINE,
    Competent,
    Everyone,
    FactSpec,
    FactType,
    Named,
    Period,
    Procedure,
    Rule,
    Subscription,
    SubscriptionState,
    Succession,
    Transfer,
)
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.domain.territory import (
    Commune,
    CommunePart,
    Departement,
    Epci,
    Level,
    Place,
    PlaceType,
    Region,
    Territory,
    Zone,
)
from tests.unit.brute_force import World

INSTANTS = tuple(datetime(2026, month, 1, tzinfo=UTC) for month in (2, 4, 6, 8))
TYPES = ("DD", "VA", "ZZ")
PROCEDURES = ("alpha", "beta")
FACTS = {
    "lieu": FactSpec("lieu", FactType.PLACE, required=True),
    "autre": FactSpec("autre", FactType.PLACE, required=False),
    "motif": FactSpec("motif", FactType.WORD, required=False),
    "siret": FactSpec("siret", FactType.SIRET, required=False),
    "montant": FactSpec("montant", FactType.NUMBER, required=False),
    "jour": FactSpec("jour", FactType.DATE, required=False),
}

SUBSCRIBERS = tuple(Subscriber(f"{number:014d}", "00000") for number in range(1, 8))


def little_territory() -> Territory:
    """Two régions; a commune in parts, one with arrondissements, some with former codes, one in no EPCI."""
    return Territory.build(
        "2026",
        [
            Region("84", "R"),
            Region("93", "S"),
            Departement("01", "D", "84"),
            Departement("69", "E", "84"),
            Departement("13", "F", "93"),
            Epci("200000172", "X", "CC"),
            Epci("200000438", "Y", "CC"),
            Commune("01015", "A", "01", "200000172", None, 10, Zone.METRO, ("01340",)),
            Commune("01025", "B", "01", "200000172", None, 10, Zone.METRO, ("01144", "01999")),
            Commune("01033", "C", "01", "200000438", None, 10, Zone.METRO, ()),
            Commune("69123", "L", "69", "200000438", None, 10, Zone.METRO, ("69400",)),
            Commune("13001", "M", "13", None, None, 10, Zone.METRO, ()),
            CommunePart(PlaceType.COMMUNE_DELEGUEE, "01015", "A", "01015"),
            CommunePart(PlaceType.COMMUNE_DELEGUEE, "01340", "A2", "01015"),
            CommunePart(PlaceType.COMMUNE_ASSOCIEE, "01144", "B2", "01025"),
            CommunePart(PlaceType.ARRONDISSEMENT, "69381", "L1", "69123"),
            CommunePart(PlaceType.ARRONDISSEMENT, "69382", "L2", "69123"),
        ],
    )


TERRITORY = little_territory()
_COMMUNES = ("01015", "01025", "01033", "69123", "13001")
_EPCIS = ("200000172", "200000438")
_SERVED = (
    *(f"commune:{code}" for code in _COMMUNES),
    *("commune:01015", "commune:69123", "arrondissement:69381", "arrondissement:69382"),
    *("commune_deleguee:01015", "commune_deleguee:01340", "commune_associee:01144"),
    *("epci:200000172", "epci:200000438", "departement:01", "departement:69", "departement:13"),
    *("region:84", "region:93", "national:FR", "abroad:99109", "abroad:99"),
)
_MERGED = ("commune:01999", "commune:69400")
_WRITTEN = (
    *_COMMUNES * 2,
    *("01340", "01144", "01999", "69400", "69381", "69382", "69123"),
    *("commune:01015", "commune:69381", "commune:01999", "commune_deleguee:01015", "commune_deleguee:01340"),
    *("commune_associee:01144", "arrondissement:69382", "departement:01", "epci:200000172", "region:93"),
    *("national:FR", "99109", "99350", "abroad:99131"),
)
_NOWHERE = ("00000", "", "commune:", "village:01015", "99100", "abroad:99", "arrondissement:01015")


@dataclass(frozen=True)
class Case:
    world: World
    submissions: tuple[RoutingFacts, ...]


def case(seed: int, submissions: int = 8) -> Case:
    dice = Random(seed)
    successions = _successions(dice)
    procedures = tuple(_procedure(code, dice) for code in PROCEDURES)
    subscriptions = _subscriptions(successions, dice)
    world = World(TERRITORY, procedures, subscriptions, successions)
    return Case(world, tuple(_submission(dice) for _ in range(submissions)))


def _procedure(code: str, dice: Random) -> Procedure:
    count = dice.randint(1, 6)
    rules = [_rule(number, count, dice) for number in range(count)]
    for place, rule in enumerate(rules[1:], start=1):
        before = rules[place - 1].when
        if before is not None and dice.random() < 0.3:
            rules[place] = replace(rule, when=Not(before))
    dice.shuffle(rules)
    transfers = tuple(_transfer(dice) for _ in range(dice.choice((0, 0, 1, 2, 3))))
    return Procedure(code, code, FACTS, tuple(rules), TYPES, transfers)


def _rule(number: int, count: int, dice: Random) -> Rule:
    following = [f"r{later}" for later in range(number + 1, count)]
    return Rule(
        f"r{number}",
        dice.choice(("mairie", "national")),
        _to(dice),
        tuple(dice.sample(TYPES, dice.randint(0, 3))) if dice.random() < 0.5 else None,
        _condition(dice) if dice.random() < 0.4 else None,
        _period(dice) if dice.random() < 0.3 else ALWAYS,
        dice.choice((0, 0, 0, 1, -1)),
        dice.choice((*following, QUARANTINE)) if dice.random() < 0.35 else None,
    )


def _to(dice: Random) -> Competent | Named | Everyone:
    chance = dice.random()
    if chance < 0.15:
        return Named(dice.choice(SUBSCRIBERS), dice.random() < 0.5)
    if chance < 0.2:
        return Everyone()
    return Competent(
        dice.choice(("lieu", "lieu", "autre")), tuple(dice.sample(list(Level), dice.randint(1, 6)))
    )


def _period(dice: Random) -> Period:
    begin, end = sorted(dice.sample(range(len(INSTANTS)), 2))
    return dice.choice(
        (
            Period(INSTANTS[begin], INSTANTS[end]),
            Period(since=INSTANTS[begin]),
            Period(until=INSTANTS[end]),
        )
    )


def _condition(dice: Random, depth: int = 2) -> Condition:
    chance = dice.random() if depth else 0.0
    if chance > 0.85:
        return Not(_condition(dice, depth - 1))
    if chance > 0.6:
        several = tuple(_condition(dice, depth - 1) for _ in range(dice.randint(0, 3)))
        return All(several) if dice.random() < 0.5 else Any(several)
    return dice.choice(_TESTS)(dice)


_VALUES = {
    "lieu": ("01015", "01025", "69123", "99109", "01340"),
    "motif": ("a", "b", "ab"),
    "siret": ("21740042390019", "11001401600015"),
    "montant": ("-1", "0", "9", "10", "10.0", "10.5"),
    "jour": ("2026-01-31", "2026-02-01", "2025-12-31"),
}


def _bounds(dice: Random, values: tuple[str, ...]) -> tuple[str | None, str | None]:
    low, high = dice.choice(values), dice.choice(values)
    return dice.choice(((low, None), (None, high), (low, high)))


def _number_range(dice: Random) -> Condition:
    low, high = _bounds(dice, _VALUES["montant"])
    return Range("montant", None if low is None else Decimal(low), None if high is None else Decimal(high))


def _equals(dice: Random) -> Condition:
    fact = dice.choice(tuple(_VALUES))
    return Equals(fact, dice.choice(_VALUES[fact]))


def _some(dice: Random) -> tuple[str, frozenset[str]]:
    fact = dice.choice(tuple(_VALUES))
    return fact, frozenset(dice.sample(_VALUES[fact], dice.randint(1, 2)))


_TESTS: tuple[Callable[[Random], Condition], ...] = (
    _equals,
    lambda dice: In(*_some(dice)),
    lambda dice: NotIn(*_some(dice)),
    lambda dice: Prefix(*dice.choice((("lieu", "01"), ("lieu", "99"), ("siret", "2"), ("motif", "a")))),
    _number_range,
    lambda dice: Range("jour", *_bounds(dice, _VALUES["jour"])),
    lambda dice: Exists(dice.choice(tuple(FACTS)), dice.random() < 0.5),
)


def _transfer(dice: Random) -> Transfer:
    epci = dice.choice(_EPCIS)
    members = [place.code for place in TERRITORY.members_of(epci)]
    communes = frozenset(dice.sample(members, dice.randint(0, len(members))))
    period = _period(dice) if dice.random() < 0.6 else ALWAYS
    return Transfer(epci, communes if dice.random() < 0.5 else None, period)


def _subscriptions(successions: tuple[Succession, ...], dice: Random) -> tuple[Subscription, ...]:
    found: dict[str, Subscription] = {}
    for _ in range(dice.randint(0, 30)):
        merged = dice.random() < 0.1
        one = Subscription(
            dice.choice(PROCEDURES),
            dice.choice(SUBSCRIBERS),
            Place.parse(dice.choice(_MERGED if merged else _SERVED)),
            dice.choice(tuple(SubscriptionState)) if dice.random() < 0.2 else SubscriptionState.ACTIVE,
            _period(dice) if dice.random() < 0.25 else ALWAYS,
        )
        found.setdefault(one.id, one)
    return tuple(found.values())


def _successions(dice: Random) -> tuple[Succession, ...]:
    """Each to a later one, so that there is no circle."""
    found = []
    for number, former in enumerate(SUBSCRIBERS[:-1]):
        if dice.random() < 0.3:
            following = dice.choice(SUBSCRIBERS[number + 1 :])
            since = dice.choice(INSTANTS) if dice.random() < 0.7 else ALWAYS.since
            found.append(Succession(former, following, since))
    return tuple(found)


def _submission(dice: Random) -> RoutingFacts:
    facts = {}
    if dice.random() < 0.95:
        facts["lieu"] = dice.choice(_NOWHERE if dice.random() < 0.04 else _WRITTEN)
    if dice.random() < 0.4:
        facts["autre"] = dice.choice(_WRITTEN)
    for name in ("motif", "siret", "montant", "jour"):
        if dice.random() < 0.6:
            facts[name] = dice.choice(_VALUES[name])
    if dice.random() < 0.05:
        # Accepted under another rule book, where it was a word.
        facts["montant"] = dice.choice(("x", "NaN", "-Infinity", "1e5", "١٠", "10.", "", "1" * 16))
    if dice.random() < 0.1:
        facts["inconnu"] = "01015"
    instant = dice.choice(INSTANTS) + timedelta(microseconds=dice.choice((-1, 0, 0, 1, 86_400_000_000)))
    files = tuple(
        AttachmentFacts(
            number,
            dice.choice(TYPES),
            tuple(dice.sample(("mairie", "national", "autre"), dice.randint(0, 2)))
            if dice.random() < 0.3
            else None,
        )
        for number in range(1, dice.randint(0, 4) + 1)
    )
    procedure = "gamma" if dice.random() < 0.02 else dice.choice(PROCEDURES)
    return RoutingFacts(UUID(int=dice.getrandbits(128)), "psl", procedure, facts, files, instant)
