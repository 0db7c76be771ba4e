"""What a partner's new endpoint does to its lanes: left, opened, or woken.

Business of this file: that whoever puts rows into a lane while its partner is changed puts them where they will
be served. All lanes of a partner that changes are locked before its own row, in the one order of locks; moving
what a left lane holds is its next holder's (see `following`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from hub.adapters.postgres.address_faults import forget_addresses
from hub.adapters.postgres.addresses import Address, make_lanes
from hub.adapters.postgres.database import Connection, to_json
from hub.adapters.postgres.openings import look_again, open_lanes
from hub.adapters.postgres.rows import JournalEntry, texts, write_journal
from hub.domain.pace import pace_to_json
from hub.domain.partner import MAILBOX, NOTICE
from hub.ports.partners import KeptPartner


class Turn(NamedTuple):
    """A partner whose channel, endpoint or pace is to be another."""

    subscriber: str
    was: str
    channel: str
    other_endpoint: bool


async def lock_turning(connection: Connection, partners: Sequence[KeptPartner]) -> list[Turn]:
    """Those of `partners` (as they are to be) that are there and change, their lanes locked, and their rows;
    those whose channel changes have a lane of either channel."""
    before = await _turns(connection, partners, lock=False)
    if not before:
        return []
    switched = [one for one in before if one.was != one.channel]
    await make_lanes(
        connection,
        {Address(one.subscriber, channel) for one in switched for channel in (one.was, one.channel)},
    )
    await connection.execute(
        "SELECT FROM lane WHERE subscriber = ANY($1::text[]) ORDER BY id FOR NO KEY UPDATE",
        [one.subscriber for one in before],
    )
    turns = await _turns(connection, partners, lock=True)
    if {(one.subscriber, one.was) for one in turns} - {(one.subscriber, one.was) for one in before}:
        raise asyncpg.SerializationError("a partner was changed meanwhile")
    return turns


async def _turns(connection: Connection, partners: Sequence[KeptPartner], *, lock: bool) -> list[Turn]:
    ordered = sorted(partners, key=lambda kept: str(kept[0].subscriber))
    rows = await connection.fetch(
        f"""
        SELECT partner.subscriber, partner.channel AS was, wanted.channel,
               (partner.channel, partner.settings, partner.secrets, partner.pace -> 'fallback' -> 'notice')
               IS DISTINCT FROM
               (wanted.channel, wanted.settings::jsonb, wanted.secrets, wanted.pace::jsonb -> 'fallback' -> 'notice')
                 AS other_endpoint
        FROM partner
        JOIN unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[])
          AS wanted (subscriber, channel, settings, secrets, pace) ON wanted.subscriber = partner.subscriber
        WHERE (partner.channel, partner.settings, partner.secrets, partner.pace)
              IS DISTINCT FROM (wanted.channel, wanted.settings::jsonb, wanted.secrets, wanted.pace::jsonb)
        ORDER BY partner.subscriber
        {"FOR UPDATE OF partner" if lock else ""}
        """,
        [str(partner.subscriber) for partner, _, _ in ordered],
        [partner.endpoint.channel for partner, _, _ in ordered],
        texts(dict(partner.endpoint.settings) for partner, _, _ in ordered),
        [secrets for _, secrets, _ in ordered],
        [None if partner.pace is None else to_json(pace_to_json(partner.pace)) for partner, _, _ in ordered],
    )
    return [Turn(row["subscriber"], row["was"], row["channel"], row["other_endpoint"]) for row in rows]


async def turn(connection: Connection, turns: Sequence[Turn]) -> None:
    """When their rows are written: the lanes of other channels than today's are left for today's, which is left
    for none; what was closed is open; what rested because of hours or a rate is looked at again."""
    if not turns:
        return
    switched = [one for one in turns if one.was != one.channel]
    await connection.execute(_LEAVE, [one.subscriber for one in switched], [one.channel for one in switched])
    opened = await connection.fetch(
        "SELECT id FROM lane WHERE subscriber = ANY($1::text[]) ORDER BY id",
        [one.subscriber for one in turns if one.other_endpoint],
    )
    await open_lanes(connection, [row["id"] for row in opened], "hub", "its partner has another endpoint")
    await look_again(connection, [one.subscriber for one in turns])
    await forget_addresses(connection, [one.subscriber for one in turns if one.other_endpoint])
    await write_journal(
        connection,
        [
            JournalEntry("partner.switched", detail=f"{one.subscriber}, from {one.was} to {one.channel}")
            for one in switched
        ],
    )


# The mailbox's lane is never left: what lies in a mailbox stays there.
_LEAVE = f"""
    WITH today AS MATERIALIZED (
        SELECT lane.id, lane.subscriber, lane.channel
        FROM lane JOIN unnest($1::text[], $2::text[]) AS switched (subscriber, channel)
          USING (subscriber, channel)
    )
    UPDATE lane
    SET left_for = CASE WHEN lane.id <> today.id THEN today.id END, fell_back_at = NULL,
        due_at = CASE WHEN EXISTS (
            SELECT FROM delivery WHERE delivery.lane = lane.id AND delivery.due_at IS NOT NULL
        ) THEN LEAST(lane.due_at, clock_timestamp()) ELSE lane.due_at END
    FROM today
    WHERE lane.subscriber = today.subscriber AND lane.channel NOT IN ('{MAILBOX}', '{NOTICE}')
"""
