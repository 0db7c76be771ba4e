"""New sendings, and withdrawals: what replays, registration and decisions anew do to deliveries that are there.

Business of this file: locking rows behind their lanes, and the two changes of state. Whether either is right is
its callers' to say. A sending begins where its partner is served today: by the lane of its channel of now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

import asyncpg

from hub.adapters.postgres.addresses import Address, lock_lanes, make_lanes, take_numbers, wake_lanes
from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.slips import Moved
from hub.domain.lifecycle import State
from hub.domain.partner import MAILBOX


class Place(NamedTuple):
    """By which lane and channel a delivery leaves today. `by_mailbox`: a rule wants it there, whatever the
    partner's channel."""

    lane: int
    channel: str
    by_mailbox: bool


class Locked(NamedTuple):
    """Deliveries under their locks, by name: `id, submission, procedure, subscriber, lane, state, sending,
    attempt, revision, attachments, withdrawing`. `places`: where each leaves by.
    `lanes`: those asked for beside. What was moved elsewhere in the meantime is not among them."""

    rows: Mapping[UUID, asyncpg.Record]
    places: Mapping[UUID, Place]
    lanes: Mapping[Address, int]


async def lock_deliveries(
    connection: Connection,
    ids: Collection[UUID],
    beside: Collection[Address] = (),
    by_mailbox: Mapping[UUID, bool] = MappingProxyType({}),
) -> Locked:
    """Their lanes first, and with them the lanes of `beside` (made, if they are missing), whose partners'
    numbers are to be taken: whoever puts a row into a lane holds the lane's row. `by_mailbox`: what rules say of
    some of them now."""
    wishes = [by_mailbox.get(name) for name in ids]
    told = await connection.fetch(_WHERE_THEY_LIE, list(ids), wishes, MAILBOX) if ids else []
    ways = {row["id"]: row["by_mailbox"] for row in told}
    addresses = {row["id"]: Address(row["subscriber"], row["channel"]) for row in told}
    every = {*addresses.values(), *beside}
    await make_lanes(connection, every)
    lanes = await lock_lanes(connection, every, besides={row["lane"] for row in told})
    if not told:
        return Locked({}, {}, lanes)
    if beside:
        await take_numbers(connection, {address.subscriber: 0 for address in beside})
    lay = {row["id"]: row["lane"] for row in told}
    rows = {
        row["id"]: row
        for row in await connection.fetch(_LOCK, list(addresses))
        if row["lane"] == lay[row["id"]]
    }
    places = {name: Place(lanes[addresses[name]], addresses[name].channel, ways[name]) for name in rows}
    return Locked(rows, places, lanes)


# Who is succeeded is not asked: its lane wakes, and gives them to the successor with its numbers.
_WHERE_THEY_LIE = """
    SELECT delivery.id, delivery.subscriber, delivery.lane, way.by_mailbox,
           CASE WHEN way.by_mailbox THEN $3 ELSE COALESCE(partner.channel, $3) END AS channel
    FROM unnest($1::uuid[], $2::boolean[]) AS asked (id, by_mailbox)
    JOIN delivery ON delivery.id = asked.id
    CROSS JOIN LATERAL (SELECT COALESCE(asked.by_mailbox, delivery.by_mailbox) AS by_mailbox) AS way
    LEFT JOIN partner ON partner.subscriber = delivery.subscriber
"""

_LOCK = """
    SELECT id, submission, procedure, subscriber, lane, state, sending, attempt, revision, attachments, withdrawing
    FROM delivery
    WHERE id = ANY($1::uuid[])
    ORDER BY id
    FOR UPDATE
"""


async def plan_again(connection: Connection, locked: Locked, ids: Sequence[UUID]) -> None:
    """A new sending of each, due now. The lanes first, so that no row is ever due before its lane."""
    if not ids:
        return
    await wake_lanes(connection, {locked.places[name].lane for name in ids})
    await connection.execute(
        """
        UPDATE delivery
        SET state = $4, sending = sending + 1, attempt = 0, cause = NULL, withdrawing = NULL, due_at = clock.now,
            lane = told.lane, channel = told.channel, by_mailbox = told.by_mailbox, changed_at = clock.now
        FROM unnest($1::uuid[], $2::bigint[], $3::text[], $5::boolean[]) AS told (id, lane, channel, by_mailbox),
             (SELECT clock_timestamp() AS now) AS clock
        WHERE delivery.id = told.id
        """,
        ids,
        [locked.places[name].lane for name in ids],
        [locked.places[name].channel for name in ids],
        State.PLANNED,
        [locked.places[name].by_mailbox for name in ids],
    )
    await _count(connection, locked, ids, State.PLANNED)


async def withdraw(connection: Connection, locked: Locked, ids: Sequence[UUID], why: str) -> list[UUID]:
    """Those that are withdrawn now; of the others an attempt is under way, and they are when it has failed."""
    at_once = [name for name in ids if locked.rows[name]["state"] != State.IN_FLIGHT]
    under_way = [name for name in ids if locked.rows[name]["state"] == State.IN_FLIGHT]
    if at_once:
        await connection.execute(
            """
            UPDATE delivery
            SET state = $2, due_at = NULL, cause = NULL, withdrawing = NULL, changed_at = clock_timestamp()
            WHERE id = ANY($1::uuid[])
            """,
            at_once,
            State.WITHDRAWN,
        )
        await _count(connection, locked, at_once, State.WITHDRAWN)
    if under_way:
        await connection.execute(
            "UPDATE delivery SET withdrawing = $2 WHERE id = ANY($1::uuid[])", under_way, why
        )
    return at_once


async def _count(connection: Connection, locked: Locked, ids: Sequence[UUID], target: State) -> None:
    moved = Moved()
    for name in ids:
        row = locked.rows[name]
        moved.note_state(name, State(row["state"]), row["attempt"], target)
    await moved.write(connection)


async def keep(connection: Connection, ids: Sequence[UUID]) -> None:
    """They were to be withdrawn, and are not any more."""
    if ids:
        await connection.execute("UPDATE delivery SET withdrawing = NULL WHERE id = ANY($1::uuid[])", ids)
