"""Records of a sender's own topics, field for field as in `schemas/avro` (a test compares the two)."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from schemas.models.wire import WireModel


class DepositPlaceRecord(WireModel):
    type: str
    code: str


class DepositApplicantRecord(WireModel):
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone: str | None = None


class DepositAttachmentRecord(WireModel):
    name: str
    type: str
    media_type: str
    size: int
    sha256: str
    recipients: list[str] | None = None
    content: bytes | None = None
    uploaded: int | None = None


class DepositRecord(WireModel):
    """Only its shape; what the fields may say is the same as for a submission that is posted."""

    external_id: str
    procedure: str
    facts: dict[str, str | DepositPlaceRecord]
    applicant: DepositApplicantRecord | None = None
    content: str | None = None
    attachments: list[DepositAttachmentRecord] = Field(default_factory=list)
    upload: UUID | None = None
    sender: str | None = None


class FlawRecord(WireModel):
    field: str
    rule: str
    detail: str


class RefusalRecord(WireModel):
    partition: int
    offset: int
    external_id: str | None = None
    problem: str
    flaws: list[FlawRecord]
