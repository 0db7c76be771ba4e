"""The tray (bannette départ): what is accepted and the log does not know yet.

Business of this file: handing out the oldest letters until somebody says the log has them. Who appends
them is the outgoing room.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from hub.adapters.postgres.database import Bell, Connection, Database
from hub.adapters.postgres.rows import attachments_from_json
from hub.domain.submission import RoutingFacts
from hub.ports.store import Letter


class PostgresTray:
    """Implements `hub.ports.store.Tray`. `close` it, it may hold a connection that listens."""

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

    async def close(self) -> None:
        await self._bell.close()


def _letter(row: asyncpg.Record) -> Letter:
    facts = RoutingFacts(
        submission=row["id"],
        sender=row["sender"],
        procedure=row["procedure"],
        facts=row["facts"],
        attachments=tuple(attachment.facts for attachment in attachments_from_json(row["attachments"])),
        received_at=row["received_at"],
    )
    return Letter(row["position"], facts)
