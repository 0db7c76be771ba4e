"""The store's part of dispatch: leasing lanes, claiming their rows, and writing what came of each attempt.

Business of this file: that a row in motion is attempted by one worker at a time, that a worker's death
costs a delay and nothing else, and that a lane with rows has a due time. Whether a state may follow another
is asked of the domain's table; which partner answers what is not known here.

Every transaction here locks the lane's row before its deliveries. A registration that lowers the lane's due
time does so under the same lock, so a conclusion, which computes that time in a statement of its own after
the lock, has either seen the new rows or will be lowered by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import Bell, Connection, Database
from hub.adapters.postgres.rows import JournalEntry, attachments_from_json, write_journal
from hub.domain.delivery import Attempt, Conclusion, Deferred, Delivered, Outcome, Refused
from hub.domain.errors import IllegalMove, LeaseLost
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.lifecycle import IN_MOTION, State, move, sources_of
from hub.domain.partner import Endpoint
from hub.ports.store import AT_ONCE, Claim, Lane

LOST = "lost"
"""The outcome of an attempt whose worker was not heard of before its hold ended."""

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

        async def work(connection: Connection) -> Sequence[Claim]:
            if not await _lock_lane(connection, worker, lane):
                raise LeaseLost
            rows = await connection.fetch(_CLAIM, lane, claimable, limit, hold, State.IN_FLIGHT, worker, LOST)
            return [claim_from(row) for row in rows]

        return await self._database.run(work)

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
            await _lock_lane(connection, worker, lane)
            refused = await _write_news(connection, lane, conclusions) if conclusions else []
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

# The due time moves to the end of the lease: if the worker dies, the lane is due again by itself.
_LEASE = """
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
    SELECT leased.id, leased.subscriber, COALESCE(partner.channel, leased.channel) AS channel,
           partner.settings, partner.secrets, partner.secrets_key
    FROM leased LEFT JOIN partner ON partner.subscriber = leased.subscriber
    ORDER BY leased.id
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


async def _lock_lane(connection: Connection, worker: str, lane: int) -> bool:
    """Whether `worker` holds it. A lease that ran out and that nobody took is held still."""
    holder = await connection.fetchval("SELECT holder FROM lane WHERE id = $1 FOR UPDATE", lane)
    return bool(holder == worker)


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
        SET state = $5, attempt = delivery.attempt + 1,
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


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a delivery stands, under its lock."""

    submission: UUID
    state: State
    sending: int
    attempt: int


@dataclass(frozen=True, slots=True)
class _Move:
    """News that is taken, with the state it was taken in."""

    source: State
    standing: _Standing
    conclusion: Conclusion


async def _write_news(connection: Connection, lane: int, conclusions: Sequence[Conclusion]) -> list[UUID]:
    standings = await _lock_deliveries(connection, lane, {news.attempt.delivery for news in conclusions})
    moves, refused = _judge(standings, conclusions)
    await _write(connection, moves, [news for news in conclusions if news.attempt.delivery in standings])
    await write_journal(connection, [_line(made) for made in moves])
    return refused


async def _lock_deliveries(connection: Connection, lane: int, ids: Iterable[UUID]) -> dict[UUID, _Standing]:
    rows = await connection.fetch(
        """
        SELECT id, submission, state, sending, attempt FROM delivery
        WHERE id = ANY($1::uuid[]) AND lane = $2
        ORDER BY id
        FOR UPDATE
        """,
        list(ids),
        lane,
    )
    return {
        row["id"]: _Standing(row["submission"], State(row["state"]), row["sending"], row["attempt"])
        for row in rows
    }


def _judge(
    standings: Mapping[UUID, _Standing], conclusions: Sequence[Conclusion]
) -> tuple[list[_Move], list[UUID]]:
    """Each on its own: one row's illegal move fails no other's."""
    states = {delivery: standing.state for delivery, standing in standings.items()}
    moves: list[_Move] = []
    refused: list[UUID] = []
    for conclusion in conclusions:
        delivery = conclusion.attempt.delivery
        standing = standings.get(delivery)
        if standing is None or not _is_heard(conclusion, standing, states[delivery]):
            refused.append(delivery)
            continue
        moves.append(_Move(states[delivery], standing, conclusion))
        states[delivery] = conclusion.state
    return moves, refused


def _is_heard(conclusion: Conclusion, standing: _Standing, state: State) -> bool:
    """Good news of this sending holds whichever of its attempts it is of: the partner has the parcel. Bad
    news says something of the attempt that is in flight only."""
    attempt = conclusion.attempt
    if attempt.sending != standing.sending or attempt.number > standing.attempt:
        return False
    if conclusion.state is not State.DELIVERED:
        current = state is State.IN_FLIGHT and attempt.number == standing.attempt
        if not current:
            return False
    try:
        move(state, conclusion.state)
    except IllegalMove:
        return False
    return True


async def _write(connection: Connection, moves: Sequence[_Move], conclusions: Sequence[Conclusion]) -> None:
    """Where each delivery stands now, and what each attempt came to, also when its delivery has moved on."""
    # A delivery of which two attempts are told at once stands once, where the later told one left it.
    last = {made.conclusion.attempt.delivery: made.conclusion for made in moves}
    words = [_words(news.outcome) for news in conclusions]
    await connection.execute(
        _WRITE,
        list(last),
        [news.state for news in last.values()],
        [news.cause for news in last.values()],
        [(news.wait or timedelta(0)) if news.state in IN_MOTION else None for news in last.values()],
        [news.attempt.delivery for news in conclusions],
        [news.attempt.sending for news in conclusions],
        [news.attempt.number for news in conclusions],
        [outcome for outcome, _ in words],
        [news.cause for news in conclusions],
        [receipt for _, receipt in words],
        LOST,
        State.DELIVERED,
    )


# Who was believed dead and yet had delivered corrects its `lost`.
_WRITE = """
    WITH moved AS (
        UPDATE delivery
        SET state = told.state, cause = told.cause, due_at = (SELECT clock_timestamp()) + told.wait,
            changed_at = clock_timestamp()
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::interval[]) AS told (id, state, cause, wait)
        WHERE delivery.id = told.id
    )
    UPDATE attempt
    SET ended_at = clock_timestamp(), outcome = told.outcome, cause = told.cause, receipt = told.receipt
    FROM unnest($5::uuid[], $6::integer[], $7::integer[], $8::text[], $9::text[], $10::text[])
      AS told (delivery, sending, number, outcome, cause, receipt)
    WHERE attempt.delivery = told.delivery AND attempt.sending = told.sending
      AND attempt.number = told.number
      AND (attempt.ended_at IS NULL OR (attempt.outcome = $11 AND told.outcome = $12))
"""


def _words(outcome: Outcome) -> tuple[str, str | None]:
    match outcome:
        case Delivered(receipt=receipt):
            return "delivered", receipt
        case Deferred():
            return "deferred", None
        case Refused():
            return "refused", None
        case _:
            assert_never(outcome)


def _line(made: _Move) -> JournalEntry:
    news = made.conclusion
    late = "" if made.source is State.IN_FLIGHT else f"late, was {made.source}"
    return JournalEntry(
        f"delivery.{news.state}",
        made.standing.submission,
        news.attempt.delivery,
        detail=news.cause or late,
    )


# Who lost the lane leaves it to its holder, and only makes sure that the rows it moved are served. The
# notification is made only when it says something: notifying transactions commit one after the other.
_GIVE_BACK = """
    WITH wake AS MATERIALIZED (
        SELECT min(due_at) AS due_at,
               CASE WHEN $3::interval > interval '0' THEN clock_timestamp() + $3::interval END AS rests_until
        FROM delivery WHERE lane = $1 AND due_at IS NOT NULL
    ), given AS (
        UPDATE lane
        SET due_at = CASE
                WHEN wake.due_at IS NULL AND holder = $2 THEN NULL
                WHEN holder = $2 THEN GREATEST(wake.due_at, wake.rests_until)
                ELSE LEAST(lane.due_at, wake.due_at)
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
