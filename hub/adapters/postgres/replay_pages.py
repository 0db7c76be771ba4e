"""A page of a replay: its next items, planned again or decided anew, and accounted for.

Business of this file: that each item is treated once, that what moved on by itself is left alone, and that nothing
goes to whom no decision names any more. To be called under the lock of the replay's row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.planning import Author
from hub.adapters.postgres.redecisions import decide_anew
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.adapters.postgres.sendings import Locked, lock_deliveries, plan_again
from hub.domain.lifecycle import State, may_move
from hub.domain.redecision import Redecision
from hub.domain.replays import ReplayState
from hub.ports.replays import TodaysRules


async def tell(connection: Connection, replay: UUID, operator: str, word: str, more: str = "") -> None:
    line = JournalEntry(f"replay.{word}", actor=f"operator:{operator}", detail=f"replay {replay}{more}")
    await write_journal(connection, [line])


# Whole submissions: what is decided anew is decided once.
_PENDING = """
    WITH page AS MATERIALIZED (
        SELECT submission FROM replay_item WHERE replay = $1 AND state = 'pending'
        ORDER BY submission
        LIMIT $2
    )
    SELECT submission, delivery, sending FROM replay_item
    WHERE replay = $1 AND state = 'pending' AND submission IN (SELECT submission FROM page)
    ORDER BY submission, delivery
"""


@dataclass(frozen=True, slots=True)
class Treated:
    """The items that are done with, those of them that were left alone, and what it came to by the columns of a
    replay. `charged`: deliveries planned."""

    items: Collection[asyncpg.Record]
    counts: Mapping[str, int]
    skipped: Collection[asyncpg.Record]
    charged: int


@dataclass(frozen=True, slots=True)
class Page:
    """Items of an order that is locked."""

    replay: asyncpg.Record
    items: Sequence[asyncpg.Record]

    @classmethod
    async def read(cls, connection: Connection, replay: asyncpg.Record, limit: int) -> Page:
        return cls(replay, await connection.fetch(_PENDING, replay["id"], limit))

    @property
    def _selected(self) -> State | None:
        chosen = self.replay["selection"]
        return State(chosen["state"]) if chosen.get("of") != "submissions" else None

    async def send_again(self, connection: Connection) -> Treated:
        sendings = {item["delivery"]: item["sending"] for item in self.items}
        locked = await lock_deliveries(connection, sendings)
        named = await _still_named(connection, locked)
        sent = [
            name
            for name, row in locked.rows.items()
            if name in named and self._stands_still(row, sendings[name])
        ]
        await plan_again(connection, locked, sent)
        await write_journal(connection, [self._line(locked, name) for name in sent])
        # What was moved at this very moment is looked at again.
        there = await _not_moved(connection, locked, sendings)
        treated = [item for item in self.items if item["delivery"] in there]
        done = set(sent)
        skipped = [item for item in treated if item["delivery"] not in done]
        return Treated(treated, {"sent": len(sent), "skipped": len(skipped)}, skipped, len(sent))

    def _stands_still(self, row: asyncpg.Record, sending: int) -> bool:
        """Whether it is as the operator saw it. What is in another state by now (its partner took it from the
        mailbox, late good news came, it is being sent, a newer decision withdrew it) is not what was ordered."""
        state = State(row["state"])
        return row["sending"] == sending and state is self._selected and may_move(state, State.PLANNED)

    def _line(self, locked: Locked, name: UUID) -> JournalEntry:
        row = locked.rows[name]
        detail = f"replay {self.replay['id']}, of sending {row['sending']}"
        actor = f"operator:{self.replay['author']}"
        return JournalEntry("delivery.sent_again", row["submission"], name, actor=actor, detail=detail)

    async def decide_anew(self, connection: Connection, rules: TodaysRules) -> Treated:
        items: dict[UUID, dict[UUID, int] | None] = {}
        for item in self.items:
            if item["delivery"] is None:
                items[item["submission"]] = None
            else:
                ordered = items.setdefault(item["submission"], {})
                assert ordered is not None
                ordered[item["delivery"]] = item["sending"]
        author = Author(self.replay["author"], self.replay["id"])
        told, left = await decide_anew(connection, items, self._selected, rules, author)
        counts = _tallied([one for one in told.values() if one is not None])
        counts["skipped"] = left
        treated = [item for item in self.items if item["submission"] in told]
        skipped = [item for item in treated if told[item["submission"]] is None]
        return Treated(treated, counts, skipped, counts["sent"] + counts["revised"] + counts["planned"])

    async def account(self, connection: Connection, treated: Treated) -> None:
        """The order is finished when nothing of it is pending."""
        replay = self.replay["id"]
        skipped = {_key(item) for item in treated.skipped}
        done = [(item, "skipped" if _key(item) in skipped else "sent") for item in treated.items]
        await connection.execute(
            """
            UPDATE replay_item SET state = told.state
            FROM unnest($2::uuid[], $3::uuid[], $4::text[]) AS told (submission, delivery, state)
            WHERE replay = $1 AND replay_item.submission = told.submission
              AND replay_item.delivery IS NOT DISTINCT FROM told.delivery
            """,
            replay,
            [item["submission"] for item, _ in done],
            [item["delivery"] for item, _ in done],
            [state for _, state in done],
        )
        counts = Counter(treated.counts)
        finished = await connection.fetchval(
            _ACCOUNT,
            replay,
            *(counts[column] for column in _COLUMNS),
            self.replay["earned"] - treated.charged,
            self.replay["now"],
            ReplayState.FINISHED,
        )
        if finished:
            await tell(connection, replay, self.replay["author"], "finished")


def _tallied(told: Iterable[Redecision]) -> Counter[str]:
    """What decisions anew came to, by the columns of a replay."""
    counts: Counter[str] = Counter()
    for one in told:
        counts["sent"] += len(one.again)
        counts["revised"] += sum(fresh.revises is not None for fresh in one.fresh)
        counts["planned"] += sum(fresh.revises is None for fresh in one.fresh)
        counts["withdrawn"] += len(one.withdrawn)
        counts["unchanged"] += len(one.unchanged) + len(one.kept)
    return counts


def _key(item: asyncpg.Record) -> tuple[UUID, UUID | None]:
    return item["submission"], item["delivery"]


_COLUMNS = ("sent", "skipped", "revised", "planned", "withdrawn", "unchanged")

_ACCOUNT = """
    WITH rest AS (SELECT EXISTS (SELECT FROM replay_item WHERE replay = $1 AND state = 'pending') AS pending)
    UPDATE replay
    SET sent = sent + $2, skipped = skipped + $3, revised = revised + $4, planned = planned + $5,
        withdrawn = withdrawn + $6, unchanged = unchanged + $7,
        credit = CASE WHEN rate IS NULL THEN credit ELSE $8::float8 END, treated_at = $9,
        state = CASE WHEN rest.pending THEN state ELSE $10::text END,
        finished_at = CASE WHEN rest.pending THEN NULL ELSE clock_timestamp() END
    FROM rest
    WHERE id = $1
    RETURNING NOT rest.pending
"""


async def _not_moved(connection: Connection, locked: Locked, asked: Collection[UUID]) -> set[UUID]:
    """What is there under its lock, or is not there at all."""
    away = [name for name in asked if name not in locked.rows]
    if not away:
        return set(asked)
    rows = await connection.fetch("SELECT id FROM delivery WHERE id = ANY($1::uuid[])", away)
    return set(asked) - {row["id"] for row in rows}


async def _still_named(connection: Connection, locked: Locked) -> set[UUID]:
    """Those that the newest decision of their submission names: a replay sends to nobody else; and news, which no
    decision names. Read after they were locked, so a decision anew is seen."""
    rows = await connection.fetch(
        """
        SELECT delivery.id
        FROM delivery CROSS JOIN LATERAL (
            SELECT number, recipients FROM decision WHERE decision.submission = delivery.submission
            ORDER BY number DESC LIMIT 1
        ) AS newest
        WHERE delivery.id = ANY($1::uuid[]) AND (
            delivery.kind = 'news' OR newest.number = 1
            OR newest.recipients @> jsonb_build_array(jsonb_build_object('delivery', delivery.id))
        )
        """,
        list(locked.rows),
    )
    return {row["id"] for row in rows}
