"""Files of partners, whatever their form: which it is, and what it lists.

Business of this file: telling the forms apart by what stands in a file, and bounding its size. Each form has a
reader of its own beside it. A file that is damaged as a whole is refused whole; a wrong line in it is refused
alone, and told in the listing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from hub.adapters.partners.declarations import list_partner, list_succession
from hub.adapters.partners.directory import Directory
from hub.adapters.partners.elements import Damaged, elements
from hub.adapters.partners.reading import Gathering, Places, Unreadable
from hub.adapters.partners.tables import WORDS, is_directory, list_directory, list_lines, read_table
from hub.adapters.rules.files import LARGEST_PARTNERS, read_file
from hub.domain.errors import RuleBookError
from hub.domain.rules import SubscriptionState
from hub.services.listings import Listing
from schemas.models.wire import WireModel

LARGEST = 100_000_000
"""Bytes of a file of partners. YAML, which is read slowly and at once, has a bound of its own."""

_OWN = frozenset({"partners", "successions"})
_DIRECTORY = frozenset({"service"})
_OWN_BEGINNING = re.compile(r'\s*\{\s*"(partners|successions)"')


def read_partners_file(
    path: Path,
    *,
    procedures: Sequence[str] = (),
    state: SubscriptionState | None = None,
    kinds: Collection[str] = ("mairie",),
) -> Listing:
    """What the file lists: the hub's own partners file (YAML, JSON), its table (CSV), or the directory of
    public services (JSON, an object per line, CSV).

    `procedures` is for the directory alone, which knows none: each entry of these `kinds` of service is
    listed with a subscription to each, for the communes it serves. `state` is what new subscriptions are
    that do not say; None: inactive from a directory, else active. Raises RuleBookError, naming the file and
    never a value, when it cannot be read, or is none of these.
    """
    gathering = Gathering()
    try:
        if not path.is_file():
            raise RuleBookError(f"{path}: there is no such file")
        if path.stat().st_size > LARGEST:
            raise RuleBookError(f"{path}: larger than {LARGEST} bytes")
        directory = Directory(procedures, kinds, Places(), gathering)
        own, words = _read(path, gathering, directory)
    except OSError as error:
        raise RuleBookError(f"{path}: it cannot be read ({error.strerror})") from None
    if own and procedures:
        raise RuleBookError(f"{path}: it says itself who subscribes to what; procedures are for a directory")
    if not (gathering.partners or gathering.successions or gathering.refused or directory.passed_over):
        raise RuleBookError(f"{path}: nothing is listed in it")
    if not own:
        directory.remark()
    unsaid = SubscriptionState.ACTIVE if own else SubscriptionState.INACTIVE
    return gathering.listing(state or unsaid, words)


def _read(path: Path, gathering: Gathering, directory: Directory) -> tuple[bool, dict[str, str]]:
    """Whether it is the hub's own, and its words."""
    if path.suffix.casefold() in (".yaml", ".yml"):
        _read_yaml(path, gathering)
        return True, {}
    with path.open("rb") as file:
        beginning = file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not beginning.startswith((b"{", b"[")):
        header, rows = read_table(path, gathering)
        if is_directory(header):
            list_directory(rows, directory)
            return False, _DIRECTORY_WORDS
        list_lines(rows, gathering)
        return True, dict(WORDS)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RuleBookError(f"{path}: this is not UTF-8, but perhaps ISO-8859-1") from None
    try:
        if _OWN_BEGINNING.match(text):
            _read_own(text, gathering)
            return True, {}
        _read_directory(text, directory)
    except Damaged as damage:
        raise RuleBookError(f"{path}, line {damage.line}: {damage.sentence}") from None
    return False, _DIRECTORY_WORDS


_DIRECTORY_WORDS = {"subscriber": "siret", "name": "nom", "place": "pivot"}


class _Document(WireModel):
    """The outermost of a partners file; each record is read for itself."""

    partners: list[Any] = Field(default_factory=list)
    successions: list[Any] = Field(default_factory=list)


def _read_yaml(path: Path, gathering: Gathering) -> None:
    told, _ = read_file(path, _Document, LARGEST_PARTNERS, secret=True)
    places = Places()
    for number, record in enumerate(told.partners, start=1):
        list_partner(record, f"partner {number}", places, gathering)
    for number, record in enumerate(told.successions, start=1):
        list_succession(record, f"succession {number}", gathering)


def _read_own(text: str, gathering: Gathering) -> None:
    places = Places()
    for element in elements(text, _OWN):
        if element.section == "partners":
            list_partner(element.value, f"partner {element.number}", places, gathering)
        else:
            list_succession(element.value, f"succession {element.number}", gathering)


def _read_directory(text: str, directory: Directory) -> None:
    # In a list an entry has a number; where each has a line of its own, the line is found quicker.
    word = "entry" if _IN_A_LIST.match(text) else "line"
    for element in elements(text, _DIRECTORY):
        where = f"{word} {element.number}"
        if not element.broken:
            directory.list_entry(element.value, where)
        elif element.number == 1:
            raise Damaged(1, "neither a partners file, nor a directory with an entry on each line")
        else:
            directory.gathering.refuse(where, Unreadable("", "this line is not well-formed JSON"))


_IN_A_LIST = re.compile(r'\s*(\[|\{\s*"service")')
