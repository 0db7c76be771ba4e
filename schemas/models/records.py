"""Records of the log, field for field as in `schemas/avro` (a test compares the two)."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from schemas.models.wire import WireModel


class AttachmentRecord(WireModel):
    number: int
    type: str
    recipients: list[str] | None = None


class SubmissionRecord(WireModel):
    submission: UUID
    sender: str
    procedure: str
    facts: dict[str, str]
    attachments: list[AttachmentRecord]
    received_at: datetime


class ReasonRecord(WireModel):
    rule: str
    recipient: str
    subscription: str | None = None
    steps: list[str]


class RecipientRecord(WireModel):
    delivery: UUID
    siret: str
    branch: str
    attachments: list[int]
    reasons: list[ReasonRecord]
    mailbox: bool = False


class DecisionRecord(WireModel):
    submission: UUID
    number: int
    snapshot: int
    verdict: Literal["routed", "unroutable", "set_aside"]
    explanation: list[str]
    recipients: list[RecipientRecord]


class JournalRecord(WireModel):
    at: datetime
    event: str
    submission: UUID | None = None
    delivery: UUID | None = None
    procedure: str | None = None
    siret: str | None = None
    branch: str | None = None
