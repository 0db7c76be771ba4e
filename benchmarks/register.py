"""A national register for benchmarks: procedures, subscriptions and successions, and submissions to match.

Seeded: the same seed gives the same register. Places, populations and the SIREN of communes and EPCIs are the
territory's own; establishments, the State's bodies and every subscription are invented. Not the business of
this file: the procedures themselves (`procedures`), what is sent (`traffic`), and measuring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate, product
from random import Random
from typing import NamedTuple

from benchmarks.procedures import NOW, STATE, Body, national_procedures, popularity, receives
from hub.domain.identity import Subscriber
from hub.domain.partner import made_up_siret
from hub.domain.rule_book import RuleBook
from hub.domain.rules import ALWAYS, Period, Procedure, Subscription, SubscriptionState, Succession
from hub.domain.territory import ANY_COUNTRY, FRANCE, Place, PlaceType, Territory


@dataclass(frozen=True, slots=True)
class Register:
    """What a rule book is built of."""

    territory: Territory
    procedures: tuple[Procedure, ...]
    subscriptions: tuple[Subscription, ...]
    successions: tuple[Succession, ...]

    def book(self) -> RuleBook:
        return RuleBook.build(self.procedures, self.subscriptions, self.territory, self.successions)

    def partners(self) -> frozenset[Subscriber]:
        """All who subscribe or succeed somebody."""
        return frozenset(
            [one.subscriber for one in self.subscriptions] + [one.subscriber for one in self.successions]
        )


def register(
    territory: Territory,
    partners: int = 9_000,
    procedures: int = 60,
    subscriptions: int = 45_000,
    seed: int = 2026,
) -> Register:
    """`partners` and `subscriptions` are met exactly; raises ValueError when there are too few of them to
    give each partner one. Three quarters of the partners are counters of town halls."""
    dice = Random(seed)
    towns = _Towns.of(territory)
    known = procedures_on(territory, procedures, seed)
    bodies = _Bodies(towns, tuple(procedure.code for procedure in known), dice)
    wishes = [
        *bodies.epcis(partners // 10),
        *bodies.departements(),
        *bodies.brigades(partners // 8),
        *bodies.nationals(),
    ]
    moved = partners // 100
    counters = _counters(towns, partners - moved - len({wish.subscriber for wish in wishes}), dice)
    wishes += _town_wishes(counters, bodies, subscriptions - len(wishes), dice)
    return Register(
        territory,
        known,
        tuple(Subscription(one.procedure, one.subscriber, one.place, *_standing(dice)) for one in wishes),
        _successions(counters, moved, dice),
    )


def procedures_on(territory: Territory, count: int = 60, seed: int = 2026) -> tuple[Procedure, ...]:
    """Those of the register with this seed, alone."""
    return national_procedures(count, tuple(_Towns.of(territory).members), Random(seed))


class _Wish(NamedTuple):
    procedure: str
    subscriber: Subscriber
    place: Place


@dataclass(frozen=True, slots=True)
class _Home:
    """Where a town hall stands: a commune or a municipal arrondissement."""

    place: Place
    siren: str
    population: int
    epci: str | None = None


@dataclass(frozen=True, slots=True)
class _Counter:
    """The `number`-th of `of` counters at its home; `places` are those it serves."""

    subscriber: Subscriber
    places: tuple[Place, ...]
    number: int
    of: int
    weight: float


@dataclass(frozen=True, slots=True)
class _Towns:
    """The territory as a register sees it."""

    homes: tuple[_Home, ...]
    members: Mapping[str, tuple[str, ...]]
    """The communes of each EPCI."""
    departements: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, territory: Territory) -> _Towns:
        homes: list[_Home] = []
        members: dict[str, list[str]] = {}
        departements: dict[str, list[str]] = {}
        for place in territory.communes():
            row = territory.commune(place.code)
            assert row is not None
            departements.setdefault(row.departement, []).append(row.code)
            if row.epci is not None:
                members.setdefault(row.epci, []).append(row.code)
            if row.siren is not None and row.population:
                homes.append(_Home(place, row.siren, row.population, row.epci))
                parts = (
                    territory.parts_of(row.code, PlaceType.ARRONDISSEMENT) if row.population > 400_000 else ()
                )
                homes += [_Home(part, row.siren, row.population // len(parts)) for part in parts]
        return cls(
            tuple(homes),
            {siren: tuple(codes) for siren, codes in members.items()},
            {code: tuple(codes) for code, codes in departements.items()},
        )

    def neighbours(self, home: _Home) -> tuple[Place, ...]:
        """Two communes of its EPCI, for a counter that serves several."""
        members = self.members.get(home.epci or "", ())[:3]
        return tuple(Place(PlaceType.COMMUNE, code) for code in members if code != home.place.code)[:2]


# --- bodies that are no town hall ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bodies:
    towns: _Towns
    procedures: tuple[str, ...]
    dice: Random

    def of(self, body: Body) -> tuple[str, ...]:
        return tuple(code for code in self.procedures if receives(code, body))

    def epcis(self, count: int) -> Iterator[_Wish]:
        """Where there are more counters than EPCIs, those of one share its procedures."""
        sirens = list(self.towns.members)
        self.dice.shuffle(sirens)
        codes = self.of(Body.EPCI)
        for number in range(count if codes else 0):
            siren = sirens[number % len(sirens)]
            subscriber = Subscriber(made_up_siret(siren, number), self.towns.members[siren][0])
            kept = [code for code in codes if self.dice.random() < len(sirens) / (count + len(sirens))]
            for code in kept or [self.dice.choice(codes)]:
                yield _Wish(code, subscriber, Place(PlaceType.EPCI, siren))

    def departements(self) -> Iterator[_Wish]:
        for number, code in enumerate(self.towns.departements):
            subscriber = Subscriber(made_up_siret(STATE, 100 + number), self.towns.departements[code][0])
            for procedure in self.of(Body.DEPARTEMENT):
                yield _Wish(procedure, subscriber, Place(PlaceType.DEPARTEMENT, code))

    def brigades(self, count: int) -> Iterator[_Wish]:
        """Each serves eight communes that lie together, for one procedure."""
        rounds = [
            codes[at : at + 8] for codes in self.towns.departements.values() for at in range(0, len(codes), 8)
        ]
        beats = list(product(self.of(Body.BRIGADE), rounds))
        self.dice.shuffle(beats)
        for number, (procedure, communes) in enumerate(beats[:count]):
            # A SIREN has room for 10,000 establishments; their branch tells the others apart.
            subscriber = Subscriber(made_up_siret(STATE, 1_000 + number % 9_000), communes[0])
            for commune in communes:
                yield _Wish(procedure, subscriber, Place(PlaceType.COMMUNE, commune))

    def nationals(self) -> Iterator[_Wish]:
        for number, procedure in enumerate(self.of(Body.NATIONAL)):
            for body in range(3):
                subscriber = Subscriber(made_up_siret(STATE, 10 + 3 * number + body), "75107")
                yield _Wish(procedure, subscriber, Place(PlaceType.NATIONAL, FRANCE))
        for country in (ANY_COUNTRY, "99109", "99131", "99134", "99350", "99351"):
            subscriber = Subscriber(made_up_siret(STATE, 90), f"44{country[-3:]:0>3}")
            for procedure in self.of(Body.CONSULATE):
                yield _Wish(procedure, subscriber, Place(PlaceType.ABROAD, country))


# --- town halls ---------------------------------------------------------------------------------------


def _counters(towns: _Towns, count: int, dice: Random) -> tuple[_Counter, ...]:
    """Large communes have one first; a tenth are the second and third counters of a commune, a twentieth
    serve neighbours too."""
    # Efraimidis and Spirakis: sampled by weight, without putting back.
    drawn = sorted(towns.homes, key=lambda home: dice.random() ** (1.0 / home.population), reverse=True)
    homes = drawn[: max(1, min(len(drawn), count * 9 // 10))]
    found: list[_Counter] = []
    for at in range(count):
        home, number = homes[at % len(homes)], at // len(homes)
        found.append(
            _Counter(
                Subscriber(made_up_siret(home.siren, 10 + number), home.place.code),
                (home.place, *towns.neighbours(home)) if dice.random() < 0.05 else (home.place,),
                number,
                count // len(homes) + (at % len(homes) < count % len(homes)),
                home.population**0.4,
            )
        )
    return tuple(found)


def _town_wishes(counters: Sequence[_Counter], bodies: _Bodies, count: int, dice: Random) -> Iterator[_Wish]:
    """One for each counter, then by size and by what is popular, until there are `count`."""
    if count < len(counters):
        raise ValueError("too few subscriptions for these partners")
    codes = bodies.of(Body.TOWN_HALL)
    popular = list(accumulate(popularity(code) for code in codes))
    large = list(accumulate(counter.weight for counter in counters))
    asked: set[_Wish] = set()
    while len(asked) < count:
        starting = len(asked) < len(counters)
        counter = counters[len(asked)] if starting else dice.choices(counters, cum_weights=large)[0]
        wanted = dice.choices(range(len(codes)), cum_weights=popular)[0]
        if dice.random() > 0.05:
            # The counters of one commune share the work; now and then two of them want the same.
            wanted = min(wanted - wanted % counter.of + counter.number, len(codes) - 1)
        wish = _Wish(codes[wanted], counter.subscriber, dice.choice(counter.places))
        if wish not in asked:
            asked.add(wish)
            yield wish


_STATES = (SubscriptionState.SUSPENDED, SubscriptionState.INACTIVE, SubscriptionState.REFUSED)


def _standing(dice: Random) -> tuple[SubscriptionState, Period]:
    """Of a hundred, five do not receive, and four have dates."""
    chance = dice.random()
    if chance < 0.05:
        return dice.choice(_STATES), ALWAYS
    if chance < 0.09:
        begins = NOW + timedelta(days=dice.randrange(-700, 60))
        return SubscriptionState.ACTIVE, Period(begins, begins + timedelta(days=dice.randrange(300, 1_500)))
    return SubscriptionState.ACTIVE, ALWAYS


def _successions(counters: Sequence[_Counter], count: int, dice: Random) -> tuple[Succession, ...]:
    """Counters that moved to another establishment; one in ten of these moved on since."""
    found: list[Succession] = []
    former: Subscriber | None = None
    for number, counter in enumerate(dice.sample(counters, count)):
        former = found[-1].subscriber if number % 10 == 9 else counter.subscriber
        following = Subscriber(made_up_siret(former.siret[:9], 5_000 + number), former.branch)
        found.append(Succession(former, following, NOW + timedelta(days=dice.randrange(-400, 30))))
    return tuple(found)
