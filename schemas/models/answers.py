"""What the HTTP API answers, beside the receipt of a submission: what is asked for, never what was sent.

Only a partner's own mailbox and files carry what a citizen wrote; every other answer is ids, states,
causes and times.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.models.rules import CaseWord
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
    kind: Literal["submission", "news"] = Field(
        description="`news`: an event on its way to the endpoint of who sent the submission."
    )
    case: CaseWord = Field(description="How far it is at its partner, by what that reported.")
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
    channel: str = Field(description="The one it is, or was, to be delivered on.")
    leased_until: datetime | None = Field(description="Until when a program of this partner holds it.")
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
    next: int | None = Field(
        description="To be given as `after` for what follows; None at the end. Before it, a page may be short."
    )


class LeaseAnswer(WireModel):
    reader: str = Field(description="Who holds them: as it was told, or a name made up for this once.")
    until: datetime = Field(description="From then on, who asks next may get them.")
    full: bool = Field(description="Nothing is given: this partner's programs hold as many as they may.")
    items: list[ParcelAnswer]
    unreadable: list[UUID] = Field(
        description="Held too, and cannot be opened by the hub at this moment: an operator is to look at them."
    )


class ReleasedAnswer(WireModel):
    released: int = Field(description="How many parcels it held.")


class AcknowledgementAnswer(WireModel):
    delivery: UUID
    state: Literal["acknowledged"]


class AcknowledgedAnswer(WireModel):
    """What became of one of several."""

    delivery: UUID
    state: Literal["acknowledged", "moved", "not_found"] = Field(
        description="`moved`: it was this partner's, and followed to whoever took its place; `not_found`: there is no"
        " such thing, or it belongs to somebody else, or it can be acknowledged no more."
    )


class AcknowledgementsAnswer(WireModel):
    items: list[AcknowledgedAnswer] = Field(description="In the order asked, each once.")


class NumberAnswer(WireModel):
    """What became of what was given this number."""

    number: int
    delivery: UUID
    procedure: str
    state: str = Field(description="Of the delivery; `moved`: it followed to another partner.")
    since: datetime
    moved_to: str | None = Field(description="SIRET and branch code of whoever has it now.")


class NumbersAnswer(WireModel):
    items: list[NumberAnswer]
    next: int | None = Field(description="For `after`, to read on; None at the end.")


class LaneAnswer(WireModel):
    """A partner on a channel, with what is the matter."""

    id: int
    subscriber: str
    partner: str = Field(description="The partner's name.")
    vendor: str | None
    channel: str
    closed: bool = Field(description="Its endpoint refused: nothing is tried until it is opened.")
    failures: int = Field(description="Pages in a row that failed at the endpoint.")
    since: datetime | None
    cause: str | None
    parked: UUID | None = Field(description="The delivery that the endpoint refused.")
    waiting: int = Field(description="Deliveries in it that are not at rest.")
    fell_back_at: datetime | None = Field(description="Since when the mailbox stands in for it.")
    due_at: datetime | None


class LanePageAnswer(WireModel):
    items: list[LaneAnswer]
    next: int | None = Field(description="For `after`, to read on; None at the end.")


class OpenedAnswer(WireModel):
    id: int
    opened: bool = Field(description="False: nothing was the matter with it.")


class ReplayAnswer(WireModel):
    id: UUID
    author: str
    reason: str
    created_at: datetime
    state: Literal["awaiting_approval", "running", "paused", "finished", "cancelled"]
    rules: Literal["then", "today"]
    selection: dict[str, Any] = Field(description="As it was ordered.")
    rate: float | None
    approved_by: str | None
    matched: int = Field(description="How many items it chose, fixed when it was given.")
    bytes: int = Field(description="Of their files.")
    pending: int = Field(description="Items still to be treated.")
    sent: int = Field(description="Planned again so far.")
    skipped: int = Field(description="Had moved on by themselves meanwhile.")
    revised: int = Field(description="Next revisions, for who is chosen still but gets other files.")
    planned: int = Field(description="For who was not chosen before.")
    withdrawn: int = Field(description="Not chosen any more, and not received.")
    unchanged: int
    disclosed: int = Field(description="Received by who is not chosen any more.")
    finished_at: datetime | None


class ReplayListAnswer(WireModel):
    items: list[ReplayAnswer] = Field(description="The newest first.")


class PreviewAnswer(WireModel):
    matched: int
    bytes: int = Field(description="Of their files.")
    examples: list[UUID]


class DisclosureAnswer(WireModel):
    delivery: UUID
    submission: UUID
    subscriber: str
    state: str
    certain: bool = Field(description="False: its last attempt was lost, so it may have arrived.")


class DisclosurePageAnswer(WireModel):
    items: list[DisclosureAnswer]
    next: UUID | None = Field(description="To be given as `after` for what follows; None at the end.")


class ReroutedAnswer(WireModel):
    decision: int = Field(description="The number of the decision by hand.")
    delivery: UUID = Field(description="What is planned instead.")
    disclosed: bool = Field(description="The former partner had received it already.")


class HealthAnswer(WireModel):
    status: Literal["ok"]


class ReadinessAnswer(WireModel):
    ready: bool
    parts: dict[str, bool]
