"""The way back: what a partner reports of a delivery, and the events that its sender reads."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from schemas.models.questions import QueryModel
from schemas.models.rules import CaseWord
from schemas.models.submission import MediaType, Sha256
from schemas.models.wire import WireModel

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class ReturnedFileIn(WireModel):
    """A file for the sender. Its bytes are the part `file` of the multipart body, or `content` (base64) in JSON."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    media_type: MediaType = "application/octet-stream"
    size: Annotated[int, Field(ge=0, le=2**40)] | None = Field(
        default=None, description="Bytes. Said, it must be true."
    )
    sha256: Sha256 | None = Field(default=None, description="In lower case. Said, it must be true.")
    content: str | None = Field(default=None, description="Base64; only in JSON bodies, for small files.")


class ReportIn(WireModel):
    """What a partner says of a delivery: a status, a message, a file, or several of them."""

    status: CaseWord | None = Field(default=None, description="How far it is now.")
    message: Text | None = Field(default=None, description="For who sent the submission.")
    reference: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        default=None,
        description="The partner's own name for this report: said again under it, it is the same event.",
    )
    file: ReturnedFileIn | None = None


class ReportAnswer(WireModel):
    """It is an event, durable. Reported again, the answer is the same, with `fresh` false."""

    event: UUID
    status: CaseWord = Field(description="How far the case was after it.")
    fresh: bool


class CaseAnswer(WireModel):
    """How far a delivery is at its partner."""

    delivery: UUID
    status: CaseWord
    since: datetime | None = Field(description="None: nothing was said of it yet.")
    allowed: list[CaseWord] = Field(description="What may be reported of it now.")


class EventsQuery(QueryModel):
    since: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=0, description="The highest number that is known already."
    )
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class EventFileAnswer(WireModel):
    name: str = Field(description="Safe on every file system.")
    original_name: str
    media_type: str
    size: int
    sha256: str


class EventAnswer(WireModel):
    """What a partner said of a submission, once."""

    id: UUID
    number: int = Field(description="Counts this sender's events one by one, from 1.")
    at: datetime
    submission: UUID
    external_id: str
    procedure: str
    delivery: UUID
    subscriber: str = Field(description="Who said it: SIRET-branch.")
    status: CaseWord | None = Field(description="What it says how far it is; None: nothing.")
    before: CaseWord = Field(description="How far it was until then.")
    message: str | None
    reference: str | None = Field(description="The partner's own name for it.")
    file: EventFileAnswer | None = Field(description="At /v1/events/{id}/file.")
    purged: bool = Field(default=False, description="Message, reference and file are gone.")


class EventsAnswer(WireModel):
    items: list[EventAnswer]
    next: int | None = Field(description="To be given as `since` for what follows; None at the end.")
