"""What conditions ask for: whether any submission can say it, and whether some submission satisfies them.

Business of this file: finding, for the review of a rule book, the tests that only a slip of the pen explains.
Whether a word is a day or a number is asked as it is of a submission (see `facts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import pairwise, product
from math import prod
from typing import assert_never

from hub.domain.conditions import (
    All,
    Condition,
    Equals,
    In,
    NotIn,
    Prefix,
    Range,
    compiled,
    facts_of,
    is_number,
    tests_of,
)
from hub.domain.facts import is_day
from hub.domain.partner import is_siret
from hub.domain.rules import FactSpec, FactType, Procedure
from hub.domain.territory import ANY_COUNTRY, Place, PlaceType, Territory

_MOST_CASES = 2_000
"""How many made-up submissions may be tried to learn whether conditions can hold; beyond, they may."""


def flaws_in(condition: Condition, procedure: Procedure, territory: Territory) -> Iterator[str]:
    """What no submission can say, of all that its tests name."""
    for test in tests_of(condition):
        spec = procedure.facts[test.fact]
        for value in sorted(_values(test)):
            why = _never_said(value, spec, territory)
            if why is not None:
                yield f"its condition names {value} for {spec.name}, but {why}"
        if isinstance(test, Prefix) and not _may_begin(test.prefix, spec, territory):
            yield f"its condition wants {spec.name} to begin with {test.prefix}, and nothing does"


def _values(test: Condition) -> frozenset[str]:
    match test:
        case Equals(value=value):
            return frozenset((value,))
        case In(values=values) | NotIn(values=values):
            return values
        case _:
            return frozenset()


def _never_said(value: str, spec: FactSpec, territory: Territory) -> str | None:
    match spec.type:
        case FactType.WORD:
            unknown = spec.values and value not in spec.values
            return f"it is one of {', '.join(spec.values)}" if unknown else None
        case FactType.SIRET:
            return None if is_siret(value) else "a SIRET has 14 digits whose check sum holds"
        case FactType.PLACE:
            return _never_there(value, territory)
        case FactType.NUMBER:
            return None if is_number(value) else "a number has up to 15 digits, and up to 6 after a point"
        case FactType.DATE:
            return None if is_day(value) else "a date is a day of the calendar, as 2026-01-31"
        case _:
            assert_never(spec.type)


def _never_there(code: str, territory: Territory) -> str | None:
    meant = territory.read(code)
    if meant is not None:
        today = meant.place.code
        return None if today == code else f"places are compared by the code of today: write {today}"
    if territory.knows(Place(PlaceType.DEPARTEMENT, code)):
        return f"a fact names a commune or a country: for a département's communes write prefix: {code}"
    if any(territory.knows(Place(type, code)) for type in PlaceType):
        return "a fact names a commune or a country: list the codes of its communes"
    return "no place has or had this code"


def _may_begin(prefix: str, spec: FactSpec, territory: Territory) -> bool:
    match spec.type:
        case FactType.WORD:
            return not spec.values or any(word.startswith(prefix) for word in spec.values)
        case FactType.SIRET:
            return prefix.isascii() and prefix.isdigit() and (len(prefix) < 14 or is_siret(prefix))
        case FactType.PLACE:
            if prefix.startswith(ANY_COUNTRY):
                # The countries are no rows: any code of this form is one.
                return territory.read(prefix.ljust(_CODE_LENGTH, "9")) is not None
            return any(resolution.place.code.startswith(prefix) for resolution in territory.codes.values())
        case FactType.NUMBER:
            return is_number(prefix) or is_number(f"{prefix}0")
        case FactType.DATE:
            year = prefix[:4].ljust(4, "1")
            days = (f"{year}-{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 32))
            return any(day.startswith(prefix) and is_day(day) for day in days)
        case _:
            assert_never(spec.type)


_CODE_LENGTH = 5


def can_hold(procedure: Procedure, *conditions: Condition) -> bool:
    """Whether some submission satisfies them all; True where that cannot be told.

    Tried out with one value for each part into which the tests divide what a fact may say.
    """
    whole = All(conditions)
    tests = list(tests_of(whole))
    cases: dict[str, list[str | None]] = {}
    for name in facts_of(whole):
        cases[name] = _cases(procedure.facts[name], [test for test in tests if test.fact == name])
    if any(not case for case in cases.values()) or prod(map(len, cases.values())) > _MOST_CASES:
        return True
    holds = compiled(whole, {})
    return any(
        holds({name: value for name, value in zip(cases, values, strict=True) if value is not None})
        for values in product(*cases.values())
    )


def _cases(spec: FactSpec, tests: Sequence[Condition]) -> list[str | None]:
    """None among them: not said. Empty: these tests are too mixed to tell."""
    values = {value for test in tests for value in _values(test)}
    prefixes = {test.prefix for test in tests if isinstance(test, Prefix)}
    bounds = {
        bound
        for test in tests
        if isinstance(test, Range)
        for bound in (test.low, test.high)
        if bound is not None
    }
    said: list[str]
    match spec.type:
        case FactType.WORD if spec.values:
            said = list(spec.values)
        case FactType.NUMBER:
            # 10 and 10.0 are one number and two texts.
            if values or prefixes:
                return []
            said = _around([bound for bound in bounds if isinstance(bound, Decimal)])
        case FactType.DATE:
            if prefixes:
                return []
            marks = sorted({*values, *(bound for bound in bounds if isinstance(bound, str))})
            said = ["", *marks, *(mark + _MORE for mark in marks)]
        case FactType.PLACE | FactType.SIRET | FactType.WORD:
            said = [*sorted(values), *(prefix + _MORE for prefix in sorted(prefixes)), _MORE]
        case _:
            assert_never(spec.type)
    return [*said] if spec.required else [None, *said]


_MORE = "\uffff"
"""Ends a text that nobody names."""


def _around(bounds: Iterable[Decimal]) -> list[str]:
    """Each bound, a number between each two, and one beyond either end."""
    marks = sorted(bounds) or [Decimal(0)]
    between = [(low + high) / 2 for low, high in pairwise(marks)]
    return list(map(str, [marks[0] - 1, *marks, *between, marks[-1] + 1]))
