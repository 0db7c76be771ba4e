"""What the HTTP API answers, beside the receipt of a submission: what is asked for, never what was sent.

Only a partner's own mailbox and files carry what a citizen wrote; every other answer is ids, states,
causes and times.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from schemas.models.submission import PlaceMapping
from schemas.models.wire import WireModel


class FlawAnswer(WireModel):
    """One field that breaks one rule; the value is never repeated."""

    field: str = Field(description="JSON pointer (RFC 6901) into what was sent; empty: all of it.")
    rule: str = Field(description="A stable word.")
    detail: str


class ProblemAnswer(WireModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="A stable name for this kind of problem, an URN.")
    title: str
    status: int
    detail: str
    errors: list[FlawAnswer] = Field(default_factory=list)


class LineAnswer(WireModel):
    """The answer to one line of a batch; `line` counts from 1, empty lines too."""

    line: int
    status: int = Field(description="As if the line had been posted alone: 202, 409, 413, 422 and so on.")
    id: UUID | None = None
    external_id: str | None = None
    received_at: datetime | None = None
    mapped_places: list[PlaceMapping] | None = None
    files_for_nobody: list[int] | None = None
    problem: ProblemAnswer | None = None


class AttemptAnswer(WireModel):
    sending: int = Field(description="1, and one more for each replay.")
    number: int = Field(description="Within the sending, from 1.")
    started_at: datetime
    ended_at: datetime | None
    outcome: Literal["delivered", "deferred", "refused", "lost"] | None = Field(
        description="None while it runs; `lost` when whoever tried died."
    )
    cause: str | None
    receipt: str | None = Field(description="Where the partner's server put it; shown to operators only.")


class ReasonAnswer(WireModel):
    """Why this partner was chosen."""

    rule: str
    recipient: str
    subscription: str | None
    steps: list[str]


class DeliveryAnswer(WireModel):
    id: UUID
    submission: UUID
    sender: str
    external_id: str
    procedure: str
    subscriber: str = Field(description="SIRET and branch code, joined by a hyphen.")
    partner: str = Field(description="The partner's name.")
    channel: str
    sequence: int = Field(description="The partner's own running number.")
    state: str
    cause: str | None
    attachments: list[int] = Field(description="Numbers of the files it carries.")
    reasons: list[ReasonAnswer]
    created_at: datetime
    changed_at: datetime
    due_at: datetime | None = Field(description="When it is tried next; None when it is at rest.")
    attempts: list[AttemptAnswer] = Field(default_factory=list)


class DeliveryPageAnswer(WireModel):
    items: list[DeliveryAnswer]
    next: str | None = Field(description="To be given as `after` for the following page; None on the last.")


class JournalAnswer(WireModel):
    at: datetime
    event: str
    delivery: UUID | None
    actor: str
    detail: str


class SubmissionAnswer(WireModel):
    id: UUID
    sender: str
    external_id: str
    procedure: str
    received_at: datetime
    state: Literal["accepted", "routed", "unroutable", "set_aside"]
    snapshot: int | None = Field(description="The number of the rule book that decided.")
    explanation: list[str] = Field(description="Where the rules looked when they named nobody.")
    deliveries: list[DeliveryAnswer]
    journal: list[JournalAnswer] = Field(description="Shown to operators only.")


class MailboxFileAnswer(WireModel):
    number: int = Field(description="0 is the hub's own description of the parcel.")
    name: str = Field(description="Safe on every file system, unique in the parcel.")
    original_name: str
    type: str
    media_type: str
    size: int
    sha256: str
    link: str = Field(description="Fetches the bytes for a while without a token: keep it secret.")


class ParcelAnswer(WireModel):
    delivery: UUID
    sequence: int
    state: str
    kind: str
    revision: int
    sender: str
    external_id: str
    procedure: str
    procedure_title: str
    received_at: datetime
    files: list[MailboxFileAnswer]


class MailboxAnswer(WireModel):
    items: list[ParcelAnswer]
    next: int | None = Field(description="To be given as `after` for what follows; None at the end.")


class AcknowledgementAnswer(WireModel):
    delivery: UUID
    state: Literal["acknowledged"]


class ReplayAnswer(WireModel):
    id: UUID
    author: str
    reason: str
    created_at: datetime
    matched: int = Field(description="How many deliveries it chose, fixed when it was given.")
    sent: int = Field(description="Planned again so far.")
    skipped: int = Field(description="Had moved on by themselves meanwhile.")
    finished_at: datetime | None


class HealthAnswer(WireModel):
    status: Literal["ok"]


class ReadinessAnswer(WireModel):
    ready: bool
    parts: dict[str, bool]
