"""The journal as news: which lines the log has not been given yet.

Business of this file: that no line is passed by. A line gets its number before its transaction commits, so
numbers become visible out of order; but once every transaction older than some other one has ended, no line
of theirs can appear any more. What was written by one that old is handed out, in the order of transactions.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.domain.identity import Subscriber
from hub.ports.outgoing import JournalPlace, News


class PostgresJournal:
    """Implements `hub.ports.outgoing.Journal`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def news(self, limit: int) -> Sequence[tuple[JournalPlace, News]]:
        async def work(connection: Connection) -> Sequence[tuple[JournalPlace, News]]:
            await connection.execute(_BEGIN)
            rows = await connection.fetch(_NEWS, limit)
            return [((int(row["written_by"]), row["id"]), _news(row)) for row in rows]

        return await self._database.run(work)

    async def carried(self, place: JournalPlace) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(_CARRIED, str(place[0]), place[1])

        await self._database.run(work)


def _news(row: asyncpg.Record) -> News:
    return News(
        row["at"],
        row["event"],
        row["submission"],
        row["delivery"],
        row["procedure"],
        None if row["subscriber"] is None else Subscriber.parse(row["subscriber"]),
    )


# Before the first line that this transaction, or one still at work, may write.
_BEGIN = """
    INSERT INTO journal_carried (written_by, id)
    SELECT pg_snapshot_xmin(pg_current_snapshot()), 0 WHERE NOT EXISTS (SELECT FROM journal_carried)
    ON CONFLICT DO NOTHING
"""

_NEWS = """
    SELECT line.written_by::text, line.id, line.at, line.event, line.submission, line.delivery,
           COALESCE(delivery.procedure, submission.procedure) AS procedure, delivery.subscriber
    FROM (
        SELECT journal.* FROM journal, journal_carried AS carried
        WHERE (journal.written_by, journal.id) > (carried.written_by, carried.id)
          AND journal.written_by < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY journal.written_by, journal.id
        LIMIT $1
    ) AS line
    LEFT JOIN delivery ON delivery.id = line.delivery
    LEFT JOIN submission ON submission.id = line.submission
    ORDER BY line.written_by, line.id
"""

# Never backwards: two may carry at once.
_CARRIED = """
    UPDATE journal_carried SET written_by = $1::text::xid8, id = $2
    WHERE (written_by, id) < ($1::text::xid8, $2)
"""
