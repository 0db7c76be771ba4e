"""What an operator asks the rule book: whom would a submission like this one reach (`hub rules explain`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from schemas.models.submission import MOST_ATTACHMENTS, Code, FactName, PlaceIn, ShortText
from schemas.models.wire import WireModel


class QuestionIn(WireModel):
    procedure: Code
    facts: Annotated[dict[FactName, ShortText | PlaceIn], Field(max_length=50)]
    files: Annotated[list[Code], Field(max_length=MOST_ATTACHMENTS)] = Field(
        default_factory=list, description="The type of each file."
    )
    received_at: AwareDatetime | None = Field(
        default=None, description="When it is received, with its zone; absent: now."
    )
