"""Claims: the rows of lanes that are held, taken for an attempt.

Business of this file: which rows go now, that what was in flight in an earlier lease is counted as lost, and that
what is to be withdrawn is not tried again. To be called under the locks of the lanes. A claim moves no due time and
no index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.event_rows import NEWS_COLUMN, event_of
from hub.adapters.postgres.rows import AttemptTold, JournalEntry, attachments_from_json, write_journal
from hub.adapters.postgres.slips import Moved
from hub.domain.delivery import Attempt
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.ledger import term
from hub.domain.lifecycle import State, sources_of
from hub.domain.partner import MAILBOX
from hub.ports.lanes import Claim

CLAIM_COLUMNS = f"""
    delivery.id, delivery.submission, delivery.subscriber, delivery.named, delivery.sequence, delivery.kind,
    delivery.revision, delivery.attachments AS granted, delivery.sending, delivery.attempt,
    submission.sender, submission.external_id, submission.procedure, submission.received_at,
    submission.sealed, submission.attachments, submission_key.wrapped, {NEWS_COLUMN}
"""
"""What `claim_from` reads, of a delivery, its submission, the key of that (if it is still there), and the event of
news."""

LOST = "lost"
"""The outcome of an attempt whose worker was not heard of before its lane was leased anew."""

PERHAPS_RECEIVED = "hub.perhaps_received"
"""The cause of what is withdrawn while nobody knows what came of its last attempt."""


# What is in a mailbox's lane stays in the hub, whatever channel its partner is served on.
ITS_PARTNER = f"""
    LEFT JOIN partner ON partner.subscriber = lane.subscriber
      AND (lane.channel <> '{MAILBOX}' OR partner.channel = lane.channel)
"""
"""Joins a lane with the partner by whose endpoint it is served."""

_CLAIMABLE = [*sources_of(State.IN_FLIGHT), State.IN_FLIGHT]

# The page is chosen in the order of due times and locked in the order of names, as everybody locks. Rows in
# flight are claimable if they were claimed before this lease: whoever claimed them is gone.
_DUE = """
        SELECT chosen.id
        FROM unnest($1::bigint[], $2::integer[]) AS wish (lane, most)
        JOIN lane ON lane.id = wish.lane
        CROSS JOIN LATERAL (
            SELECT id FROM delivery
            WHERE delivery.lane = lane.id AND due_at <= GREATEST((SELECT clock_timestamp()), lane.hurried_to)
              AND (due_at <= (SELECT clock_timestamp()) OR changed_at < lane.hurried_at)
              AND (state <> 'in_flight' OR changed_at < lane.leased_at)
              {ordered}
            ORDER BY due_at, sequence
            LIMIT wish.most
        ) AS chosen
"""

# Where somebody else chose them, under the same lock.
_LISTED = "SELECT id FROM delivery WHERE id = ANY($1::uuid[]) AND lane = $2::bigint AND due_at IS NOT NULL"

_PAGE = """
    WITH page AS MATERIALIZED ({page}), taken AS MATERIALIZED (
        SELECT delivery.id, delivery.state, delivery.attempt, delivery.changed_at, delivery.withdrawing,
               CASE WHEN lane.channel = 'notice' THEN 'mail' ELSE COALESCE(partner.channel, lane.channel) END
                 AS channel
        FROM delivery JOIN page ON page.id = delivery.id JOIN lane ON lane.id = delivery.lane {its_partner}
        WHERE delivery.state = ANY($3::text[])
        ORDER BY delivery.id
        FOR UPDATE OF delivery
    ), flying AS (
        UPDATE delivery
        SET state = CASE WHEN taken.withdrawing IS NULL THEN 'in_flight' ELSE 'withdrawn' END,
            attempt = delivery.attempt + (taken.withdrawing IS NULL)::integer,
            due_at = CASE WHEN taken.withdrawing IS NULL THEN delivery.due_at END,
            cause = CASE WHEN taken.withdrawing IS NULL THEN delivery.cause ELSE 'hub.perhaps_received' END,
            channel = taken.channel, changed_at = clock_timestamp()
        FROM taken WHERE delivery.id = taken.id
        RETURNING delivery.*, taken.state AS was, taken.attempt AS was_attempt,
                  taken.changed_at AS was_changed_at
    )
    SELECT delivery.lane, was, was_attempt, was_changed_at, withdrawing, {columns}
    FROM flying AS delivery
    JOIN submission ON submission.id = delivery.submission
    LEFT JOIN submission_key ON submission_key.submission = delivery.submission
    ORDER BY delivery.due_at, delivery.sequence
"""

# Also what is still to follow from the partner's former channel comes before what is newer.
_ORDERED = """
              AND NOT (delivery.procedure = ANY($4::text[]) AND EXISTS (
                  SELECT FROM delivery AS earlier
                  WHERE earlier.subscriber = delivery.subscriber AND earlier.procedure = delivery.procedure
                    AND earlier.sequence < delivery.sequence
                    AND earlier.lane = ANY(ARRAY(
                        SELECT former.id FROM lane AS former
                        WHERE former.subscriber = lane.subscriber AND (
                            former.id = lane.id OR (former.left_for = lane.id AND former.fell_back_at IS NULL)
                        )
                    ))
                    AND (earlier.due_at IS NOT NULL OR ($5 AND earlier.state = 'parked'))
              ))
"""


def _claiming(page: str) -> str:
    return _PAGE.format(page=page, its_partner=ITS_PARTNER, columns=CLAIM_COLUMNS)


_CLAIM = _claiming(_DUE.format(ordered=""))
_CLAIM_ORDERED = _claiming(_DUE.format(ordered=_ORDERED))
_CLAIM_LISTED = _claiming(_LISTED)


async def claim_rows(
    connection: Connection, wishes: Mapping[int, int], ordered: Collection[str] = (), closes: bool = False
) -> Mapping[int, Sequence[Claim]]:
    """Under the locks of the lanes, held by who asks."""
    if not wishes:
        return {}
    asked = (list(wishes), list(wishes.values()), _CLAIMABLE)
    if ordered:
        rows = await connection.fetch(_CLAIM_ORDERED, *asked, list(ordered), closes)
    else:
        rows = await connection.fetch(_CLAIM, *asked)
    await _note(connection, rows)
    claims: dict[int, list[Claim]] = defaultdict(list)
    for row in rows:
        if row["withdrawing"] is None:
            claims[row["lane"]].append(claim_from(row))
    return claims


async def claim_listed(connection: Connection, lane: int, deliveries: Sequence[UUID]) -> Sequence[Claim]:
    """Those of them that are in this lane and in motion, whenever they are due. Under the lock of the lane, by who
    holds it and knows that none is being attempted."""
    rows = await connection.fetch(_CLAIM_LISTED, list(deliveries), lane, _CLAIMABLE)
    await _note(connection, rows)
    return [claim_from(row) for row in rows if row["withdrawing"] is None]


async def _note(connection: Connection, rows: Sequence[asyncpg.Record]) -> None:
    """What was lost, and what is withdrawn instead."""
    lost = [row for row in rows if row["was"] == State.IN_FLIGHT]
    await write_journal(connection, [line for row in lost for line in _lost(row)])
    moved = Moved()
    for row in rows:
        after = State.IN_FLIGHT if row["withdrawing"] is None else State.WITHDRAWN
        moved.note(row["id"], term(State(row["was"]), row["was_attempt"]), term(after, row["attempt"]))
    # Nothing, but for those whose first attempt was lost, or that are withdrawn.
    await moved.write(connection)


def _lost(row: asyncpg.Record) -> Sequence[JournalEntry]:
    told = AttemptTold(row["sending"], row["was_attempt"], row["was_changed_at"], LOST)
    lines = [JournalEntry("delivery.lost", row["submission"], row["id"], attempt=told)]
    if row["withdrawing"] is not None:
        detail = f"{row['withdrawing']}; {PERHAPS_RECEIVED}"
        lines.append(JournalEntry("delivery.withdrawn", row["submission"], row["id"], detail=detail))
    return lines


def claim_from(row: asyncpg.Record) -> Claim:
    """A delivery with what its parcel is made of, and no file it was not given. The wrapped key is empty
    when the submission was purged."""
    granted = set(row["granted"])
    named = row["named"]
    return Claim(
        attempt=Attempt(row["id"], row["sending"], row["attempt"]),
        subscriber=Subscriber.parse(row["subscriber"]),
        sequence=row["sequence"],
        kind=ParcelKind(row["kind"]),
        revision=row["revision"],
        submission=row["submission"],
        sender=row["sender"],
        external_id=row["external_id"],
        procedure=row["procedure"],
        received_at=row["received_at"],
        sealed=row["sealed"],
        wrapped_key=row["wrapped"] or b"",
        attachments=tuple(
            stored for stored in attachments_from_json(row["attachments"]) if stored.facts.number in granted
        ),
        named=None if named is None else Subscriber.parse(named),
        event=event_of(row),
    )
