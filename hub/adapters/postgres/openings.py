"""Lanes that are opened, or looked at again: an operator says so, or their endpoint or pace is another one.

Business of this file: forgetting that an endpoint refused or failed, and planning again the delivery that was
parked when it refused. Under the lanes' locks; who asks and why is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.adapters.postgres.slips import count_moved
from hub.domain.ledger import Term
from hub.domain.lifecycle import State, move


async def open_lanes(connection: Connection, lanes: Sequence[int], actor: str, reason: str) -> list[int]:
    """Those of them that were closed, failing, or fell back to a mailbox: as if nothing had been tried there yet,
    and due. What is parked still because one of them was closed begins a new sending. All of `lanes` are
    locked by the caller."""
    found = await connection.fetch(
        """
        SELECT id, subscriber, channel, closed_by FROM lane
        WHERE id = ANY($1::bigint[]) AND (closed_at IS NOT NULL OR failures > 0 OR fell_back_at IS NOT NULL)
        ORDER BY id
        """,
        list(lanes),
    )
    if not found:
        return []
    opened = [row["id"] for row in found]
    await connection.execute(_OPEN, opened)
    again = await connection.fetch(
        _PLAN_AGAIN,
        [row["closed_by"] for row in found if row["closed_by"] is not None],
        move(State.PARKED, State.PLANNED),
        State.PARKED,
        opened,
    )
    await count_moved(connection, [row["id"] for row in again], Term.PARKED, Term.PLANNED)
    await connection.execute("NOTIFY lanes")
    lines = [
        JournalEntry("lane.opened", actor=actor, detail=f"{row['subscriber']}, {row['channel']}: {reason}")
        for row in found
    ]
    lines += [
        JournalEntry("delivery.sent_again", row["submission"], row["id"], actor, "its lane was opened")
        for row in again
    ]
    await write_journal(connection, lines)
    return opened


# One that sleeps is woken too: it costs one look.
_OPEN = """
    UPDATE lane
    SET closed_at = NULL, closed_cause = NULL, closed_by = NULL, failures = 0, failing_since = NULL,
        at_once = NULL, rests_until = NULL, due_at = LEAST(due_at, clock_timestamp()),
        left_for = CASE WHEN fell_back_at IS NULL THEN left_for END, fell_back_at = NULL
    WHERE id = ANY($1::bigint[])
"""

_PLAN_AGAIN = """
    WITH parked AS MATERIALIZED (
        SELECT id FROM delivery WHERE id = ANY($1::uuid[]) AND lane = ANY($4::bigint[]) AND state = $3
        ORDER BY id FOR UPDATE
    )
    UPDATE delivery
    SET state = $2, sending = sending + 1, attempt = 0, cause = NULL, due_at = clock.now, changed_at = clock.now
    FROM parked, (SELECT clock_timestamp() AS now) AS clock
    WHERE delivery.id = parked.id
    RETURNING delivery.id, delivery.submission
"""


async def look_again(connection: Connection, subscribers: Sequence[str]) -> None:
    """Their lanes that rest for hours or a rate, and not because they fail, are due. Under their locks."""
    await connection.execute(_LOOK_AGAIN, list(subscribers))
    await connection.execute("NOTIFY lanes")


_LOOK_AGAIN = """
    UPDATE lane SET rests_until = NULL, due_at = LEAST(due_at, clock_timestamp())
    WHERE subscriber = ANY($1::text[]) AND due_at IS NOT NULL AND failures = 0 AND closed_at IS NULL
      AND (rests_until IS NOT NULL OR due_at > clock_timestamp())
"""
