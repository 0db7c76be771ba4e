"""What a store keeps of submissions, in bytes; and how long all of it takes to another database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.migrations import store_id
from hub.adapters.postgres.relocation import copy_store, held_still
from hub.ports.outgoing import Letter
from hub.wire import write_submission


async def relocated_in(database: Database, dsn: str) -> float:
    """Seconds until another database of the same server holds all of it."""

    async def prepare(connection: Connection) -> None:
        await connection.execute("DROP TABLE bare")

    async def make(connection: Connection) -> None:
        await connection.execute("CREATE DATABASE other TEMPLATE template0")

    await database.once(prepare)
    await database.once(make)
    started = time.perf_counter()
    async with held_still(dsn) as held:
        there = urlsplit(dsn)._replace(path="/other").geturl()
        await copy_store(held, there, await store_id(database), with_log=True)
    return time.perf_counter() - started


async def kept_bytes(database: Database, *, log: bool) -> int:
    """Of tables with their indexes, after what updates left was taken away."""

    async def ask(connection: Connection) -> int:
        found: int = await connection.fetchval(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND relname !~ '^(rule_book|bare$)' AND (relname ~ '^log_') = $1",
            log,
        )
        return found

    async with database.alone() as connection:
        await connection.execute("VACUUM")
    return await database.once(ask)


def record_bytes(letters: Sequence[Letter]) -> float:
    records = [write_submission(letter.content) for letter in letters[:500]]
    return sum(len(record.key) + len(record.value) for record in records) / len(records)
