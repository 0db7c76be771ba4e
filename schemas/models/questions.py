"""What is asked of the HTTP API beside posting submissions: filters, pages, and orders to send again."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

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
    after: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=0, description="Only parcels with a higher sequence number."
    )
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class ReplayIn(WireModel):
    """An order to send deliveries again: every field given must hold."""

    id: UUID | None = Field(
        default=None, description="Chosen by the caller, so that asking again is harmless."
    )
    reason: Annotated[
        str, StringConstraints(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")
    ] = Field(description="For the journal; no personal data.")
    deliveries: Annotated[list[UUID], Field(min_length=1, max_length=1000)] | None = None
    submission: UUID | None = None
    subscriber: SubscriberNumber | None = None
    channel: Channel | None = None
    procedure: Code | None = None
    cause: Cause | None = None
    state: StateWord = "parked"
