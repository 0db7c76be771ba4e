"""A submission as a form site posts it (`POST /v1/submissions`), and the hub's answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, JsonValue, StringConstraints

from schemas.models.wire import WireModel

MOST_ATTACHMENTS = 500

Code = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$")]
FactName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
# No control signs: a database or a terminal downstream may act upon them, or refuse them.
ShortText = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
MediaType = Annotated[
    str, StringConstraints(max_length=127, pattern=r"^[A-Za-z0-9][\w!#$&^.+-]*/[A-Za-z0-9][\w!#$&^.+-]*$")
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class PlaceIn(WireModel):
    """A place whose code alone would be ambiguous: a commune déléguée may share its chef-lieu's code."""

    type: Literal["commune", "commune_deleguee", "commune_associee", "arrondissement", "abroad"]
    code: Annotated[str, StringConstraints(min_length=1, max_length=10)]


class ApplicantIn(WireModel):
    """Who asks. Sealed at intake; only connectors and the owners' reads open it."""

    first_name: Annotated[str, StringConstraints(max_length=255)] | None = None
    last_name: Annotated[str, StringConstraints(max_length=255)] | None = None
    email: Annotated[str, StringConstraints(max_length=320)] | None = None
    phone: Annotated[str, StringConstraints(max_length=30)] | None = None


class AttachmentIn(WireModel):
    """A file. Its bytes are the n-th file part of the multipart body, or `content` (base64) in JSON."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=1000)] = Field(
        description="The file's name as the citizen gave it; it is stored under a safe name, kept as data."
    )
    type: Code = Field(description="The kind of document, one the procedure's rules know (for instance VA).")
    media_type: MediaType
    size: Annotated[int, Field(ge=0, le=2**40)] = Field(description="Bytes.")
    sha256: Sha256
    recipients: Annotated[list[Code], Field(max_length=20)] | None = Field(
        default=None,
        description="Kinds of recipients, as the procedure's rules name them, this file is limited to.",
    )
    content: str | None = Field(default=None, description="Base64; only in JSON bodies, for small files.")


class SubmissionIn(WireModel):
    external_id: ExternalId = Field(description="The sender's own name for it: posting again is harmless.")
    procedure: Code
    facts: Annotated[dict[FactName, ShortText | PlaceIn], Field(max_length=50)] = Field(
        description="Routing facts by name: a commune's INSEE code, a SIRET, a word. No personal data."
    )
    applicant: ApplicantIn | None = None
    content: dict[str, JsonValue] | None = Field(
        default=None, description="The answers themselves, for procedures that send them beside the files."
    )
    attachments: Annotated[list[AttachmentIn], Field(max_length=MOST_ATTACHMENTS)] = Field(
        default_factory=list
    )


class FileReceipt(WireModel):
    number: int
    sha256: str
    size: int


class UploadReceipt(WireModel):
    """The 201: the files are kept for ten days, for one deposit to take over."""

    id: UUID
    files: list[FileReceipt]


class PlaceMapping(WireModel):
    """A code that is no longer in force, and the place it stands for today."""

    fact: str
    given: str
    place: str
    steps: list[str]


class SubmissionReceipt(WireModel):
    """The 202: it is durable. The same content posted again gets the same id and receipt time."""

    id: UUID
    external_id: str
    received_at: datetime
    files: list[FileReceipt]
    mapped_places: list[PlaceMapping] = Field(default_factory=list)
    files_for_nobody: list[int] = Field(
        default_factory=list, description="Numbers of files that no rule of the procedure gives to anybody."
    )
