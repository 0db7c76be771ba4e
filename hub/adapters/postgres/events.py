"""The store's part of the way back: what partners said, kept as events of the submission.

Business of this file: that an event is judged under its delivery's lock, and gets its sender's next number in the
transaction that keeps it; so numbers have no gap, and whoever sees one sees all smaller ones. What a report means is
the domain's to say; what goes to a sender's endpoint is planned beside (`sender_news`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import asyncpg

from hub.adapters.postgres.acknowledging import Standing, rest_acknowledged
from hub.adapters.postgres.cases import MOVED_AWAY, OWN_CASES, case_from, reported_from
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.event_rows import EVENTS, event_from
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.adapters.postgres.sender_news import Pushed, lock_endpoints, plan_news
from hub.domain.cases import CaseMoves, CaseStatus
from hub.domain.errors import Flaw
from hub.domain.events import Again, CaseStanding, Judgement, Keep, NewEvent, judge, names_of
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State, move
from hub.domain.reports import Declined, Kept, NotTaken, ReportAnswer
from hub.ports.events import Event, Reported


class PostgresEvents:
    """Implements `hub.ports.events.Events`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reported(self, subscriber: Subscriber, deliveries: Sequence[UUID]) -> Mapping[UUID, Reported]:
        async def work(connection: Connection) -> Mapping[UUID, Reported]:
            rows = await connection.fetch(OWN_CASES, list(deliveries), str(subscriber))
            return {row["id"]: reported_from(row) for row in rows}

        return await self._database.once(work)

    async def moved_away(self, subscriber: Subscriber, deliveries: Sequence[UUID]) -> set[UUID]:
        async def work(connection: Connection) -> set[UUID]:
            return {
                row["id"] for row in await connection.fetch(MOVED_AWAY, list(deliveries), str(subscriber))
            }

        return await self._database.once(work)

    async def keep(
        self,
        subscriber: Subscriber,
        new: Sequence[NewEvent],
        moves: Mapping[str, CaseMoves],
        edition: int,
    ) -> Sequence[ReportAnswer]:
        if not new:
            return []

        async def work(connection: Connection) -> Sequence[ReportAnswer]:
            names = sorted({one.delivery for one in new})
            endpoints = await lock_endpoints(connection, names)
            await connection.execute(_LOCK, names)
            # A statement of its own: the one that locks may have waited, and would see the cases as they were before.
            rows = {
                row["id"]: _Row.of(row) for row in await connection.fetch(OWN_CASES, names, str(subscriber))
            }
            judged = await _judge(connection, new, rows, moves, subscriber)
            kept = await _number(connection, judged, rows)
            await _insert(connection, kept, rows, subscriber, edition)
            await _move_cases(connection, kept, rows)
            await _acknowledge(connection, kept, rows, subscriber)
            pushed = [
                Pushed(one.keep.event, one.new.delivery, rows[one.new.delivery].sender, one.new.size or 0)
                for one in kept
            ]
            await plan_news(connection, pushed, endpoints)
            return await _answers(connection, judged, kept)

        return await self._database.run(work)

    async def since(self, sender: str, after: int, limit: int) -> Sequence[Event]:
        async def work(connection: Connection) -> Sequence[Event]:
            return [event_from(row) for row in await connection.fetch(_SINCE, sender, after, limit)]

        return await self._database.once(work)

    async def one(self, sender: str, id: UUID) -> Event | None:
        async def work(connection: Connection) -> Event | None:
            row = await connection.fetchrow(f"{EVENTS} WHERE event.id = $1 AND event.sender = $2", id, sender)
            return None if row is None else event_from(row)

        return await self._database.once(work)

    async def shown(self, events: Sequence[Event], reader: str) -> None:
        if not events:
            return

        async def work(connection: Connection) -> None:
            fresh = {row["id"] for row in await connection.fetch(_SHOWN, [event.id for event in events])}
            lines = [
                JournalEntry(
                    "event.shown", one.submission, one.delivery, actor=reader, detail=f"event {one.id}"
                )
                for one in events
                if one.id in fresh
            ]
            await write_journal(connection, lines)

        await self._database.run(work)

    async def fetched(self, event: Event, reader: str, what: str) -> None:
        async def work(connection: Connection) -> None:
            detail = f"event {event.id}{what and f', {what}'}"
            line = JournalEntry(
                "event.fetched", event.submission, event.delivery, actor=reader, detail=detail
            )
            await write_journal(connection, [line])

        await self._database.run(work)


@dataclass(slots=True)
class _Row:
    """A delivery under its lock. `was` and `attempt`: as it was found; `standing`: after what was judged so far."""

    submission: UUID
    sender: str
    procedure: str
    was: State
    attempt: int
    standing: CaseStanding

    @classmethod
    def of(cls, row: asyncpg.Record) -> _Row:
        state = State(row["state"])
        standing = CaseStanding(
            state, case_from(row), row["event"], purged=row["wrapped"] is None, events=row["events"]
        )
        return cls(row["submission"], row["sender"], row["procedure"], state, row["attempt"], standing)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What becomes an event, with its number and the status its case has after it."""

    new: NewEvent
    keep: Keep
    before: CaseStatus
    number: int = field(default=0)


async def _judge(
    connection: Connection,
    new: Sequence[NewEvent],
    rows: Mapping[UUID, _Row],
    moves: Mapping[str, CaseMoves],
    subscriber: Subscriber,
) -> list[tuple[NewEvent, Judgement, CaseStatus]]:
    """Each with the status it found; one after the other: what comes twice is there the second time."""
    now = await connection.fetchval("SELECT clock_timestamp()")
    fresh: dict[UUID, bytes] = {}
    found: list[tuple[NewEvent, Judgement, CaseStatus]] = []
    for one in new:
        row = rows.get(one.delivery)
        if row is None:
            # It moved since it was looked for.
            found.append((one, Declined(NotTaken.MOVED, _MOVED), CaseStatus.HUBEE_NOTIFIED))
            continue
        before = row.standing.case.status
        names = names_of(one, row.standing)
        known = {
            told["id"]: told["digest"] for told in await connection.fetch(_KNOWN, [*names], one.delivery)
        }
        known |= {name: fresh[name] for name in names if name in fresh}
        verdict = judge(one, row.standing, known, moves[row.procedure], subscriber, now)
        if isinstance(verdict, Keep):
            fresh[verdict.event] = one.digest
            row.standing = replace(
                row.standing,
                events=row.standing.events + 1,
                case=verdict.case,
                event=row.standing.event if verdict.case == row.standing.case else verdict.event,
                state=move(row.standing.state, State.ACKNOWLEDGED)
                if verdict.acknowledges
                else row.standing.state,
            )
        found.append((one, verdict, before))
    return found


_MOVED = Flaw("", "moved", "this was yours, and followed to whoever took your place")


async def _number(
    connection: Connection,
    judged: Sequence[tuple[NewEvent, Judgement, CaseStatus]],
    rows: Mapping[UUID, _Row],
) -> list[_Kept]:
    """The last locks of all: senders by name. Nothing that may fail for its content comes after."""
    kept = [_Kept(one, verdict, before) for one, verdict, before in judged if isinstance(verdict, Keep)]
    wanted = Counter(rows[one.new.delivery].sender for one in kept)
    if not wanted:
        return []
    ordered = sorted(wanted)
    last = {
        row["name"]: row["events"] - wanted[row["name"]]
        for row in await connection.fetch(_NUMBERS, ordered, [wanted[name] for name in ordered])
    }
    numbered = []
    for one in kept:
        sender = rows[one.new.delivery].sender
        last[sender] += 1
        numbered.append(replace(one, number=last[sender]))
    return numbered


async def _insert(
    connection: Connection,
    kept: Sequence[_Kept],
    rows: Mapping[UUID, _Row],
    subscriber: Subscriber,
    edition: int,
) -> None:
    if not kept:
        return
    await connection.execute(
        _INSERT,
        [one.keep.event for one in kept],
        [rows[one.new.delivery].sender for one in kept],
        [one.number for one in kept],
        [rows[one.new.delivery].submission for one in kept],
        [one.new.delivery for one in kept],
        str(subscriber),
        [one.new.way for one in kept],
        [one.keep.status for one in kept],
        [one.before for one in kept],
        edition,
        [one.new.digest for one in kept],
        [one.new.sealed for one in kept],
        [one.new.location for one in kept],
        [one.new.size for one in kept],
    )
    files = [one for one in kept if one.new.location is not None]
    if files:
        await connection.execute(
            "INSERT INTO stored_file (location, submission) SELECT * FROM unnest($1::text[], $2::uuid[])",
            [one.new.location for one in files],
            [rows[one.new.delivery].submission for one in files],
        )
    await write_journal(connection, [_line(one, rows[one.new.delivery], subscriber) for one in kept])


def _line(one: _Kept, row: _Row, subscriber: Subscriber) -> JournalEntry:
    says = one.keep.status or "no status"
    detail = f"event {one.keep.event}, number {one.number}, by {one.new.way}: {says}, was {one.before}"
    return JournalEntry(
        "event.kept", row.submission, one.new.delivery, actor=f"partner:{subscriber}", detail=detail
    )


async def _move_cases(connection: Connection, kept: Sequence[_Kept], rows: Mapping[UUID, _Row]) -> None:
    """Where the last of them left each."""
    names = {one.new.delivery for one in kept if rows[one.new.delivery].standing.event == one.keep.event}
    moved = [(name, rows[name].standing) for name in sorted(names)]
    if moved:
        await connection.execute(
            _MOVE_CASES,
            [name for name, _ in moved],
            [standing.case.status for _, standing in moved],
            [standing.case.number for _, standing in moved],
            [standing.case.before for _, standing in moved],
            [standing.event for _, standing in moved],
            [str(standing.case.changed_by) for _, standing in moved],
            [standing.case.changed_at for _, standing in moved],
        )


async def _acknowledge(
    connection: Connection, kept: Sequence[_Kept], rows: Mapping[UUID, _Row], subscriber: Subscriber
) -> None:
    """Whoever works on it has it."""
    names = sorted({one.new.delivery for one in kept if one.keep.acknowledges})
    found = [Standing(name, rows[name].submission, rows[name].was, rows[name].attempt) for name in names]
    await rest_acknowledged(connection, found, subscriber, "by what it reports")


async def _answers(
    connection: Connection,
    judged: Sequence[tuple[NewEvent, Judgement, CaseStatus]],
    kept: Sequence[_Kept],
) -> list[ReportAnswer]:
    numbers = {one.keep.event: (one.number, one.keep.case.status) for one in kept}
    again = [verdict.event for _, verdict, _ in judged if isinstance(verdict, Again)]
    if again:
        numbers |= {
            row["id"]: (row["number"], CaseStatus(row["status"] or row["before"]))
            for row in await connection.fetch(_AGAIN, again)
        }
    answers: list[ReportAnswer] = []
    for _, verdict, _ in judged:
        match verdict:
            case Declined():
                answers.append(verdict)
            case Keep() | Again():
                answers.append(Kept(verdict.event, *numbers[verdict.event], fresh=isinstance(verdict, Keep)))
    return answers


# --- statements ---------------------------------------------------------------------------------------

_LOCK = "SELECT FROM delivery WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"

_KNOWN = "SELECT id, digest FROM event WHERE id = ANY($1::uuid[]) AND delivery = $2"

_AGAIN = "SELECT id, number, status, before FROM event WHERE id = ANY($1::uuid[])"

_NUMBERS = """
    INSERT INTO sender (name, events) SELECT * FROM unnest($1::text[], $2::bigint[])
    ON CONFLICT (name) DO UPDATE SET events = sender.events + excluded.events
    RETURNING name, events
"""

_INSERT = """
    INSERT INTO event (id, sender, number, submission, delivery, subscriber, way, status, before, edition, digest,
                       sealed, location, size)
    SELECT id, sender, number, submission, delivery, $6, way, status, before, $10, digest, sealed, location, size
    FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::uuid[], $5::uuid[], $7::text[], $8::text[], $9::text[],
                $11::bytea[], $12::bytea[], $13::text[], $14::bigint[])
      AS kept (id, sender, number, submission, delivery, way, status, before, digest, sealed, location, size)
"""

_MOVE_CASES = """
    INSERT INTO delivery_case (delivery, status, number, before, event, subscriber, changed_at)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::text[], $5::uuid[], $6::text[],
                         $7::timestamptz[])
    ON CONFLICT (delivery) DO UPDATE
    SET status = excluded.status, number = excluded.number, before = excluded.before, event = excluded.event,
        subscriber = excluded.subscriber, changed_at = excluded.changed_at
"""

# Whoever reads again has nothing written, and takes no lock.
_SHOWN = """
    WITH fresh AS MATERIALIZED (
        SELECT id FROM event WHERE id = ANY($1::uuid[]) AND shown_at IS NULL ORDER BY id FOR UPDATE
    )
    UPDATE event SET shown_at = clock_timestamp() FROM fresh WHERE event.id = fresh.id
    RETURNING event.id
"""

_SINCE = f"{EVENTS} WHERE event.sender = $1 AND event.number > $2 ORDER BY event.number LIMIT $3"
