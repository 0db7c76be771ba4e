"""Where deliveries go: the lane of a partner and a channel, and the partner's next numbers.

Business of this file: locking and waking lanes, and giving numbers, always in the same order: lanes by id,
then partners by key; and that nothing is put into a lane that was left, for good or while its endpoint is
away: its mark says which lane took over. Which delivery goes where is its callers' to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple

import asyncpg

from hub.adapters.postgres.database import Connection
from hub.domain.partner import MAILBOX

REMINDER = timedelta(days=1)
"""How often a closed lane says that it is closed."""


class Wanted(NamedTuple):
    """Whom something is for. `mailbox`: by its mailbox, whatever its channel."""

    subscriber: str
    mailbox: bool


class Address(NamedTuple):
    """A lane, by what names it."""

    subscriber: str
    channel: str


async def find_addresses(connection: Connection, wanted: Collection[Wanted]) -> dict[Wanted, Address]:
    """Who stands for each of them at this moment, and the channel it is served on. Who is not declared gets
    a mailbox."""
    ordered = sorted(wanted)
    rows = await connection.fetch(
        """
        SELECT successor.subscriber,
               CASE WHEN wanted.mailbox THEN $3 ELSE COALESCE(partner.channel, $3) END AS channel
        FROM unnest($1::text[], $2::boolean[]) WITH ORDINALITY AS wanted (subscriber, mailbox, place)
        CROSS JOIN successor_in_force(wanted.subscriber) AS successor (subscriber)
        LEFT JOIN partner ON partner.subscriber = successor.subscriber
        ORDER BY wanted.place
        """,
        [one.subscriber for one in ordered],
        [one.mailbox for one in ordered],
        MAILBOX,
    )
    return {one: Address(row["subscriber"], row["channel"]) for one, row in zip(ordered, rows, strict=True)}


async def make_lanes(connection: Connection, addresses: Iterable[Address]) -> None:
    """Those that are missing. Before any lane is locked."""
    ordered = sorted(addresses)
    await connection.execute(
        """
        INSERT INTO lane (subscriber, channel)
        SELECT * FROM unnest($1::text[], $2::text[]) AS wanted (subscriber, channel)
        WHERE NOT EXISTS (SELECT FROM lane WHERE (lane.subscriber, lane.channel) = (wanted.*))
        ON CONFLICT DO NOTHING
        """,
        [address.subscriber for address in ordered],
        [address.channel for address in ordered],
    )


async def lock_lanes(
    connection: Connection, addresses: Collection[Address], besides: Collection[int] = ()
) -> dict[Address, int]:
    """For each address the id of the lane that rows for it are put into now: where its lane was left for
    another, that one. Locked, with those `besides`, in the order of ids."""
    rows = await connection.fetch(
        _LOCK,
        [address.subscriber for address in addresses],
        [address.channel for address in addresses],
        list(besides),
    )
    leads_to = {row["id"]: row["left_for"] for row in rows}
    found = {Address(row["subscriber"], row["channel"]): row["id"] for row in rows}
    return {address: _end(found[address], leads_to) for address in addresses}


# The marks are those of this moment's locks, not those by which the lanes were found. A lane that fell back and
# sleeps has nothing left to try its endpoint with: what comes next is put into it.
_LEADS_TO = """
    CASE WHEN lane.fell_back_at IS NULL OR lane.due_at IS NOT NULL THEN lane.left_for END AS left_for
"""

_LOCK = f"""
    WITH RECURSIVE named AS (
        SELECT lane.id, lane.left_for
        FROM lane JOIN unnest($1::text[], $2::text[]) AS wanted (subscriber, channel)
          USING (subscriber, channel)
        UNION
        SELECT lane.id, lane.left_for
        FROM named JOIN lane ON lane.id = named.left_for
    ), together AS MATERIALIZED (
        SELECT id FROM named UNION SELECT unnest($3::bigint[])
    )
    SELECT lane.id, lane.subscriber, lane.channel, {_LEADS_TO}
    FROM together JOIN lane ON lane.id = together.id
    ORDER BY lane.id FOR NO KEY UPDATE OF lane
"""


def _end(lane: int, leads_to: Mapping[int, int | None]) -> int:
    """Where the marks lead. No circle is ever made of them, and none would be followed for ever."""
    for _ in leads_to:
        further = leads_to[lane]
        if further is None:
            break
        if further not in leads_to:
            # It was left between the look and the lock: from the beginning, in the order of locks.
            raise asyncpg.SerializationError("a lane was left for another meanwhile")
        lane = further
    return lane


async def wake_lanes(connection: Connection, lanes: Iterable[int]) -> None:
    """Due now at the latest, or when they have rested; a closed one, when it is to say that it is closed. Under
    their locks, and before any row is put into them: no row is ever due before its lane. Rings when the
    transaction ends."""
    # A lane that sleeps has no due time. One that is awake is left as it is: no row is written for nothing.
    await connection.execute(
        """
        UPDATE lane SET due_at = wakes
        FROM (
            SELECT id, CASE WHEN closed_at IS NULL THEN GREATEST(clock_timestamp(), rests_until)
                       ELSE clock_timestamp() + $2::interval END AS wakes
            FROM lane WHERE id = ANY($1::bigint[])
        ) AS told
        WHERE lane.id = told.id AND (due_at IS NULL OR due_at > wakes)
        """,
        list(lanes),
        REMINDER,
    )
    await connection.execute("NOTIFY lanes")


async def take_numbers(connection: Connection, wanted: Mapping[str, int]) -> dict[str, int]:
    """For each subscriber, the number before the first of those taken now. Its row stays locked until the
    commit, so who takes the next ones waits for these; also when none is taken."""
    ordered = sorted(wanted)
    rows = await connection.fetch(
        """
        INSERT INTO partner (subscriber, name, channel, sequence)
        SELECT wanted.subscriber, wanted.subscriber, $3, wanted.number
        FROM unnest($1::text[], $2::bigint[]) AS wanted (subscriber, number)
        ON CONFLICT (subscriber) DO UPDATE SET sequence = partner.sequence + excluded.sequence
        RETURNING subscriber, sequence
        """,
        ordered,
        [wanted[subscriber] for subscriber in ordered],
        MAILBOX,
    )
    return {row["subscriber"]: row["sequence"] - wanted[row["subscriber"]] for row in rows}
