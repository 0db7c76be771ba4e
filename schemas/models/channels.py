"""What the HTTP API answers about channels, and about an endpoint that was tried."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from schemas.models.wire import WireModel


class HelpAnswer(WireModel):
    fr: str
    en: str


class FieldAnswer(WireModel):
    """What does not apply to a field is left out."""

    name: str
    kind: str = Field(
        description="text, block (several lines), number, flag, choice, texts, url, mail, mails or host."
    )
    secret: bool = Field(description="It stands among the secrets, and is never shown again.")
    required: bool
    help: HelpAnswer
    default: str | int | bool | list[str] | None = None
    choices: list[str] | None = None
    pattern: str | None = Field(None, description="What each text of it matches as a whole.")
    least: int | None = Field(None, description="Of a number; of a text's length; of a list's entries.")
    most: int | None = None
    needs: list[str] | None = Field(None, description="Where it is given, these are needed too.")
    unless: list[str] | None = Field(None, description="It is needed where none of these is given.")


class ChannelAnswer(WireModel):
    channel: str
    fields: list[FieldAnswer]
    json_schema: dict[str, Any] = Field(description="Of an endpoint: its channel, settings and secrets.")


class ChannelListAnswer(WireModel):
    items: list[ChannelAnswer]


class StepAnswer(WireModel):
    """One thing that a trial looked at, and what was found; never a secret, never a text of the partner's server."""

    name: str = Field(description="A word: name, connection, host_key, login …")
    state: Literal["well", "wrong", "noted"]
    fr: str
    en: str
    cause: str | None = Field(description="What an attempt would be deferred or refused for.")


class TrialAnswer(WireModel):
    """Of one endpoint of a partner, step by step."""

    channel: str
    notice: bool = Field(description="Of where its notices go, not its parcels.")
    well: bool = Field(description="No step is wrong.")
    steps: list[StepAnswer]
