"""News for senders: each event planned as a parcel for the endpoint of who sent the submission, if it declared one.

Business of this file: that a parcel of news is planned in the transaction of its event, under its name, with the next
of its receiver's numbers. It leaves by a lane like every other parcel; nothing else knows that it is news.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from hub.adapters.postgres.addresses import (
    Address,
    Wanted,
    find_addresses,
    lock_lanes,
    make_lanes,
    take_numbers,
    wake_lanes,
)
from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.adapters.postgres.slips import count_registered
from hub.domain.identity import ParcelKind


class Pushed(NamedTuple):
    """An event of the submission of this delivery, for who sent that. `size`: of its file."""

    event: UUID
    delivery: UUID
    sender: str
    size: int


class SenderEndpoint(NamedTuple):
    """Where a sender's news go, with the lane they are put into."""

    address: Address
    lane: int


async def lock_endpoints(connection: Connection, deliveries: Sequence[UUID]) -> Mapping[str, SenderEndpoint]:
    """Those of the senders of these deliveries' submissions, their lanes and their rows locked: before any delivery is.
    A sender without an endpoint is not among them."""
    rows = await connection.fetch(_ENDPOINTS, deliveries)
    if not rows:
        return {}
    wanted = {row["sender"]: Wanted(row["subscriber"], False) for row in rows}
    found = await find_addresses(connection, set(wanted.values()))
    addresses = set(found.values())
    await make_lanes(connection, addresses)
    lanes = await lock_lanes(connection, addresses)
    await take_numbers(connection, {address.subscriber: 0 for address in addresses})
    return {sender: SenderEndpoint(found[one], lanes[found[one]]) for sender, one in sorted(wanted.items())}


async def plan_news(
    connection: Connection, pushed: Sequence[Pushed], endpoints: Mapping[str, SenderEndpoint]
) -> None:
    """In the order of their events' numbers, for those that have an endpoint."""
    planned = [(one, endpoints[one.sender]) for one in pushed if one.sender in endpoints]
    if not planned:
        return
    await wake_lanes(connection, {to.lane for _, to in planned})
    last = await take_numbers(connection, Counter(to.address.subscriber for _, to in planned))
    numbers = []
    for _, to in planned:
        last[to.address.subscriber] += 1
        numbers.append(last[to.address.subscriber])
    await connection.execute(
        _PLAN,
        [one.event for one, _ in planned],
        [one.delivery for one, _ in planned],
        [to.address.subscriber for _, to in planned],
        [to.lane for _, to in planned],
        [to.address.channel for _, to in planned],
        numbers,
        [one.size for one, _ in planned],
        ParcelKind.NEWS.value,
    )
    await count_registered(connection, [one.event for one, _ in planned])
    rows = await connection.fetch(
        "SELECT id, submission, subscriber FROM delivery WHERE id = ANY($1::uuid[]) ORDER BY sequence",
        [one.event for one, _ in planned],
    )
    await write_journal(
        connection,
        [
            JournalEntry("news.planned", row["submission"], row["id"], detail=row["subscriber"])
            for row in rows
        ],
    )


_ENDPOINTS = """
    SELECT DISTINCT ON (partner.sender) partner.sender, partner.subscriber
    FROM delivery JOIN submission ON submission.id = delivery.submission
    JOIN partner ON partner.sender = submission.sender
    WHERE delivery.id = ANY($1::uuid[])
    ORDER BY partner.sender, partner.subscriber
"""

# All due at one instant: so they leave in the order of their numbers.
_PLAN = """
    INSERT INTO delivery (id, submission, procedure, subscriber, lane, channel, sequence, kind, revision, attachments,
                          due_at, size, hour)
    SELECT planned.id, about.submission, about.procedure, planned.subscriber, planned.lane, planned.channel,
           planned.sequence, $8, 1, '{}', (SELECT clock_timestamp()), planned.size, about.hour
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[])
      AS planned (id, about, subscriber, lane, channel, sequence, size)
    JOIN delivery AS about ON about.id = planned.about
    ORDER BY planned.id
"""
