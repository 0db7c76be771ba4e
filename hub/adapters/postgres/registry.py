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
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, recipients_to_json, texts, write_journal
from hub.domain.decisions import Decision, Recipient, Routed, SetAside, Unroutable
from hub.domain.identity import ParcelKind
from hub.domain.partner import MAILBOX
from hub.ports.store import Registered

_Key = tuple[UUID, int]
"""A decision's name: its submission and its number."""

_FIRST_REVISION = 1


@dataclass(frozen=True, slots=True)
class _Planned:
    """A delivery that is not there yet."""

    submission: UUID
    procedure: str
    recipient: Recipient

    @property
    def subscriber(self) -> str:
        return str(self.recipient.subscriber)


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
            await _plan(connection, planned)
            await write_journal(connection, [*map(_decided, fresh), *map(_planned, planned)])
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
               ARRAY(SELECT jsonb_array_elements_text(reasons::jsonb)), recipients::jsonb
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
        texts(recipients_to_json(_recipients(decision)) for decision in decisions),
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
        for recipient in _recipients(decision):
            planned = _Planned(decision.submission, procedures[decision.submission], recipient)
            found.setdefault(recipient.delivery, planned)
    if not found:
        return []
    rows = await connection.fetch("SELECT id FROM delivery WHERE id = ANY($1::uuid[])", list(found))
    there = {row["id"] for row in rows}
    return [planned for name, planned in found.items() if name not in there]


async def _plan(connection: Connection, planned: Sequence[_Planned]) -> None:
    if not planned:
        return
    channels = await _channels(connection, {one.subscriber for one in planned})
    lanes = await _wake_lanes(connection, channels)
    last = await _take_numbers(connection, channels, Counter(one.subscriber for one in planned))
    await _insert_deliveries(connection, planned, channels, lanes, last)
    await connection.execute("NOTIFY lanes")


async def _channels(connection: Connection, subscribers: Collection[str]) -> dict[str, str]:
    """The channel each partner is served on at this moment. Who is not declared gets a mailbox."""
    rows = await connection.fetch(
        "SELECT subscriber, channel FROM partner WHERE subscriber = ANY($1::text[])", list(subscribers)
    )
    declared = {row["subscriber"]: row["channel"] for row in rows}
    return {subscriber: declared.get(subscriber, MAILBOX) for subscriber in sorted(subscribers)}


async def _wake_lanes(connection: Connection, channels: Mapping[str, str]) -> dict[str, int]:
    """For each subscriber its lane, locked and due now at the latest."""
    await connection.execute(
        """
        INSERT INTO lane (subscriber, channel)
        SELECT * FROM unnest($1::text[], $2::text[]) AS wanted (subscriber, channel)
        WHERE NOT EXISTS (SELECT FROM lane WHERE (lane.subscriber, lane.channel) = (wanted.*))
        ON CONFLICT DO NOTHING
        """,
        list(channels),
        list(channels.values()),
    )
    rows = await connection.fetch(
        """
        SELECT lane.id, lane.subscriber
        FROM lane JOIN unnest($1::text[], $2::text[]) AS wanted (subscriber, channel)
             USING (subscriber, channel)
        ORDER BY lane.id FOR NO KEY UPDATE OF lane
        """,
        list(channels),
        list(channels.values()),
    )
    # A lane that sleeps has no due time, and the least of none and now is now.
    await connection.execute(
        "UPDATE lane SET due_at = LEAST(due_at, clock_timestamp()) WHERE id = ANY($1::bigint[])",
        [row["id"] for row in rows],
    )
    return {row["subscriber"]: row["id"] for row in rows}


async def _take_numbers(
    connection: Connection, channels: Mapping[str, str], wanted: Mapping[str, int]
) -> dict[str, int]:
    """For each subscriber, the number before the first of those taken now. In key order, because
    `channels` is; its row stays locked until the commit, so who takes the next ones waits for these."""
    rows = await connection.fetch(
        """
        INSERT INTO partner (subscriber, name, channel, sequence)
        SELECT wanted.subscriber, wanted.subscriber, wanted.channel, wanted.number
        FROM unnest($1::text[], $2::text[], $3::bigint[]) AS wanted (subscriber, channel, number)
        ON CONFLICT (subscriber) DO UPDATE SET sequence = partner.sequence + excluded.sequence
        RETURNING subscriber, sequence
        """,
        list(channels),
        list(channels.values()),
        [wanted[subscriber] for subscriber in channels],
    )
    return {row["subscriber"]: row["sequence"] - wanted[row["subscriber"]] for row in rows}


async def _insert_deliveries(
    connection: Connection,
    planned: Sequence[_Planned],
    channels: Mapping[str, str],
    lanes: Mapping[str, int],
    last: dict[str, int],
) -> None:
    numbered: list[tuple[_Planned, int]] = []
    for one in planned:
        last[one.subscriber] += 1
        numbered.append((one, last[one.subscriber]))
    numbered.sort(key=lambda pair: pair[0].recipient.delivery)
    # No ON CONFLICT: a row skipped here would leave a gap in its partner's numbers, so it must fail.
    await connection.execute(
        """
        INSERT INTO delivery (id, submission, procedure, subscriber, lane, channel, sequence, kind, revision,
                              attachments, due_at)
        SELECT id, submission, procedure, subscriber, lane, channel, sequence, $9, $10,
               attachments::integer[], clock_timestamp()
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[],
                    $8::text[])
          AS planned (id, submission, procedure, subscriber, lane, channel, sequence, attachments)
        """,
        [one.recipient.delivery for one, _ in numbered],
        [one.submission for one, _ in numbered],
        [one.procedure for one, _ in numbered],
        [one.subscriber for one, _ in numbered],
        [lanes[one.subscriber] for one, _ in numbered],
        [channels[one.subscriber] for one, _ in numbered],
        [sequence for _, sequence in numbered],
        # An array of arrays of different lengths is none in SQL: each travels as its text.
        ["{" + ",".join(map(str, one.recipient.attachments)) + "}" for one, _ in numbered],
        ParcelKind.SUBMISSION.value,
        _FIRST_REVISION,
    )


def _recipients(decision: Decision) -> tuple[Recipient, ...]:
    return decision.verdict.recipients if isinstance(decision.verdict, Routed) else ()


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


def _planned(planned: _Planned) -> JournalEntry:
    recipient = planned.recipient
    return JournalEntry("delivery.planned", planned.submission, recipient.delivery, detail=planned.subscriber)
