"""What an operator asks the rule book: a submission that nobody posted."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.wire.reading import read_json
from schemas.models.explaining import QuestionIn
from schemas.models.submission import PlaceIn

NOBODY_S = UUID(int=0)
"""The id of a submission that was never received."""


def read_question(body: bytes, now: datetime) -> RoutingFacts:
    """As routing would know it; `now` is when it is received, unless it says when. Raises Invalid."""
    told = read_json(QuestionIn, body)
    return RoutingFacts(
        submission=NOBODY_S,
        sender="",
        procedure=told.procedure,
        facts={
            name: f"{value.type}:{value.code}" if isinstance(value, PlaceIn) else value
            for name, value in told.facts.items()
        },
        attachments=tuple(AttachmentFacts(number, type) for number, type in enumerate(told.files, start=1)),
        received_at=told.received_at or now,
    )
