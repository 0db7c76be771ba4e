"""Running deliveries follow the successor of their partner.

Business of this file: moving what a succeeded partner's lane holds into its successor's, under the same names
and the successor's next numbers, page by page, each page in a transaction of its own: whoever is killed
leaves whole pages. What follows, and who succeeds whom at this moment, the database itself says (the views
`following` and `succession`); the rule book is read nowhere else in here.

What moves is due at once, also what was waiting: it waited for an endpoint that it no longer goes to. What is
being attempted ends where it is; if it fails, the lane is due again, and it moves then. What is parked stays
until it is sent again. The numbers it had are kept, so that a partner that counts sees no gap.
"""

from __future__ import annotations

from uuid import UUID

import asyncpg

from hub.adapters.postgres.addresses import (
    Address,
    Wanted,
    find_addresses,
    lock_lanes,
    make_lanes,
    take_numbers,
    wake_lanes,
)
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.domain.errors import LeaseLost
from hub.domain.partner import MAILBOX

# Enough to hide the round trips, few enough for who waits for either lane.
_PAGE = 1_000


async def follow_successor(database: Database, worker: str, lane: int) -> None:
    """All that follows, into the lane of whoever stands for this lane's partner now. Raises LeaseLost if
    `worker` does not hold the lane, or no longer."""

    async def work(connection: Connection) -> int:
        return await _move_page(connection, worker, lane)

    while await database.run(work) == _PAGE:
        pass


async def _move_page(connection: Connection, worker: str, lane: int) -> int:
    """How many moved. Both lanes are locked in the order of their ids, then the successor's numbers, then
    the rows: as registration locks them, and two who move at once."""
    row = await connection.fetchrow("SELECT subscriber, channel FROM lane WHERE id = $1", lane)
    if row is None:
        raise LeaseLost
    wanted = Wanted(row["subscriber"], row["channel"] == MAILBOX)
    address = (await find_addresses(connection, [wanted]))[wanted]
    if address.subscriber == wanted.subscriber:
        return 0
    target = await _lock(connection, worker, lane, address)
    last = await take_numbers(connection, {address.subscriber: 0})
    rows = await connection.fetch(
        _MOVE, lane, _PAGE, address.subscriber, last[address.subscriber], target, address.channel
    )
    await take_numbers(connection, {address.subscriber: len(rows)})
    await write_journal(connection, [_moved(row, address) for row in rows])
    return len(rows)


async def _lock(connection: Connection, worker: str, lane: int, address: Address) -> int:
    """The id of the lane they go to."""
    await make_lanes(connection, [address])
    locked = await lock_lanes(connection, [address], besides=[lane])
    if await connection.fetchval("SELECT holder FROM lane WHERE id = $1", lane) != worker:
        raise LeaseLost
    target = locked[address]
    await wake_lanes(connection, [target])
    return target


# What its partner took from the mailbox since the page was chosen stays: numbers are given to the others. Due
# at one instant, all of them: so they leave in the order of their numbers.
_MOVE = """
    WITH page AS MATERIALIZED (
        SELECT id, state FROM following WHERE lane = $1 ORDER BY sequence LIMIT $2
    ), taken AS MATERIALIZED (
        SELECT delivery.id, delivery.subscriber, delivery.sequence
        FROM delivery JOIN page ON page.id = delivery.id
        WHERE delivery.state = page.state
        ORDER BY delivery.id
        FOR UPDATE OF delivery
    ), numbered AS (
        SELECT id, subscriber, sequence, $4 + row_number() OVER (ORDER BY sequence) AS fresh FROM taken
    ), kept AS (
        INSERT INTO moved (subscriber, sequence, delivery, lane)
        SELECT subscriber, sequence, id, $1 FROM numbered
    )
    UPDATE delivery
    SET subscriber = $3, named = COALESCE(named, delivery.subscriber), lane = $5, sequence = numbered.fresh,
        channel = CASE WHEN due_at IS NULL THEN channel ELSE $6 END,
        due_at = CASE WHEN due_at IS NULL THEN NULL ELSE (SELECT clock_timestamp()) END,
        changed_at = clock_timestamp()
    FROM numbered WHERE delivery.id = numbered.id
    RETURNING delivery.id, delivery.submission, delivery.sequence, numbered.subscriber AS former,
              numbered.sequence AS was
"""


def _moved(row: asyncpg.Record, address: Address) -> JournalEntry:
    submission: UUID = row["submission"]
    return JournalEntry(
        "delivery.moved",
        submission,
        row["id"],
        detail=f"from {row['former']}, number {row['was']}, to {address.subscriber}, number {row['sequence']}",
    )
