"""Reads a vintage of the territory from its compact dataset (which `derivation` writes).

Business of this file: the shape of the file and of its lines, and naming the line that is damaged. Whether
the rows fit together is the domain's business.

The file is gzipped UTF-8, one row per line, columns parted by tabs, the kind of row first:
`about` rows (one of them the vintage), a `count` row for each kind, then the places, each after those it
names.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern

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

MOST_BYTES = 40_000_000
"""Twenty times what the largest vintage so far unpacks to."""
_PIECE = 1 << 16


def load_territory(path: Path) -> Territory:
    """Raises SettingsError when the file cannot be read at all, RuleBookError, naming file and line, when
    what it holds is damaged."""
    return read_territory(read_dataset(path), f"territory {path}")


def read_dataset(path: Path) -> bytes:
    """The file's own bytes. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"territory {path} cannot be read: {error.strerror}") from error


def read_territory(data: bytes, label: str) -> Territory:
    """`data` are a dataset's own bytes. Raises RuleBookError, naming `label` and the line that is damaged."""
    reading = _Reading()
    try:
        lines = reading.numbered(data)
        reading.take_head(lines)
        return Territory.build(reading.about["vintage"], reading.rows(lines))
    except RuleBookError as error:
        raise RuleBookError(f"{label}, line {reading.line}: {error}") from error


@dataclass(frozen=True, slots=True)
class Head:
    """What a dataset says of itself: `about` at least its format and its vintage, `counts` the rows of each
    kind."""

    about: Mapping[str, str]
    counts: Mapping[str, int]


def read_head(data: bytes, label: str) -> Head:
    """The head alone; the places behind it are not looked at. Raises as `read_territory`."""
    reading = _Reading()
    try:
        reading.take_head(reading.numbered(data))
    except RuleBookError as error:
        raise RuleBookError(f"{label}, line {reading.line}: {error}") from error
    return Head(reading.about, reading.expected)


def unpacked(data: bytes, most: int) -> Iterator[bytes]:
    """What was gzipped, in pieces. Raises RuleBookError when it is damaged, or more than `most` bytes: a few
    kilobytes can be gzipped that fill any memory."""
    total = 0
    try:
        with gzip.open(io.BytesIO(data)) as file:
            while piece := file.read(_PIECE):
                total += len(piece)
                if total > most:
                    raise RuleBookError(f"more than {most:,} bytes unpacked")
                yield piece
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RuleBookError("the gzip stream is damaged, here or before") from error


@dataclass(slots=True)
class _Reading:
    """One pass over a file; `line` is the one being looked at, or the one that could not be read."""

    line: int = 1
    about: dict[str, str] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    first: str = ""
    """The first line of places: only by it the head is seen to have ended."""
    found: Counter[str] = field(default_factory=Counter)

    def numbered(self, data: bytes) -> Iterator[str]:
        """Decodes line by line: decoding ahead, its errors would name too early a line."""
        for text in _lines(unpacked(data, MOST_BYTES)):
            try:
                yield text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise RuleBookError("not UTF-8") from error
            self.line += 1

    def take_head(self, lines: Iterator[str]) -> None:
        for text in lines:
            kind, _, rest = text.partition("\t")
            key, _, value = rest.partition("\t")
            if kind == "about" and value:
                self.about[key] = value
            elif kind == "count" and key in _ROWS and value.isascii() and value.isdigit() and len(value) < 9:
                self.expected[key] = int(value)
            else:
                self._check_head()
                self.first = text
                return
        raise RuleBookError("the file ends before its places")

    def _check_head(self) -> None:
        if self.about.get("format") != FORMAT:
            raise RuleBookError(f"not a territory of format {FORMAT}")
        if "vintage" not in self.about:
            raise RuleBookError("the head does not say the vintage")
        if self.expected.keys() != _ROWS.keys():
            raise RuleBookError("the head does not say how many rows of each kind follow")

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        yield self._row(self.first)
        for text in lines:
            yield self._row(text)
        for kind, expected in self.expected.items():
            if self.found[kind] != expected:
                raise RuleBookError(
                    f"the file ends with {self.found[kind]} {kind} rows, its head says {expected}"
                )

    def _row(self, text: str) -> Row:
        kind, _, rest = text.partition("\t")
        known = _ROWS.get(kind)
        if known is None:
            raise RuleBookError("not a kind of row that belongs here")
        shape, read = known
        columns = shape.fullmatch(rest)
        if columns is None:
            raise RuleBookError(f"not the columns of a {kind} row")
        self.found[kind] += 1
        return read(columns)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Without their ends. Raises RuleBookError when the last has none, or one is endless."""
    begun = b""
    for piece in pieces:
        *whole, begun = (begun + piece).split(b"\n")
        yield from whole
        if len(begun) > _PIECE:
            raise RuleBookError("the line is too long")
    if begun:
        raise RuleBookError("the line is cut")


def _region(columns: re.Match[str]) -> Region:
    return Region(columns[1], columns[2])


def _departement(columns: re.Match[str]) -> Departement:
    return Departement(columns[1], columns[2], columns[3])


def _epci(columns: re.Match[str]) -> Epci:
    return Epci(columns[1], columns[2], columns[3])


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
        _ZONES[zone],
        tuple(former.split(" ")) if former else (),
    )


def _part(type: PlaceType) -> Callable[[re.Match[str]], CommunePart]:
    return lambda columns: CommunePart(type, columns[1], columns[2], columns[3])


_COMMUNE = r"([0-9][0-9AB][0-9]{3})"
_SIREN = r"([0-9]{9})"
_NAME = r"([^\x00-\x1f]+)"
_REGION = r"([0-9]{2,3})"
_DEPARTEMENT = r"([0-9][0-9AB][0-9]?)"
_FORMER = r"([0-9][0-9AB][0-9]{3}(?: [0-9][0-9AB][0-9]{3})*)?"
_ZONES: Mapping[str, Zone] = {zone.value: zone for zone in Zone}

_ROWS: Mapping[str, tuple[re.Pattern[str], Callable[[re.Match[str]], Row]]] = {
    kind: (re.compile("\t".join(columns)), read)
    for kind, columns, read in (
        ("region", (_REGION, _NAME), _region),
        ("departement", (_DEPARTEMENT, _NAME, _REGION), _departement),
        ("epci", (_SIREN, _NAME, r"([A-Z0-9]+)"), _epci),
        (
            "commune",
            (
                _COMMUNE,
                _NAME,
                _DEPARTEMENT,
                f"{_SIREN}?",
                f"{_SIREN}?",
                r"([0-9]{1,9})?",
                f"({'|'.join(_ZONES)})",
                _FORMER,
            ),
            _commune,
        ),
        ("commune_deleguee", (_COMMUNE, _NAME, _COMMUNE), _part(PlaceType.COMMUNE_DELEGUEE)),
        ("commune_associee", (_COMMUNE, _NAME, _COMMUNE), _part(PlaceType.COMMUNE_ASSOCIEE)),
        ("arrondissement", (_COMMUNE, _NAME, _COMMUNE), _part(PlaceType.ARRONDISSEMENT)),
    )
}
