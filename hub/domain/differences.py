"""Differences: between two rule books as they are written, and between two verdicts on one submission.

Business of this file: what differs, by name, and the value on either side. Why a verdict came about is
`explaining`'s; words for a person are the command line's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from hub.domain.decisions import Recipient, Routed, SetAside, Unroutable, Verdict
from hub.domain.identity import Subscriber

# --- two rule books -----------------------------------------------------------------------------------

Named = tuple[str, str]
"""The kind of a thing (`procedure`, `subscription`, `succession`, `territory`), and its key."""
Written = Mapping[Named, Mapping[str, Any]]
"""The things of a rule book, each as the JSON object it is written as."""

_NAMED_BY = {"rules": "id", "transfers": "epci"}
"""Lists of a procedure whose elements have a name: their order means nothing."""
_MAPPED = frozenset({"facts"})


@dataclass(frozen=True, slots=True)
class Difference:
    """`where` leads into the thing (`("rules", "mairie", "priority")`), empty when the whole thing is new
    or gone. `before` and `after` are JSON values; None: not there, or not said."""

    kind: str
    key: str
    where: tuple[str, ...]
    before: Any
    after: Any


def between(before: Written, after: Written) -> tuple[Difference, ...]:
    """What differs, by kind and key; none when they say the same."""
    found: list[Difference] = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            found.append(Difference(*name, (), old, new))
        elif old != new:
            found.extend(Difference(*name, *one) for one in _fields(old, new))
    return tuple(found)


Change = tuple[tuple[str, ...], Any, Any]


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for field in sorted(old.keys() | new.keys()):
        before, after = old.get(field), new.get(field)
        elements = (_elements(field, before), _elements(field, after))
        if elements[0] is None or elements[1] is None:
            if before != after:
                yield (field,), before, after
            continue
        for where, left, right in _parts(elements[0], elements[1]):
            yield (field, *where), left, right


def _parts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            yield (name,), before, after
            continue
        for field in sorted(before.keys() | after.keys()):
            if before.get(field) != after.get(field):
                yield (name, field), before.get(field), after.get(field)


def _elements(field: str, value: Any) -> Mapping[str, Mapping[str, Any]] | None:
    """The named parts of a field, None when it has none and is compared as a whole."""
    if field in _MAPPED:
        return value or {}
    if field not in _NAMED_BY:
        return None
    named: Sequence[Mapping[str, Any]] = value or ()
    found = {str(element[_NAMED_BY[field]]): element for element in named}
    # One EPCI may have been handed a competence twice, at different times: then no name tells them apart.
    return found if len(found) == len(named) else None


# --- two verdicts -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VerdictDifference:
    """`before` and `after`: what came of it, as `outcome` says. Who receives it only afterwards (`gained`),
    only before (`lost`), or both times, but other files or by another way (`altered`)."""

    before: str
    after: str
    gained: tuple[Subscriber, ...]
    lost: tuple[Subscriber, ...]
    altered: tuple[Subscriber, ...]


def between_verdicts(before: Verdict, after: Verdict) -> VerdictDifference | None:
    """None when the same subscribers get the same files, or nobody does for the same reason; by which rule
    makes no difference."""
    old, new = _recipients(before), _recipients(after)
    gained = tuple(sorted(new.keys() - old.keys()))
    lost = tuple(sorted(old.keys() - new.keys()))
    altered = tuple(sorted(one for one in old.keys() & new.keys() if _given(old[one]) != _given(new[one])))
    words = outcome(before), outcome(after)
    if words[0] == words[1] and not (gained or lost or altered):
        return None
    return VerdictDifference(*words, gained, lost, altered)


def outcome(verdict: Verdict) -> str:
    """`routed`, `unroutable`, or the reason why it was set aside."""
    match verdict:
        case Routed():
            return "routed"
        case Unroutable():
            return "unroutable"
        case SetAside(reason=reason):
            return reason
        case _:
            assert_never(verdict)


def _recipients(verdict: Verdict) -> Mapping[Subscriber, Recipient]:
    if not isinstance(verdict, Routed):
        return {}
    return {recipient.subscriber: recipient for recipient in verdict.recipients}


def _given(recipient: Recipient) -> tuple[frozenset[int], bool]:
    return frozenset(recipient.attachments), recipient.mailbox
