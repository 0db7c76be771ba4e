"""The elements of a large JSON file, one after the other: of a list, of the lists of an object, or one to a line.

Business of this file: that a file of a hundred megabytes is never a hundred megabytes of objects, and that
what is damaged is told by its line. What an element says is not looked at. A name that stands twice in an
object hides one of its values: refused, as everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any


class Damaged(Exception):
    """The file cannot be read on from this line (from 1)."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(f"line {line}: {sentence}")
        self.line = line
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Element:
    """`section`: the name of the list it stands in, empty where that has none. Numbers count from 1 in each
    section; of one to a line it is the line's, which may be `broken`: no JSON."""

    section: str
    number: int
    value: Any
    broken: bool = False


def elements(text: str, sections: Collection[str]) -> Iterator[Element]:
    """Raises Damaged, perhaps after many good elements. An object whose first name is one of `sections` may
    have no other names than those."""
    at = _blank(text, 0)
    if text.startswith("[", at):
        yield from _list(text, at, "", _End())
    elif text.startswith("{", at) and _first_name(text, at) in sections:
        yield from _sections(text, at, sections)
    else:
        yield from _lines(text)


def read_value(text: str) -> Any:
    """A single JSON value. Raises ValueError, which never quotes the text."""
    try:
        value, end = _DECODER.raw_decode(text, _blank(text, 0))
    except (ValueError, RecursionError):
        raise ValueError("this is not well-formed JSON") from None
    if _blank(text, end) != len(text):
        raise ValueError("something follows the JSON")
    return value


# --- the three forms ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _End:
    """Where a generator that was exhausted has stopped."""

    at: int = 0


def _list(text: str, at: int, section: str, end: _End) -> Iterator[Element]:
    at = _blank(text, at + 1)
    number = 0
    while not text.startswith("]", at):
        number += 1
        value, at = _value(text, at)
        yield Element(section, number, value)
        at = _blank(text, at)
        if text.startswith(",", at):
            at = _blank(text, at + 1)
        elif not text.startswith("]", at):
            raise Damaged(_line(text, at), "a list goes on with a comma, or ends with a bracket")
    end.at = at + 1
    if not section and _blank(text, end.at) != len(text):
        raise Damaged(_line(text, end.at), "something follows the list")


def _sections(text: str, at: int, sections: Collection[str]) -> Iterator[Element]:
    met: set[str] = set()
    separator = "{"
    while text.startswith(separator, at):
        name, after = _value(text, _blank(text, at + 1))
        at = _blank(text, after)
        if not isinstance(name, str) or name not in sections or name in met or not text.startswith(":", at):
            words = ", ".join(sorted(sections))
            raise Damaged(_line(text, at), f"lists are expected here, each once: {words}")
        met.add(name)
        at = _blank(text, at + 1)
        if not text.startswith("[", at):
            raise Damaged(_line(text, at), f"{name} must be a list")
        end = _End()
        yield from _list(text, at, name, end)
        at = _blank(text, end.at)
        separator = ","
    if not text.startswith("}", at) or _blank(text, at + 1) != len(text):
        raise Damaged(_line(text, at), "the object does not end as it should")


def _lines(text: str) -> Iterator[Element]:
    at = 0
    number = 0
    while at < len(text):
        number += 1
        end = text.find("\n", at)
        line = text[at : end if end >= 0 else len(text)]
        at += len(line) + 1
        if not line.strip():
            continue
        try:
            yield Element("", number, read_value(line))
        except ValueError:
            yield Element("", number, None, broken=True)


# --- small --------------------------------------------------------------------------------------------

_BLANK = re.compile(r"[ \t\r\n]*")


def _blank(text: str, at: int) -> int:
    """Past the white space."""
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def _first_name(text: str, at: int) -> object:
    try:
        return _DECODER.raw_decode(text, _blank(text, at + 1))[0]
    except (ValueError, RecursionError):
        return None


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise Damaged(_line(text, error.pos), "this is not well-formed JSON") from None
    except ValueError as error:
        raise Damaged(_line(text, at), f"in what begins here, {error}") from None
    except RecursionError:
        raise Damaged(_line(text, at), "what begins here is nested too deep") from None


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _refuse_constant(_: str) -> None:
    raise ValueError("there is a number that is none")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("a number is too long") from None


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError("a number is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return told


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_int=_number, parse_float=_finite, object_pairs_hook=_once
)
