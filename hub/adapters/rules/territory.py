"""Reads a vintage of the territory from its compact dataset (written by `routing_rules.territory.derive`).

Business of this file: the shape of the file and of its lines, and naming the line that is damaged. Whether
the rows fit together is the domain's business.

The file is gzipped UTF-8, one row per line, columns parted by tabs, the kind of row first:
`about` rows (one of them the vintage), a `count` row for each kind, then the places, each after those it
names.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import assert_never

from hub.domain.errors import RuleBookError, SettingsError
from hub.domain.territory import (
    Commune,
    CommunePart,
    Departement,
    Epci,
    PlaceType,
    Region,
    Row,
    Territory,
    Zone,
)

FORMAT = "1"

_COMMUNE = r"[0-9][0-9AB][0-9]{3}"
_SIREN = r"[0-9]{9}"
_NAME = r"([^\x00-\x1f]+)"
_SHAPES: Mapping[str, re.Pattern[str]] = {
    kind: re.compile("\t".join(columns))
    for kind, columns in {
        "region": (r"([0-9]{2,3})", _NAME),
        "departement": (r"([0-9][0-9AB][0-9]?)", _NAME, r"([0-9]{2,3})"),
        "epci": (rf"({_SIREN})", _NAME, r"([A-Z0-9]+)"),
        "commune": (
            rf"({_COMMUNE})",
            _NAME,
            r"([0-9][0-9AB][0-9]?)",
            rf"({_SIREN})?",
            rf"({_SIREN})?",
            r"([0-9]{1,9})?",
            r"(metro|drom|com)",
            rf"({_COMMUNE}(?: {_COMMUNE})*)?",
        ),
        "commune_deleguee": (rf"({_COMMUNE})", _NAME, rf"({_COMMUNE})"),
        "commune_associee": (rf"({_COMMUNE})", _NAME, rf"({_COMMUNE})"),
        "arrondissement": (rf"({_COMMUNE})", _NAME, rf"({_COMMUNE})"),
    }.items()
}


def load_territory(path: Path) -> Territory:
    """Raises SettingsError when the file cannot be read at all, RuleBookError, naming file and line, when
    what it holds is damaged."""
    reading = _Reading()
    try:
        with gzip.open(path, "rb") as file:
            lines = reading.numbered(file)
            vintage, first = reading.head(lines)
            return Territory.build(vintage, reading.rows(first, lines))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, reading, "the gzip stream is damaged, here or before") from error
    except UnicodeDecodeError as error:
        raise _damaged(path, reading, "not UTF-8") from error
    except RuleBookError as error:
        raise _damaged(path, reading, str(error)) from error
    except OSError as error:
        raise SettingsError(f"territory {path} cannot be read: {error.strerror}") from error


def _damaged(path: Path, reading: _Reading, why: str) -> RuleBookError:
    return RuleBookError(f"territory {path}, line {reading.line}: {why}")


@dataclass(slots=True)
class _Reading:
    """One pass over a file; `line` is the one being looked at, or the one that could not be read."""

    line: int = 0
    expected: dict[str, int] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)

    def numbered(self, file: Iterable[bytes]) -> Iterator[str]:
        """Decodes line by line: a text file decodes ahead, and its errors would name too early a line."""
        self.line = 1
        for text in file:
            if not text.endswith(b"\n"):
                raise RuleBookError("the line is cut")
            yield text[:-1].decode("utf-8")
            self.line += 1

    def head(self, lines: Iterator[str]) -> tuple[str, str]:
        """The vintage, and the first line of places, which ends the head."""
        about: dict[str, str] = {}
        for text in lines:
            kind, _, rest = text.partition("\t")
            key, _, value = rest.partition("\t")
            if kind == "about" and value:
                about[key] = value
            elif (
                kind == "count" and key in _SHAPES and value.isascii() and value.isdigit() and len(value) < 9
            ):
                self.expected[key] = int(value)
            else:
                return self._checked(about), text
        raise RuleBookError("the file ends before its places")

    def _checked(self, about: Mapping[str, str]) -> str:
        if about.get("format") != FORMAT:
            raise RuleBookError(f"not a territory of format {FORMAT}")
        if "vintage" not in about:
            raise RuleBookError("the head does not say the vintage")
        if self.expected.keys() != _SHAPES.keys():
            raise RuleBookError("the head does not say how many rows of each kind follow")
        return about["vintage"]

    def rows(self, first: str, lines: Iterator[str]) -> Iterator[Row]:
        yield self._row(first)
        for text in lines:
            yield self._row(text)
        for kind, expected in self.expected.items():
            if self.found[kind] != expected:
                raise RuleBookError(
                    f"the file ends with {self.found[kind]} {kind} rows, its head says {expected}"
                )

    def _row(self, text: str) -> Row:
        kind, _, rest = text.partition("\t")
        shape = _SHAPES.get(kind)
        if shape is None:
            raise RuleBookError("not a kind of row that belongs here")
        columns = shape.fullmatch(rest)
        if columns is None:
            raise RuleBookError(f"not the columns of a {kind} row")
        self.found[kind] += 1
        return _read(kind, columns)


def _read(kind: str, columns: re.Match[str]) -> Row:
    match PlaceType(kind):
        case PlaceType.COMMUNE:
            return _commune(columns)
        case PlaceType.COMMUNE_DELEGUEE | PlaceType.COMMUNE_ASSOCIEE | PlaceType.ARRONDISSEMENT as type:
            return CommunePart(type, columns[1], columns[2], columns[3])
        case PlaceType.EPCI:
            return Epci(columns[1], columns[2], columns[3])
        case PlaceType.DEPARTEMENT:
            return Departement(columns[1], columns[2], columns[3])
        case PlaceType.REGION:
            return Region(columns[1], columns[2])
        case PlaceType.ABROAD:
            raise RuleBookError("countries have no rows")
        case type:
            assert_never(type)


def _commune(columns: re.Match[str]) -> Commune:
    code, name, departement, epci, siren, population, zone, former = columns.groups()
    return Commune(
        code,
        name,
        # Tens of thousands of rows name the same few: one string for each.
        intern(departement),
        intern(epci) if epci else None,
        siren,
        int(population) if population else None,
        Zone(zone),
        tuple(former.split(" ")) if former else (),
    )
