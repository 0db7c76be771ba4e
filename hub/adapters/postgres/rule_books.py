"""The numbered editions of the rule book, and up to which instant their list is certain.

Business of this file: that the edition in force at an instant, once confirmed, is the same for ever. It
does not read what an edition says.

Why it holds: whoever reads the clock does so under one lock, publishers alone and confirmers together, and
never reads less than anybody before. So an edition takes force later than every instant confirmed before
it, however long its commit takes and whatever the machine's clock does.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from hub.adapters.postgres.database import Connection, Database
from hub.domain.errors import RuleBookError
from hub.ports.store import Confirmation, Edition

# One number for all hubs on this database.
_LOCK = 4_812_002


class PostgresRuleBooks:
    """Implements `hub.ports.store.RuleBooks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, content: bytes, digest: bytes, lead: timedelta, author: str, reason: str) -> int:
        async def work(connection: Connection) -> int:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            now = await _read_clock(connection)
            newest = await connection.fetchrow(
                "SELECT number, digest FROM rule_book ORDER BY number DESC LIMIT 1"
            )
            if newest is not None and newest["digest"] == digest:
                return int(newest["number"])
            return await _insert(connection, content, digest, now, lead, author, reason)

        return await self._database.run(work)

    async def confirm(self) -> Confirmation:
        async def work(connection: Connection) -> Confirmation:
            await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _LOCK)
            until = await _read_clock(connection)
            rows = await connection.fetch(
                "SELECT number, effective_from FROM rule_book ORDER BY effective_from"
            )
            return Confirmation(tuple((row["number"], row["effective_from"]) for row in rows), until)

        return await self._database.run(work)

    async def edition(self, number: int) -> Edition:
        async def work(connection: Connection) -> Edition:
            row = await connection.fetchrow(
                "SELECT number, effective_from, content FROM rule_book WHERE number = $1", number
            )
            if row is None:
                raise RuleBookError(f"no edition of the rule book has number {number}")
            return Edition(row["number"], row["effective_from"], row["content"])

        return await self._database.once(work)


async def _read_clock(connection: Connection) -> datetime:
    """The database's clock, or the highest value anybody read under the lock, whichever is later; kept.
    To be called in a statement after the one that took the lock."""
    # Read and kept in one UPDATE: of two confirmers at once the second waits for the row, and then
    # compares with what the first left there.
    value: datetime = await connection.fetchval(
        "UPDATE rule_book_clock SET value = GREATEST(value, clock_timestamp()) RETURNING value"
    )
    return value


async def _insert(
    connection: Connection,
    content: bytes,
    digest: bytes,
    now: datetime,
    lead: timedelta,
    author: str,
    reason: str,
) -> int:
    # A microsecond more than what is confirmed already, even for a lead of nothing: the instant `now`
    # itself may have been answered. The first edition begins with the calendar of Python.
    number: int = await connection.fetchval(
        """
        INSERT INTO rule_book (number, effective_from, digest, content, author, reason)
        SELECT coalesce(max(number), 0) + 1,
               CASE WHEN count(*) = 0 THEN timestamptz '0001-01-01 00:00:00+00'
                    ELSE GREATEST($3::timestamptz + GREATEST($4::interval, interval '1 microsecond'),
                                  max(effective_from) + interval '1 microsecond')
               END,
               $1, $2, $5, $6
        FROM rule_book
        RETURNING number
        """,
        digest,
        content,
        now,
        lead,
        author,
        reason,
    )
    return number
