"""Digests: which deliveries go in one mail, fixed before its first attempt.

Business of this file: that every attempt at an issue has the list of the first one, whoever makes it, and that what
changed in between makes another issue. To be called under the lock of the lane, by who holds it. An issue has no state
of its own: it is under way while what it lists is in motion, in that sending and in that lane; so concluding it is
concluding its deliveries.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg

from hub.adapters.postgres.claims import claim_listed
from hub.adapters.postgres.database import Connection
from hub.domain.digests import Issue
from hub.domain.identity import Subscriber, issue_id
from hub.ports.lanes import Claim, IssueClaim


async def claim_issue(
    connection: Connection, lane: int, subscriber: Subscriber, slot: datetime, most: int
) -> IssueClaim | timedelta | None:
    newest = await connection.fetchrow(_NEWEST, lane)
    if newest is not None:
        members = await connection.fetch(_MEMBERS, lane, newest["deliveries"], newest["sendings"])
        due_in = max((row["due_in"] for row in members), default=timedelta(0))
        if due_in > timedelta(0):
            return due_in
        claims = await claim_listed(connection, lane, [row["id"] for row in members]) if members else ()
        if claims:
            return await _go_on(connection, lane, subscriber, newest, claims)
        # A worker's clock may step back, an issue's slot does not.
        slot = max(slot, newest["slot"])
    due = [row["id"] for row in await connection.fetch(_DUE, lane, slot, most)]
    if not due:
        return None
    claims = await claim_listed(connection, lane, due)
    return await _fix(connection, lane, subscriber, slot, 1, claims) if claims else timedelta(0)


async def _go_on(
    connection: Connection,
    lane: int,
    subscriber: Subscriber,
    newest: asyncpg.Record,
    claims: Sequence[Claim],
) -> IssueClaim:
    if len(claims) < len(newest["deliveries"]):
        return await _fix(connection, lane, subscriber, newest["slot"], newest["attempt"] + 1, claims)
    await connection.execute("UPDATE digest_issue SET attempt = attempt + 1 WHERE id = $1", newest["id"])
    place = {delivery: place for place, delivery in enumerate(newest["deliveries"])}
    listed = sorted(claims, key=lambda claim: place[claim.attempt.delivery])
    issue = Issue(newest["id"], newest["slot"], newest["number"], newest["attempt"] + 1)
    return IssueClaim(issue, tuple(listed))


async def _fix(
    connection: Connection,
    lane: int,
    subscriber: Subscriber,
    slot: datetime,
    attempt: int,
    claims: Sequence[Claim],
) -> IssueClaim:
    """`attempt`: how many there were with this one, those at former issues of the same list included."""
    listed = sorted(claims, key=lambda claim: claim.sequence)
    number: int = await connection.fetchval(_NEXT_NUMBER, lane, slot)
    issue = Issue(issue_id(subscriber, slot, number), slot, number, attempt)
    await connection.execute(
        """
        INSERT INTO digest_issue (id, lane, subscriber, slot, number, attempt, deliveries, sendings)
        VALUES ($1, $2, $3, $4, $5, $6, $7::uuid[], $8::integer[])
        """,
        issue.id,
        lane,
        str(subscriber),
        slot,
        number,
        attempt,
        [claim.attempt.delivery for claim in listed],
        [claim.attempt.sending for claim in listed],
    )
    return IssueClaim(issue, tuple(listed))


_NEWEST = """
    SELECT id, slot, number, attempt, deliveries, sendings FROM digest_issue
    WHERE lane = $1 ORDER BY slot DESC, number DESC LIMIT 1
"""

_NEXT_NUMBER = "SELECT COALESCE(max(number), 0) + 1 FROM digest_issue WHERE lane = $1 AND slot = $2"

# An order that is acknowledged or sent again between this look and the claim waits for the lock.
_MEMBERS = """
    SELECT delivery.id, GREATEST(delivery.due_at - clock_timestamp(), interval '0') AS due_in
    FROM unnest($2::uuid[], $3::integer[]) AS listed (id, sending)
    JOIN delivery ON delivery.id = listed.id AND delivery.sending = listed.sending
    JOIN lane ON lane.id = delivery.lane
    WHERE delivery.lane = $1 AND delivery.due_at IS NOT NULL
      AND (delivery.state <> 'in_flight' OR delivery.changed_at < lane.leased_at)
    ORDER BY delivery.id
    FOR UPDATE OF delivery
"""

_DUE = """
    SELECT delivery.id FROM delivery JOIN lane ON lane.id = delivery.lane
    WHERE delivery.lane = $1 AND delivery.due_at <= LEAST($2, clock_timestamp())
      AND (delivery.state <> 'in_flight' OR delivery.changed_at < lane.leased_at)
    ORDER BY delivery.due_at, delivery.sequence
    LIMIT $3
"""
