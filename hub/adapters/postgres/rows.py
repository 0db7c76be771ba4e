"""Between rows and domain values, for the shapes that several rooms of this store read or write.

Business of this file: the jsonb of a submission's attachments and of a decision's recipients, and writing
journal lines. It decides nothing and holds no statement of a single room.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from hub.adapters.postgres.database import Connection, to_json
from hub.domain.decisions import Reason, Recipient
from hub.domain.identity import Subscriber
from hub.domain.submission import AttachmentFacts, StoredAttachment

Json = Mapping[str, Any]
"""A JSON object as the database's jsonb codec gives and takes it."""


def texts(values: Iterable[object]) -> list[str]:
    """JSON values for a parameter of type text[] that the statement casts to jsonb, one by one. As jsonb[]
    they would go wrong: a list within an array is taken for a second dimension of it."""
    return [to_json(value) for value in values]


def may_stand_in_a_row(value: object) -> bool:
    """The database refuses a statement whose text holds a NUL or half a surrogate pair, which a request can
    bring; no row holds such a text either."""
    return not isinstance(value, str) or not any(
        sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in value
    )


def attachments_to_json(attachments: Iterable[StoredAttachment]) -> list[Json]:
    """What the column `submission.attachments` holds; names and digests of files are sealed elsewhere."""
    return [
        {
            "number": attachment.facts.number,
            "type": attachment.facts.type,
            "recipients": attachment.facts.recipients,
            "size": attachment.size,
            "location": attachment.location,
        }
        for attachment in attachments
    ]


def attachments_from_json(column: Iterable[Json]) -> tuple[StoredAttachment, ...]:
    return tuple(StoredAttachment(_attachment_facts(told), told["size"], told["location"]) for told in column)


def attachment_facts_from_json(column: Iterable[Json]) -> tuple[AttachmentFacts, ...]:
    """What routing may know of them, of the same column."""
    return tuple(map(_attachment_facts, column))


def _attachment_facts(told: Json) -> AttachmentFacts:
    recipients = told["recipients"]
    return AttachmentFacts(told["number"], told["type"], None if recipients is None else tuple(recipients))


def recipients_to_json(named: Iterable[tuple[UUID, Recipient]]) -> list[Json]:
    """What the column `decision.recipients` holds, of deliveries and their recipients."""
    return [
        {
            "delivery": str(delivery),
            "subscriber": str(recipient.subscriber),
            "attachments": recipient.attachments,
            "reasons": reasons_to_json(recipient.reasons),
            **({"mailbox": True} if recipient.mailbox else {}),
        }
        for delivery, recipient in named
    ]


def recipients_from_json(column: Iterable[Json]) -> tuple[Recipient, ...]:
    return tuple(
        Recipient(
            Subscriber.parse(told["subscriber"]),
            tuple(told["attachments"]),
            reasons_from_json(told["reasons"]),
            told.get("mailbox", False),
        )
        for told in column
    )


def reasons_to_json(reasons: Iterable[Reason]) -> list[Json]:
    return [
        {
            "rule": reason.rule,
            "recipient": reason.recipient,
            "subscription": reason.subscription,
            "steps": reason.steps,
        }
        for reason in reasons
    ]


def reasons_from_json(column: Iterable[Json]) -> tuple[Reason, ...]:
    return tuple(
        Reason(told["rule"], told["recipient"], told["subscription"], tuple(told["steps"])) for told in column
    )


class AttemptTold(NamedTuple):
    """An attempt as its line of the journal tells it. `outcome`: delivered, deferred, refused, lost.
    `began_at` is None where another line tells it; `answer`: what the partner's server said, sealed."""

    sending: int
    number: int
    began_at: datetime | None
    outcome: str
    cause: str | None = None
    receipt: str | None = None
    answer: bytes | None = None


class JournalEntry(NamedTuple):
    """A line for the journal, at the moment it is written. `actor`: `sender:<name>`, `operator:<name>`,
    `partner:<number>`, or `hub`; `detail`: ids, states and causes, never what anybody sent."""

    event: str
    submission: UUID | None = None
    delivery: UUID | None = None
    actor: str = "hub"
    detail: str = ""
    attempt: AttemptTold | None = None


async def write_journal(connection: Connection, lines: Sequence[JournalEntry]) -> None:
    """All lines in one statement, in this order, in the transaction the connection is in."""
    if not lines:
        return
    columns: list[list[object]] = [
        [line.submission for line in lines],
        [line.delivery for line in lines],
        [line.event for line in lines],
        [line.actor for line in lines],
        [line.detail for line in lines],
    ]
    if all(line.attempt is None for line in lines):
        await connection.execute(_LINES, *columns)
        return
    told = [line.attempt or _NO_ATTEMPT for line in lines]
    await connection.execute(_LINES_OF_ATTEMPTS, *columns, *map(list, zip(*told, strict=True)))


_NO_ATTEMPT = (None,) * len(AttemptTold._fields)

_LINES = """
    INSERT INTO journal (submission, delivery, event, actor, detail)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
"""

_LINES_OF_ATTEMPTS = """
    INSERT INTO journal (submission, delivery, event, actor, detail,
                         sending, attempt, began_at, outcome, cause, receipt, answer)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[],
                         $6::integer[], $7::integer[], $8::timestamptz[], $9::text[], $10::text[], $11::text[],
                         $12::bytea[])
"""
