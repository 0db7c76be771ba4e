"""Between rows and events, for whoever of this store reads them: who asks for events, and who claims parcels that carry
one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from hub.domain.cases import CaseStatus
from hub.domain.identity import Subscriber
from hub.ports.events import Event

# Asked of no parcel but those of news: what others cost stays as it is.
NEWS_COLUMN = """
    CASE WHEN delivery.kind = 'news'
         THEN (SELECT to_jsonb(event) FROM event WHERE event.id = delivery.id) END AS event
"""
"""What `event_of` reads, of a delivery."""

EVENTS = """
    SELECT event.id, event.sender, event.number, event.at, event.submission, submission.external_id,
           submission.procedure, event.delivery, event.subscriber, event.status, event.before, event.digest,
           event.sealed, event.location, event.size, submission_key.wrapped
    FROM event
    JOIN submission ON submission.id = event.submission
    LEFT JOIN submission_key ON submission_key.submission = event.submission
"""
"""What `event_from` reads."""


def event_from(row: asyncpg.Record) -> Event:
    return Event(
        id=row["id"],
        sender=row["sender"],
        number=row["number"],
        at=row["at"],
        submission=row["submission"],
        external_id=row["external_id"],
        procedure=row["procedure"],
        delivery=row["delivery"],
        subscriber=Subscriber.parse(row["subscriber"]),
        status=None if row["status"] is None else CaseStatus(row["status"]),
        before=CaseStatus(row["before"]),
        digest=row["digest"],
        sealed=row["sealed"],
        wrapped_key=row["wrapped"] or b"",
        location=row["location"],
        size=row["size"],
    )


def event_of(row: asyncpg.Record) -> Event | None:
    """The event that a parcel of news carries; None: it is none."""
    told = row["event"]
    if told is None:
        return None
    return Event(
        id=UUID(told["id"]),
        sender=told["sender"],
        number=told["number"],
        at=datetime.fromisoformat(told["at"]),
        submission=row["submission"],
        external_id=row["external_id"],
        procedure=row["procedure"],
        delivery=UUID(told["delivery"]),
        subscriber=Subscriber.parse(told["subscriber"]),
        status=None if told["status"] is None else CaseStatus(told["status"]),
        before=CaseStatus(told["before"]),
        digest=_bytes(told["digest"]),
        sealed=_bytes(told["sealed"]),
        wrapped_key=row["wrapped"] or b"",
        location=told["location"],
        size=told["size"],
    )


def _bytes(hexadecimal: str) -> bytes:
    """As the database writes bytes in JSON."""
    return bytes.fromhex(hexadecimal.removeprefix("\\x"))
