"""Operators' orders about lanes: which are closed or fail, opening one, and maintenance of a partner's server.

Business of this file: reading lanes with what is the matter with them, and carrying out orders under the lanes'
locks. What opening means stands in `openings`.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.openings import look_again, open_lanes
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.domain.errors import Flaw, Invalid
from hub.domain.identity import Subscriber
from hub.domain.pace import Maintenance, maintenance_to_json, read_maintenance
from hub.ports.lane_orders import LaneFilter, LaneView

_MOST_PLANNED = 50


class PostgresLaneOrders:
    """Implements `hub.ports.lane_orders.LaneOrders`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lanes(self, where: LaneFilter, after: int, limit: int) -> Sequence[LaneView]:
        subscriber = None if where.subscriber is None else str(where.subscriber)
        either = not where.closed and not where.failing
        asked = (where.closed or either, where.failing or either, subscriber, where.vendor, after, limit)

        async def work(connection: Connection) -> Sequence[LaneView]:
            return [_view(row) for row in await connection.fetch(_LANES, *asked)]

        return await self._database.once(work)

    async def find(self, subscriber: Subscriber, channel: str | None) -> Sequence[LaneView]:
        async def work(connection: Connection) -> Sequence[LaneView]:
            return [_view(row) for row in await connection.fetch(_FIND, str(subscriber), channel)]

        return await self._database.once(work)

    async def open_lane(self, lane: int, actor: str, reason: str) -> bool | None:
        async def work(connection: Connection) -> bool | None:
            if await connection.fetchrow("SELECT id FROM lane WHERE id = $1 FOR UPDATE", lane) is None:
                return None
            return bool(await open_lanes(connection, [lane], actor, reason))

        return await self._database.run(work)

    async def maintenance(self, subscriber: Subscriber) -> Sequence[Maintenance] | None:
        async def work(connection: Connection) -> Sequence[Maintenance] | None:
            return await _ahead(connection, subscriber)

        return await self._database.run(work)

    async def plan_maintenance(self, subscriber: Subscriber, planned: Maintenance, actor: str) -> bool:
        if planned.end <= planned.begin:
            raise Invalid(Flaw("/until", "order", "it ends before it begins"))

        async def work(connection: Connection) -> bool:
            await _lock(connection, subscriber)
            ahead = await _ahead(connection, subscriber)
            if ahead is None:
                return False
            if await connection.fetchval("SELECT $1::timestamptz <= clock_timestamp()", planned.end):
                raise Invalid(Flaw("/until", "past", "it is over already"))
            if len(ahead) >= _MOST_PLANNED:
                raise Invalid(Flaw("/from", "most", f"{_MOST_PLANNED} are planned already: end them first"))
            kept = sorted({*ahead, planned}, key=lambda one: (one.begin, one.end, one.reason))
            await _keep(connection, subscriber, kept)
            said = f"{subscriber}, from {planned.begin.isoformat()} to {planned.end.isoformat()}"
            line = JournalEntry("maintenance.planned", actor=actor, detail=f"{said}: {planned.reason}")
            await write_journal(connection, [line])
            return True

        return await self._database.run(work)

    async def end_maintenance(self, subscriber: Subscriber, actor: str) -> int | None:
        async def work(connection: Connection) -> int | None:
            await _lock(connection, subscriber)
            ahead = await _ahead(connection, subscriber)
            if ahead:
                await _keep(connection, subscriber, ())
                await look_again(connection, [str(subscriber)])
                line = JournalEntry("maintenance.ended", actor=actor, detail=str(subscriber))
                await write_journal(connection, [line])
            return None if ahead is None else len(ahead)

        return await self._database.run(work)


# --- seeing -------------------------------------------------------------------------------------------

_VIEW = """
    SELECT lane.id, lane.subscriber, COALESCE(partner.name, lane.subscriber) AS name, partner.vendor,
           lane.channel, lane.closed_at, lane.failures, COALESCE(lane.closed_at, lane.failing_since) AS since,
           COALESCE(lane.closed_cause, last.cause) AS cause, lane.closed_by, rows.waiting, lane.fell_back_at,
           lane.due_at
    FROM lane
    LEFT JOIN partner USING (subscriber)
    CROSS JOIN LATERAL (
        SELECT count(*) AS waiting FROM delivery WHERE delivery.lane = lane.id AND due_at IS NOT NULL
    ) AS rows
    LEFT JOIN LATERAL (
        SELECT cause FROM delivery
        WHERE delivery.lane = lane.id AND due_at IS NOT NULL AND cause IS NOT NULL AND lane.failures > 0
        ORDER BY due_at
        LIMIT 1
    ) AS last ON true
"""

_LANES = f"""
    {_VIEW}
    WHERE (($1 AND closed_at IS NOT NULL) OR ($2 AND (failures > 0 OR fell_back_at IS NOT NULL)))
      AND ($3::text IS NULL OR lane.subscriber = $3) AND ($4::text IS NULL OR partner.vendor = $4)
      AND lane.id > $5
    ORDER BY lane.id
    LIMIT $6
"""

_FIND = f"""
    {_VIEW}
    WHERE lane.subscriber = $1 AND ($2::text IS NULL OR lane.channel = $2)
    ORDER BY lane.id
"""


def _view(row: asyncpg.Record) -> LaneView:
    return LaneView(
        id=row["id"],
        subscriber=Subscriber.parse(row["subscriber"]),
        partner=row["name"],
        vendor=row["vendor"],
        channel=row["channel"],
        closed=row["closed_at"] is not None,
        failures=row["failures"],
        since=row["since"],
        cause=row["cause"],
        parked=row["closed_by"],
        waiting=row["waiting"],
        fell_back_at=row["fell_back_at"],
        due_at=row["due_at"],
    )


# --- maintenance --------------------------------------------------------------------------------------


async def _lock(connection: Connection, subscriber: Subscriber) -> None:
    """The partner's lanes, then the partner."""
    await connection.execute(
        "SELECT FROM lane WHERE subscriber = $1 ORDER BY id FOR NO KEY UPDATE", str(subscriber)
    )
    await connection.execute("SELECT FROM partner WHERE subscriber = $1 FOR NO KEY UPDATE", str(subscriber))


async def _ahead(connection: Connection, subscriber: Subscriber) -> Sequence[Maintenance] | None:
    """What is not over; None: there is no such partner."""
    row = await connection.fetchrow(
        "SELECT maintenance, clock_timestamp() AS now FROM partner WHERE subscriber = $1", str(subscriber)
    )
    if row is None:
        return None
    return [one for one in read_maintenance(row["maintenance"] or ()) if one.end > row["now"]]


async def _keep(connection: Connection, subscriber: Subscriber, planned: Sequence[Maintenance]) -> None:
    """None are kept as null: its lanes are served with the others."""
    await connection.execute(
        "UPDATE partner SET maintenance = $2 WHERE subscriber = $1",
        str(subscriber),
        maintenance_to_json(planned) or None,
    )
