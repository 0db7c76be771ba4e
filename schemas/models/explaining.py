"""What an operator asks the rule book: whom would a submission like this one reach (`hub rules explain`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from schemas.models.rules import FIRST_YEAR, LAST_YEAR
from schemas.models.submission import MOST_ATTACHMENTS, Code, FactName, PlaceIn, ShortText
from schemas.models.wire import WireModel


def _near(told: datetime) -> datetime:
    """Instants far away overflow when they change their time zone."""
    if not FIRST_YEAR <= told.year <= LAST_YEAR:
        raise PydanticCustomError("instant.year", f"the year must be between {FIRST_YEAR} and {LAST_YEAR}")
    return told


def _branch(told: object) -> str:
    return "place" if isinstance(told, dict | PlaceIn) else "text"


SaidIn = Annotated[
    Annotated[ShortText, Tag("text")] | Annotated[PlaceIn, Tag("place")], Discriminator(_branch)
]


class QuestionIn(WireModel):
    procedure: Code
    facts: Annotated[dict[FactName, SaidIn], Field(max_length=50)]
    files: Annotated[list[Code], Field(max_length=MOST_ATTACHMENTS)] = Field(
        default_factory=list, description="The type of each file."
    )
    received_at: Annotated[AwareDatetime, AfterValidator(_near)] | None = Field(
        default=None, description="When it is received, with its zone; absent: now."
    )
