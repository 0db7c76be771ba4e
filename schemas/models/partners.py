"""The partners file: who receives, over which channel, and what each subscribes to."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from schemas.models.rules import SubscriberNumber
from schemas.models.submission import Code
from schemas.models.wire import WireModel


class PartnerSubscriptionIn(WireModel):
    procedure: Code
    place: Annotated[str, StringConstraints(pattern=r"^[a-z_]+:[0-9A-Za-z]{1,20}$")]


class PartnerIn(WireModel):
    subscriber: SubscriberNumber
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    channel: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,29}$")] = "mailbox"
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict, repr=False)
    subscriptions: list[PartnerSubscriptionIn] = Field(default_factory=list)


class PartnersFile(WireModel):
    partners: list[PartnerIn]
