"""Registration: decisions become rows, and their recipients become planned deliveries in lanes.

Business of this file: each decision once, each delivery once, and for each partner the numbers 1, 2, 3 …
without a gap, whoever registers at the same time. Whether a decision is right is not asked here.

The locks, always in this order, each sorted by key: submissions (so that nobody else registers for the
same ones), lanes, partners (whose rows give the numbers). Which deliveries are new is decided under the
first of them; so a number is only ever taken for a row that is then inserted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, assert_never
from uuid import UUID

from hub.adapters.postgres.addresses import (
    Address,
    Wanted,
    find_addresses,
    lock_lanes,
    make_lanes,
    take_numbers,
    wake_lanes,
)
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, recipients_to_json, texts, write_journal
from hub.domain.decisions import Decision, Recipient, Routed, SetAside, Unroutable
from hub.domain.identity import ParcelKind
from hub.ports.store import Registered

_Key = tuple[UUID, int]
"""A decision's name: its submission and its number."""

_FIRST_REVISION = 1


class _Planned(NamedTuple):
    """A delivery that is not there yet."""

    submission: UUID
    procedure: str
    delivery: UUID
    recipient: Recipient
    wanted: Wanted


class PostgresRegistry:
    """Implements `hub.ports.store.Registry`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, decisions: Sequence[Decision]) -> Registered:
        # The log may repeat a record within one batch: the first of a name stands.
        named: dict[_Key, Decision] = {}
        for decision in decisions:
            named.setdefault((decision.submission, decision.number), decision)
        if not named:
            return Registered(0, 0, 0)

        async def work(connection: Connection) -> Registered:
            procedures = await _lock_submissions(connection, {submission for submission, _ in named})
            strays = [key for key in named if key[0] not in procedures]
            await _keep_strays(connection, strays)
            known = [decision for decision in named.values() if decision.submission in procedures]
            fresh = await _insert_decisions(connection, known)
            planned = await _not_there_yet(connection, fresh, procedures)
            found = await find_addresses(connection, {one.wanted for one in planned}) if planned else {}
            lines = [_planned(one, found[one.wanted]) for one in planned]
            # Before the lanes are locked: whoever delivers waits for as little as possible.
            await write_journal(connection, [*map(_decided, fresh), *lines])
            await _plan(connection, planned, found)
            return Registered(len(fresh), len(planned), len(strays))

        return await self._database.run(work)


async def _lock_submissions(connection: Connection, ids: Collection[UUID]) -> dict[UUID, str]:
    """The procedure of each submission that is there."""
    rows = await connection.fetch(
        "SELECT id, procedure FROM submission WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE",
        list(ids),
    )
    return {row["id"]: row["procedure"] for row in rows}


async def _keep_strays(connection: Connection, keys: Sequence[_Key]) -> None:
    if not keys:
        return
    ordered = sorted(keys)
    await connection.execute(
        """
        INSERT INTO stray (submission, number) SELECT * FROM unnest($1::uuid[], $2::integer[])
        ON CONFLICT DO NOTHING
        """,
        [submission for submission, _ in ordered],
        [number for _, number in ordered],
    )


async def _insert_decisions(connection: Connection, decisions: Sequence[Decision]) -> list[Decision]:
    """Those that were not there, in the order given: a partner's numbers follow the order of the log."""
    verdicts = [_verdict(decision) for decision in decisions]
    rows = await connection.fetch(
        """
        INSERT INTO decision (submission, number, snapshot, verdict, reasons, recipients)
        SELECT submission, number, snapshot, verdict,
               CASE WHEN reasons = '[]' THEN '{}'
                    ELSE ARRAY(SELECT jsonb_array_elements_text(reasons::jsonb)) END,
               recipients::jsonb
        FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::text[], $5::text[], $6::text[])
          AS decided (submission, number, snapshot, verdict, reasons, recipients)
        ON CONFLICT DO NOTHING
        RETURNING submission, number
        """,
        [decision.submission for decision in decisions],
        [decision.number for decision in decisions],
        [decision.snapshot for decision in decisions],
        [verdict for verdict, _ in verdicts],
        texts(reasons for _, reasons in verdicts),
        texts(recipients_to_json(decision.named()) for decision in decisions),
    )
    inserted = {(row["submission"], row["number"]) for row in rows}
    return [one for one in decisions if (one.submission, one.number) in inserted]


async def _not_there_yet(
    connection: Connection, decisions: Iterable[Decision], procedures: Mapping[UUID, str]
) -> list[_Planned]:
    """The deliveries these decisions name for the first time. Under the lock of their submissions, and in
    a statement after it: nobody else can be inserting them, and whoever did has committed."""
    found: dict[UUID, _Planned] = {}
    for decision in decisions:
        for delivery, recipient in decision.named():
            wanted = Wanted(str(recipient.subscriber), recipient.mailbox)
            planned = _Planned(
                decision.submission, procedures[decision.submission], delivery, recipient, wanted
            )
            found.setdefault(delivery, planned)
    if not found:
        return []
    rows = await connection.fetch("SELECT id FROM delivery WHERE id = ANY($1::uuid[])", list(found))
    there = {row["id"] for row in rows}
    return [planned for name, planned in found.items() if name not in there]


async def _plan(connection: Connection, planned: Sequence[_Planned], found: Mapping[Wanted, Address]) -> None:
    """`found`: where they lie now; with the successor already, if whom a decision names has one in force."""
    if not planned:
        return
    addresses = set(found.values())
    await make_lanes(connection, addresses)
    lanes = await lock_lanes(connection, addresses)
    await wake_lanes(connection, lanes.values())
    last = await take_numbers(connection, Counter(found[one.wanted].subscriber for one in planned))
    await _insert_deliveries(connection, planned, found, lanes, last)


async def _insert_deliveries(
    connection: Connection,
    planned: Sequence[_Planned],
    found: Mapping[Wanted, Address],
    lanes: Mapping[Address, int],
    last: dict[str, int],
) -> None:
    numbered: list[tuple[_Planned, Address, int]] = []
    for one in planned:
        address = found[one.wanted]
        last[address.subscriber] += 1
        numbered.append((one, address, last[address.subscriber]))
    # In the database's order of ids, by what compares fastest.
    numbered.sort(key=lambda row: row[0].delivery.int)
    # No ON CONFLICT: a row skipped here would leave a gap in its partner's numbers, so it must fail. Due at
    # one instant, all of them: so they leave in the order of their numbers, not of their names.
    await connection.execute(
        """
        INSERT INTO delivery (id, submission, procedure, subscriber, named, by_mailbox, lane, channel, sequence,
                              kind, revision, attachments, due_at)
        SELECT id, submission, procedure, subscriber, NULLIF(named, subscriber), by_mailbox, lane, channel,
               sequence, $11, $12, attachments::integer[], (SELECT clock_timestamp())
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::bigint[],
                    $8::text[], $9::bigint[], $10::text[])
          AS planned (id, submission, procedure, subscriber, named, by_mailbox, lane, channel, sequence,
                      attachments)
        """,
        [one.delivery for one, _, _ in numbered],
        [one.submission for one, _, _ in numbered],
        [one.procedure for one, _, _ in numbered],
        [address.subscriber for _, address, _ in numbered],
        [one.wanted.subscriber for one, _, _ in numbered],
        [one.wanted.mailbox for one, _, _ in numbered],
        [lanes[address] for _, address, _ in numbered],
        [address.channel for _, address, _ in numbered],
        [sequence for _, _, sequence in numbered],
        # An array of arrays of different lengths is none in SQL: each travels as its text.
        ["{" + ",".join(map(str, one.recipient.attachments)) + "}" for one, _, _ in numbered],
        ParcelKind.SUBMISSION.value,
        _FIRST_REVISION,
    )


def _verdict(decision: Decision) -> tuple[str, list[str]]:
    """The word of the column, and what was tried or why it was set aside."""
    match decision.verdict:
        case Routed():
            return "routed", []
        case Unroutable(tried=tried):
            return "unroutable", list(tried)
        case SetAside(reason=reason):
            return "set_aside", [reason]
        case _:
            assert_never(decision.verdict)


def _decided(decision: Decision) -> JournalEntry:
    word, _ = _verdict(decision)
    detail = f"decision {decision.number} by rule book {decision.snapshot}"
    return JournalEntry(f"submission.{word}", decision.submission, detail=detail)


def _planned(planned: _Planned, address: Address) -> JournalEntry:
    named = planned.wanted.subscriber
    detail = named if named == address.subscriber else f"{named}, succeeded by {address.subscriber}"
    return JournalEntry("delivery.planned", planned.submission, planned.delivery, detail=detail)
