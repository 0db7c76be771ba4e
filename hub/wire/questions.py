"""What an operator asks the rule book: a submission that nobody posted."""

from __future__ import annotations

import json
import re
from datetime import datetime
from uuid import UUID

from pydantic import ValidationError

from hub.domain.errors import Flaw, Invalid
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.wire.reading import flaws_of, loads
from schemas.models.explaining import QuestionIn
from schemas.models.submission import PlaceIn

NOBODY_S = UUID(int=0)
"""The id of a submission that was never received."""


def read_question(body: bytes, now: datetime) -> RoutingFacts:
    """As routing would know it; `now` is when it is received, unless it says when. Raises Invalid."""
    told = _read(body)
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


def _read(body: bytes) -> QuestionIn:
    try:
        return QuestionIn.model_validate_json(json.dumps(loads(body.decode("utf-8-sig"))))
    except UnicodeDecodeError:
        raise Invalid(Flaw("", "encoding", "not UTF-8; save it as UTF-8")) from None
    except json.JSONDecodeError as error:
        raise Invalid(Flaw("", "json", f"line {error.lineno}: this is not well-formed JSON")) from None
    except ValidationError as error:
        flaws = flaws_of(error)
        raise Invalid(*(Flaw(_BRANCH.sub(r"\1", one.field), one.rule, one.detail) for one in flaws)) from None
    except (ValueError, RecursionError):
        raise Invalid(Flaw("", "json", "this is not well-formed JSON")) from None


_BRANCH = re.compile(r"^(/facts/[^/]+)/(?:text|place)(?=/|$)")
"""The schema's own step: whether a fact is a text or a place."""
