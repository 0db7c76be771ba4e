"""Tables (CSV): our own, with one line for a partner and one of its subscriptions, and the directory's.

Business of this file: the form of a table, its columns, its cells. An empty cell says nothing. What a
spreadsheet would take for a formula is text here; an apostrophe that an export put before it is taken away.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter

from hub.adapters.partners.directory import FIELDS, MARKS, Directory
from hub.adapters.partners.elements import read_value
from hub.adapters.partners.reading import (
    Gathering,
    Places,
    Unreadable,
    first_instant,
    fitting,
    last_instant,
    subscriber,
)
from hub.domain.errors import RuleBookError
from hub.domain.rules import SubscriptionState
from hub.domain.territory import Place
from hub.services.listings import NOBODY, ListedPartner, ListedSubscription
from schemas.models.partners import (
    EndpointSecrets,
    EndpointSettings,
    PartnerName,
    VendorName,
    state_named,
)
from schemas.models.rules import Day, PlaceText
from schemas.models.submission import Code

COLUMNS = (
    "siret",
    "guichet",
    "nom",
    "canal",
    "demarche",
    "lieu",
    "etat",
    "date_debut",
    "date_fin",
    "parametres",
    "editeur",
    "emetteur",
)
WORDS: Mapping[str, str] = {
    "subscriber": "siret",
    "name": "nom",
    "channel": "canal",
    "settings": "parametres",
    "secrets": "parametres",
    "vendor": "editeur",
    "sender": "emetteur",
    "procedure": "demarche",
    "place": "lieu",
    "state": "etat",
    "since": "date_debut",
    "until": "date_fin",
}
"""How a table calls what the partners file calls otherwise."""
NO_DAY = "aucune"
"""Where a day may stand: there is to be none."""
NO_NAME = "aucun"
"""Where a vendor or a sender may stand: there is to be none."""

_NAME: TypeAdapter[str] = TypeAdapter(PartnerName)
_CODE: TypeAdapter[str] = TypeAdapter(Code)
_VENDOR: TypeAdapter[str] = TypeAdapter(VendorName)
_PLACE: TypeAdapter[str] = TypeAdapter(PlaceText)
_DAY: TypeAdapter[date] = TypeAdapter(Day)
_SETTINGS: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(EndpointSettings)
_SECRETS: TypeAdapter[dict[str, str]] = TypeAdapter(EndpointSecrets)
_FRENCH_DAY = re.compile(r"([0-9]{2})/([0-9]{2})/([0-9]{4})", re.ASCII)
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")
_BOM = "\ufeff"


def defused(cell: str) -> str:
    """As a spreadsheet may see it: it takes for a formula what begins like one."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _fused(cell: str) -> str:
    """The inverse of `defused`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def is_directory(header: Sequence[str]) -> bool:
    return not MARKS.isdisjoint(header)


Row = tuple[str, dict[str, str]]
"""Where it stands, and its cells that are not empty, by their column."""


def read_table(path: Path, gathering: Gathering) -> tuple[Sequence[str], Iterator[Row]]:
    """The columns, and the rows. Raises RuleBookError, here or while rows are read, for what is no table."""
    with path.open("rb") as file:
        first = next(_decoded(file, path), "")
    if not first.strip():
        raise RuleBookError(f"{path}: it does not begin with a line that names the columns")
    line = first.rstrip("\r\n")
    if "\r" in line:
        raise RuleBookError(f"{path}: its lines end as they did on old machines; save it as “CSV UTF-8”")
    try:
        delimiter = max(";,", key=lambda sign: len(_known(next(csv.reader([line], delimiter=sign), []))))
        header = [_folded(name) for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        raise RuleBookError(f"{path}, line 1: a cell is far too long") from None
    if len(set(header)) != len(header):
        raise RuleBookError(f"{path}, line 1: a column stands twice")
    if is_directory(header):
        needed = {"siret", "nom"} - set(header)
    else:
        strange = [place for place, name in enumerate(header, start=1) if name not in COLUMNS]
        if strange:
            known = ", ".join(COLUMNS)
            raise RuleBookError(f"{path}, line 1: column {strange[0]} is none of {known}")
        needed = {"siret", "guichet"} - set(header)
    if needed:
        raise RuleBookError(f"{path}, line 1: there is no column {min(needed)}")
    return header, _rows(path, delimiter, header, gathering)


def _rows(path: Path, delimiter: str, header: Sequence[str], gathering: Gathering) -> Iterator[Row]:
    with path.open("rb") as file:
        reader = csv.reader(_decoded(file, path), delimiter=delimiter, strict=True)
        line = 1
        try:
            for row in reader:
                where, begun = f"line {line}", line
                line = reader.line_num + 1
                if begun == 1 or not any(row):
                    continue
                if len(row) != len(header):
                    why = Unreadable("", f"it has {len(row)} cells, and there are {len(header)} columns")
                    gathering.refuse(where, why)
                    continue
                cells = zip(header, row, strict=True)
                yield where, {name: text for name, cell in cells if (text := _fused(cell.strip()).strip())}
        except csv.Error:
            # A quotation mark that nobody closed swallows the lines after it: none of them can be trusted.
            raise RuleBookError(
                f"{path}, line {line}: a quotation mark is not closed, or a cell is far too long"
            ) from None


def _decoded(file: Iterator[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise RuleBookError(
                f"{path}, line {number}: this is not UTF-8, but perhaps ISO-8859-1 or Windows-1252; save it as"
                " “CSV UTF-8”"
            ) from None
        yield text.removeprefix(_BOM) if number == 1 else text


def _known(header: Sequence[str]) -> set[str]:
    return {_folded(name) for name in header} & (FIELDS | set(COLUMNS))


_ACCENTS = str.maketrans("éèêà -", "eeea__")


def _folded(name: str) -> str:
    return name.strip().casefold().translate(_ACCENTS)


# --- the rows of each ---------------------------------------------------------------------------------


def list_directory(rows: Iterator[Row], directory: Directory) -> None:
    for where, cells in rows:
        directory.list_entry(cells, where)


def list_lines(rows: Iterator[Row], gathering: Gathering) -> None:
    lines = _Lines(Places())
    for where, cells in rows:
        try:
            gathering.partners.append(lines.partner(where, cells))
        except Unreadable as why:
            gathering.refuse(where, why)


@dataclass(slots=True)
class _Lines:
    """What the cells of one line mean. The same few texts stand in hundreds of thousands of lines: each is
    read once, and what it means is one object."""

    places: Places
    _read: dict[tuple[str, str], Any] = field(default_factory=dict)

    def partner(self, where: str, cells: Mapping[str, str]) -> ListedPartner:
        number = {"siret": f"{''.join(cells.get('siret', '').split())}-{cells.get('guichet', '')}"}
        settings, secrets = self.cell(cells, "parametres", _settings) or (None, None)
        return ListedPartner(
            where,
            self.cell(number, "siret", lambda told: subscriber(told, "siret")),
            self.cell(cells, "nom", lambda told: fitting(_NAME, told, "nom")),
            self.cell(cells, "canal", str.casefold),
            settings,
            secrets,
            self.subscriptions(where, cells),
            whole=True,
            vendor=self.cell(cells, "editeur", lambda told: _name_of(_VENDOR, told, "editeur")),
            sender=self.cell(cells, "emetteur", lambda told: _name_of(_CODE, told, "emetteur")),
        )

    def subscriptions(self, where: str, cells: Mapping[str, str]) -> tuple[ListedSubscription, ...]:
        if "demarche" not in cells or "lieu" not in cells:
            for name in ("demarche", "lieu", "etat", "date_debut", "date_fin"):
                if name in cells:
                    raise Unreadable(
                        name, "a subscription needs both a procedure (demarche) and a place (lieu)"
                    )
            return ()
        since = self.cell(cells, "date_debut", lambda told: _bound(told, "date_debut", first_instant))
        until = self.cell(cells, "date_fin", lambda told: _bound(told, "date_fin", last_instant))
        if since is not None and until is not None and since >= until:
            raise Unreadable("date_fin", "it ends before it begins")
        return (
            ListedSubscription(
                where,
                self.cell(cells, "demarche", lambda told: fitting(_CODE, told, "demarche")),
                self.cell(cells, "lieu", self.place),
                self.cell(cells, "etat", _state),
                since,
                until,
            ),
        )

    def place(self, told: str) -> Place:
        """A bare code is a commune's or, from 99 on, a country's."""
        if ":" not in told:
            told = f"{'abroad' if told.startswith('99') else 'commune'}:{told.upper()}"
        sentence = "a place is a code, or its type and its code, as epci:200000172"
        return self.places.read(fitting(_PLACE, told, "lieu", sentence), "lieu")

    def cell(self, cells: Mapping[str, str], name: str, read: Callable[[str], Any]) -> Any:
        """None: it is empty."""
        told = cells.get(name)
        if told is None:
            return None
        if (name, told) not in self._read:
            self._read[name, told] = read(told)
        return self._read[name, told]


def _settings(told: str) -> tuple[dict[str, JsonValue], dict[str, str] | None]:
    """Secrets may stand among the settings, under this name; an export says there only that there are some."""
    try:
        value = read_value(told)
    except ValueError as error:
        raise Unreadable("parametres", str(error)) from None
    if not isinstance(value, dict):
        raise Unreadable("parametres", "an object in JSON is expected")
    secrets = value.pop("secrets", None)
    value.pop("has_secrets", None)
    return (
        fitting(_SETTINGS, value, "parametres"),
        None if secrets is None else fitting(_SECRETS, secrets, "parametres", "secrets are texts by name"),
    )


def _name_of(kind: TypeAdapter[str], told: str, name: str) -> str:
    return NOBODY if told.casefold() == NO_NAME else fitting(kind, told, name)


def _state(told: str) -> SubscriptionState:
    word = state_named(told)
    if word is None:
        raise Unreadable("etat", "one of: Inactif, Actif, Suspendu, Refusé")
    return SubscriptionState(word)


def _bound(told: str, name: str, instant: Callable[[date | None], datetime]) -> datetime:
    if told.casefold() == NO_DAY:
        return instant(None)
    # Spreadsheets write it so as soon as a table was opened in one.
    french = _FRENCH_DAY.fullmatch(told)
    return instant(fitting(_DAY, "-".join(reversed(french.groups())) if french else told, name))
