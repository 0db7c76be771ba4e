"""Decisions as rows, and the deliveries that they name for the first time.

Business of this file: what registration and decisions anew write alike. The caller holds the submissions'
locks, and then the lanes': so a number is only ever taken for a row that is then inserted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, assert_never
from uuid import UUID

from hub.adapters.postgres.addresses import Address, Wanted, take_numbers, wake_lanes
from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.rows import JournalEntry, recipients_to_json, texts
from hub.adapters.postgres.slips import THEIR_BUCKET, count_decided, slip
from hub.domain.decisions import FIRST, Decision, Recipient, Routed, SetAside, Unroutable
from hub.domain.identity import ParcelKind
from hub.domain.ledger import SUBMISSIONS, Term


class Planned(NamedTuple):
    """A delivery that is not there yet."""

    submission: UUID
    procedure: str
    delivery: UUID
    recipient: Recipient
    wanted: Wanted
    revision: int = FIRST


class Author(NamedTuple):
    """Who decided, where it was not the router: an operator, and the replay it was ordered by (None: by hand)."""

    name: str
    replay: UUID | None


async def insert_decisions(
    connection: Connection, decisions: Sequence[Decision], author: Author | None = None
) -> list[tuple[Decision, bool]]:
    """Those that were not there, in the order given (a partner's numbers follow the order of the log), each with
    whether it is its submission's newest. They are counted."""
    verdicts = [_verdict(decision) for decision in decisions]
    times = Counter(decision.submission for decision in decisions)
    rows = await connection.fetch(
        _INSERT_DECISIONS,
        [decision.submission for decision in decisions],
        [decision.number for decision in decisions],
        [decision.snapshot for decision in decisions],
        [verdict for verdict, _ in verdicts],
        texts(reasons for _, reasons in verdicts),
        texts(recipients_to_json(decision.named()) for decision in decisions),
        None if author is None else author.name,
        None if author is None else author.replay,
        [submission for submission, number in times.items() if number > 1],
    )
    newest: dict[UUID, int] = {}
    for row in rows:
        known = newest.get(row["submission"], 0)
        newest[row["submission"]] = max(known, row["number"], row["newest_before"])
    inserted = {(row["submission"], row["number"]): row["newest_before"] for row in rows}
    late = [(submission, number) for submission, number in inserted if number != newest[submission]]
    if late:
        await connection.execute(_LATE, [one for one, _ in late], [number for _, number in late])
    await count_decided(connection, [one for one, before in inserted.items() if before or times[one[0]] > 1])
    return [
        (one, one.number == newest[one.submission])
        for one in decisions
        if (one.submission, one.number) in inserted
    ]


# What is counted of a submission's only decision.
_COUNTED = slip(f"""
    SELECT '{SUBMISSIONS}' AS kind, hour, procedure, '' AS partner, '{Term.UNDECIDED}' AS source, verdict AS target,
           submission AS id
    FROM decided WHERE alone
    UNION ALL
    SELECT '{ParcelKind.SUBMISSION}', hour, procedure, recipient ->> 'subscriber', NULL, '{Term.NAMED}',
           (recipient ->> 'delivery')::uuid
    FROM decided, jsonb_array_elements(recipients) AS recipient WHERE alone
""")

# Of those that have several, or get several here ($9), the store is asked afterwards.
_INSERT_DECISIONS = f"""
    WITH decided AS MATERIALIZED (
        SELECT told.submission, number, snapshot, verdict,
               CASE WHEN reasons = '[]' THEN '{{}}'::text[]
                    ELSE ARRAY(SELECT jsonb_array_elements_text(reasons::jsonb)) END AS reasons,
               recipients::jsonb AS recipients, hour_of(theirs.received_at) AS hour, theirs.procedure,
               COALESCE(before.newest, 0) AS newest_before,
               before.newest IS NULL AND told.submission <> ALL($9::uuid[]) AS alone
        FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::text[], $5::text[], $6::text[])
          AS told (submission, number, snapshot, verdict, reasons, recipients)
        LEFT JOIN submission AS theirs ON theirs.id = told.submission
        CROSS JOIN LATERAL (
            SELECT max(there.number) AS newest, bool_or(there.number = told.number) AS known
            FROM decision AS there WHERE there.submission = told.submission
        ) AS before
        WHERE before.known IS NOT TRUE
    ), inserted AS (
        INSERT INTO decision (submission, number, snapshot, verdict, reasons, recipients, author, replay, hour,
                              procedure)
        SELECT submission, number, snapshot, verdict, reasons, recipients, $7, $8, hour, procedure FROM decided
    ), counted AS ({_COUNTED})
    SELECT submission, number, newest_before FROM decided
"""

_LATE = """
    UPDATE decision SET late = true
    FROM unnest($1::uuid[], $2::integer[]) AS told (submission, number)
    WHERE decision.submission = told.submission AND decision.number = told.number
"""


async def plan(
    connection: Connection,
    planned: Sequence[Planned],
    found: Mapping[Wanted, Address],
    lanes: Mapping[Address, int],
) -> None:
    """`found`: where they lie now; with the successor already, if whom a decision names has one in force.
    `lanes`: those of all these addresses, locked. They are counted."""
    if not planned:
        return
    await wake_lanes(connection, {lanes[found[one.wanted]] for one in planned})
    last = await take_numbers(connection, Counter(found[one.wanted].subscriber for one in planned))
    numbered: list[tuple[Planned, Address, int]] = []
    for one in planned:
        address = found[one.wanted]
        last[address.subscriber] += 1
        numbered.append((one, address, last[address.subscriber]))
    # In the database's order of ids, by what compares fastest.
    numbered.sort(key=lambda row: row[0].delivery.int)
    await connection.execute(
        _INSERT_DELIVERIES,
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
        [one.revision for one, _, _ in numbered],
        ParcelKind.SUBMISSION.value,
    )


_PLANNED = slip(
    f"SELECT {THEIR_BUCKET}, NULL AS source, '{Term.PLANNED}' AS target, delivery.id FROM delivery"
)

# No ON CONFLICT: a row skipped here would leave a gap in its partner's numbers, so it must fail. Due at one instant,
# all of them: so they leave in the order of their numbers, not of their names.
_INSERT_DELIVERIES = f"""
    WITH delivery AS (
        INSERT INTO delivery (id, submission, procedure, subscriber, named, by_mailbox, lane, channel, sequence,
                              kind, revision, attachments, due_at, size, hour)
        SELECT planned.id, submission, planned.procedure, subscriber, NULLIF(named, subscriber), by_mailbox, lane,
               channel, sequence, $12, revision, planned.attachments::integer[], (SELECT clock_timestamp()),
               CASE WHEN planned.attachments = '{{}}' THEN 0 ELSE COALESCE((
                   SELECT sum((file ->> 'size')::bigint) FROM jsonb_array_elements(theirs.attachments) AS file
                   WHERE (file ->> 'number')::integer = ANY(planned.attachments::integer[])
               ), 0) END, hour_of(theirs.received_at)
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::bigint[],
                    $8::text[], $9::bigint[], $10::text[], $11::integer[])
          AS planned (id, submission, procedure, subscriber, named, by_mailbox, lane, channel, sequence,
                      attachments, revision)
        LEFT JOIN submission AS theirs ON theirs.id = planned.submission
        RETURNING *
    )
    {_PLANNED}
"""


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


def decided_line(decision: Decision, actor: str = "hub", detail: str = "") -> JournalEntry:
    word, _ = _verdict(decision)
    told = f"decision {decision.number} by rule book {decision.snapshot}{detail}"
    return JournalEntry(f"submission.{word}", decision.submission, actor=actor, detail=told)


def planned_line(planned: Planned, address: Address, actor: str = "hub", detail: str = "") -> JournalEntry:
    named = planned.wanted.subscriber
    told = named if named == address.subscriber else f"{named}, succeeded by {address.subscriber}"
    return JournalEntry(
        "delivery.planned", planned.submission, planned.delivery, actor=actor, detail=told + detail
    )
