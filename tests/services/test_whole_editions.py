"""A database in which editions of the rule book are still whole is brought over, and means what it meant."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Iterable
from importlib.resources import files
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.migrations import migrate
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.errors import SettingsError
from hub.ports.rule_books import Change, Item, ItemKind
from hub.wire import difference, items
from schemas.models.rules import ProcedureIn, SubscriptionIn
from tests.services.rules_world import AT_ONCE, partner, read

FIRST = "0001_journey.sql"
DATASET = (files("routing_rules.territory") / "2026.tsv.gz").read_bytes()


@pytest_asyncio.fixture
async def old(database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A database as migration 0001 alone made it."""
    connection = await asyncpg.connect(database)
    text = (files("hub.adapters.postgres.migrations") / FIRST).read_text("utf-8")
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.execute(text)
    await connection.execute(
        "CREATE TABLE migration (name text PRIMARY KEY, digest text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    await connection.execute("INSERT INTO migration (name, digest) VALUES ($1, $2)", FIRST, digest)
    yield connection
    await connection.close()


def rules(title: str = "Certificat de décès") -> dict[str, Any]:
    """As the models of that day wrote them: in full."""
    return {
        "procedure": "CERTDC",
        "title": title,
        "facts": {
            "commune": {"type": "place", "required": True, "values": []},
            "nature": {"type": "word", "required": False, "values": ["b", "a"]},
        },
        "attachment_types": ["VA", "DD"],
        "rules": [
            {
                "id": "national",
                "recipient": "national",
                "competent": None,
                "partner": str(partner(0)),
                "attachments": ["VA", "DD"],
            },
            {
                "id": "mairie",
                "recipient": "mairie",
                "competent": {"place": "commune", "levels": ["arrondissement", "commune"]},
                "partner": None,
                "attachments": None,
            },
        ],
    }


def wish(of: int) -> dict[str, str]:
    return {"procedure": "CERTDC", "subscriber": str(partner(of)), "place": "commune:74042"}


async def keep(
    old: asyncpg.Connection[Any], number: int, procedure: dict[str, Any], of: Iterable[int], vintage: str
) -> None:
    told = {"territory": vintage, "procedures": [procedure], "subscriptions": [wish(one) for one in of]}
    content = zlib.compress(json.dumps(told, sort_keys=True, separators=(",", ":")).encode(), 6)
    await old.execute(
        "INSERT INTO rule_book (number, effective_from, digest, content, author, reason)"
        " VALUES ($1::integer, timestamptz '2026-01-01' + $1::integer * interval '1 day', $2, $3, 'agent', 'essai')",
        number,
        hashlib.sha256(content).digest(),
        content,
    )


async def test_editions_that_were_kept_whole_become_items_and_are_read_as_before(
    database: str, old: asyncpg.Connection[Any]
) -> None:
    await keep(old, 1, rules(), [1, 2], "2026")
    await keep(old, 2, rules("Certificat"), [2, 3], "2026")
    await keep(old, 3, rules("Certificat"), [1, 2, 3], "2026")
    assert (await migrate(database))[0] == "0002_rule_book_items.sql"
    assert await migrate(database) == []
    opened = await Database.open(database)
    try:
        books = PostgresRuleBooks(opened)
        for number, title, of in (
            (1, "Certificat de décès", {1, 2}),
            (2, "Certificat", {2, 3}),
            (3, "Certificat", {1, 2, 3}),
        ):
            held = await books.changes(0, number)
            assert Item(ItemKind.TERRITORY, "2026", DATASET) in held.put
            book = read(None, held)
            assert book.procedures["CERTDC"].title == title
            assert {rule.id for rule in book.procedures["CERTDC"].rules} == {"mairie", "national"}
            assert {one.subscriber for one in book.subscriptions.values()} == {partner(one) for one in of}
        # What did not change stands once: one territory, two titles, and one partner's wish that went and came back.
        counted = await old.fetch("SELECT kind, count(*) FROM rule_book_item GROUP BY kind ORDER BY kind")
        assert [tuple(row) for row in counted] == [("procedure", 2), ("subscription", 4), ("territory", 1)]
        assert await old.fetchval("SELECT count(*) FROM rule_book WHERE content IS NOT NULL") == 0
    finally:
        await opened.close()


async def test_the_same_rules_read_again_after_the_move_make_no_new_edition(
    database: str, old: asyncpg.Connection[Any]
) -> None:
    await keep(old, 1, rules(), [1], "2026")
    await migrate(database)
    opened = await Database.open(database)
    try:
        books = PostgresRuleBooks(opened)
        there = {(one.kind, one.key): one for one in (await books.changes(0, 1)).put}
        told = items(
            [ProcedureIn.model_validate(rules())],
            [SubscriptionIn.model_validate(wish(1))],
            (),
            ("2026", DATASET),
        )
        assert difference(there, told) == Change()
        assert await books.publish(Change(tuple(told.values())), 1, AT_ONCE, "agent", "essai") == 1
    finally:
        await opened.close()


async def test_an_edition_whose_territory_is_not_here_stops_the_move_and_leaves_all_as_it_was(
    database: str, old: asyncpg.Connection[Any]
) -> None:
    await keep(old, 1, rules(), [1], "2026")
    await keep(old, 2, rules(), [1], "1999")
    with pytest.raises(SettingsError, match=r"routing_rules/territory/1999\.tsv\.gz"):
        await migrate(database)
    assert await old.fetchval("SELECT count(*) FROM rule_book WHERE content IS NOT NULL") == 2
    assert await old.fetchval("SELECT to_regclass('rule_book_item')") is None
    assert [row["name"] for row in await old.fetch("SELECT name FROM migration")] == [FIRST]
