"""Reading JSON that somebody sent: strict, and with flaws that name the field and never the value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import isinf
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from hub.domain.errors import Flaw, Invalid

Model = TypeVar("Model", bound=BaseModel)

MOST_FLAWS = 50


def read_json(model: type[Model], body: bytes) -> Model:
    """Any JSON body as a model. Raises Invalid with every flaw."""
    try:
        told = loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Invalid(Flaw("", "encoding", "the body is not UTF-8")) from None
    except (ValueError, RecursionError):
        raise Invalid(Flaw("", "json", "the body is not well-formed JSON")) from None
    try:
        # From the text again: strict models read dates and ids from JSON strings, not from Python ones.
        return model.model_validate_json(json.dumps(told))
    except ValidationError as error:
        raise Invalid(*flaws_of(error)) from None


def loads(text: str) -> Any:
    """Strict JSON. Raises ValueError (of malformed text JSONDecodeError, with its line) or RecursionError."""
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_once)


def flaws_of(error: ValidationError) -> list[Flaw]:
    """Pydantic's findings without the values: pydantic quotes what was sent in some of its messages."""
    flaws = []
    for found in error.errors(include_url=False, include_input=False)[:MOST_FLAWS]:
        loc = found["loc"]
        if SECRETS in loc[:-1]:
            # A name in there may be a secret: its value in the wrong place, or a space that was left out.
            flaws.append(Flaw(_pointer(loc[: loc.index(SECRETS) + 1]), found["type"], SECRETS_SENTENCE))
        else:
            flaws.append(Flaw(_pointer(loc), found["type"], sentence_of(found)))
    return flaws


SECRETS = "secrets"
SECRETS_SENTENCE = (
    "secrets are texts, each by its name: write a space after each colon, and a number in quotation marks"
)


def _pointer(loc: Iterable[str | int]) -> str:
    return "".join(f"/{_escape(str(part))}" for part in loc)


def sentence_of(found: Mapping[str, Any]) -> str:
    """One of pydantic's findings, without the value."""
    type = found["type"]
    if "." in type:
        return str(found["msg"])  # the schemas' own sentence, see `schemas.models.rules`
    if type == "literal_error" and found["ctx"]["expected"] == "True":
        return "true is expected, or nothing of it"
    if type == "literal_error":
        return f"one of: {found['ctx']['expected']}"  # the model's words
    return _SENTENCES.get(type, "this does not have the right form")


_SENTENCES: Mapping[str, str] = {
    "missing": "this field is missing",
    "extra_forbidden": "there is no such field",
    "string_type": "a text is expected",
    "int_type": "a whole number is expected",
    "bool_type": "true or false is expected",
    "list_type": "a list is expected",
    "dict_type": "an object is expected",
    "model_type": "an object is expected",
    "string_too_long": "this text is too long",
    "string_too_short": "this text is too short",
    "string_pattern_mismatch": "this text has signs that are not allowed here",
    "too_long": "this list has too many elements",
    "too_short": "this list has too few elements",
    "greater_than_equal": "this number is too small",
    "less_than_equal": "this number is too large",
    "uuid_parsing": "an id (UUID) is expected",
}


def read_id(text: str) -> UUID | None:
    """An id from a path, None if it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _refuse_constant(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    """`1e999` is well-formed, and no number that could be written again."""
    value = float(text)
    if isinf(value):
        raise ValueError("a number is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a repeated name may see two different values: refused."""
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return told


def _escape(part: str) -> str:
    """JSON pointer (RFC 6901). A field's name may itself have been sent by somebody: kept short."""
    return part.replace("~", "~0").replace("/", "~1")[:60]
