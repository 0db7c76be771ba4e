"""The Python step of migration 0002: editions of the rule book that were kept whole become items.

Business of this file: the one form in which editions were kept until then. It belongs to a published
migration: like the SQL beside it, it is never made to follow what comes later.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from hub.adapters.postgres.database import Connection
from hub.domain.document import canonical
from hub.domain.errors import SettingsError

_Key = tuple[str, str]
"""Kind and key of an item."""


async def bring_over(connection: Connection) -> None:
    """Within the migration's transaction. Raises SettingsError when the territory of an edition, which was
    kept by its vintage alone, is not among the files of this hub."""
    territories: dict[str, bytes] = {}
    # Where each item that stands at the edition being read began, and its content.
    standing: dict[_Key, tuple[int, bytes]] = {}
    for (number,) in await connection.fetch("SELECT number FROM rule_book ORDER BY number"):
        # One at a time: an edition is megabytes.
        content = await connection.fetchval("SELECT content FROM rule_book WHERE number = $1", number)
        items = _items(json.loads(zlib.decompress(content)), territories)
        ended = [key for key, (_, before) in standing.items() if items.get(key) != before]
        await _insert(connection, {key: standing.pop(key) for key in ended}, number)
        for key, text in items.items():
            standing.setdefault(key, (number, text))
    await _insert(connection, standing, None)
    await connection.execute("UPDATE rule_book SET digest = NULL, content = NULL")


def _items(told: dict[str, Any], territories: dict[str, bytes]) -> dict[_Key, bytes]:
    vintage = told["territory"]
    if vintage not in territories:
        territories[vintage] = _territory(vintage)
    return {
        ("territory", vintage): territories[vintage],
        **{("procedure", one["procedure"]): canonical(_procedure(one)) for one in told["procedures"]},
        **{
            ("subscription", f"{one['procedure']}/{one['place']}/{one['subscriber']}"): canonical(one)
            for one in told["subscriptions"]
        },
    }


def _procedure(told: dict[str, Any]) -> dict[str, Any]:
    """As items are written: what was left to its default stood there in full, and is left out; lists whose
    order means nothing are in one order. So the same rules, read again from files, make no new edition."""
    procedure = _without(None, told)
    if "attachment_types" in procedure:
        procedure["attachment_types"] = _in_order(procedure["attachment_types"])
    procedure["facts"] = {name: _fact(fact) for name, fact in told["facts"].items()}
    procedure["rules"] = _in_order(_rule(rule) for rule in told["rules"])
    return procedure


def _fact(told: dict[str, Any]) -> dict[str, Any]:
    fact = _without(False, _without([], told))
    return {name: _in_order(value) if name == "values" else value for name, value in fact.items()}


def _rule(told: dict[str, Any]) -> dict[str, Any]:
    rule = _without(None, told)
    return {name: _in_order(value) if name == "attachments" else value for name, value in rule.items()}


def _without(default: object, told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value != default}


def _in_order(values: Iterable[Any]) -> list[Any]:
    return sorted(values, key=canonical)


def _territory(vintage: str) -> bytes:
    try:
        return (files("routing_rules.territory") / f"{vintage}.tsv.gz").read_bytes()
    except (OSError, ModuleNotFoundError):
        raise SettingsError(
            f"the rule book of this database needs routing_rules/territory/{vintage}.tsv.gz, which is not here"
        ) from None


async def _insert(
    connection: Connection, items: dict[_Key, tuple[int, bytes]], last_edition: int | None
) -> None:
    await connection.executemany(
        "INSERT INTO rule_book_item (kind, key, first_edition, last_edition, content)"
        " VALUES ($1, $2, $3, $4, $5)",
        [(kind, key, first, last_edition, content) for (kind, key), (first, content) in items.items()],
    )
