"""Selections and orders to send again: between what operators send or type and what the domain thinks in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from hub.domain.errors import Flaw, Invalid
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.domain.replays import (
    Chosen,
    ReplayOrder,
    ReplayRules,
    Selection,
    SubmissionSelection,
    SubmissionState,
)
from schemas.models.questions import ReplayIn, SelectionIn

_FIRST_YEAR, _LAST_YEAR = 1900, 2199
"""A year outside is a typing error."""

_ORDER_ALONE = frozenset(ReplayIn.model_fields) - frozenset(SelectionIn.model_fields)
_KINDS: Mapping[str, type[Chosen]] = {"deliveries": Selection, "submissions": SubmissionSelection}


def read_selection(told: SelectionIn) -> Chosen:
    """Raises Invalid, naming every field that does not go with what is chosen."""
    kind = _KINDS[told.of]
    given = {
        name: value for name, value in told if name != "of" and name not in _ORDER_ALONE and value is not None
    }
    flaws = list(_flaws(kind, given))
    if flaws:
        raise Invalid(*flaws)
    fields: dict[str, Any] = {name: _value(name, value) for name, value in given.items()}
    if kind is Selection:
        state = fields.pop("state", State.PARKED.value)
        return Selection(state=State(state), **fields)
    word = fields.pop("state", None)
    return SubmissionSelection(state=None if word is None else SubmissionState(word), **fields)


def read_order(told: ReplayIn, author: str) -> ReplayOrder:
    """Raises Invalid."""
    selection = read_selection(told)
    by_default = ReplayRules.THEN if isinstance(selection, Selection) else ReplayRules.TODAY
    rules = by_default if told.rules is None else ReplayRules(told.rules)
    order = ReplayOrder(selection, author, told.reason, rules, told.rate)
    order.check()
    return order


def _flaws(kind: type[Chosen], given: Mapping[str, object]) -> Iterator[Flaw]:
    states = {state.value for state in (State if kind is Selection else SubmissionState)}
    for name, value in given.items():
        if name not in kind.__dataclass_fields__:
            yield Flaw(f"/{name}", "of", "this field does not go with what is chosen (`of`)")
        elif name == "state" and value not in states:
            yield Flaw("/state", "literal_error", f"one of: {', '.join(sorted(states))}")
        elif isinstance(value, datetime) and not _FIRST_YEAR <= value.year <= _LAST_YEAR:
            yield Flaw(f"/{name}", "year", f"the year must be between {_FIRST_YEAR} and {_LAST_YEAR}")


def _value(name: str, value: object) -> object:
    if name == "subscriber":
        return Subscriber.parse(str(value))
    return tuple(value) if isinstance(value, list) else value
