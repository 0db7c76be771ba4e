"""The description of the API (OpenAPI): what the routes cannot say by themselves.

Bodies are read as streams, so the framework does not know their shapes; problems have one shape, and a
media type of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from hub.entrypoints.http.problems import MEDIA_TYPE
from schemas.models.answers import LineAnswer, ProblemAnswer
from schemas.models.events import ReportIn
from schemas.models.questions import (
    AcknowledgeIn,
    LeaseIn,
    OpenLaneIn,
    ReplayIn,
    RerouteIn,
    SelectionIn,
    TrialIn,
)
from schemas.models.submission import SubmissionIn

Responses = dict[int | str, dict[str, Any]]

_TELLS: Mapping[int, str] = {
    400: "The body was cut off.",
    401: "No valid token: missing, wrong and expired ones are answered alike.",
    403: "This token does not open this.",
    404: "There is no such thing, or it belongs to somebody else.",
    408: "The body took too long.",
    409: "It contradicts what is there, which stands: other content of this name, the state of a replay"
    " or of a case.",
    410: "It was this partner's, and followed to whoever took its place (`moved`).",
    413: "More bytes than are taken here.",
    415: "The body is of another media type.",
    416: "The range lies outside the file.",
    422: "What was sent does not satisfy the rules; `errors` names every field.",
    429: "Too often, or too many at a time; `Retry-After` says when to come back.",
    503: "Something the hub needs is away, or its disk is full; `Retry-After` says when to come back.",
}


def problems(*statuses: int) -> Responses:
    """The problems a route may answer; 500 is always among them."""
    told: Responses = {status: _problem(_TELLS[status]) for status in statuses}
    told[500] = _problem("The hub failed.")
    return told


def _problem(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}},
    }


def body_of(content: Mapping[str, Mapping[str, Any]], description: str) -> dict[str, Any]:
    """For `openapi_extra`: a body by its media types and their schemas."""
    return {
        "requestBody": {
            "required": True,
            "description": description,
            "content": {kind: {"schema": dict(schema)} for kind, schema in content.items()},
        }
    }


class Described(FastAPI):
    """An application whose description holds the schemas its streams are read with."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            told = super().openapi()
            _, extra = models_json_schema(
                [
                    (SubmissionIn, "validation"),
                    (ReplayIn, "validation"),
                    (SelectionIn, "validation"),
                    (RerouteIn, "validation"),
                    (OpenLaneIn, "validation"),
                    (TrialIn, "validation"),
                    (ReportIn, "validation"),
                    (LeaseIn, "validation"),
                    (AcknowledgeIn, "validation"),
                    (LineAnswer, "serialization"),
                    (ProblemAnswer, "serialization"),
                ],
                ref_template="#/components/schemas/{model}",
            )
            schemas = told.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in extra["$defs"].items():
                schemas.setdefault(name, schema)
            self.openapi_schema = told
        return self.openapi_schema
