"""The partners file: who receives, over which channel, what each subscribes to, and who took whose place.

What a partner or a subscription does not say is not the same as a default: a hub that knows it leaves that as
it is. `model_fields_set` tells the two apart.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StringConstraints
from pydantic_core import PydanticCustomError

from schemas.models.rules import Day, PlaceText, State, SubscriberNumber, SuccessionIn
from schemas.models.submission import Code
from schemas.models.wire import WireModel

LARGEST_SETTINGS = 65_536
"""Bytes of one partner's settings, as JSON."""

STATE_WORDS: Mapping[str, State] = {
    "inactive": "inactive",
    "active": "active",
    "suspended": "suspended",
    "refused": "refused",
    "inactif": "inactive",
    "actif": "active",
    "suspendu": "suspended",
    "suspendue": "suspended",
    "refuse": "refused",
    "refusee": "refused",
}


def state_named(word: str) -> State | None:
    """The state that a word means, in French or English, whatever its accents and capitals."""
    bare = "".join(
        sign
        for sign in unicodedata.normalize("NFKD", word.strip().casefold())
        if not unicodedata.combining(sign)
    )
    return STATE_WORDS.get(bare)


def _state(told: object) -> object:
    return (state_named(told) if isinstance(told, str) else None) or told


def _storable(told: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        size = len(json.dumps(told, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        size = 0
    if size == 0 or any("\x00" in text for text in _texts(told)):
        raise PydanticCustomError("settings.signs", "these settings have signs that cannot be stored")
    if size > LARGEST_SETTINGS:
        raise PydanticCustomError("settings.size", f"settings may take {LARGEST_SETTINGS} bytes")
    return told


def _texts(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


PartnerName = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"
    ),
]
VendorName = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"
    ),
]
HourText = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Channel = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,29}$")]
EndpointSettings = Annotated[dict[str, JsonValue], AfterValidator(_storable)]
EndpointSecrets = dict[str, str]
StateWord = Annotated[State, BeforeValidator(_state)]


class QuietHoursIn(WireModel):
    """Hours in which the partner is not called, on the clocks of Paris; where `until` is not later than `from`, they
    end the day after."""

    begin: HourText = Field(alias="from")
    until: HourText
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(
        default=["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        min_length=1,
        description="On which they begin.",
    )


class FallbackIn(WireModel):
    """What waits goes into the mailbox when the endpoint fails for too long; what comes, too, until it is back."""

    after: float = Field(description="Seconds of failing: a minute to ninety days.")
    to: Literal["mailbox"] = "mailbox"
    notice: EndpointSettings | None = Field(
        default=None, description="Settings of the mail channel by which the partner is told; no secrets."
    )


class DeliveryIn(WireModel):
    """What a partner asks for about when and how fast it is served; durations in seconds."""

    rate: int | None = Field(default=None, description="Deliveries a minute, at most.")
    quiet_hours: list[QuietHoursIn] | None = None
    retry: list[float] | None = Field(default=None, description="Waits before each further attempt.")
    retry_of: dict[Code, list[float]] | None = Field(default=None, description="The same, of procedures.")
    ordered: list[Code] | None = Field(
        default=None, description="Procedures whose parcels must arrive strictly in their order."
    )
    ordered_closes: bool | None = Field(
        default=None, description="Whether a parcel that is parked holds up those after it."
    )
    fallback: FallbackIn | None = None


class PartnerSubscriptionIn(WireModel):
    """What a partner wishes to get. What is not said of one that is known stays as it is."""

    procedure: Code
    place: PlaceText = Field(description="type:code, as commune:74042.")
    state: StateWord = Field(
        default="active", description="Only an active subscription receives. French words do as well."
    )
    since: Day | None = Field(default=None, description="The first day, French time.")
    until: Day | None = Field(default=None, description="The last day, included.")


class PartnerIn(WireModel):
    subscriber: SubscriberNumber = Field(description="SIRET, hyphen, code of the counter.")
    name: PartnerName
    channel: Channel = "mailbox"
    settings: EndpointSettings = Field(default_factory=dict)
    secrets: EndpointSecrets = Field(default_factory=dict, repr=False)
    has_secrets: bool = Field(
        default=False,
        description="Written by an export: there are secrets, which it never tells. Means nothing when read.",
    )
    vendor: VendorName | None = Field(default=None, description="Whose software it is served by.")
    sender: Code | None = Field(
        default=None, description="The sender whose events are sent to this endpoint, by a webhook."
    )
    delivery: DeliveryIn | None = Field(default=None, description="When and how fast it is served.")
    subscriptions: list[PartnerSubscriptionIn] = Field(default_factory=list)


class PartnersFile(WireModel):
    partners: Annotated[list[PartnerIn], Field(max_length=200_000)]
    successions: Annotated[list[SuccessionIn], Field(max_length=200_000)] = Field(default_factory=list)
