"""Coverage: which communes a procedure's submissions would reach whom from, and which would reach nobody.

Business of this file: making up the submissions, having them matched, and counting. It decides nothing itself.

A kind of recipient is *expected* for a submission when a rule of this kind that acts by itself applies to
it; it is *reached* when such a rule, or one it falls back on, found somebody. A commune is covered when
every submission made up for it reaches every kind expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice, product
from math import prod
from typing import NamedTuple, assert_never
from uuid import UUID

from hub.domain.conditions import Condition, Holds, compiled, facts_of
from hub.domain.decisions import Routed
from hub.domain.errors import RuleBookError
from hub.domain.matching import match
from hub.domain.plans import Plan
from hub.domain.rule_book import RuleBook
from hub.domain.rules import FactSpec, FactType, Procedure
from hub.domain.submission import RoutingFacts
from hub.domain.territory import Place, PlaceType, Territory

MOST_COMBINATIONS = 64
"""Of listed words, for one procedure."""


class Reach(StrEnum):
    """The worst that happens to a submission made up for a commune."""

    EVERYBODY = "everybody"
    """Each reaches all kinds of recipients expected: the commune is covered."""
    SOMEBODY = "somebody"
    """Each reaches somebody, but one misses a kind that is expected."""
    NOBODY = "nobody"
    """One at least is unroutable, or a rule puts it aside for a person to look at."""


class CommuneReach(NamedTuple):
    """`population`: 0 where nobody is counted. `missing`: the kinds of recipients expected by a submission that
    did not reach them, sorted; empty with NOBODY when no rule applies."""

    code: str
    name: str
    departement: str
    population: int
    reach: Reach
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """Communes, and the people who live in them: all, those that are covered, those where a submission
    may reach nobody. What is neither of the latter reaches somebody."""

    communes: int
    covered: int
    nobody: int
    population: int
    population_covered: int
    population_nobody: int

    @property
    def uncovered(self) -> int:
        return self.communes - self.covered

    @property
    def population_uncovered(self) -> int:
        return self.population - self.population_covered


@dataclass(frozen=True, slots=True)
class DepartementCoverage:
    code: str
    name: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of one procedure, at one instant: every current commune, in the territory's order, with the sums.

    `kinds`: of recipients that its rules expect, sorted. `combinations`: how many combinations of the words
    that its conditions ask for were tried for each commune; `left_out`: how many were not, there being more
    than MOST_COMBINATIONS. `stand_ins`: what was said for required facts that are neither places nor listed
    words. An optional one was not said, so a condition on it does not hold.
    """

    procedure: str
    title: str
    vintage: str
    at: datetime
    kinds: tuple[str, ...]
    combinations: int
    left_out: int
    stand_ins: Mapping[str, str]
    communes: tuple[CommuneReach, ...]
    departements: tuple[DepartementCoverage, ...]
    total: Figures

    @property
    def uncovered(self) -> tuple[CommuneReach, ...]:
        return tuple(one for one in self.communes if one.reach is not Reach.EVERYBODY)


def coverage(procedure_code: str, book: RuleBook, at: datetime) -> Coverage:
    """Submissions without files, received at `at`, whose places are all the same commune. Raises
    RuleBookError when the rule book knows no such procedure."""
    plan = book.plans.get(procedure_code)
    if plan is None:
        raise RuleBookError("the rule book knows no such procedure")
    stand_ins = _stand_ins(plan.procedure, at)
    combinations, left_out = _combinations(plan.procedure)
    said = [{**stand_ins, **words} for words in combinations]
    questions = tuple(_question(plan, words, at) for words in _distinct(said, plan.procedure))
    survey = _Survey(plan, book, at, questions, _stands_for(plan))
    communes = tuple(survey.communes())
    return Coverage(
        plan.procedure.code,
        plan.procedure.title,
        book.territory.vintage,
        at,
        tuple(sorted({rule.recipient for rule in plan.rules})),
        len(combinations),
        left_out,
        stand_ins,
        communes,
        _by_departement(communes, book.territory),
        _figures(communes),
    )


@dataclass(frozen=True, slots=True)
class _Question:
    """One combination of words. `expected`: the kinds of recipients wherever it is; `depends`: those of rules
    whose condition may depend on where."""

    words: Mapping[str, str]
    expected: frozenset[str]
    depends: tuple[tuple[str, Holds], ...]


@dataclass(frozen=True, slots=True)
class _Survey:
    plan: Plan
    book: RuleBook
    at: datetime
    questions: tuple[_Question, ...]
    stands_for: Mapping[str, frozenset[str]]

    def communes(self) -> Iterator[CommuneReach]:
        for place in self.book.territory.communes():
            commune = self.book.territory.commune(place.code)
            assert commune is not None
            reach, missing = self._reach(place.code)
            yield CommuneReach(
                place.code, commune.name, commune.departement, commune.population or 0, reach, missing
            )

    def _reach(self, code: str) -> tuple[Reach, tuple[str, ...]]:
        places = dict.fromkeys(self.plan.place_facts, code)
        missing: set[str] = set()
        nobody = False
        for question in self.questions:
            facts = {**question.words, **places}
            left = set(question.expected)
            left.update(kind for kind, holds in question.depends if holds(facts))
            verdict = match(
                RoutingFacts(_NOT_SENT, "", self.plan.procedure.code, facts, (), self.at), self.book
            )
            if isinstance(verdict, Routed):
                for recipient in verdict.recipients:
                    for reason in recipient.reasons:
                        left -= self.stands_for[reason.rule]
                    if not left:
                        break  # thousands may receive where everyone does
            else:
                nobody = True
            missing |= left
        if nobody:
            return Reach.NOBODY, tuple(sorted(missing))
        return (Reach.SOMEBODY, tuple(sorted(missing))) if missing else (Reach.EVERYBODY, ())


_NOT_SENT = UUID(int=0)


def _question(plan: Plan, words: Mapping[str, str], at: datetime) -> _Question:
    acting = [rule for rule in plan.rules if rule.period is None or rule.period.holds(at)]
    return _Question(
        words,
        frozenset(rule.recipient for rule in acting if rule.holds is None),
        tuple((rule.recipient, rule.holds) for rule in acting if rule.holds is not None),
    )


def _stands_for(plan: Plan) -> Mapping[str, frozenset[str]]:
    """By rule: the kinds of recipients that are reached when it finds somebody."""
    found: dict[str, frozenset[str]] = {}
    for acting in plan.rules:
        rule = acting
        found[rule.id] = found.get(rule.id, frozenset()) | {acting.recipient}
        while rule.otherwise is not None:
            rule = rule.otherwise
            found[rule.id] = found.get(rule.id, frozenset()) | {acting.recipient}
    return found


# --- what is made up ----------------------------------------------------------------------------------


def _stand_ins(procedure: Procedure, at: datetime) -> Mapping[str, str]:
    return {
        name: _stand_in(spec.type, at)
        for name, spec in procedure.facts.items()
        if spec.required and spec.type is not FactType.PLACE and not spec.values
    }


def _stand_in(type: FactType, at: datetime) -> str:
    match type:
        case FactType.NUMBER:
            return "0"
        case FactType.DATE:
            return at.date().isoformat()
        case FactType.SIRET:
            return "0" * 14
        case FactType.WORD | FactType.PLACE:
            return "-"
        case _:
            assert_never(type)


def _combinations(procedure: Procedure) -> tuple[list[Mapping[str, str]], int]:
    """Of the listed words, with how many were left out. An optional fact may also be not said; a fact that no
    condition asks for changes nothing, so one choice stands for all."""
    asked = {name for rule in procedure.rules for name in _asked(rule.when)}
    listed = [spec for spec in procedure.facts.values() if spec.values]
    choices = [_choices(spec, spec.name in asked) for spec in listed]
    found: list[Mapping[str, str]] = [
        {spec.name: word for spec, word in zip(listed, words, strict=True) if word is not None}
        for words in islice(product(*choices), MOST_COMBINATIONS)
    ]
    return found, prod(map(len, choices)) - len(found)


def _asked(condition: Condition | None) -> Iterable[str]:
    return () if condition is None else facts_of(condition)


def _choices(spec: FactSpec, asked: bool) -> tuple[str | None, ...]:
    every = spec.values if spec.required else (None, *spec.values)
    return every if asked else every[:1]


def _distinct(said: Iterable[Mapping[str, str]], procedure: Procedure) -> list[Mapping[str, str]]:
    """One of those that no condition can tell apart, whatever the place: most conditions part many words
    into two groups, and each of these is matched for every commune."""
    places = {name for name, spec in procedure.facts.items() if spec.type is FactType.PLACE}
    tests = [_seen_by(rule.when, places) for rule in procedure.rules if rule.when is not None]
    found: dict[tuple[object, ...], Mapping[str, str]] = {}
    for words in said:
        found.setdefault(tuple(test(words) for test in tests), words)
    return list(found.values())


_Seen = Callable[[Mapping[str, str]], object]


def _seen_by(condition: Condition, places: set[str]) -> _Seen:
    """What a condition makes of words alone; of one that asks for a place too, all it may look at."""
    asked = sorted(set(facts_of(condition)))
    if places.isdisjoint(asked):
        return compiled(condition, {})
    return lambda words: tuple(words.get(name) for name in asked)


# --- sums ---------------------------------------------------------------------------------------------


def _by_departement(
    communes: Iterable[CommuneReach], territory: Territory
) -> tuple[DepartementCoverage, ...]:
    found: dict[str, list[CommuneReach]] = {}
    for commune in communes:
        found.setdefault(commune.departement, []).append(commune)
    return tuple(
        DepartementCoverage(
            code, territory.name(Place(PlaceType.DEPARTEMENT, code)) or code, _figures(found[code])
        )
        for code in sorted(found)
    )


def _figures(communes: Iterable[CommuneReach]) -> Figures:
    everywhere = tuple(communes)
    covered = [one.population for one in everywhere if one.reach is Reach.EVERYBODY]
    nobody = [one.population for one in everywhere if one.reach is Reach.NOBODY]
    return Figures(
        len(everywhere),
        len(covered),
        len(nobody),
        sum(one.population for one in everywhere),
        sum(covered),
        sum(nobody),
    )
