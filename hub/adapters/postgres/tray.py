"""The tray (bannette départ): what is accepted and the log does not know yet.

Business of this file: handing out the oldest letters until somebody says the log has them. Who appends
them is the outgoing room.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from hub.adapters.postgres.database import Bell, Connection, Database
from hub.adapters.postgres.rows import attachment_facts_from_json
from hub.domain.submission import RoutingFacts
from hub.ports.outgoing import Letter


class PostgresTray:
    """Implements `hub.ports.outgoing.Tray`. `close` it, it may hold a connection that listens."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bell = Bell(database, "tray")

    async def letters(self, limit: int) -> Sequence[Letter]:
        async def work(connection: Connection) -> Sequence[Letter]:
            rows = await connection.fetch(
                """
                SELECT tray.position, submission.id, sender, procedure, facts, attachments, received_at
                FROM tray JOIN submission ON submission.id = tray.submission
                ORDER BY tray.position
                LIMIT $1
                """,
                limit,
            )
            return [_letter(row) for row in rows]

        return await self._database.once(work)

    async def discard(self, positions: Sequence[int]) -> None:
        async def work(connection: Connection) -> None:
            # Sorted, so that two who discard the same letters wait for each other in one direction only.
            await connection.execute(
                """
                DELETE FROM tray WHERE position IN (
                    SELECT position FROM tray WHERE position = ANY($1::bigint[]) ORDER BY position FOR UPDATE
                )
                """,
                list(positions),
            )

        await self._database.once(work)

    async def wait(self, seconds: float) -> None:
        await self._bell.wait(seconds)

    async def put_back(self, life: str) -> int:
        async def work(connection: Connection) -> int:
            known = await connection.fetchval("SELECT life FROM log_life FOR UPDATE")
            if known == life:
                return 0
            await connection.execute("UPDATE log_life SET life = $1, decided_until = '-infinity'", life)
            return await _put_back(connection, datetime.max.replace(tzinfo=UTC))

        return await self._database.run(work)

    async def carried_until(self) -> datetime:
        async def work(connection: Connection) -> datetime:
            value: datetime = await connection.fetchval(_CARRIED_UNTIL, _LONGEST_ACCEPTANCE)
            return value

        return await self._database.once(work)

    async def put_back_lost(self, before: datetime) -> int:
        async def work(connection: Connection) -> int:
            await connection.execute("SELECT FROM log_life FOR UPDATE")
            return await _put_back(connection, before)

        return await self._database.run(work)

    async def close(self) -> None:
        await self._bell.close()


# Between a receipt time and the commit that makes it seen.
_LONGEST_ACCEPTANCE = timedelta(minutes=5)

_CARRIED_UNTIL = """
    SELECT LEAST(
        clock_timestamp() - $1::interval,
        (SELECT min(received_at) FROM submission JOIN tray ON tray.submission = submission.id)
    )
"""


async def _put_back(connection: Connection, before: datetime) -> int:
    """Under the lock of the log's life: two at once would write two letters."""
    count: int = await connection.fetchval(_PUT_BACK, before)
    if count:
        await connection.execute("NOTIFY tray")
    return count


# What is before `decided_until` need not be looked at again.
_PUT_BACK = """
    WITH undecided AS MATERIALIZED (
        SELECT id, received_at FROM submission
        WHERE received_at >= (SELECT decided_until FROM log_life) AND received_at < $1
          AND NOT EXISTS (SELECT FROM decision WHERE decision.submission = submission.id)
    ), put AS (
        INSERT INTO tray (submission)
        SELECT id FROM undecided
        WHERE NOT EXISTS (SELECT FROM tray WHERE tray.submission = undecided.id)
        ORDER BY received_at, id
        RETURNING 1
    ), looked AS (
        UPDATE log_life SET decided_until = COALESCE(
            (SELECT min(received_at) FROM undecided),
            LEAST($1, clock_timestamp() - interval '5 minutes')
        )
    )
    SELECT count(*) FROM put
"""


def _letter(row: asyncpg.Record) -> Letter:
    facts = RoutingFacts(
        submission=row["id"],
        sender=row["sender"],
        procedure=row["procedure"],
        facts=row["facts"],
        attachments=attachment_facts_from_json(row["attachments"]),
        received_at=row["received_at"],
    )
    return Letter(row["position"], facts)
