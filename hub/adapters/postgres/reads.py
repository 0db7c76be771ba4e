"""Reads of content, in the journal.

Business of this file: a line for each file that is read, and for each parcel that is shown for the first time. What
was shown or fetched before is written no second time into its row.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.ports.reads import Read


class PostgresReads:
    """Implements `hub.ports.reads.Reads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def shown(self, reads: Sequence[Read]) -> None:
        if not reads:
            return

        async def work(connection: Connection) -> None:
            fresh = {row["id"] for row in await connection.fetch(_SHOWN, [read.delivery for read in reads])}
            await write_journal(
                connection, [_line("delivery.shown", read) for read in reads if read.delivery in fresh]
            )

        await self._database.run(work)

    async def fetched(self, read: Read) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(_FETCHED, read.delivery)
            await write_journal(connection, [_line("delivery.fetched", read)])

        await self._database.run(work)


def _line(event: str, read: Read) -> JournalEntry:
    return JournalEntry(event, read.submission, read.delivery, actor=read.reader, detail=read.what)


# A partner looks every few minutes: mostly there is nothing to write, and no lock to take.
_SHOWN = """
    WITH fresh AS MATERIALIZED (
        SELECT id FROM delivery WHERE id = ANY($1::uuid[]) AND shown_at IS NULL ORDER BY id FOR UPDATE
    )
    UPDATE delivery SET shown_at = clock_timestamp() FROM fresh WHERE delivery.id = fresh.id
    RETURNING delivery.id
"""

# Once for each time it was delivered.
_FETCHED = """
    UPDATE delivery SET fetched_at = clock_timestamp()
    WHERE id = $1 AND (fetched_at IS NULL OR fetched_at < changed_at)
"""
