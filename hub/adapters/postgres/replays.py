"""The store's part of replay: an operator's order to send deliveries again, fixed when it is given, carried
out page by page.

Business of this file: that an order outlives whoever carries it out, that each of its items is treated once,
and that what moved on by itself meanwhile is left alone. It sends nothing: the lanes do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.domain.lifecycle import State, may_move, move
from hub.ports.store import Replay, Selection

_COLUMNS = "id, author, reason, created_at, matched, sent, skipped, finished_at"


class PostgresReplays:
    """Implements `hub.ports.store.Replays`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, id: UUID, selection: Selection, author: str, reason: str) -> Replay:
        """Also raises IllegalMove when nothing in the selected state can be sent again."""
        move(selection.state, State.PLANNED)

        async def work(connection: Connection) -> Replay:
            fresh = await connection.fetchval(
                """
                INSERT INTO replay (id, author, reason, selection, matched) VALUES ($1, $2, $3, $4, 0)
                ON CONFLICT (id) DO NOTHING
                RETURNING true
                """,
                id,
                author,
                reason,
                _selection_to_json(selection),
            )
            if fresh:
                await _fix_items(connection, id, selection)
            [row] = await connection.fetch(f"SELECT {_COLUMNS} FROM replay WHERE id = $1", id)
            return _replay(row)

        return await self._database.run(work)

    async def send_again(self, limit: int) -> int:
        async def work(connection: Connection) -> int:
            order = await _take_order(connection)
            if order is None:
                return 0
            items = await _pending(connection, order.id, limit)
            sendings = {item["delivery"]: item["sending"] for item in items}
            found = await _lock_deliveries(connection, list(sendings))
            sent = [row for row in found if _stands_still(row, sendings, order.state)]
            # The lanes first, so that no row is ever due before its lane.
            await _wake(connection, {row["lane"] for row in sent})
            await _plan_again(connection, [row["id"] for row in sent])
            await write_journal(connection, [_line(row, order) for row in sent])
            await _account(connection, order.id, list(sendings), {row["id"] for row in sent})
            return len(sendings)

        return await self._database.run(work)

    async def replay(self, id: UUID) -> Replay | None:
        async def work(connection: Connection) -> Replay | None:
            row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM replay WHERE id = $1", id)
            return None if row is None else _replay(row)

        return await self._database.run(work)


def _replay(row: asyncpg.Record) -> Replay:
    return Replay(
        id=row["id"],
        author=row["author"],
        reason=row["reason"],
        created_at=row["created_at"],
        matched=row["matched"],
        sent=row["sent"],
        skipped=row["skipped"],
        finished_at=row["finished_at"],
    )


# --- beginning ----------------------------------------------------------------------------------------


def _selection_to_json(selection: Selection) -> dict[str, object]:
    """Kept so that an operator can see what was ordered; of it, only the state is read again."""
    told: dict[str, object] = {"state": selection.state}
    if selection.deliveries is not None:
        told["deliveries"] = [str(delivery) for delivery in selection.deliveries]
    if selection.submission is not None:
        told["submission"] = str(selection.submission)
    if selection.subscriber is not None:
        told["subscriber"] = str(selection.subscriber)
    for field in ("channel", "procedure", "cause"):
        if (value := getattr(selection, field)) is not None:
            told[field] = value
    return told


async def _fix_items(connection: Connection, replay: UUID, selection: Selection) -> None:
    """An order that matches nothing is finished at once."""
    clauses, values = _where(selection)
    await connection.execute(
        f"""
        WITH item AS (
            INSERT INTO replay_item (replay, delivery, sending)
            SELECT $1, delivery.id, delivery.sending FROM delivery WHERE {clauses}
            RETURNING 1
        ), matched AS (
            SELECT count(*) AS items FROM item
        )
        UPDATE replay
        SET matched = items, finished_at = CASE WHEN items = 0 THEN clock_timestamp() END
        FROM matched
        WHERE id = $1
        """,
        replay,
        *values,
    )


def _where(selection: Selection) -> tuple[str, list[object]]:
    """Conditions whose parameters begin at $2."""
    subscriber = None if selection.subscriber is None else str(selection.subscriber)
    wishes: tuple[tuple[str, object], ...] = (
        ("state = ${}", selection.state),
        ("id = ANY(${}::uuid[])", selection.deliveries),
        ("submission = ${}", selection.submission),
        ("subscriber = ${}", subscriber),
        ("channel = ${}", selection.channel),
        ("procedure = ${}", selection.procedure),
        ("cause = ${}", selection.cause),
    )
    given = [(clause, value) for clause, value in wishes if value is not None]
    clauses = " AND ".join(clause.format(place) for place, (clause, _) in enumerate(given, start=2))
    return clauses, [value for _, value in given]


# --- sending again ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Order:
    """A replay under its lock. `state`: the one its items were matched in."""

    id: UUID
    author: str
    state: State


async def _take_order(connection: Connection) -> _Order | None:
    row = await connection.fetchrow(
        """
        SELECT id, author, selection ->> 'state' AS state FROM replay
        WHERE finished_at IS NULL
        ORDER BY created_at, id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
        """
    )
    return None if row is None else _Order(row["id"], row["author"], State(row["state"]))


async def _pending(connection: Connection, replay: UUID, limit: int) -> Sequence[asyncpg.Record]:
    return await connection.fetch(
        """
        SELECT delivery, sending FROM replay_item WHERE replay = $1 AND state = 'pending'
        ORDER BY delivery
        LIMIT $2
        """,
        replay,
        limit,
    )


async def _lock_deliveries(connection: Connection, ids: Sequence[UUID]) -> Sequence[asyncpg.Record]:
    """Their lanes first: whoever puts a row into a lane holds the lane's row."""
    await connection.execute(
        """
        SELECT 1 FROM lane
        WHERE id IN (SELECT lane FROM delivery WHERE delivery.id = ANY($1::uuid[]))
        ORDER BY id
        FOR UPDATE
        """,
        ids,
    )
    return await connection.fetch(
        """
        SELECT id, submission, lane, state, sending FROM delivery
        WHERE id = ANY($1::uuid[])
        ORDER BY id
        FOR UPDATE
        """,
        ids,
    )


def _stands_still(row: asyncpg.Record, sendings: Mapping[UUID, int], selected: State) -> bool:
    """Whether it is as the operator saw it. What is in another state by now (its partner took it from the
    mailbox, late good news came, a newer decision withdrew it) is not what was ordered."""
    state = State(row["state"])
    return row["sending"] == sendings[row["id"]] and state is selected and may_move(state, State.PLANNED)


async def _plan_again(connection: Connection, ids: Sequence[UUID]) -> None:
    await connection.execute(
        """
        UPDATE delivery
        SET state = $2, sending = sending + 1, attempt = 0, cause = NULL, due_at = clock.now,
            changed_at = clock.now
        FROM (SELECT clock_timestamp() AS now) AS clock
        WHERE id = ANY($1::uuid[])
        """,
        ids,
        State.PLANNED,
    )


async def _wake(connection: Connection, lanes: Iterable[int]) -> None:
    await connection.execute(
        """
        WITH woken AS (
            UPDATE lane SET due_at = LEAST(due_at, (SELECT clock_timestamp())) WHERE id = ANY($1::bigint[])
            RETURNING 1
        )
        SELECT pg_notify('lanes', '') FROM woken LIMIT 1
        """,
        list(lanes),
    )


def _line(row: asyncpg.Record, order: _Order) -> JournalEntry:
    return JournalEntry(
        "delivery.sent_again",
        row["submission"],
        row["id"],
        actor=f"operator:{order.author}",
        detail=f"replay {order.id}",
    )


async def _account(connection: Connection, replay: UUID, treated: Sequence[UUID], sent: set[UUID]) -> None:
    """The order is finished when nothing of it is pending."""
    await connection.execute(
        """
        UPDATE replay_item
        SET state = CASE WHEN delivery = ANY($3::uuid[]) THEN 'sent' ELSE 'skipped' END
        WHERE replay = $1 AND delivery = ANY($2::uuid[])
        """,
        replay,
        treated,
        list(sent),
    )
    await connection.execute(
        """
        UPDATE replay
        SET sent = sent + $2, skipped = skipped + $3,
            finished_at = CASE WHEN EXISTS (
                SELECT FROM replay_item WHERE replay_item.replay = replay.id AND state = 'pending'
            ) THEN NULL ELSE clock_timestamp() END
        WHERE id = $1
        """,
        replay,
        len(sent),
        len(treated) - len(sent),
    )
