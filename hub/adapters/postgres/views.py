"""What people and programs look at, read from the store.

Business of this file: answers in a constant number of statements, however much there is. It changes nothing
and opens nothing that is sealed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import asyncpg

from hub.adapters.postgres.claims import CLAIM_COLUMNS, claim_from
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.gauges import read_gauges
from hub.adapters.postgres.rows import may_stand_in_a_row, reasons_from_json
from hub.domain.cases import CaseStatus
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.lifecycle import State
from hub.ports.views import (
    AttemptView,
    DeliveryFilter,
    DeliveryPage,
    DeliveryView,
    Grouping,
    JournalLine,
    MailboxItem,
    ParkedGroup,
    SubmissionView,
)


class PostgresViews:
    """Implements `hub.ports.views.Views`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def submission(self, id: UUID) -> SubmissionView | None:
        async def work(connection: Connection) -> SubmissionView | None:
            row = await connection.fetchrow(_SUBMISSION, id)
            if row is None:
                return None
            attempts = _by_delivery(await connection.fetch(_ATTEMPTS, id))
            deliveries = await connection.fetch(
                f"{_DELIVERIES} WHERE delivery.submission = $1 ORDER BY delivery.created_at, delivery.id", id
            )
            journal = await connection.fetch(_JOURNAL, id)
            return _submission(
                row,
                [_delivery(each, attempts.get(each["id"], ())) for each in deliveries],
                [_journal_line(line) for line in journal],
            )

        return await self._database.run(work)

    async def deliveries(
        self, where: DeliveryFilter, after: tuple[datetime, UUID] | None, limit: int
    ) -> DeliveryPage:
        clauses, values = _where(where, after)
        if not all(may_stand_in_a_row(value) for value in values):
            return DeliveryPage((), None)
        # One more than asked for tells whether a page follows.
        statement = (
            f"{_DELIVERIES} WHERE {clauses}"
            f" ORDER BY delivery.created_at, delivery.id LIMIT ${len(values) + 1}"
        )

        async def work(connection: Connection) -> DeliveryPage:
            rows = await connection.fetch(statement, *values, limit + 1)
            items = tuple(_delivery(row) for row in rows[:limit])
            more = len(rows) > limit and items
            return DeliveryPage(items, (items[-1].created_at, items[-1].id) if more else None)

        return await self._database.once(work)

    async def parked(self, by: Grouping | None = None) -> Sequence[ParkedGroup]:
        statement = _PARKED.format(of=_GROUPED_BY[by])

        async def work(connection: Connection) -> Sequence[ParkedGroup]:
            return [ParkedGroup(**row) for row in await connection.fetch(statement, _MOST_GROUPS)]

        return await self._database.once(work)

    async def parcel(self, delivery: UUID, owner: Subscriber | None = None) -> MailboxItem | None:
        found = await self._parcels([delivery], owner)
        return found[0] if found else None

    async def parcels(self, deliveries: Sequence[UUID], owner: Subscriber) -> Sequence[MailboxItem]:
        return await self._parcels(deliveries, owner)

    async def _parcels(self, deliveries: Sequence[UUID], owner: Subscriber | None) -> Sequence[MailboxItem]:
        async def work(connection: Connection) -> Sequence[MailboxItem]:
            whose = None if owner is None else str(owner)
            return [_owned(row) for row in await connection.fetch(_PARCELS, list(deliveries), whose)]

        return await self._database.once(work)

    async def moved_away(self, subscriber: Subscriber, delivery: UUID) -> bool:
        async def work(connection: Connection) -> bool:
            found: bool = await connection.fetchval(_MOVED_AWAY, str(subscriber), delivery)
            return found

        return await self._database.once(work)

    async def counts(self) -> dict[str, int]:
        return await self._database.once(read_gauges)


# --- a submission -------------------------------------------------------------------------------------

# The newest decision is the one that holds.
_SUBMISSION = """
    SELECT submission.id, sender, external_id, submission.procedure, received_at, verdict, snapshot, reasons
    FROM submission LEFT JOIN decision ON decision.submission = submission.id
    WHERE submission.id = $1
    ORDER BY decision.number DESC NULLS LAST
    LIMIT 1
"""

# Of an attempt told twice, the first line says how it ended, unless it was believed lost and yet had delivered.
_ATTEMPTS = """
    SELECT delivery, sending, attempt AS number,
           min(began_at) AS started_at,
           (array_agg(at ORDER BY outcome = 'delivered' DESC, id))[1] AS ended_at,
           (array_agg(outcome ORDER BY outcome = 'delivered' DESC, id))[1] AS outcome,
           (array_agg(cause ORDER BY outcome = 'delivered' DESC, id))[1] AS cause,
           (array_agg(receipt ORDER BY outcome = 'delivered' DESC, id))[1] AS receipt
    FROM journal
    WHERE submission = $1 AND sending IS NOT NULL
    GROUP BY delivery, sending, attempt
    UNION ALL
    SELECT id, sending, attempt, changed_at, NULL, NULL, NULL, NULL
    FROM delivery WHERE submission = $1 AND state = 'in_flight'
    ORDER BY sending, number
"""

_JOURNAL = "SELECT at, event, delivery, actor, detail FROM journal WHERE submission = $1 ORDER BY id"


def _submission(
    row: asyncpg.Record, deliveries: Iterable[DeliveryView], journal: Iterable[JournalLine]
) -> SubmissionView:
    return SubmissionView(
        id=row["id"],
        sender=row["sender"],
        external_id=row["external_id"],
        procedure=row["procedure"],
        received_at=row["received_at"],
        state=row["verdict"] or "accepted",
        snapshot=row["snapshot"],
        explanation=tuple(row["reasons"] or ()),
        deliveries=tuple(deliveries),
        journal=tuple(journal),
    )


def _journal_line(row: asyncpg.Record) -> JournalLine:
    return JournalLine(row["at"], row["event"], row["delivery"], row["actor"], row["detail"])


def _by_delivery(rows: Iterable[asyncpg.Record]) -> dict[UUID, list[AttemptView]]:
    found: dict[UUID, list[AttemptView]] = {}
    for row in rows:
        found.setdefault(row["delivery"], []).append(
            AttemptView(
                sending=row["sending"],
                number=row["number"],
                started_at=row["started_at"],
                ended_at=row["ended_at"],
                outcome=row["outcome"],
                cause=row["cause"],
                receipt=row["receipt"],
            )
        )
    return found


# --- deliveries ---------------------------------------------------------------------------------------

# The reasons are those of the newest decision that names it.
_DELIVERIES = """
    SELECT delivery.id, delivery.submission, submission.sender, submission.external_id, delivery.procedure,
           delivery.subscriber, COALESCE(partner.name, delivery.subscriber) AS partner, delivery.channel,
           delivery.sequence, delivery.state, delivery.cause, delivery.attachments, delivery.kind, named.reasons,
           delivery_case.status AS case_status,
           delivery.created_at, delivery.changed_at, delivery.due_at
    FROM delivery
    JOIN submission ON submission.id = delivery.submission AND delivery.kind <> 'notice'
    LEFT JOIN partner ON partner.subscriber = delivery.subscriber
    LEFT JOIN delivery_case ON delivery_case.delivery = delivery.id
    LEFT JOIN LATERAL (
        SELECT recipient -> 'reasons' AS reasons
        FROM decision, jsonb_array_elements(decision.recipients) AS recipient
        WHERE decision.submission = delivery.submission AND recipient ->> 'delivery' = delivery.id::text
        ORDER BY decision.number DESC
        LIMIT 1
    ) AS named ON true
"""


def _where(where: DeliveryFilter, after: tuple[datetime, UUID] | None) -> tuple[str, list[object]]:
    subscriber = None if where.subscriber is None else str(where.subscriber)
    wishes: tuple[tuple[str, object], ...] = (
        ("submission.sender = ${}", where.sender),
        ("delivery.subscriber = ${}", subscriber),
        ("delivery.channel = ${}", where.channel),
        ("delivery.procedure = ${}", where.procedure),
        ("delivery.state = ${}", where.state),
        ("delivery.cause = ${}", where.cause),
        ("delivery.submission = ${}", where.submission),
        ("delivery.kind = ${}", where.kind),
    )
    given = [(clause, value) for clause, value in wishes if value is not None]
    clauses = [clause.format(place) for place, (clause, _) in enumerate(given, start=1)]
    values = [value for _, value in given]
    if after is not None:
        clauses.append(f"(delivery.created_at, delivery.id) > (${len(values) + 1}, ${len(values) + 2})")
        values.extend(after)
    return " AND ".join(clauses) or "true", values


def _delivery(row: asyncpg.Record, attempts: Iterable[AttemptView] = ()) -> DeliveryView:
    return DeliveryView(
        id=row["id"],
        submission=row["submission"],
        sender=row["sender"],
        external_id=row["external_id"],
        procedure=row["procedure"],
        subscriber=Subscriber.parse(row["subscriber"]),
        partner=row["partner"],
        channel=row["channel"],
        sequence=row["sequence"],
        state=State(row["state"]),
        cause=row["cause"],
        attachments=tuple(row["attachments"]),
        kind=ParcelKind(row["kind"]),
        case=CaseStatus(row["case_status"] or CaseStatus.HUBEE_NOTIFIED),
        reasons=reasons_from_json(row["reasons"] or ()),
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        due_at=row["due_at"],
        attempts=tuple(attempts),
    )


_PARKED = """
    SELECT {of} AS of, COALESCE(cause, '') AS cause, delivery.channel, count(*) AS deliveries,
           count(DISTINCT delivery.subscriber) AS partners,
           min(changed_at) AS first_at, max(changed_at) AS last_at
    FROM delivery LEFT JOIN partner ON partner.subscriber = delivery.subscriber
    WHERE due_at IS NULL AND state = 'parked'
    GROUP BY 1, delivery.cause, delivery.channel
    ORDER BY deliveries DESC, cause, channel, 1
    LIMIT $1
"""

_MOST_GROUPS = 1000

_GROUPED_BY = {
    None: "''",
    Grouping.VENDOR: "COALESCE(partner.vendor, '')",
    Grouping.PARTNER: "delivery.subscriber",
}


# --- parcels ------------------------------------------------------------------------------------------

# What is another's is not even read.
_PARCELS = f"""
    SELECT successor_in_force(delivery.subscriber) AS owner, delivery.state, {CLAIM_COLUMNS}
    FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, place)
    JOIN delivery ON delivery.id = asked.id
      AND ($2::text IS NULL OR successor_in_force(delivery.subscriber) = $2)
    JOIN submission ON submission.id = delivery.submission
    LEFT JOIN submission_key ON submission_key.submission = delivery.submission
    ORDER BY asked.place
"""

# Also what is on its way, or stays where it is while its partner is succeeded; not what nobody has any more.
_MOVED_AWAY = """
    SELECT EXISTS (
        SELECT FROM delivery
        WHERE id = $2 AND successor_in_force(subscriber) <> $1
          AND state NOT IN ('withdrawn', 'expired', 'returned') AND (
            subscriber = $1
            OR EXISTS (SELECT FROM moved WHERE moved.delivery = delivery.id AND moved.subscriber = $1)
        )
    )
"""


def _owned(row: asyncpg.Record) -> MailboxItem:
    """A parcel belongs to whoever stands for its partner now: who is succeeded reads nothing any more."""
    claim = replace(claim_from(row), subscriber=Subscriber.parse(row["owner"]))
    return MailboxItem(claim, State(row["state"]))
