"""What a citizen answered, as lines that can be read: from the hub's own description of a parcel to nested terms.

Any JSON that a form site sends is shown; what is too much for a page is left to the file, and said so. Texts are
given as they are: whoever shows them escapes them.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MOST_LINES = 1_000
_DEEPEST = 8
_LONGEST_TEXT = 5_000

_UNSEEN = frozenset({"Cf", "Cc", "Cs", "Co", "Cn"})

_APPLICANT: Mapping[str, str] = {
    "first_name": "Prénom",
    "last_name": "Nom",
    "email": "Adresse électronique",
    "phone": "Téléphone",
}


@dataclass(frozen=True, slots=True, repr=False)
class Line:
    """A term with its text, or with the lines under it."""

    label: str
    text: str | None = None
    under: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Shown:
    """`cut`: there is more than is shown."""

    applicant: tuple[Line, ...]
    facts: tuple[Line, ...]
    content: tuple[Line, ...]
    cut: bool


def read(description: bytes) -> Shown:
    """Of a parcel's `submission.json`; any other description is shown as it stands."""
    told = json.loads(description)
    if "facts" not in told:
        told = {"applicant": None, "facts": {}, "content": told}
    room = _Room(_MOST_LINES)
    applicant = tuple(
        Line(label, _text(told["applicant"][name]))
        for name, label in _APPLICANT.items()
        if told["applicant"] and told["applicant"].get(name) is not None
    )
    facts = _lines(told["facts"], room, 0)
    content = _lines(told["content"] or {}, room, 0)
    return Shown(applicant, facts, content, room.cut)


class _Room:
    def __init__(self, left: int) -> None:
        self._left = left
        self.cut = False

    def take(self) -> bool:
        if self._left == 0:
            self.cut = True
            return False
        self._left -= 1
        return True


def _lines(told: Mapping[str, Any], room: _Room, depth: int) -> tuple[Line, ...]:
    found = []
    for name, value in told.items():
        if not room.take():
            break
        found.append(_line(_label(name), value, room, depth))
    return tuple(found)


def _line(label: str, value: Any, room: _Room, depth: int) -> Line:
    if not isinstance(value, dict | list):
        return Line(label, _text(value, room))
    if not value:
        return Line(label, "–")
    if depth == _DEEPEST:
        room.cut = True
        return Line(label, "…")
    if isinstance(value, dict):
        return Line(label, under=_lines(value, room, depth + 1))
    return Line(label, under=_lines({str(place): one for place, one in enumerate(value, 1)}, room, depth + 1))


def _label(name: str) -> str:
    """A form's own name for a field, a little more like a word."""
    spaced = _visible(name).replace("_", " ").strip() or "–"
    return spaced[:1].upper() + spaced[1:200]


def _text(value: Any, room: _Room | None = None) -> str:
    match value:
        case None | "":
            return "–"
        case bool():
            return "oui" if value else "non"
        case str():
            text = value
        case _:
            text = str(value)
    if len(text) > _LONGEST_TEXT:
        if room is not None:
            room.cut = True
        text = text[:_LONGEST_TEXT] + "…"
    return _visible(text)


def _visible(text: str) -> str:
    """Without signs that show something else than what is written (right-to-left marks, zero widths), and half
    surrogate pairs, which stand in no page."""
    shown = "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign) not in _UNSEEN)
    return shown.replace("\r", "")
