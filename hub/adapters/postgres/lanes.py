"""The store's part of dispatch: leasing lanes, claiming their rows, and giving the lanes back.

Business of this file: that a row in motion is attempted by one worker at a time, that a worker's death
costs a delay and nothing else, and that a lane with rows has a due time. Which partner answers what is not
known here; what is written of an answer, and how rows follow a successor, stands in files of its own.

Every transaction here locks the lane's row before its deliveries. A registration that lowers the lane's due
time does so under the same lock, so a conclusion, which computes that time in a statement of its own after
the lock, has either seen the new rows or will be lowered by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from hub.adapters.postgres.conclusions import LOST, write_news
from hub.adapters.postgres.database import Bell, Connection, Database
from hub.adapters.postgres.rows import attachments_from_json
from hub.adapters.postgres.succession import follow_successor
from hub.domain.delivery import Attempt, Conclusion
from hub.domain.errors import LeaseLost
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.lifecycle import State, sources_of
from hub.domain.partner import MAILBOX, Endpoint
from hub.ports.store import AT_ONCE, Claim, Lane

CLAIM_COLUMNS = """
    delivery.id, delivery.submission, delivery.subscriber, delivery.sequence, delivery.kind,
    delivery.revision, delivery.attachments AS granted, delivery.sending, delivery.attempt,
    submission.sender, submission.external_id, submission.procedure, submission.received_at,
    submission.facts, submission.sealed, submission.attachments, submission_key.wrapped
"""
"""What `claim_from` reads, of a delivery, its submission, and the key of that (if it is still there)."""


class PostgresLanes:
    """Implements `hub.ports.store.Lanes`. A worker's name must be its own: a worker that starts again takes
    a new one. `close` it, it may hold a connection that listens."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bell = Bell(database, "lanes")

    async def lease(self, worker: str, limit: int, length: timedelta) -> Sequence[Lane]:
        async def work(connection: Connection) -> Sequence[Lane]:
            rows = await connection.fetch(_LEASE, worker, limit, length)
            return [_lane(row) for row in rows]

        return await self._database.once(work)

    async def claim(self, worker: str, lane: int, limit: int, hold: timedelta) -> Sequence[Claim]:
        claimable = [*sources_of(State.IN_FLIGHT), State.IN_FLIGHT]

        async def work(connection: Connection) -> Sequence[Claim] | None:
            """None: its partner is succeeded."""
            served = await connection.fetchrow(_LOCK_SERVED, lane)
            if served is None or served["holder"] != worker:
                raise LeaseLost
            if served["succeeded"]:
                return None
            rows = await connection.fetch(
                _CLAIM, lane, claimable, limit, hold, State.IN_FLIGHT, worker, LOST, served["channel"]
            )
            return [claim_from(row) for row in rows]

        claims = await self._database.run(work)
        if claims is None:
            await follow_successor(self._database, worker, lane)
            return []
        return claims

    async def renew(self, worker: str, lanes: Sequence[int], length: timedelta) -> set[int]:
        async def work(connection: Connection) -> set[int]:
            rows = await connection.fetch(_LOCK_HELD, list(lanes), worker)
            held = [row["id"] for row in rows]
            await connection.execute(_LENGTHEN_HOLDS, held, worker, length, State.IN_FLIGHT)
            await connection.execute(_LENGTHEN_LEASES, held, length)
            return set(held)

        return await self._database.run(work)

    async def conclude(
        self, worker: str, lane: int, conclusions: Sequence[Conclusion], rest: timedelta = AT_ONCE
    ) -> Sequence[UUID]:
        async def work(connection: Connection) -> Sequence[UUID]:
            await connection.execute(_LOCK, lane)
            refused = await write_news(connection, lane, conclusions) if conclusions else []
            await connection.execute(_GIVE_BACK, lane, worker, rest)
            return refused

        return await self._database.run(work)

    async def next_due(self) -> float | None:
        async def work(connection: Connection) -> float | None:
            seconds: float | None = await connection.fetchval(_NEXT_DUE)
            return None if seconds is None else max(seconds, 0.0)

        return await self._database.once(work)

    async def wait(self, seconds: float) -> None:
        await self._bell.wait(seconds)

    async def close(self) -> None:
        await self._bell.close()


# --- leasing ------------------------------------------------------------------------------------------

# What is in a mailbox's lane stays in the hub, whatever channel its partner is served on.
_ITS_PARTNER = f"""
    LEFT JOIN partner ON partner.subscriber = lane.subscriber
      AND (lane.channel <> '{MAILBOX}' OR partner.channel = lane.channel)
"""

# The due time moves to the end of the lease: if the worker dies, the lane is due again by itself.
_LEASE = f"""
    WITH due AS MATERIALIZED (
        SELECT id FROM lane
        WHERE due_at <= (SELECT clock_timestamp())
          AND (lease_until IS NULL OR lease_until < (SELECT clock_timestamp()))
        ORDER BY due_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ), leased AS (
        UPDATE lane
        SET holder = $1, lease_until = clock.now + $3::interval, due_at = clock.now + $3::interval
        FROM due, (SELECT clock_timestamp() AS now) AS clock
        WHERE lane.id = due.id
        RETURNING lane.id, lane.subscriber, lane.channel
    )
    SELECT lane.id, lane.subscriber, COALESCE(partner.channel, lane.channel) AS channel,
           partner.settings, partner.secrets, partner.secrets_key
    FROM leased AS lane {_ITS_PARTNER}
    ORDER BY lane.id
"""

# A lowered due time of a lane that is held is served when the lease ends, not before.
_NEXT_DUE = """
    SELECT EXTRACT(EPOCH FROM min(GREATEST(due_at, lease_until)) - clock_timestamp())::float8
    FROM lane WHERE due_at IS NOT NULL
"""


def _lane(row: asyncpg.Record) -> Lane:
    """The endpoint is the partner's of today, channel included: rows that were planned for a channel it has
    left go out by the one it has now. An endpoint is one whole; settings or secrets of one channel are
    never handed to the connector of another."""
    return Lane(
        id=row["id"],
        subscriber=Subscriber.parse(row["subscriber"]),
        endpoint=Endpoint(row["channel"], row["settings"] or {}),
        sealed_secrets=row["secrets"],
        wrapped_key=row["secrets_key"],
    )


_LOCK = "SELECT FROM lane WHERE id = $1 FOR UPDATE"

_LOCK_HELD = "SELECT id FROM lane WHERE id = ANY($1::bigint[]) AND holder = $2 ORDER BY id FOR UPDATE"

# Rows in flight may be left from an earlier holder that died: those must come due when they said.
_LENGTHEN_HOLDS = """
    WITH flying AS MATERIALIZED (
        SELECT delivery.id
        FROM delivery JOIN attempt ON attempt.delivery = delivery.id
          AND attempt.sending = delivery.sending AND attempt.number = delivery.attempt
        WHERE delivery.lane = ANY($1::bigint[]) AND delivery.due_at IS NOT NULL
          AND delivery.state = $4 AND attempt.worker = $2
        ORDER BY delivery.id
        FOR UPDATE OF delivery
    )
    UPDATE delivery SET due_at = GREATEST(due_at, (SELECT clock_timestamp()) + $3::interval)
    FROM flying WHERE delivery.id = flying.id
"""

_LENGTHEN_LEASES = """
    UPDATE lane
    SET lease_until = GREATEST(lease_until, clock.now + $2::interval),
        due_at = GREATEST(due_at, lease_until, clock.now + $2::interval)
    FROM (SELECT clock_timestamp() AS now) AS clock
    WHERE id = ANY($1::bigint[])
"""


# --- claiming -----------------------------------------------------------------------------------------

# A lease that ran out and that nobody took is held still.
_LOCK_SERVED = f"""
    SELECT lane.holder, COALESCE(partner.channel, lane.channel) AS channel,
           successor_in_force(lane.subscriber) <> lane.subscriber AS succeeded
    FROM lane {_ITS_PARTNER}
    WHERE lane.id = $1
    FOR UPDATE OF lane
"""

# The page is chosen in the order of due times and locked in the order of names, as everybody locks.
_CLAIM = f"""
    WITH page AS MATERIALIZED (
        SELECT id FROM delivery
        WHERE lane = $1 AND state = ANY($2::text[]) AND due_at <= (SELECT clock_timestamp())
        ORDER BY due_at, sequence
        LIMIT $3
    ), taken AS MATERIALIZED (
        SELECT delivery.id, delivery.state, delivery.sending, delivery.attempt, delivery.due_at
        FROM delivery JOIN page ON page.id = delivery.id
        WHERE delivery.state = ANY($2::text[])
        ORDER BY delivery.id
        FOR UPDATE OF delivery
    ), lost AS (
        UPDATE attempt SET ended_at = clock_timestamp(), outcome = $7
        FROM taken
        WHERE taken.state = $5 AND attempt.ended_at IS NULL AND attempt.delivery = taken.id
          AND attempt.sending = taken.sending AND attempt.number = taken.attempt
    ), flying AS (
        UPDATE delivery
        SET state = $5, attempt = delivery.attempt + 1, channel = $8,
            due_at = (SELECT clock_timestamp()) + $4::interval, changed_at = clock_timestamp()
        FROM taken WHERE delivery.id = taken.id
        RETURNING delivery.*, taken.due_at AS was_due_at
    ), begun AS (
        INSERT INTO attempt (delivery, sending, number, worker) SELECT id, sending, attempt, $6 FROM flying
    )
    SELECT {CLAIM_COLUMNS}
    FROM flying AS delivery
    JOIN submission ON submission.id = delivery.submission
    LEFT JOIN submission_key ON submission_key.submission = delivery.submission
    ORDER BY delivery.was_due_at, delivery.sequence
"""


def claim_from(row: asyncpg.Record) -> Claim:
    """A delivery with what its parcel is made of, and no file it was not given. The wrapped key is empty
    when the submission was purged."""
    granted = set(row["granted"])
    return Claim(
        attempt=Attempt(row["id"], row["sending"], row["attempt"]),
        subscriber=Subscriber.parse(row["subscriber"]),
        sequence=row["sequence"],
        kind=ParcelKind(row["kind"]),
        revision=row["revision"],
        submission=row["submission"],
        sender=row["sender"],
        external_id=row["external_id"],
        procedure=row["procedure"],
        received_at=row["received_at"],
        facts=row["facts"],
        sealed=row["sealed"],
        wrapped_key=row["wrapped"] or b"",
        attachments=tuple(
            stored for stored in attachments_from_json(row["attachments"]) if stored.facts.number in granted
        ),
    )


# --- concluding ---------------------------------------------------------------------------------------

# Who lost the lane leaves it to its holder, and only makes sure that the rows it moved are served. The
# notification is made only when it says something: notifying transactions commit one after the other.
_GIVE_BACK = """
    WITH wake AS MATERIALIZED (
        SELECT min(due_at) AS due_at, succession_wakes($1) AS moves_at,
               CASE WHEN $3::interval > interval '0' THEN clock_timestamp() + $3::interval END AS rests_until
        FROM delivery WHERE lane = $1 AND due_at IS NOT NULL
    ), given AS (
        UPDATE lane
        SET due_at = CASE
                WHEN wake.due_at IS NULL AND holder = $2 THEN wake.moves_at
                WHEN holder = $2 THEN LEAST(GREATEST(wake.due_at, wake.rests_until), wake.moves_at)
                ELSE LEAST(lane.due_at, wake.due_at, wake.moves_at)
            END,
            rests_until = CASE WHEN holder = $2 THEN wake.rests_until ELSE lane.rests_until END,
            lease_until = CASE WHEN holder = $2 THEN NULL ELSE lease_until END,
            holder = CASE WHEN holder = $2 THEN NULL ELSE holder END
        FROM wake
        WHERE lane.id = $1
        RETURNING lane.due_at, lane.holder
    )
    SELECT pg_notify('lanes', '') FROM given WHERE holder IS NULL AND due_at <= clock_timestamp()
"""
