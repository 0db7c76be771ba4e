"""The partners file: who receives, over which channel, what each subscribes to, and who took whose place.

What a partner or a subscription does not say is not the same as a default: a hub that knows it leaves that as
it is. `model_fields_set` tells the two apart.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Annotated

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
Channel = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,29}$")]
EndpointSettings = Annotated[dict[str, JsonValue], AfterValidator(_storable)]
EndpointSecrets = dict[str, str]
StateWord = Annotated[State, BeforeValidator(_state)]


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
    subscriptions: list[PartnerSubscriptionIn] = Field(default_factory=list)


class PartnersFile(WireModel):
    partners: Annotated[list[PartnerIn], Field(max_length=200_000)]
    successions: Annotated[list[SuccessionIn], Field(max_length=200_000)] = Field(default_factory=list)
