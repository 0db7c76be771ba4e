"""Conditions: what a rule may ask of a submission's facts. Values, and what each makes of the facts.

A test on a fact that the submission does not say does not hold, whatever the test: `not_in` included. Ask
`Exists` for absence. A place is compared by the code of the place that its value means today, so a former
code is tested like the commune that took it in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor
from typing import assert_never


@dataclass(frozen=True, slots=True)
class Equals:
    fact: str
    value: str


@dataclass(frozen=True, slots=True)
class In:
    fact: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class NotIn:
    fact: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Prefix:
    fact: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Range:
    """Between two bounds, both included; None: no bound on that side. Numbers compare as numbers, dates
    (`2026-01-31`) as texts, which is their order."""

    fact: str
    low: Decimal | str | None
    high: Decimal | str | None


@dataclass(frozen=True, slots=True)
class Exists:
    """Whether the submission says this fact; `present` False asks that it does not."""

    fact: str
    present: bool = True


@dataclass(frozen=True, slots=True)
class All:
    of: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any:
    of: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    of: Condition


Condition = Equals | In | NotIn | Prefix | Range | Exists | All | Any | Not

Facts = Mapping[str, str]
Read = Callable[[Facts], str | None]
"""What a submission says of one fact, for comparing; None: nothing."""
Holds = Callable[[Facts], bool]


def compiled(condition: Condition, readers: Mapping[str, Read]) -> Holds:
    """The condition as one function of the facts. A fact that `readers` does not name is compared as it was
    written."""
    match condition:
        case Exists(fact=fact, present=present):
            return lambda facts: (fact in facts) is present
        case All(of=of):
            return _all(tuple(compiled(one, readers) for one in of))
        case Any(of=of):
            return _any(tuple(compiled(one, readers) for one in of))
        case Not(of=inner):
            fails = compiled(inner, readers)
            return lambda facts: not fails(facts)
        case _:
            return _tested(condition, readers.get(condition.fact) or _as_written(condition.fact))


def _tested(condition: Equals | In | NotIn | Prefix | Range, read: Read) -> Holds:
    match condition:
        case Equals(value=value):
            return lambda facts: read(facts) == value
        case In(values=values):
            return lambda facts: read(facts) in values
        case NotIn(values=values):
            return lambda facts: (told := read(facts)) is not None and told not in values
        case Prefix(prefix=prefix):
            return lambda facts: (told := read(facts)) is not None and told.startswith(prefix)
        case Range(low=low, high=high):
            if isinstance(low, Decimal) or isinstance(high, Decimal):
                return _in_numbers(read, low, high)
            return lambda facts: (told := read(facts)) is not None and _within(told, low, high)
        case _:
            assert_never(condition)


def _in_numbers(read: Read, low: Decimal | str | None, high: Decimal | str | None) -> Holds:
    """What is no number lies nowhere: the fact may have been a word when the submission was received."""
    least = None if low is None else ceil(Decimal(low))
    most = None if high is None else floor(Decimal(high))

    def holds(facts: Facts) -> bool:
        told = read(facts)
        if told is None:
            return False
        # Most are whole, which costs a third.
        if len(told) <= _WHOLE_DIGITS and told.isascii() and told.isdigit():
            whole = int(told)
            return (least is None or least <= whole) and (most is None or whole <= most)
        return is_number(told) and _within(Decimal(told), low, high)

    return holds


_WHOLE_DIGITS = 15


def is_number(told: str) -> bool:
    """Up to 15 digits, and up to 6 after a point."""
    return _NUMBER.fullmatch(told) is not None


_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?", re.ASCII)


def _as_written(fact: str) -> Read:
    return lambda facts: facts.get(fact)


# Plain loops: `all` and `any` over a generator cost as much as the tests themselves.


def _all(tests: tuple[Holds, ...]) -> Holds:
    def holds(facts: Facts) -> bool:
        for test in tests:  # noqa: SIM110  # see above
            if not test(facts):
                return False
        return True

    return holds


def _any(tests: tuple[Holds, ...]) -> Holds:
    def holds(facts: Facts) -> bool:
        for test in tests:  # noqa: SIM110  # see above
            if test(facts):
                return True
        return False

    return holds


def _within(told: Decimal | str, low: Decimal | str | None, high: Decimal | str | None) -> bool:
    # The two bounds are of the kind of `told`: `RuleBook.build` refuses a rule where they are not.
    return (low is None or low <= told) and (high is None or told <= high)  # type: ignore[operator]


Test = Equals | In | NotIn | Prefix | Range | Exists


def tests_of(condition: Condition) -> Iterator[Test]:
    """The single tests a condition is made of."""
    match condition:
        case All(of=of) | Any(of=of):
            for one in of:
                yield from tests_of(one)
        case Not(of=inner):
            yield from tests_of(inner)
        case _:
            yield condition


def facts_of(condition: Condition) -> Iterator[str]:
    """The facts it asks for; one may come several times."""
    return (test.fact for test in tests_of(condition))


def sentence(condition: Condition) -> str:
    """The condition in words, for explanations. It quotes the rule, never a submission."""
    match condition:
        case Equals(fact=fact, value=value):
            return f"{fact} is {value}"
        case In(fact=fact, values=values):
            return f"{fact} is one of {', '.join(sorted(values))}"
        case NotIn(fact=fact, values=values):
            return f"{fact} is none of {', '.join(sorted(values))}"
        case Prefix(fact=fact, prefix=prefix):
            return f"{fact} begins with {prefix}"
        case Range(fact=fact, low=low, high=high):
            least = "" if low is None else f" at least {low}"
            most = "" if high is None else f" at most {high}"
            return f"{fact} is{least}{' and' if least and most else ''}{most}"
        case Exists(fact=fact, present=present):
            return f"{fact} is {'said' if present else 'not said'}"
        case All(of=of):
            return "(" + " and ".join(sentence(one) for one in of) + ")"
        case Any(of=of):
            return "(" + " or ".join(sentence(one) for one in of) + ")"
        case Not(of=inner):
            return f"not {sentence(inner)}"
        case _:
            assert_never(condition)
