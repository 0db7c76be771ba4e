"""The store's part of the mailbox: a partner says that it has what lay there for it.

Business of this file: acknowledging a partner's own deliveries, where the table of states allows it; those of
whom it succeeds are its own, those of who is succeeded are not. What lies in a mailbox is a view's to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.adapters.postgres.slips import Moved
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State, may_move


class PostgresMailboxes:
    """Implements `hub.ports.mailboxes.Mailboxes`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acknowledge(self, subscriber: Subscriber, deliveries: Sequence[UUID]) -> Sequence[UUID]:
        """In the order asked. A lane may then wake up for nothing, which costs it one look."""

        async def work(connection: Connection) -> Sequence[UUID]:
            states = {row["id"]: row for row in await _lock_own(connection, subscriber, deliveries)}
            fresh = [row for row in states.values() if may_move(State(row["state"]), State.ACKNOWLEDGED)]
            await _rest(connection, [row["id"] for row in fresh])
            moved = Moved()
            for row in fresh:
                moved.note_state(row["id"], State(row["state"]), row["attempt"], State.ACKNOWLEDGED)
            await moved.write(connection)
            await write_journal(connection, [_line(row, subscriber) for row in fresh])
            held = {name for name, row in states.items() if row["state"] == State.ACKNOWLEDGED}
            held.update(row["id"] for row in fresh)
            return [delivery for delivery in dict.fromkeys(deliveries) if delivery in held]

        return await self._database.run(work)


async def _lock_own(
    connection: Connection, subscriber: Subscriber, deliveries: Sequence[UUID]
) -> Sequence[asyncpg.Record]:
    return await connection.fetch(
        """
        SELECT id, submission, state, attempt FROM delivery
        WHERE id = ANY($1::uuid[]) AND successor_in_force(subscriber) = $2
        ORDER BY id
        FOR UPDATE
        """,
        list(deliveries),
        str(subscriber),
    )


async def _rest(connection: Connection, ids: Sequence[UUID]) -> None:
    await connection.execute(
        """
        UPDATE delivery SET state = $2, due_at = NULL, cause = NULL, changed_at = clock_timestamp()
        WHERE id = ANY($1::uuid[])
        """,
        ids,
        State.ACKNOWLEDGED,
    )


def _line(row: asyncpg.Record, subscriber: Subscriber) -> JournalEntry:
    return JournalEntry(
        "delivery.acknowledged",
        row["submission"],
        row["id"],
        actor=f"partner:{subscriber}",
        detail=f"was {row['state']}",
    )
