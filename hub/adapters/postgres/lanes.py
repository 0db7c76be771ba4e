"""The store's part of dispatch: lanes are leased, renewed, and given back.

Business of this file: that a row in motion is attempted by one worker at a time, and that a worker's death
costs a delay and nothing else. Which partner answers what is not known here. How rows are claimed (`claims`), what
is written of an answer (`conclusions`), when a lane is due next (`returns`), and how rows follow whoever takes over
(`succession`) stands in files of its own.

Every transaction here locks the lanes' rows, by id, before their deliveries. A registration that lowers a
lane's due time does so under the same lock, so a conclusion, which computes that time in a statement of its own
after the lock, has either seen the new rows or will be lowered by them. A row in flight is held by its lane's
lease: what was in flight before the present one began is lost. So a claim moves no due time and no index.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import asyncpg

from hub.adapters.postgres.claims import ITS_PARTNER, claim_rows
from hub.adapters.postgres.conclusions import Told, write_news
from hub.adapters.postgres.database import Bell, Connection, Database
from hub.adapters.postgres.digests import claim_issue
from hub.adapters.postgres.fallbacks import fall_back, notice_endpoint
from hub.adapters.postgres.returns import give_back
from hub.adapters.postgres.succession import follow_successor
from hub.domain.circuit import Standing
from hub.domain.errors import LeaseLost
from hub.domain.identity import Subscriber
from hub.domain.partner import MAILBOX, NOTICE, Endpoint
from hub.ports.lanes import Claim, IssueClaim, Lane, Page, Taken


class PostgresLanes:
    """Implements `hub.ports.lanes.Lanes`. A worker's name must be its own: a worker that starts again takes
    a new one. `close` it, it may hold a connection that listens."""

    def __init__(self, database: Database, kept: timedelta = timedelta(0)) -> None:
        """`kept`: for how long after a page a worker has its connection to the endpoint still."""
        self._database = database
        self._kept = kept
        self._bell = Bell(database, "lanes")

    async def take(
        self, worker: str, healthy: int, failing: int, page: int, length: timedelta
    ) -> Sequence[Taken]:
        async def work(connection: Connection) -> list[Taken]:
            rows = await connection.fetch(_LEASE, worker, length, healthy, failing)
            apart = {row["id"] for row in rows if row["apart"] or row["leaves"]}
            claims = await claim_rows(
                connection, {row["id"]: _most(row, page) for row in rows if row["id"] not in apart}
            )
            return [
                Taken(_lane(row), None if row["id"] in apart else tuple(claims.get(row["id"], ())))
                for row in rows
            ]

        return await self._database.run(work)

    async def lease(self, worker: str, limit: int, length: timedelta) -> Sequence[Lane]:
        async def work(connection: Connection) -> Sequence[Lane]:
            return [_lane(row) for row in await connection.fetch(_LEASE, worker, length, limit, limit)]

        return await self._database.once(work)

    async def claim(
        self, worker: str, lane: int, limit: int, ordered: Collection[str] = (), *, closes: bool = False
    ) -> Sequence[Claim]:
        async def work(connection: Connection) -> Sequence[Claim] | None:
            """None: it is left."""
            held = await connection.fetchrow(_LOCK_SERVED, lane)
            if held is None or held["holder"] != worker:
                raise LeaseLost
            if held["leaves"]:
                return None
            return (await claim_rows(connection, {lane: limit}, ordered, closes)).get(lane, ())

        claims = await self._database.run(work)
        if claims is None:
            await follow_successor(self._database, worker, lane)
            return ()
        return claims

    async def claim_issue(
        self, worker: str, lane: int, slot: datetime, most: int
    ) -> IssueClaim | timedelta | None:
        async def work(connection: Connection) -> IssueClaim | timedelta | Literal["left"] | None:
            held = await connection.fetchrow(_LOCK_SERVED, lane)
            if held is None or held["holder"] != worker:
                raise LeaseLost
            if held["leaves"]:
                return "left"
            return await claim_issue(connection, lane, Subscriber.parse(held["subscriber"]), slot, most)

        found = await self._database.run(work)
        if found == "left":
            await follow_successor(self._database, worker, lane)
            return timedelta(0)
        return found

    async def renew(self, worker: str, lanes: Sequence[int], length: timedelta) -> set[int]:
        async def work(connection: Connection) -> set[int]:
            return {row["id"] for row in await connection.fetch(_RENEW, list(lanes), worker, length)}

        return await self._database.run(work)

    async def conclude(self, worker: str, pages: Sequence[Page]) -> Sequence[UUID]:
        if not pages:
            return []

        async def work(connection: Connection) -> Sequence[UUID]:
            lanes = sorted(page.lane for page in pages)
            owners = {row["id"]: row["subscriber"] for row in await connection.fetch(_LOCK, lanes)}
            told = [Told(page.lane, conclusion) for page in pages for conclusion in page.conclusions]
            refused = await write_news(connection, told, owners) if told else []
            await give_back(connection, worker, pages, self._kept)
            return refused

        return await self._database.run(work)

    async def fall_back(self, worker: str, lane: int) -> None:
        await fall_back(self._database, worker, lane)

    async def rest_vendor(self, vendor: str, rest: timedelta, spread: timedelta) -> int:
        return await self._move_vendor(_REST_VENDOR, vendor, rest, spread)

    async def wake_vendor(self, vendor: str, spread: timedelta) -> int:
        return await self._move_vendor(_WAKE_VENDOR, vendor, spread)

    async def _move_vendor(self, statement: str, vendor: str, *durations: timedelta) -> int:
        async def work(connection: Connection) -> int:
            return len(await connection.fetch(statement, vendor, MAILBOX, *durations))

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

# Whom a lane's rows go to is asked in full only of those that may be left.
_LEAVES = """
    (lane.left_for IS NOT NULL AND lane.fell_back_at IS NULL)
    OR (lane.moves_at <= clock_timestamp() AND successor_in_force(lane.subscriber) <> lane.subscriber)
"""

# The due time moves to the end of the lease: if the worker dies, the lane is due again by itself. Whoever held
# a lane last may have its connection still: to others it is offered a moment later.
_DUE = """
        SELECT id FROM lane
        WHERE due_at <= (SELECT clock_timestamp()) AND failures {failing}
          AND (lease_until IS NULL OR lease_until < (SELECT clock_timestamp()))
          AND (kept_until IS NULL OR keeper = $1 OR kept_until < (SELECT clock_timestamp())
               OR due_at < (SELECT clock_timestamp()) - interval '0.5 s')
        ORDER BY due_at
        LIMIT {limit}
        FOR UPDATE SKIP LOCKED
"""

_LEASE = f"""
    WITH healthy AS MATERIALIZED ({_DUE.format(failing="= 0", limit="$3")}),
    failing AS MATERIALIZED ({_DUE.format(failing="> 0", limit="$4")}),
    leased AS (
        UPDATE lane
        SET holder = $1, leased_at = clock.now,
            lease_until = clock.now + $2::interval, due_at = clock.now + $2::interval
        FROM (SELECT id FROM healthy UNION ALL SELECT id FROM failing) AS due,
             (SELECT clock_timestamp() AS now) AS clock
        WHERE lane.id = due.id
        RETURNING lane.*
    )
    SELECT lane.id, lane.subscriber, COALESCE(partner.channel, lane.channel) AS channel,
           partner.settings, partner.secrets, partner.secrets_key, partner.vendor, partner.pace,
           partner.maintenance, lane.failures, lane.at_once, lane.closed_cause, lane.channel AS served,
           clock_timestamp() - LEAST(lane.failing_since, lane.closed_at) AS failing,
           {_LEAVES} AS leaves,
           lane.closed_at IS NOT NULL OR partner.pace IS NOT NULL OR partner.maintenance IS NOT NULL
             OR partner.settings ->> 'frequency' <> 'unit' AS apart
    FROM leased AS lane {ITS_PARTNER}
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
    notices = row["served"] == NOTICE
    return Lane(
        id=row["id"],
        subscriber=Subscriber.parse(row["subscriber"]),
        endpoint=notice_endpoint(row["pace"]) if notices else Endpoint(row["channel"], row["settings"] or {}),
        sealed_secrets=None if notices else row["secrets"],
        wrapped_key=None if notices else row["secrets_key"],
        standing=_standing(row),
        failing=row["failing"],
        # What leaves waits for no endpoint, and for nobody's hours.
        closed=None if row["leaves"] else row["closed_cause"],
        vendor=None if notices else row["vendor"],
        pace=None if row["leaves"] else row["pace"],
        maintenance=() if row["leaves"] else row["maintenance"] or (),
    )


def _standing(row: asyncpg.Record) -> Standing:
    at_once: int | None = row["at_once"]
    return Standing(failures=row["failures"]) if at_once is None else Standing(at_once, row["failures"])


def _most(row: asyncpg.Record, page: int) -> int:
    standing = _standing(row)
    return 1 if standing.fails else min(page, standing.at_once)


_LOCK = """
    SELECT id, subscriber FROM lane WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE
"""

_RENEW = """
    WITH held AS MATERIALIZED (
        SELECT id FROM lane WHERE id = ANY($1::bigint[]) AND holder = $2 ORDER BY id FOR UPDATE
    )
    UPDATE lane
    SET lease_until = GREATEST(lease_until, clock.now + $3::interval),
        due_at = GREATEST(due_at, lease_until, clock.now + $3::interval)
    FROM held, (SELECT clock_timestamp() AS now) AS clock
    WHERE lane.id = held.id
    RETURNING lane.id
"""

# A lease that ran out and that nobody took is held still.
_LOCK_SERVED = (
    f"SELECT lane.holder, lane.subscriber, {_LEAVES} AS leaves FROM lane WHERE lane.id = $1 FOR UPDATE"
)


# --- vendors ------------------------------------------------------------------------------------------

_OF_VENDOR = """
    WITH theirs AS MATERIALIZED (
        SELECT lane.id
        FROM lane JOIN partner USING (subscriber)
        WHERE partner.vendor = $1 AND lane.channel = partner.channel AND lane.channel <> $2
          AND lane.due_at IS NOT NULL AND lane.holder IS NULL AND lane.closed_at IS NULL
          AND lane.left_for IS NULL
        ORDER BY lane.id
        FOR UPDATE OF lane
    )
"""

_REST_VENDOR = f"""
    {_OF_VENDOR}, until AS MATERIALIZED (
        SELECT id, clock_timestamp() + $3::interval + random() * $4::interval AS until FROM theirs
    )
    UPDATE lane SET rests_until = GREATEST(rests_until, until), due_at = GREATEST(due_at, rests_until, until)
    FROM until WHERE lane.id = until.id
    RETURNING lane.id
"""

_WAKE_VENDOR = f"""
    {_OF_VENDOR}
    UPDATE lane
    SET due_at = clock_timestamp() + random() * $3::interval, rests_until = NULL
    FROM theirs WHERE lane.id = theirs.id AND rests_until > clock_timestamp()
    RETURNING lane.id
"""
