"""Decisions anew, by the rules of today or by hand: numbered, written under the lock of their submission.

Business of this file: reading what is there, asking the domain what a new choice means for it, and writing
that in one transaction. The locks: submissions, lanes, partners, deliveries, each sorted by key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from hub.adapters.postgres.addresses import Address, Wanted, find_addresses
from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.planning import (
    Author,
    Planned,
    decided_line,
    insert_decisions,
    plan,
    planned_line,
)
from hub.adapters.postgres.rows import (
    JournalEntry,
    attachment_facts_from_json,
    recipients_from_json,
    write_journal,
)
from hub.adapters.postgres.sendings import Locked, keep, lock_deliveries, plan_again, withdraw
from hub.domain.decisions import Decision, Reason, Recipient, Routed, Verdict
from hub.domain.errors import Flaw, Invalid
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.lifecycle import State
from hub.domain.redecision import Fresh, Heir, Redecision, Registered, redecide
from hub.domain.submission import RoutingFacts
from hub.ports.replays import Rerouted, TodaysRules


@dataclass(frozen=True, slots=True)
class _Case:
    """A submission that is decided anew. `wanted`: see `redecide`."""

    submission: UUID
    procedure: str
    number: int
    snapshot: int
    verdict: Verdict
    wanted: Collection[UUID] | None


Items = Mapping[UUID, Mapping[UUID, int] | None]
"""Submissions, each with the deliveries that are to be sent again and the sendings that are to be repeated
(None: all that is chosen both times)."""


async def decide_anew(
    connection: Connection, items: Items, selected: State | None, rules: TodaysRules, author: Author
) -> tuple[Mapping[UUID, Redecision | None], int]:
    """What it came to for each; None: it was left as it is, because nothing of what was ordered stands as it
    stood. What was moved elsewhere at this very moment is not among them. And how many items were left."""
    submissions = await _lock_submissions(connection, items)
    newest = await _newest(connection, submissions)
    there = await _deliveries(connection, newest)
    verdicts = {name: rules.decide(_facts(submissions[name])) for name in newest}
    scene = await _Scene.lock(connection, there, verdicts)
    told: dict[UUID, Redecision | None] = dict.fromkeys(items)
    cases: list[_Case] = []
    left = 0
    for name, ordered in items.items():
        wanted = None if ordered is None else scene.still(ordered, selected)
        left += 0 if ordered is None else len(ordered) - len(wanted or ())
        if name not in newest or wanted == set():
            left += ordered is None
            continue
        if any(row["id"] not in scene.locked.rows for row in there[name]):
            del told[name]
            continue
        number = newest[name]["number"] + 1
        procedure = submissions[name]["procedure"]
        cases.append(_Case(name, procedure, number, rules.snapshot, verdicts[name], wanted))
    told.update(await scene.write(connection, cases, newest, there, author))
    return told, left


async def reroute(
    connection: Connection, delivery: UUID, to: Subscriber, author: str, reason: str
) -> Rerouted | None:
    """None: there is no such delivery. Raises Invalid."""
    found = await connection.fetchrow("SELECT submission, kind FROM delivery WHERE id = $1", delivery)
    if found is None:
        return None
    if found["kind"] != ParcelKind.SUBMISSION:
        raise Invalid(Flaw("/delivery", "kind", "this delivery carries no submission"))
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM partner WHERE subscriber = $1)", str(to)):
        raise Invalid(Flaw("/to", "partner", "there is no such partner here"))
    submissions = await _lock_submissions(connection, [found["submission"]])
    newest = await _newest(connection, submissions)
    [(name, decided)] = newest.items()
    there = await _deliveries(connection, newest)
    rows = {row["id"]: row for row in there[name]}
    by_hand = Recipient(
        to, tuple(rows[delivery]["attachments"]), (Reason("by hand", "by hand", None, (reason,)),)
    )
    verdict = _instead(decided, rows, delivery, by_hand)
    scene = await _Scene.lock(connection, there, {name: verdict})
    if scene.heir(to) == scene.heir(Subscriber.parse(rows[delivery]["subscriber"])):
        raise Invalid(Flaw("/to", "same", "it is this partner's already, or its successor's"))
    case = _Case(
        name, submissions[name]["procedure"], decided["number"] + 1, decided["snapshot"], verdict, frozenset()
    )
    redecision = (await scene.write(connection, [case], newest, there, Author(author, None)))[name]
    partner = scene.heir(to)
    at = next(
        place
        for place, one in enumerate(_recipients(redecision.verdict))
        if scene.heir(one.subscriber) == partner
    )
    return Rerouted(
        decision=case.number,
        delivery=redecision.deliveries[at],
        disclosed=delivery in redecision.disclosed,
    )


def _instead(
    decided: asyncpg.Record, rows: Mapping[UUID, asyncpg.Record], delivery: UUID, by_hand: Recipient
) -> Verdict:
    """Whom the newest decision names, each where its delivery lies now, with another one for this delivery."""
    others = [
        recipient._replace(subscriber=Subscriber.parse(rows[name]["subscriber"]))
        for name, recipient in _named(decided)
        if name != delivery and name in rows
    ]
    return Routed(tuple(sorted([*others, by_hand], key=lambda one: one.subscriber)))


# --- what is there ------------------------------------------------------------------------------------


async def _lock_submissions(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, asyncpg.Record]:
    rows = await connection.fetch(
        """
        SELECT id, sender, procedure, facts, attachments, received_at FROM submission
        WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
        """,
        list(ids),
    )
    return {row["id"]: row for row in rows}


async def _newest(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, asyncpg.Record]:
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (submission) submission, number, snapshot, recipients FROM decision
        WHERE submission = ANY($1::uuid[]) ORDER BY submission, number DESC
        """,
        list(ids),
    )
    return {row["submission"]: row for row in rows}


async def _deliveries(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, list[asyncpg.Record]]:
    """None is added while the submissions are locked."""
    found: dict[UUID, list[asyncpg.Record]] = {name: [] for name in ids}
    rows = await connection.fetch(
        """
        SELECT id, submission, subscriber, attachments FROM delivery
        WHERE submission = ANY($1::uuid[]) AND kind = $2 ORDER BY id
        """,
        list(found),
        ParcelKind.SUBMISSION,
    )
    for row in rows:
        found[row["submission"]].append(row)
    return found


def _facts(row: asyncpg.Record) -> RoutingFacts:
    return RoutingFacts(
        row["id"],
        row["sender"],
        row["procedure"],
        row["facts"],
        attachment_facts_from_json(row["attachments"]),
        row["received_at"],
    )


def _recipients(verdict: Verdict) -> tuple[Recipient, ...]:
    return verdict.recipients if isinstance(verdict, Routed) else ()


def _named(decided: asyncpg.Record) -> Iterator[tuple[UUID, Recipient]]:
    recipients = recipients_from_json(decided["recipients"])
    return zip((UUID(told["delivery"]) for told in decided["recipients"]), recipients, strict=True)


# --- what becomes of it -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scene:
    """All that a page of decisions anew may touch, locked. `heirs`: who stands for each subscriber now."""

    locked: Locked
    heirs: Mapping[Subscriber, Subscriber]
    found: Mapping[Wanted, Address]

    @classmethod
    async def lock(
        cls,
        connection: Connection,
        there: Mapping[UUID, Sequence[asyncpg.Record]],
        verdicts: Mapping[UUID, Verdict],
    ) -> _Scene:
        recipients = [one for verdict in verdicts.values() for one in _recipients(verdict)]
        rows = [row for those in there.values() for row in those]
        heirs = await _heirs(
            connection, {str(one.subscriber) for one in recipients} | {row["subscriber"] for row in rows}
        )
        # Those for whom one stands may get by its channel together what each would get by the mailbox.
        ways = {Wanted(str(one.subscriber), way) for one in recipients for way in {one.mailbox, False}}
        found = await find_addresses(connection, ways) if ways else {}
        by_mailbox = {
            row["id"]: way
            for name, those in there.items()
            for row in those
            if (way := _way(verdicts[name], Subscriber.parse(row["subscriber"]), heirs)) is not None
        }
        locked = await lock_deliveries(
            connection, [row["id"] for row in rows], set(found.values()), by_mailbox
        )
        return cls(locked, heirs, found)

    def heir(self, subscriber: Subscriber) -> Subscriber:
        return self.heirs.get(subscriber, subscriber)

    def still(self, ordered: Mapping[UUID, int], selected: State | None) -> set[UUID]:
        """Those that stand as they stood when they were ordered."""
        rows = ((name, self.locked.rows.get(name), sending) for name, sending in ordered.items())
        return {
            name
            for name, row, sending in rows
            if row is not None and row["sending"] == sending and row["state"] == selected
        }

    async def write(
        self,
        connection: Connection,
        cases: Sequence[_Case],
        newest: Mapping[UUID, asyncpg.Record],
        there: Mapping[UUID, Sequence[asyncpg.Record]],
        author: Author,
    ) -> dict[UUID, Redecision]:
        told = {}
        for case in cases:
            chosen = {name for name, _ in _named(newest[case.submission])}
            rows = [self.locked.rows[row["id"]] for row in there[case.submission]]
            registered = [_registered(row, chosen) for row in rows]
            told[case.submission] = redecide(
                case.submission, case.verdict, registered, _as_heir(self.heirs), case.wanted
            )
        writing = _Writing(self, author, [(case, told[case.submission]) for case in cases])
        await writing.run(connection)
        return told


def _way(verdict: Verdict, subscriber: Subscriber, heirs: Mapping[Subscriber, Subscriber]) -> bool | None:
    """Whether a verdict wants by the mailbox what it gives to who stands for this subscriber; None: nothing."""
    ways = [
        one.mailbox
        for one in _recipients(verdict)
        if heirs.get(one.subscriber) == heirs.get(subscriber, subscriber)
    ]
    return all(ways) if ways else None


def _as_heir(heirs: Mapping[Subscriber, Subscriber]) -> Heir:
    return lambda subscriber: heirs.get(subscriber, subscriber)


async def _heirs(connection: Connection, subscribers: Collection[str]) -> dict[Subscriber, Subscriber]:
    rows = await connection.fetch(
        "SELECT asked, successor_in_force(asked) AS heir FROM unnest($1::text[]) AS asked",
        sorted(subscribers),
    )
    return {Subscriber.parse(row["asked"]): Subscriber.parse(row["heir"]) for row in rows}


def _registered(row: asyncpg.Record, chosen: Collection[UUID]) -> Registered:
    return Registered(
        row["id"],
        Subscriber.parse(row["subscriber"]),
        tuple(row["attachments"]),
        row["revision"],
        State(row["state"]),
        row["id"] in chosen,
        row["withdrawing"] is not None,
    )


@dataclass(frozen=True, slots=True)
class _Writing:
    scene: _Scene
    author: Author
    made: Sequence[tuple[_Case, Redecision]]

    async def run(self, connection: Connection) -> None:
        if not self.made:
            return
        decisions = [
            Decision(case.submission, case.number, case.snapshot, told.verdict, told.deliveries)
            for case, told in self.made
        ]
        await insert_decisions(connection, decisions, self.author)
        planned = [self._planned(case, fresh) for case, told in self.made for fresh in told.fresh]
        await plan(connection, planned, self.scene.found, self.scene.locked.lanes)
        again = [name for _, told in self.made for name in told.again]
        await plan_again(connection, self.scene.locked, again)
        await keep(connection, [name for _, told in self.made for name in told.kept])
        ended = {
            name
            for case, told in self.made
            for name in await self._withdraw(connection, case, told.withdrawn)
        }
        await self._note_no_longer_named(connection)
        await write_journal(connection, [line for made in self.made for line in self._lines(*made, ended)])

    def _planned(self, case: _Case, fresh: Fresh) -> Planned:
        recipient = fresh.recipient
        wanted = Wanted(str(recipient.subscriber), recipient.mailbox)
        return Planned(
            case.submission, case.procedure, fresh.delivery, recipient, wanted, revision=fresh.revision
        )

    async def _withdraw(self, connection: Connection, case: _Case, names: Sequence[UUID]) -> Sequence[UUID]:
        if not names:
            return ()
        return await withdraw(connection, self.scene.locked, names, f"decision {case.number}")

    async def _note_no_longer_named(self, connection: Connection) -> None:
        rows = [
            (name, case.number, case.submission, received)
            for case, told in self.made
            for received, names in ((False, told.withdrawn), (True, told.disclosed))
            for name in names
        ]
        if not rows:
            return
        found = self.scene.locked.rows
        await connection.execute(
            """
            INSERT INTO no_longer_named (delivery, decision, submission, received, subscriber, sending, replay)
            SELECT *, $7 FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::boolean[], $5::text[], $6::integer[])
            """,
            [name for name, *_ in rows],
            [number for _, number, _, _ in rows],
            [submission for _, _, submission, _ in rows],
            [received for *_, received in rows],
            [found[name]["subscriber"] for name, *_ in rows],
            [found[name]["sending"] for name, *_ in rows],
            self.author.replay,
        )

    def _lines(self, case: _Case, told: Redecision, ended: Collection[UUID]) -> Iterator[JournalEntry]:
        actor = f"operator:{self.author.name}"
        by = "by hand" if self.author.replay is None else f"replay {self.author.replay}"
        decision = Decision(case.submission, case.number, case.snapshot, told.verdict, told.deliveries)
        yield decided_line(decision, actor, f", {by}")
        for fresh in told.fresh:
            planned = self._planned(case, fresh)
            revises = "" if fresh.revises is None else f", revision {fresh.revision} of {fresh.revises}"
            yield planned_line(planned, self.scene.found[planned.wanted], actor, f"{revises}, {by}")
        words = (
            ("sent_again", told.again),
            ("withdrawn", [name for name in told.withdrawn if name in ended]),
            ("withdrawing", [name for name in told.withdrawn if name not in ended]),
            ("kept", told.kept),
            ("disclosed", told.disclosed),
        )
        for word, names in words:
            for name in names:
                detail = f"{by}, decision {case.number}"
                if word == "sent_again":
                    detail = f"{by}, of sending {self.scene.locked.rows[name]['sending']}"
                yield JournalEntry(f"delivery.{word}", case.submission, name, actor=actor, detail=detail)
