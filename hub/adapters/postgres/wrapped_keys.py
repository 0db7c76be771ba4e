"""Every key that is wrapped by the hub's: wrapped anew page by page, counted, and kept from coming back.

Business of this file: knowing all columns that hold one. What stands in one is the keyring's business, but for the id
of the hub key it is wrapped under: the eight bytes after the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from hub.adapters.postgres.database import FORBIDDEN, Connection, Database, KeyForgotten
from hub.domain.errors import Unavailable
from hub.ports.keys import Newest, Rewrapped

_PAGE = 1000
_ALONE = 0x6B657973
_LOCK_WAIT = "5s"


@dataclass(frozen=True, slots=True)
class Place:
    """A column of wrapped keys; `key`: the columns of its table's primary key, with their types."""

    table: str
    column: str
    key: tuple[tuple[str, str], ...]

    @property
    def keys(self) -> str:
        return ", ".join(name for name, _ in self.key)

    @property
    def under(self) -> str:
        """The id of the hub key."""
        return f"substr({self.column}, 2, 8)"


PLACES = (
    Place("submission_key", "wrapped", (("submission", "uuid"),)),
    Place("upload", "wrapped", (("id", "uuid"), ("number", "integer"))),
    Place("partner", "secrets_key", (("subscriber", "text"),)),
    Place("keyring", "root", (("single", "boolean"),)),
)
"""All of them, in the store's one order."""


class PostgresWrappedKeys:
    """Implements `hub.ports.keys.WrappedKeys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def root(self, root: bytes, newest: bytes) -> bytes:
        async def work(connection: Connection) -> bytes:
            kept: bytes | None = await connection.fetchval("SELECT root FROM keyring")
            if kept is None:
                await connection.execute(
                    "INSERT INTO keyring (root, newest) VALUES ($1, $2) ON CONFLICT DO NOTHING", root, newest
                )
                kept = await connection.fetchval("SELECT root FROM keyring")
            assert kept is not None
            return kept

        return await self._database.once(work)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        async with self._database.alone() as connection:
            yield await connection.fetchval("SELECT pg_try_advisory_lock($1)", _ALONE)

    async def begin(self, newest: bytes) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(
                "UPDATE keyring SET newest = $1, since = clock_timestamp(), older = older || newest"
                " WHERE newest <> $1",
                newest,
            )

        await self._database.once(work)

    async def newest(self) -> Newest:
        async def work(connection: Connection) -> Newest:
            row = await connection.fetchrow(
                "SELECT newest, clock_timestamp() - since AS age, older FROM keyring"
            )
            assert row is not None
            return Newest(row["newest"], row["age"], frozenset(row["older"]))

        return await self._database.once(work)

    async def count(self) -> Mapping[bytes, int]:
        async def work(connection: Connection) -> Mapping[bytes, int]:
            counted: Counter[bytes] = Counter()
            for place in PLACES:
                rows = await connection.fetch(
                    f"SELECT {place.under} AS under, count(*) AS number FROM {place.table}"
                    f" WHERE {place.column} IS NOT NULL GROUP BY 1"
                )
                counted.update({row["under"]: row["number"] for row in rows})
            return counted

        return await self._database.once(work)

    def rewrapping(self, newest: bytes, rewrap: Callable[[bytes], bytes | None]) -> Walk:
        return Walk(self._database, newest, rewrap)

    async def forbid(self, hub_key: bytes) -> bool:
        if (await self.count()).get(hub_key):
            return False
        name = f"{FORBIDDEN}{hub_key.hex()}"

        async def work(connection: Connection) -> None:
            await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
            for place in PLACES:
                # By the table itself: a look would not see what a process is about to write that knows no newer key.
                await connection.execute(f"ALTER TABLE {place.table} DROP CONSTRAINT IF EXISTS {name}")
                await connection.execute(
                    f"ALTER TABLE {place.table} ADD CONSTRAINT {name}"
                    f" CHECK ({place.under} <> '\\x{hub_key.hex()}'::bytea)"
                )

        try:
            await self._database.run(work)
        except asyncpg.LockNotAvailableError:
            raise Unavailable("the store is too busy for this now: try again") from None
        except KeyForgotten:
            return False
        return True


@dataclass(slots=True)
class Walk:
    """Implements `hub.ports.keys.Rewrapping`: by primary key, so that each row is looked at once."""

    database: Database
    newest: bytes
    rewrap: Callable[[bytes], bytes | None]
    _place: int = 0
    _after: Sequence[Any] = field(default_factory=tuple)

    async def page(self) -> Rewrapped:
        place, after = PLACES[self._place], self._after

        async def work(connection: Connection) -> tuple[Sequence[Any] | None, int, Counter[bytes]]:
            rows = await connection.fetch(_read(place, bool(after)), self.newest, _PAGE, *after)
            anew = [(row, self.rewrap(row[place.column])) for row in rows]
            fresh = [(row, wrapped) for row, wrapped in anew if wrapped is not None]
            if fresh:
                await connection.execute(
                    _write(place),
                    *([row[name] for row, _ in fresh] for name, _ in place.key),
                    [wrapped for _, wrapped in fresh],
                )
            left = Counter(bytes(row[place.column][1:9]) for row, wrapped in anew if wrapped is None)
            last = [rows[-1][name] for name, _ in place.key] if len(rows) == _PAGE else None
            return last, len(fresh), left

        last, done, left = await self.database.run(work)
        if last is None:
            self._place, self._after = self._place + 1, ()
        else:
            self._after = last
        return Rewrapped(done, left, self._place == len(PLACES))


def _read(place: Place, after: bool) -> str:
    """A page in the order of its primary key, locked in that order."""
    names = [f"${number + 3}::{kind}" for number, (_, kind) in enumerate(place.key)]
    beyond = f" AND ({place.keys}) > ({', '.join(names)})" if after else ""
    return (
        f"SELECT {place.keys}, {place.column} FROM {place.table}"
        f" WHERE {place.column} IS NOT NULL AND {place.under} <> $1{beyond}"
        f" ORDER BY {place.keys} LIMIT $2 FOR NO KEY UPDATE"
    )


def _write(place: Place) -> str:
    arrays = [f"${number + 1}::{kind}[]" for number, (_, kind) in enumerate(place.key)]
    same = " AND ".join(f"{place.table}.{name} = fresh.{name}" for name, _ in place.key)
    return (
        f"UPDATE {place.table} SET {place.column} = fresh.anew"
        f" FROM unnest({', '.join(arrays)}, ${len(arrays) + 1}::bytea[]) AS fresh ({place.keys}, anew)"
        f" WHERE {same}"
    )
