"""Submissions: taking one in durably, and telling what became of it."""

from __future__ import annotations

from typing import Any, assert_never

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub.entrypoints.http.access import Knocking, Poster
from hub.entrypoints.http.answers import submission_answer
from hub.entrypoints.http.description import body_of, problems
from hub.entrypoints.http.problems import Problem, not_found
from hub.entrypoints.http.receiving import JSON, MULTIPART, receive
from hub.entrypoints.http.rooms import InRooms
from hub.ports.tokens import OperatorIdentity, PartnerIdentity, SenderIdentity
from hub.services.intake import USED_BEFORE, Contradiction, Receipt
from hub.wire import read_id
from schemas.models.answers import SubmissionAnswer
from schemas.models.submission import FileReceipt, PlaceMapping, SubmissionReceipt


def routes() -> APIRouter:
    router = APIRouter(tags=["submissions"])
    router.add_api_route(
        "/v1/submissions",
        post_submission,
        methods=["POST"],
        status_code=202,
        response_model=SubmissionReceipt,
        responses=problems(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
        openapi_extra=_BODY,
    )
    router.add_api_route(
        "/v1/submissions/{id}",
        get_submission,
        methods=["GET"],
        response_model=SubmissionAnswer,
        responses=problems(401, 403, 404, 422, 503),
    )
    return router


_BODY: dict[str, Any] = body_of(
    {
        JSON: {"$ref": "#/components/schemas/SubmissionIn"},
        MULTIPART: {
            "type": "object",
            "properties": {
                "submission": {"$ref": "#/components/schemas/SubmissionIn"},
                "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
            },
            "required": ["submission"],
        },
    },
    "JSON with small files inline, or multipart: first the part `submission`, then one part `file` for each"
    " attachment, in the same order.",
)


async def post_submission(request: Request, rooms: InRooms, sender: Poster) -> Response:
    """Take in a submission. The 202 is sent once it is durable. Idempotent by the sender and `external_id`:
    the same content gets the same answer, other content 409."""
    reception = await receive(request, rooms, sender)
    (answer,) = await rooms.intake.accept([reception])
    match answer:
        case Receipt():
            headers = {"Location": f"/v1/submissions/{answer.submission}"}
            text = receipt(answer).model_dump_json()
            return Response(text, 202, headers=headers, media_type=JSON)
        case Contradiction():
            raise contradicted()
        case _:
            assert_never(answer)


def contradicted() -> Problem:
    return Problem(409, "conflict", USED_BEFORE.detail, USED_BEFORE)


def receipt(answer: Receipt) -> SubmissionReceipt:
    reception = answer.reception
    return SubmissionReceipt(
        id=answer.submission,
        external_id=reception.offer.external_id,
        received_at=answer.received_at,
        files=[
            FileReceipt(number=file.number, sha256=file.sha256, size=file.size)
            for file in reception.offer.document.files
        ],
        mapped_places=[
            PlaceMapping(
                fact=fact,
                given=given,
                place=str(resolution.place),
                steps=[str(step) for step in resolution.steps],
            )
            for fact, given, resolution in reception.checked.mapped
        ],
        files_for_nobody=list(reception.checked.for_nobody),
    )


async def get_submission(rooms: InRooms, identity: Knocking, id: str) -> Response:
    """Its state, each delivery with each attempt, and why each partner was chosen."""
    name = read_id(id)
    match identity:
        case PartnerIdentity():
            raise Problem(403, "forbidden", "a partner sees its own deliveries, not whole submissions")
        case SenderIdentity() | OperatorIdentity():
            found = None if name is None else await rooms.views.submission(name)
        case _:
            assert_never(identity)
    if found is None or (isinstance(identity, SenderIdentity) and found.sender != identity.sender):
        raise not_found()
    return Response(submission_answer(found, identity).model_dump_json(), media_type=JSON)
