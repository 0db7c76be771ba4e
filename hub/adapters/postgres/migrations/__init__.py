"""Forward-only migrations: numbered SQL files, each applied once, in order, in a transaction of its own.

A file that was published is never edited; its digest is kept, and a changed one is refused. Where SQL alone
cannot bring over what is there, a step in Python belongs to the file, run right after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files

from hub.adapters.postgres.database import Connection, Database, OwnConnection, connect, served
from hub.adapters.postgres.migrations import whole_editions
from hub.domain.errors import SettingsError

# One number for all hubs, so that two that start at once take turns.
_LOCK = 4_812_001
_OLDEST_SERVER = 150_000

_STEPS: Mapping[str, Callable[[Connection], Awaitable[None]]] = {
    "0002_rule_book_items.sql": whole_editions.bring_over
}


async def migrate(dsn: str) -> list[str]:
    """Bring the database at `dsn` up to date; the names of the migrations applied now. Raises
    SettingsError for a server older than PostgreSQL 15, a database from a newer hub, or a file that its
    contents need and that is not here; Unavailable when the server is away."""
    connection = await connect(dsn)
    with served():
        try:
            return await _apply_missing(connection)
        finally:
            await connection.close(timeout=10)


async def _apply_missing(connection: OwnConnection) -> list[str]:
    if connection.get_server_version().major * 10_000 < _OLDEST_SERVER:
        raise SettingsError("the database server is older than PostgreSQL 15")
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY, digest text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    applied = {
        row["name"]: row["digest"] for row in await connection.fetch("SELECT name, digest FROM migration")
    }
    here = _published()
    _refuse_strangers(applied, here)
    fresh = [name for name in here if name not in applied]
    for name in fresh:
        async with connection.transaction():
            await connection.execute(here[name])
            if name in _STEPS:
                await _STEPS[name](connection)
            await connection.execute(
                "INSERT INTO migration (name, digest) VALUES ($1, $2)", name, _digest(here[name])
            )
    return fresh


async def store_id(database: Database) -> str:
    """Which store this is, from the day it was made."""

    async def work(connection: Connection) -> str:
        return str(await connection.fetchval("SELECT id FROM store"))

    return await database.once(work)


def _published() -> dict[str, str]:
    found = {
        entry.name: entry.read_text("utf-8")
        for entry in files(__name__).iterdir()
        if entry.name.endswith(".sql")
    }
    return dict(sorted(found.items()))


def _refuse_strangers(applied: dict[str, str], here: dict[str, str]) -> None:
    for name, digest in applied.items():
        if name not in here:
            raise SettingsError(f"the database knows migration {name}, this hub does not: it is older")
        if _digest(here[name]) != digest:
            raise SettingsError(f"migration {name} was edited after it was applied")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
