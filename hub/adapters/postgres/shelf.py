"""What was set aside, as rows: one for each place in the log, whoever tells it how often."""

from __future__ import annotations

from collections.abc import Sequence

from hub.adapters.postgres.database import Connection, Database
from hub.ports.shelf import Unreadable


class PostgresShelf:
    """Implements `hub.ports.shelf.ShelfRows`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, told: Sequence[Unreadable]) -> int:
        ordered = sorted({(one.topic, one.life, one.partition, one.offset): one for one in told}.items())

        async def work(connection: Connection) -> int:
            status = await connection.execute(
                _KEEP,
                [_text(one.topic) for _, one in ordered],
                [_text(one.life) for _, one in ordered],
                [one.partition for _, one in ordered],
                [one.offset for _, one in ordered],
                [_text(one.reason) for _, one in ordered],
                [one.size for _, one in ordered],
                [one.at for _, one in ordered],
                [one.submission for _, one in ordered],
            )
            return int(status.rpartition(" ")[2])

        return await self._database.run(work)

    async def newest(self, limit: int) -> Sequence[Unreadable]:
        async def work(connection: Connection) -> Sequence[Unreadable]:
            return [Unreadable(**dict(row)) for row in await connection.fetch(_NEWEST, limit)]

        return await self._database.once(work)


def _text(told: str) -> str:
    """A column takes no NUL; the topic is open to whoever may write it."""
    return told.replace("\0", "?")


_KEEP = """
    INSERT INTO set_aside_record (topic, life, partition, "offset", reason, size, at, submission)
    SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::text[], $6::bigint[],
                         $7::timestamptz[], $8::uuid[])
    ON CONFLICT DO NOTHING
"""

_NEWEST = """
    SELECT topic, life, partition, "offset", reason, size, at, submission FROM set_aside_record
    ORDER BY at DESC, topic, life, partition, "offset" LIMIT $1
"""
