"""Checking a submission's routing facts and files against what its procedure knows. Pure.

Every flaw names the field and the rule it breaks, never the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import assert_never

from hub.domain.conditions import is_number
from hub.domain.document import OfferedFile
from hub.domain.errors import Flaw, Invalid
from hub.domain.matching import grants
from hub.domain.partner import is_siret
from hub.domain.rules import FactSpec, FactType, Procedure
from hub.domain.submission import AttachmentFacts
from hub.domain.territory import Resolution, Territory


@dataclass(frozen=True, slots=True)
class Checked:
    """What is worth telling the sender: place facts that were mapped to another place, and the numbers of
    files that no rule gives to anybody."""

    mapped: tuple[tuple[str, str, Resolution], ...]
    for_nobody: tuple[int, ...]


def check(
    procedure: Procedure, facts: Mapping[str, str], files: Iterable[OfferedFile], territory: Territory
) -> Checked:
    """Raises Invalid with every flaw there is."""
    files = tuple(files)
    flaws: list[Flaw] = []
    mapped: list[tuple[str, str, Resolution]] = []
    for spec in procedure.facts.values():
        if spec.required and spec.name not in facts:
            flaws.append(Flaw(f"/facts/{spec.name}", "required", "this procedure needs this fact"))
    for name, value in facts.items():
        spec_or_none = procedure.facts.get(name)
        if spec_or_none is None:
            flaws.append(Flaw(f"/facts/{name}", "unknown_fact", "this procedure knows no such fact"))
            continue
        flaw = _check_fact(spec_or_none, value, territory, mapped)
        if flaw is not None:
            flaws.append(flaw)
    flaws.extend(_check_files(procedure, files))
    if flaws:
        raise Invalid(*flaws)
    return Checked(tuple(mapped), tuple(file.number for file in files if not _anybody(procedure, file)))


def _check_fact(
    spec: FactSpec, value: str, territory: Territory, mapped: list[tuple[str, str, Resolution]]
) -> Flaw | None:
    field = f"/facts/{spec.name}"
    match spec.type:
        case FactType.PLACE:
            resolution = territory.read(value)
            if resolution is None:
                return Flaw(field, "unknown_place", "no commune has or had this code")
            if resolution.steps:
                mapped.append((spec.name, value, resolution))
        case FactType.SIRET:
            if not is_siret(value):
                return Flaw(field, "siret", "a SIRET has 14 digits whose check sum holds")
        case FactType.WORD:
            if spec.values and value not in spec.values:
                return Flaw(field, "value", f"one of: {', '.join(spec.values)}")
        case FactType.NUMBER:
            if not is_number(value):
                return Flaw(field, "number", "a number has up to 15 digits, and up to 6 after a point")
        case FactType.DATE:
            if not is_day(value):
                return Flaw(field, "date", "a date is written year-month-day, as 2026-01-31")
        case _:
            assert_never(spec.type)
    return None


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def is_day(value: str) -> bool:
    """The other ways to write a day in ISO 8601 would not compare as texts."""
    if not _DAY.fullmatch(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _check_files(procedure: Procedure, files: tuple[OfferedFile, ...]) -> Iterable[Flaw]:
    for index, file in enumerate(files):
        field = f"/attachments/{index}"
        if procedure.attachment_types is not None and file.type not in procedure.attachment_types:
            known = ", ".join(procedure.attachment_types)
            yield Flaw(f"{field}/type", "unknown_type", f"one of: {known}")
        for place, recipient in enumerate(file.recipients or ()):
            if recipient not in procedure.recipients:
                known = ", ".join(sorted(procedure.recipients))
                yield Flaw(f"{field}/recipients/{place}", "unknown_recipient", f"one of: {known}")


def _anybody(procedure: Procedure, file: OfferedFile) -> bool:
    facts = AttachmentFacts(file.number, file.type, file.recipients)
    return any(grants(rule, facts) for rule in procedure.rules)
