"""The store's part of replay: an operator's order to send again, fixed when it is given, carried out page by
page at its pace.

Business of this file: that an order outlives whoever carries it out, that each of its items is treated once,
that what moved on by itself meanwhile is left alone, and that running orders take turns. It sends nothing: the
lanes do. What deciding anew means, stands in `redecisions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg

from hub.adapters.postgres.claims import PERHAPS_RECEIVED
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.redecisions import reroute
from hub.adapters.postgres.replay_pages import Page, tell
from hub.adapters.postgres.selecting import fix_items, preview
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.domain.redecision import RECEIVED
from hub.domain.replays import (
    Chosen,
    ReplayOrder,
    ReplayRules,
    ReplayState,
    ReplayVerb,
    as_words,
    first_state,
    from_words,
    turned,
)
from hub.ports.replays import Disclosure, Preview, Replay, Rerouted, RulesNow


class PostgresReplays:
    """Implements `hub.ports.replays.Replays`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def preview(self, chosen: Chosen, examples: int = 10) -> Preview:
        async def work(connection: Connection) -> Preview:
            return await preview(connection, chosen, examples)

        return await self._database.run(work)

    async def begin(self, id: UUID, order: ReplayOrder, approval: int | None = None) -> Replay:
        order.check()

        async def work(connection: Connection) -> Replay:
            fresh = await connection.fetchval(
                """
                INSERT INTO replay (id, author, reason, selection, rules, rate, matched, state)
                VALUES ($1, $2, $3, $4, $5, $6, 0, $7)
                ON CONFLICT (id) DO NOTHING
                RETURNING true
                """,
                id,
                order.author,
                order.reason,
                as_words(order.selection),
                order.rules,
                order.rate,
                ReplayState.PAUSED,
            )
            if fresh:
                matched, size = await fix_items(connection, id, order.selection)
                state = first_state(matched, approval)
                await connection.execute(_BEGUN, id, matched, size, state, ReplayState.FINISHED)
                await tell(connection, id, order.author, "begun", f", {matched} items, {state}")
            return _replay(await _row(connection, _ONE, *_ASKED, id))

        return await self._database.run(work)

    async def send_again(self, limit: int, rules: RulesNow | None = None) -> int:
        async def work(connection: Connection) -> int:
            those = [ReplayRules.THEN] if rules is None else list(ReplayRules)
            found = await connection.fetchval(_NEXT, ReplayState.RUNNING, those)
            if found is None:
                return 0
            taken = await _row(connection, _TAKE, found)
            at_most = limit if taken["rate"] is None else min(limit, int(taken["earned"]))
            page = await Page.read(connection, taken, at_most)
            if taken["rules"] == ReplayRules.TODAY and rules is not None:
                treated = await page.decide_anew(connection, await rules())
            else:
                treated = await page.send_again(connection)
            await page.account(connection, treated)
            return len(treated.items)

        return await self._database.run(work)

    async def turn(self, id: UUID, verb: ReplayVerb, operator: str) -> Replay | None:
        async def work(connection: Connection) -> Replay | None:
            row = await connection.fetchrow("SELECT author, state FROM replay WHERE id = $1 FOR UPDATE", id)
            if row is None:
                return None
            target = turned(ReplayState(row["state"]), verb, row["author"], operator)
            approver = operator if verb is ReplayVerb.APPROVE else None
            await connection.execute(_TURN, id, target, approver, ReplayState.CANCELLED)
            await tell(connection, id, operator, _TOLD[verb])
            return _replay(await _row(connection, _ONE, *_ASKED, id))

        return await self._database.run(work)

    async def replay(self, id: UUID) -> Replay | None:
        async def work(connection: Connection) -> Replay | None:
            row = await connection.fetchrow(_ONE, *_ASKED, id)
            return None if row is None else _replay(row)

        return await self._database.once(work)

    async def newest(self, limit: int) -> Sequence[Replay]:
        async def work(connection: Connection) -> Sequence[Replay]:
            return [_replay(row) for row in await connection.fetch(_NEWEST, *_ASKED, limit)]

        return await self._database.once(work)

    async def disclosures(self, id: UUID, after: UUID | None, limit: int) -> Sequence[Disclosure]:
        async def work(connection: Connection) -> Sequence[Disclosure]:
            rows = await connection.fetch(_DISCLOSURES, *_ASKED, id, after or UUID(int=0), limit)
            return [_disclosure(row) for row in rows]

        return await self._database.once(work)

    async def reroute(self, delivery: UUID, to: Subscriber, author: str, reason: str) -> Rerouted | None:
        async def work(connection: Connection) -> Rerouted | None:
            return await reroute(connection, delivery, to, author, reason)

        return await self._database.run(work)


# --- orders -------------------------------------------------------------------------------------------

_ASKED: tuple[object, ...] = (list(RECEIVED), PERHAPS_RECEIVED)

# What was withdrawn and then planned again by a later decision is in another sending.
_RECEIVED_WRONGLY = """
    FROM no_longer_named AS gone JOIN delivery ON delivery.id = gone.delivery
    WHERE gone.replay = {replay} AND (
        gone.received
        OR delivery.sending = gone.sending AND (delivery.state = ANY($1::text[]) OR delivery.cause = $2)
    )
"""

_REPLAYS = f"""
    SELECT replay.*,
           (SELECT count(*) FROM replay_item AS item
            WHERE item.replay = replay.id AND item.state = 'pending') AS pending,
           (SELECT count(*) {_RECEIVED_WRONGLY.format(replay="replay.id")}) AS disclosed
    FROM replay
"""
_ONE = f"{_REPLAYS} WHERE id = $3"
_NEWEST = f"{_REPLAYS} ORDER BY created_at DESC, id LIMIT $3"

_DISCLOSURES = f"""
    SELECT gone.delivery, gone.submission, gone.subscriber, delivery.state,
           gone.received OR delivery.state = ANY($1::text[]) AS certain
    {_RECEIVED_WRONGLY.format(replay="$3")} AND gone.delivery > $4
    ORDER BY gone.delivery
    LIMIT $5
"""

_BEGUN = """
    UPDATE replay
    SET matched = $2, bytes = $3, state = $4::text,
        finished_at = CASE WHEN $4::text = $5 THEN clock_timestamp() END
    WHERE id = $1
"""

# A pause earns no more than a second's worth.
_TURN = """
    UPDATE replay
    SET state = $2::text, approved_by = COALESCE($3, approved_by),
        approved_at = CASE WHEN $3 IS NULL THEN approved_at ELSE clock_timestamp() END,
        finished_at = CASE WHEN $2::text = $4 THEN clock_timestamp() END
    WHERE id = $1
"""

_TOLD: Mapping[ReplayVerb, str] = {
    ReplayVerb.APPROVE: "approved",
    ReplayVerb.PAUSE: "paused",
    ReplayVerb.RESUME: "resumed",
    ReplayVerb.CANCEL: "cancelled",
}


async def _row(connection: Connection, statement: str, *values: object) -> asyncpg.Record:
    """The one that is there."""
    row: asyncpg.Record
    [row] = await connection.fetch(statement, *values)
    return row


def _replay(row: asyncpg.Record) -> Replay:
    order = ReplayOrder(
        from_words(row["selection"]),
        row["author"],
        row["reason"],
        ReplayRules(row["rules"]),
        row["rate"],
    )
    return Replay(
        id=row["id"],
        order=order,
        state=ReplayState(row["state"]),
        created_at=row["created_at"],
        approved_by=row["approved_by"],
        matched=row["matched"],
        bytes=row["bytes"],
        sent=row["sent"],
        skipped=row["skipped"],
        revised=row["revised"],
        planned=row["planned"],
        withdrawn=row["withdrawn"],
        unchanged=row["unchanged"],
        disclosed=row["disclosed"],
        pending=row["pending"],
        finished_at=row["finished_at"],
    )


def _disclosure(row: asyncpg.Record) -> Disclosure:
    return Disclosure(
        row["delivery"],
        row["submission"],
        Subscriber.parse(row["subscriber"]),
        State(row["state"]),
        row["certain"],
    )


# --- whose turn it is --------------------------------------------------------------------------------

# The one that waits for longest: a large one does not hinder a small one. At a rate, as many as the time since
# its last page has earned, at most a second's worth.
_NEXT = """
    SELECT id FROM replay
    WHERE state = $1 AND rules = ANY($2::text[]) AND (
        rate IS NULL OR credit + EXTRACT(EPOCH FROM clock_timestamp() - treated_at)::float8 * rate >= 1
    )
    ORDER BY treated_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
"""

# Once more under its lock: the look that found it may have been older.
_TAKE = """
    SELECT replay.*, clock.now, COALESCE(LEAST(
        credit + EXTRACT(EPOCH FROM clock.now - treated_at)::float8 * rate, GREATEST(rate, 1)
    ), 1) AS earned
    FROM replay, (SELECT clock_timestamp() AS now) AS clock
    WHERE id = $1
"""
