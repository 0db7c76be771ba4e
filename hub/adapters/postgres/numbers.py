"""A partner's running numbers, whatever became of what has them.

Business of this file: that each number is told once. They are given under the lock of the partner's row, which is
held until the commit, and in one transaction with the row that has them; so whoever sees one sees all smaller
ones. What moved away left its number in `moved`, in the transaction that gave it another.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.ports.numbers import Number


class PostgresNumbers:
    """Implements `hub.ports.numbers.Numbers`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def since(self, subscriber: Subscriber, after: int, limit: int) -> Sequence[Number]:
        async def work(connection: Connection) -> Sequence[Number]:
            rows = await connection.fetch(_SINCE, str(subscriber), after, limit)
            return [_number(row) for row in rows]

        return await self._database.once(work)


def _number(row: asyncpg.Record) -> Number:
    return Number(
        number=row["sequence"],
        delivery=row["id"],
        procedure=row["procedure"],
        state=None if row["state"] is None else State(row["state"]),
        since=row["since"],
        moved_to=None if row["moved_to"] is None else Subscriber.parse(row["moved_to"]),
    )


# One statement: one moment, for what is there and what moved. Each side stops at the limit by its own index.
_SINCE = """
    (SELECT sequence, id, procedure, state, changed_at AS since, NULL AS moved_to
     FROM delivery WHERE subscriber = $1 AND sequence > $2
     ORDER BY sequence LIMIT $3)
    UNION ALL
    (SELECT moved.sequence, moved.delivery, delivery.procedure, NULL, moved.moved_at, delivery.subscriber
     FROM moved JOIN delivery ON delivery.id = moved.delivery
     WHERE moved.subscriber = $1 AND moved.sequence > $2
     ORDER BY moved.sequence LIMIT $3)
    ORDER BY sequence
    LIMIT $3
"""
