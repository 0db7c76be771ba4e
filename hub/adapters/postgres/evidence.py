"""What partners' servers answered, read from the lines of attempts; and who looked."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.domain.delivery import Attempt
from hub.ports.evidence import SealedAnswer


class PostgresEvidence:
    """Implements `hub.ports.evidence.Evidence`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answers(self, delivery: UUID, reader: str, most: int) -> Sequence[SealedAnswer]:
        async def work(connection: Connection) -> Sequence[SealedAnswer]:
            rows = await connection.fetch(_ANSWERS, delivery, most)
            if rows:
                detail = f"{len(rows)} answers"
                line = JournalEntry("delivery.answers_read", rows[0]["submission"], delivery, reader, detail)
                await write_journal(connection, [line])
            return [
                SealedAnswer(
                    Attempt(delivery, row["sending"], row["attempt"]),
                    row["at"],
                    row["outcome"],
                    row["cause"],
                    row["answer"],
                    row["wrapped"] or b"",
                )
                for row in reversed(rows)
            ]

        return await self._database.run(work)


_ANSWERS = """
    SELECT line.submission, line.sending, line.attempt, line.at, line.outcome, line.cause, line.answer,
           submission_key.wrapped
    FROM delivery
    JOIN journal AS line ON line.submission = delivery.submission AND line.delivery = delivery.id
    LEFT JOIN submission_key ON submission_key.submission = delivery.submission
    WHERE delivery.id = $1 AND line.answer IS NOT NULL
    ORDER BY line.id DESC
    LIMIT $2
"""
