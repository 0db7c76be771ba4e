"""What is asked of the HTTP API beside posting submissions: filters, pages, and orders to send again."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from schemas.models.rules import SubscriberNumber
from schemas.models.submission import Code
from schemas.models.wire import WireModel

StateWord = Literal[
    "planned",
    "in_flight",
    "waiting",
    "parked",
    "delivered",
    "acknowledged",
    "returned",
    "withdrawn",
    "expired",
]
Cause = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[a-z0-9_.]+$")]
Channel = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,29}$")]


class QueryModel(BaseModel):
    """Query parameters are texts, so they are converted; a parameter nobody knows is refused, for a filter
    with a typing error would select everything."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DeliveryQuery(QueryModel):
    sender: Code | None = Field(default=None, description="For operators; a sender sees its own.")
    subscriber: SubscriberNumber | None = Field(
        default=None, description="SIRET-branch; a partner sees its own."
    )
    channel: Channel | None = None
    procedure: Code | None = None
    state: StateWord | None = None
    cause: Cause | None = None
    submission: UUID | None = None
    after: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, description="The `next` of the page before."
    )
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class MailboxQuery(QueryModel):
    drawer: Literal["open", "handed_over", "acknowledged"] = Field(
        default="open",
        description="`open`: what the partner is to take note of, the lowest number first. `handed_over`: what was"
        " delivered on another channel and is not acknowledged; `acknowledged`: what can still be read: both the"
        " highest number first.",
    )
    after: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        default=None,
        description="Where to go on: a number that is known already, or the `next` of the page before.",
    )
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class LeaseIn(WireModel):
    """Parcels for one program of a partner, and for no other until then."""

    seconds: Annotated[int, Field(ge=1, le=3600)] = 300
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    reader: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")] | None = Field(
        default=None,
        description="Which program: what it holds already is among what it gets, and is held anew. None: another one.",
    )


class AcknowledgeIn(WireModel):
    deliveries: Annotated[list[UUID], Field(min_length=1, max_length=500)]


Ids = Annotated[list[UUID], Field(min_length=1, max_length=1000)]
OperatorsReason = Annotated[
    str, StringConstraints(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Vendor = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class SelectionIn(WireModel):
    """Which deliveries, or which submissions: every field given must hold. A period is since <= an instant <
    until."""

    of: Literal["deliveries", "submissions"] = "deliveries"
    deliveries: Ids | None = None
    submission: UUID | None = Field(default=None, description="Deliveries of this one.")
    subscriber: SubscriberNumber | None = Field(default=None, description="Of deliveries.")
    vendor: Vendor | None = Field(default=None, description="The software of deliveries' partners.")
    channel: Channel | None = Field(default=None, description="Of deliveries.")
    created_since: AwareDatetime | None = Field(default=None, description="Deliveries planned from then on.")
    created_until: AwareDatetime | None = None
    changed_since: AwareDatetime | None = Field(
        default=None, description="Deliveries that came to their state from then on."
    )
    changed_until: AwareDatetime | None = None
    submissions: Ids | None = None
    received_since: AwareDatetime | None = Field(default=None, description="Submissions.")
    received_until: AwareDatetime | None = None
    procedure: Code | None = None
    cause: Cause | None = Field(default=None, description="Of submissions: why they were set aside.")
    state: Literal[StateWord, "routed", "unroutable", "set_aside"] | None = Field(
        default=None, description="Of deliveries: `parked`, unless said otherwise. Of submissions: any."
    )


class NumbersQuery(QueryModel):
    after: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=0, description="The highest number that is known already."
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class LaneQuery(QueryModel):
    closed: bool = False
    failing: bool = False
    subscriber: SubscriberNumber | None = Field(default=None, description="SIRET-branch.")
    vendor: Annotated[str, StringConstraints(min_length=1, max_length=60)] | None = None
    after: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=0, description="The `next` of the page before."
    )
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class OpenLaneIn(WireModel):
    reason: OperatorsReason = Field(description="For the journal; no personal data.")


class TrialIn(WireModel):
    send: bool = Field(
        default=False, description="A webhook may be sent a signed ping, which its server sees."
    )
    limit: float = Field(
        default=15, ge=1, le=30, description="Seconds to wait for a silent server, at each step."
    )


class ReplayIn(SelectionIn):
    """An order to send again. Submissions are decided anew, by the rules of today."""

    id: UUID | None = Field(
        default=None, description="Chosen by the caller, so that asking again is harmless."
    )
    reason: OperatorsReason = Field(description="For the journal; no personal data.")
    rules: Literal["then", "today"] | None = Field(
        default=None,
        description="`then`: each delivery goes again as it is; `today`: its submission is decided anew."
        " `then`, unless submissions are chosen.",
    )
    rate: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        default=None, description="Deliveries a second at most."
    )


class DisclosureQuery(QueryModel):
    after: UUID | None = Field(default=None, description="The `next` of the page before.")
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class RerouteIn(WireModel):
    """A decision by hand: another partner gets what this delivery carries."""

    to: SubscriberNumber
    reason: OperatorsReason = Field(description="For the journal; no personal data.")
