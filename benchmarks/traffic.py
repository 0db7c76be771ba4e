"""Submissions as a national register gets them: by population and by what is popular, in stated shares.

Business of this file: drawing them until each trait has its share. Seeded: the same seed gives the same
submissions, in the same order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from itertools import accumulate
from random import Random
from uuid import UUID

from benchmarks.procedures import FILES, MOTIVES, NOW, popularity
from benchmarks.register import Register
from hub.domain.decisions import Routed, Verdict
from hub.domain.matching import match
from hub.domain.partner import made_up_siret
from hub.domain.rule_book import RuleBook
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.domain.territory import PlaceType, StepRule, Territory


class Trait(Enum):
    """What costs a matcher something; a submission may have several."""

    SEVERAL = "two recipients or more"
    CONDITION = "a rule with a condition chose somebody"
    EPCI = "an EPCI was chosen for a commune"
    FORMER = "the place is written by a former code"
    NOBODY = "nobody gets it"


SHARES: Mapping[Trait, float] = {
    Trait.SEVERAL: 0.20,
    Trait.CONDITION: 0.20,
    Trait.EPCI: 0.10,
    Trait.FORMER: 0.05,
    Trait.NOBODY: 0.02,
}


def mix(register: Register, count: int, seed: int = 2026, book: RuleBook | None = None) -> list[RoutingFacts]:
    """`count` submissions, shuffled, each trait in its share. `book`: the register's, where it is built."""
    book = book or register.book()
    conditioned = frozenset(
        (procedure.code, rule.id)
        for procedure in register.procedures
        for rule in procedure.rules
        if rule.when is not None
    )
    dice = Random(seed)
    draws = _Draws.of(register, dice)
    left = {trait: round(share * count) for trait, share in SHARES.items()}
    found: list[RoutingFacts] = []
    while len(found) < count:
        submission = draws.one(former=left[Trait.FORMER] > 0 and dice.random() < 0.3)
        traits = traits_of(submission, match(submission, book), register.territory, conditioned)
        # What has no trait leaves room for what is still to come.
        room = len(found) + sum(left.values()) < count
        if any(left[trait] == 0 for trait in traits) or not (traits or room):
            continue
        for trait in traits:
            left[trait] -= 1
        found.append(submission)
    dice.shuffle(found)
    return found


def traits_of(
    submission: RoutingFacts,
    verdict: Verdict,
    territory: Territory,
    conditioned: Collection[tuple[str, str]],
) -> frozenset[Trait]:
    """`conditioned`: procedure and id of each rule that has a condition."""
    found = set()
    read = territory.read(submission.facts["commune"])
    if read is not None and any(step.rule is StepRule.FORMER_CODE for step in read.steps):
        found.add(Trait.FORMER)
    if not isinstance(verdict, Routed):
        return frozenset((*found, Trait.NOBODY))
    reasons = [reason for recipient in verdict.recipients for reason in recipient.reasons]
    if len(verdict.recipients) > 1:
        found.add(Trait.SEVERAL)
    if any((submission.procedure, reason.rule) in conditioned for reason in reasons):
        found.add(Trait.CONDITION)
    if any(reason.subscription is not None and "/epci:" in reason.subscription for reason in reasons):
        found.add(Trait.EPCI)
    return frozenset(found)


_COUNTRIES = ("99109", "99131", "99134", "99350", "99351", "99352", "99401")


@dataclass(frozen=True, slots=True)
class _Draws:
    """Where people live and what they ask for."""

    dice: Random
    procedures: tuple[str, ...]
    popular: tuple[float, ...]
    places: tuple[str, ...]
    people: tuple[int, ...]
    formers: tuple[str, ...]
    formers_people: tuple[int, ...]

    @classmethod
    def of(cls, register: Register, dice: Random) -> _Draws:
        places: list[tuple[str, int]] = []
        formers: list[tuple[str, int]] = []
        for place in register.territory.communes():
            row = register.territory.commune(place.code)
            assert row is not None
            population = row.population or 0
            parts = (
                register.territory.parts_of(place.code, PlaceType.ARRONDISSEMENT)
                if population > 400_000
                else ()
            )
            # Forms ask where they can for the arrondissement; one in ten says the commune.
            places.append((place.code, population // 10 if parts else population))
            places += [(part.code, population * 9 // 10 // len(parts)) for part in parts]
            formers += [(code, population) for code in row.former]
        codes = tuple(procedure.code for procedure in register.procedures)
        return cls(
            dice,
            codes,
            tuple(accumulate(popularity(code) for code in codes)),
            tuple(code for code, _ in places),
            tuple(accumulate(people for _, people in places)),
            tuple(code for code, _ in formers),
            tuple(accumulate(people for _, people in formers)),
        )

    def one(self, former: bool) -> RoutingFacts:
        dice = self.dice
        procedure = dice.choices(self.procedures, cum_weights=self.popular)[0]
        facts = {
            "commune": self._former() if former else self._place(procedure),
            "motif": dice.choice(MOTIVES),
            "montant": str(dice.randrange(10_000)),
            "date": f"2026-{dice.randrange(1, 13):02d}-{dice.randrange(1, 29):02d}",
        }
        if dice.random() < 0.3:
            facts["etablissement"] = made_up_siret(
                dice.choice(("213800543", "552100554")), dice.randrange(10_000)
            )
        files = tuple(
            AttachmentFacts(at, dice.choice(FILES), ("mairie",) if dice.random() < 0.02 else None)
            for at in range(1, dice.randint(1, 4) + 1)
        )
        received = NOW + timedelta(seconds=dice.randrange(-90 * 86_400, 90 * 86_400))
        return RoutingFacts(UUID(int=dice.getrandbits(128)), "benchmark", procedure, facts, files, received)

    def _former(self) -> str:
        return self.dice.choices(self.formers, cum_weights=self.formers_people)[0]

    def _place(self, procedure: str) -> str:
        if procedure.startswith("civil") and self.dice.random() < 0.1:
            return self.dice.choice(_COUNTRIES)
        code = self.dice.choices(self.places, cum_weights=self.people)[0]
        typed = self.dice.random() < 0.01
        return f"{PlaceType.COMMUNE}:{code}" if typed else code
