"""Deliveries whose partner says that it has them.

Business of this file: what that does to a row, whichever way it was said: it rests, whoever held it holds it no more,
and what was to happen to it (a withdrawal among that) does not. To be called under the locks of the deliveries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.adapters.postgres.slips import Moved
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State


class Standing(NamedTuple):
    """Where a delivery stands before."""

    delivery: UUID
    submission: UUID
    state: State
    attempt: int


async def rest_acknowledged(
    connection: Connection, found: Sequence[Standing], subscriber: Subscriber, how: str = ""
) -> None:
    """Those that may be acknowledged. `how`: by what it was said, if not by itself. A lane may then wake up for
    nothing, which costs it one look."""
    if not found:
        return
    names = [one.delivery for one in found]
    await connection.execute(_REST, names, State.ACKNOWLEDGED)
    await connection.execute(_LET_GO, names)
    moved = Moved()
    for one in found:
        moved.note_state(one.delivery, one.state, one.attempt, State.ACKNOWLEDGED)
    await moved.write(connection)
    lines = [
        JournalEntry(
            "delivery.acknowledged",
            one.submission,
            one.delivery,
            actor=f"partner:{subscriber}",
            detail="; ".join(filter(None, (f"was {one.state}", how))),
        )
        for one in found
    ]
    await write_journal(connection, lines)


_REST = """
    UPDATE delivery
    SET state = $2, due_at = NULL, cause = NULL, withdrawing = NULL, changed_at = clock_timestamp()
    WHERE id = ANY($1::uuid[])
"""

# In the order of names, as everybody who takes several of these rows.
_LET_GO = """
    WITH gone AS MATERIALIZED (
        SELECT delivery FROM mailbox_lease WHERE delivery = ANY($1::uuid[]) ORDER BY delivery FOR UPDATE
    )
    DELETE FROM mailbox_lease USING gone WHERE mailbox_lease.delivery = gone.delivery
"""
