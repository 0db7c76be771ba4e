"""Running deliveries follow their partner to its channel of today, or to its successor.

Business of this file: moving what a lane holds that was left, page by page, each page in a transaction of its
own: whoever is killed leaves whole pages. What goes to another channel of the same partner keeps its number too;
it is due at once, also what was waiting, and leaves by the other channel.

What a succeeded partner's lane holds goes into its successor's lanes, under the same names and the successor's
next numbers. What follows, and who succeeds whom at this moment, the database itself says (the views `following`
and `succession`); the rule book is read nowhere else in here.

It goes where it would go if it were registered now: to the successor's channel; to its mailbox only what its
rule wants there. What moves is due at once, also what was waiting: it waited for an endpoint that it no longer
goes to. What lay in the mailbox, not acknowledged, lies in the successor's; one that is served otherwise looks
into none, so there it is sent again. What is being attempted ends where it is; if it fails, the lane is due
again, and it moves then. What is parked stays until it is sent again. The numbers it had are kept in `moved`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from hub.adapters.postgres.slips import Moved, count_moved
from hub.domain.errors import LeaseLost
from hub.domain.ledger import Term
from hub.domain.lifecycle import State, move
from hub.domain.partner import MAILBOX, NOTICE

# Enough to hide the round trips, few enough for who waits for either lane.
_PAGE = 1_000


async def follow_successor(database: Database, worker: str, lane: int) -> None:
    """All that follows, into the lanes of whoever stands for this lane's partner now, or, while that is its own,
    into the lane that took over from this one for good. Raises LeaseLost if `worker` does not hold the lane, or
    no longer."""
    for mailbox in (False, True):

        async def work(connection: Connection, mailbox: bool = mailbox) -> int:
            return await _move_page(connection, worker, lane, mailbox)

        while await database.run(work) == _PAGE:
            pass


async def _move_page(connection: Connection, worker: str, lane: int, mailbox: bool) -> int:
    """How many moved, of what is wanted by the mailbox or of what is not; of both, if they go the same way.
    Both lanes are locked in the order of their ids, then the successor's numbers, then the rows: as
    registration locks them, and two who move at once."""
    left = await connection.fetchrow(
        "SELECT subscriber, channel, left_for IS NOT NULL AND fell_back_at IS NULL AS for_good FROM lane"
        " WHERE id = $1",
        lane,
    )
    if left is None:
        raise LeaseLost
    if left["channel"] == NOTICE:
        return await _withdraw_notices(connection, worker, lane)
    subscriber = left["subscriber"]
    addresses = await find_addresses(connection, [Wanted(subscriber, way) for way in (False, True)])
    address = addresses[Wanted(subscriber, mailbox)]
    if address.subscriber == subscriber:
        return (
            await _switch_page(connection, worker, lane, Address(subscriber, left["channel"]))
            if left["for_good"]
            else 0
        )
    ways = [wanted.mailbox for wanted, found in addresses.items() if found == address]
    # Before any lock: no lane is made for nothing.
    page = [row["id"] for row in await connection.fetch(_PAGE_OF, lane, ways, _PAGE)]
    if not page:
        return 0
    target = await _lock(connection, worker, lane, address)
    last = await take_numbers(connection, {address.subscriber: 0})
    rows = await connection.fetch(
        _MOVE,
        lane,
        page,
        address.subscriber,
        last[address.subscriber],
        target,
        address.channel,
        address.channel == MAILBOX,
        move(State.DELIVERED, State.PLANNED),
    )
    await take_numbers(connection, {address.subscriber: len(rows)})
    await count_moved(connection, [row["id"] for row in rows if row["again"]], Term.DELIVERED, Term.PLANNED)
    await write_journal(connection, [line for row in rows for line in _lines(row, address)])
    return len(rows)


async def _switch_page(connection: Connection, worker: str, lane: int, address: Address) -> int:
    """How many went to the lane that took over from the one of this address."""
    page = [row["id"] for row in await connection.fetch(_PAGE_LEFT, lane, _PAGE)]
    if not page:
        return 0
    target = await _lock(connection, worker, lane, address)
    if target != lane:
        await switch_rows(connection, page, lane, target)
        return len(page)
    return 0


async def switch_rows(connection: Connection, page: Sequence[UUID], lane: int, target: int) -> None:
    """Move those of `page` that are in motion in this lane into another one of the same partner; both are locked,
    the other is awake. Who holds it takes what was in flight for lost; late good news of that is of the channel
    it left by."""
    rows = await connection.fetch(_SWITCH, page, lane, target)
    await write_journal(
        connection,
        [
            JournalEntry("delivery.switched", row["submission"], row["id"], detail=f"to {row['channel']}")
            for row in rows
        ],
    )


_PAGE_LEFT = """
    SELECT id FROM delivery WHERE lane = $1 AND due_at IS NOT NULL ORDER BY due_at, sequence LIMIT $2
"""

_SWITCH = """
    WITH page AS MATERIALIZED (
        SELECT id FROM delivery
        WHERE id = ANY($1::uuid[]) AND lane = $2 AND due_at IS NOT NULL
        ORDER BY id
        FOR UPDATE
    )
    UPDATE delivery
    SET lane = target.id, due_at = (SELECT clock_timestamp()),
        channel = CASE WHEN state = 'in_flight' THEN delivery.channel ELSE target.channel END,
        changed_at = CASE WHEN state = 'in_flight' THEN changed_at ELSE clock_timestamp() END
    FROM page, lane AS target
    WHERE delivery.id = page.id AND target.id = $3
    RETURNING delivery.id, delivery.submission, target.channel
"""


async def _withdraw_notices(connection: Connection, worker: str, lane: int) -> int:
    """They were for who is succeeded, and of no use to anybody else."""
    if await connection.fetchval("SELECT holder FROM lane WHERE id = $1 FOR UPDATE", lane) != worker:
        raise LeaseLost
    rows = await connection.fetch(_WITHDRAW, lane, State.WITHDRAWN)
    moved = Moved()
    for row in rows:
        moved.note_state(row["id"], State(row["was"]), row["was_attempt"], State.WITHDRAWN)
    await moved.write(connection)
    await write_journal(
        connection, [JournalEntry("delivery.withdrawn", row["submission"], row["id"]) for row in rows]
    )
    return 0


_WITHDRAW = """
    WITH waiting AS MATERIALIZED (
        SELECT id, state, attempt FROM delivery WHERE lane = $1 AND due_at IS NOT NULL ORDER BY id FOR UPDATE
    )
    UPDATE delivery SET state = $2, due_at = NULL, changed_at = clock_timestamp()
    FROM waiting WHERE delivery.id = waiting.id
    RETURNING delivery.id, delivery.submission, waiting.state AS was, waiting.attempt AS was_attempt
"""


async def _lock(connection: Connection, worker: str, lane: int, address: Address) -> int:
    """The id of the lane they go to."""
    await make_lanes(connection, [address])
    locked = await lock_lanes(connection, [address], besides=[lane])
    if await connection.fetchval("SELECT holder FROM lane WHERE id = $1", lane) != worker:
        raise LeaseLost
    target = locked[address]
    await wake_lanes(connection, [target])
    return target


_PAGE_OF = """
    SELECT id FROM following WHERE lane = $1 AND by_mailbox = ANY($2::boolean[]) ORDER BY sequence LIMIT $3
"""

# What its partner took from the mailbox since the page was chosen stays: numbers are given to the others. Due
# at one instant, all of them: so they leave in the order of their numbers.
_MOVE = """
    WITH page AS MATERIALIZED (
        SELECT id, state FROM following WHERE lane = $1 AND id = ANY($2::uuid[])
    ), taken AS MATERIALIZED (
        SELECT delivery.id, delivery.subscriber, delivery.sequence,
               delivery.due_at IS NULL AND ($7 OR delivery.state = 'parked') AS rests,
               delivery.due_at IS NULL AND NOT $7 AND delivery.state <> 'parked' AS again
        FROM delivery JOIN page ON page.id = delivery.id
        WHERE delivery.state = page.state
        ORDER BY delivery.id
        FOR UPDATE OF delivery
    ), numbered AS (
        SELECT *, $4 + row_number() OVER (ORDER BY sequence) AS fresh FROM taken
    ), kept AS (
        INSERT INTO moved (subscriber, sequence, delivery, lane)
        SELECT subscriber, sequence, id, $1 FROM numbered
    )
    UPDATE delivery
    SET subscriber = $3, named = COALESCE(named, delivery.subscriber), lane = $5, sequence = numbered.fresh,
        channel = CASE WHEN state = 'parked' THEN channel ELSE $6 END,
        due_at = CASE WHEN NOT numbered.rests THEN (SELECT clock_timestamp()) END,
        state = CASE WHEN again THEN $8 ELSE state END, sending = sending + again::integer,
        attempt = CASE WHEN again THEN 0 ELSE attempt END,
        changed_at = CASE WHEN state = 'in_flight' THEN changed_at ELSE clock_timestamp() END
    FROM numbered WHERE delivery.id = numbered.id
    RETURNING delivery.id, delivery.submission, delivery.sequence, numbered.subscriber AS former,
              numbered.sequence AS was, again
"""


def _lines(row: asyncpg.Record, address: Address) -> Iterator[JournalEntry]:
    submission: UUID = row["submission"]
    yield JournalEntry(
        "delivery.moved",
        submission,
        row["id"],
        detail=f"from {row['former']}, number {row['was']}, to {address.subscriber}, number {row['sequence']}",
    )
    if row["again"]:
        detail = f"it lay in the mailbox of {row['former']}"
        yield JournalEntry("delivery.sent_again", submission, row["id"], detail=detail)
