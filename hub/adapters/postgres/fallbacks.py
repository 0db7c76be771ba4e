"""A lane whose endpoint fails for longer than its partner bears: the mailbox takes over, and the partner is told.

Business of this file: leaving the lane for the mailbox's while it fails, moving what waits there page by page,
and planning one notice for each time this happens. Whether it fails for long enough is not decided here, and the
mark is taken back by whoever concludes a page that went well, or opens the lane.

One row stays, to try the endpoint with. When it comes to rest and the endpoint fails still, the lane sleeps, and
the next row that comes is put into it (see `addresses`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from hub.adapters.postgres.addresses import Address, lock_lanes, make_lanes, wake_lanes
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.adapters.postgres.slips import count_registered
from hub.adapters.postgres.succession import switch_rows
from hub.domain.errors import LeaseLost
from hub.domain.identity import ParcelKind, Subscriber, delivery_id
from hub.domain.partner import MAILBOX, NOTICE, Endpoint, since_minute

_PAGE = 1_000


async def fall_back(database: Database, worker: str, lane: int) -> None:
    """What waits in this lane goes into its partner's mailbox, and so does what comes, until its endpoint does well
    again. Raises LeaseLost if `worker` does not hold the lane."""

    async def work(connection: Connection) -> int:
        return await _move_page(connection, worker, lane)

    while await database.run(work) == _PAGE:
        pass


async def _move_page(connection: Connection, worker: str, lane: int) -> int:
    named = await connection.fetchrow(_NAMED, lane)
    if named is None:
        raise LeaseLost
    mailbox = Address(named["subscriber"], MAILBOX)
    notices = Address(named["subscriber"], NOTICE)
    wanted = [mailbox, notices] if named["notice"] else [mailbox]
    await make_lanes(connection, wanted)
    locked = await lock_lanes(connection, wanted, besides=[lane])
    left = await connection.fetchrow(_LEFT, lane)
    if left is None or left["holder"] != worker:
        raise LeaseLost
    if named["channel"] in (MAILBOX, NOTICE) or (
        left["left_for"] is not None and left["fell_back_at"] is None
    ):
        return 0
    if left["fell_back_at"] is None:
        await connection.execute(_FALL_BACK, lane, locked[mailbox])
        await write_journal(
            connection, [JournalEntry("lane.fell_back", detail=f"{named['subscriber']}, {named['channel']}")]
        )
        if named["notice"]:
            await _plan_notice(connection, lane, locked[notices], named["subscriber"], left["since"])
    page: list[UUID] = [row["id"] for row in await connection.fetch(_PAGE_OF, lane, _PAGE)]
    if page:
        await wake_lanes(connection, [locked[mailbox]])
        await switch_rows(connection, page, lane, locked[mailbox])
    return len(page)


_NAMED = """
    SELECT lane.subscriber, lane.channel, partner.pace -> 'fallback' -> 'notice' IS NOT NULL AS notice
    FROM lane LEFT JOIN partner USING (subscriber)
    WHERE lane.id = $1
"""

_LEFT = """
    SELECT holder, left_for, fell_back_at, COALESCE(LEAST(failing_since, closed_at), clock_timestamp()) AS since
    FROM lane WHERE id = $1
"""

_FALL_BACK = "UPDATE lane SET left_for = $2, fell_back_at = clock_timestamp() WHERE id = $1"

# What is being attempted stays, and is what tries the endpoint; else what is due first.
_PAGE_OF = """
    SELECT id FROM delivery
    WHERE lane = $1 AND due_at IS NOT NULL AND state <> 'in_flight' AND id <> COALESCE(
        (SELECT id FROM delivery WHERE lane = $1 AND due_at IS NOT NULL AND state = 'in_flight' LIMIT 1),
        (SELECT id FROM delivery WHERE lane = $1 AND due_at IS NOT NULL ORDER BY due_at, sequence LIMIT 1)
    )
    ORDER BY due_at, sequence
    LIMIT $2
"""


# --- the notice ---------------------------------------------------------------------------------------


def notice_endpoint(pace: Mapping[str, Any] | None) -> Endpoint:
    """Where a partner's notices go, by its pace of today; without settings, if it wants none any more."""
    told = (pace or {}).get("fallback") or {}
    return Endpoint("mail", told.get("notice") or {})


async def _plan_notice(
    connection: Connection, lane: int, notices: int, subscriber: str, since: datetime
) -> None:
    """About what waits there. It names a submission because every delivery does, and carries nothing of it; its
    number is none of its partner's, which count from 1: theirs have no gap."""
    about: asyncpg.Record | None = await connection.fetchrow(_ABOUT, lane)
    if about is None:
        return
    minute = since_minute(since)
    name = delivery_id(about["submission"], Subscriber.parse(subscriber), ParcelKind.NOTICE, minute)
    await wake_lanes(connection, [notices])
    planned = await connection.fetchval(
        _PLAN,
        name,
        about["submission"],
        about["procedure"],
        subscriber,
        notices,
        NOTICE,
        ParcelKind.NOTICE.value,
        minute,
    )
    if planned is not None:
        await count_registered(connection, [name])
        line = JournalEntry("notice.planned", about["submission"], name, detail=subscriber)
        await write_journal(connection, [line])


_ABOUT = """
    SELECT submission, procedure FROM delivery WHERE lane = $1 AND due_at IS NOT NULL
    ORDER BY due_at, sequence LIMIT 1
"""

_PLAN = """
    INSERT INTO delivery (id, submission, procedure, subscriber, lane, channel, sequence, kind, revision,
                          attachments, due_at, hour)
    SELECT $1, $2, $3, $4, $5, $6,
           LEAST((SELECT min(sequence) FROM delivery WHERE subscriber = $4), 0) - 1,
           $7, $8, '{}', clock_timestamp(), (SELECT hour_of(received_at) FROM submission WHERE id = $2)
    ON CONFLICT (id) DO NOTHING
    RETURNING id
"""
