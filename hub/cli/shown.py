"""How differences between rule books are shown to a person: what is new, gone and changed, thing by thing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

from hub.cli.shared import say
from hub.domain.differences import Difference

_LONGEST = 100


def show(differences: Sequence[Difference], most: int) -> None:
    """Procedures in full; of anything else at most `most` lines of a kind."""
    for kind, those in groupby(differences, key=lambda one: one.kind):
        found = list(those)
        if kind == "procedure":
            _show_procedures(found)
            continue
        say(f"{kind}: {_counted(found)}")
        for line in islice(_lines(found), most):
            say(f"  {line}")
        if len(found) > most:
            say(f"  … {len(found)} lines in all")


def as_json(differences: Iterable[Difference]) -> list[Mapping[str, Any]]:
    return [dataclasses.asdict(one) for one in differences]


def _show_procedures(differences: Iterable[Difference]) -> None:
    for code, those in groupby(differences, key=lambda one: one.key):
        found = list(those)
        if not found[0].where:
            say(f"{_sign(found[0])} procedure {code}")
            continue
        say(f"~ procedure {code}")
        for one in found:
            say(f"    {_line(one, ' › '.join(one.where))}")


def _lines(differences: Iterable[Difference]) -> Iterator[str]:
    for one in differences:
        yield _line(one, " ".join((one.key, *one.where)))


def _line(one: Difference, label: str) -> str:
    if _sign(one) != "~":
        there = one.after if one.before is None else one.before
        return f"{_sign(one)} {label}" + (f": {_short(there)}" if one.where else _more(there))
    return f"~ {label}: {_short(one.before)} → {_short(one.after)}"


def _sign(one: Difference) -> str:
    if one.before is None:
        return "+"
    return "-" if one.after is None else "~"


def _more(written: Any) -> str:
    """What a whole thing says beside its key."""
    said = {name: value for name, value in dict(written).items() if name not in _IN_KEY}
    return f": {_short(said)}" if said else ""


_IN_KEY = frozenset({"procedure", "place", "subscriber", "digest"})


def _counted(differences: Sequence[Difference]) -> str:
    new = sum(1 for one in differences if not one.where and one.before is None)
    gone = sum(1 for one in differences if not one.where and one.after is None)
    changed = len({one.key for one in differences if one.where})
    told = ((new, "new"), (gone, "gone"), (changed, "changed"))
    return ", ".join(f"{count} {word}" for count, word in told if count)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
