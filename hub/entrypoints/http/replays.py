"""Replays: an operator's order to send again, tried, given, approved, paused, and how far it is; and decisions by
hand."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from hub.domain.errors import IllegalMove, Invalid
from hub.domain.identity import Subscriber
from hub.domain.replays import ReplayVerb
from hub.entrypoints.http.access import Approver, Operator, Replayer
from hub.entrypoints.http.answers import disclosure_page_answer, replay_answer
from hub.entrypoints.http.bodies import bounded, media_type, unsupported, whole
from hub.entrypoints.http.description import body_of, problems
from hub.entrypoints.http.problems import Problem, not_found
from hub.entrypoints.http.receiving import JSON
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.ports.replays import Replay
from hub.ports.tokens import OperatorIdentity
from hub.wire import read_id, read_json, read_order, read_selection
from schemas.models.answers import (
    DisclosurePageAnswer,
    PreviewAnswer,
    ReplayAnswer,
    ReplayListAnswer,
    ReroutedAnswer,
)
from schemas.models.questions import DisclosureQuery, ReplayIn, RerouteIn, SelectionIn
from schemas.models.wire import WireModel

_NEWEST = 50

Model = TypeVar("Model", bound=WireModel)


def routes() -> APIRouter:
    router = APIRouter(tags=["replays"])

    def add(path: str, method: str, endpoint: Any, model: Any, *more: int, **options: Any) -> None:
        told = problems(401, 403, 422, 503, *more)
        router.add_api_route(
            path, endpoint, methods=[method], response_model=model, responses=told, **options
        )

    body = (400, 413, 415)
    add(
        "/v1/replays",
        "POST",
        post_replay,
        ReplayAnswer,
        *body,
        status_code=202,
        openapi_extra=_body("ReplayIn", "What to send again, and why."),
    )
    add(
        "/v1/replays:preview",
        "POST",
        post_preview,
        PreviewAnswer,
        *body,
        openapi_extra=_body("SelectionIn", "What to look for."),
    )
    add("/v1/replays", "GET", get_replays, ReplayListAnswer)
    add("/v1/replays/{id}", "GET", get_replay, ReplayAnswer, 404)
    add("/v1/replays/{id}/disclosures", "GET", get_disclosures, DisclosurePageAnswer, 404)
    add("/v1/replays/{id}/approval", "POST", post_approval, ReplayAnswer, 404, 409)
    add("/v1/replays/{id}/pause", "POST", post_pause, ReplayAnswer, 404, 409)
    add("/v1/replays/{id}/resume", "POST", post_resume, ReplayAnswer, 404, 409)
    add("/v1/replays/{id}/cancel", "POST", post_cancel, ReplayAnswer, 404, 409)
    add(
        "/v1/deliveries/{id}/reroute",
        "POST",
        post_reroute,
        ReroutedAnswer,
        *body,
        404,
        status_code=201,
        openapi_extra=_body("RerouteIn", "Who gets it instead, and why."),
    )
    return router


def _body(model: str, description: str) -> dict[str, Any]:
    return body_of({JSON: {"$ref": f"#/components/schemas/{model}"}}, description)


async def _read(request: Request, rooms: Rooms, model: type[Model]) -> Model:
    kind, _ = media_type(request)
    if kind != JSON:
        raise unsupported(JSON)
    limit = rooms.limits.document
    return read_json(model, await whole(bounded(request, limit), limit))


def _answer(replay: Replay | None, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    if replay is None:
        raise not_found()
    return Response(replay_answer(replay).model_dump_json(), status, headers=headers, media_type=JSON)


async def post_replay(request: Request, rooms: InRooms, operator: Replayer) -> Response:
    """Fix what matches, and send it again one after the other; a large one waits for another operator to approve
    it. The same `id` again finds the replay that is there, whatever else is said."""
    told = await _read(request, rooms, ReplayIn)
    order = read_order(told, operator.name)
    replay = await rooms.replays.begin(told.id or uuid4(), order, rooms.replay_approval)
    return _answer(replay, 202, {"Location": f"/v1/replays/{replay.id}"})


async def post_preview(request: Request, rooms: InRooms, operator: Operator) -> Response:
    """What a replay would match now: how many, how many bytes, ten examples. Nothing is sent."""
    chosen = read_selection(await _read(request, rooms, SelectionIn))
    for flaw in chosen.flaws():
        raise Invalid(flaw)
    found = await rooms.replays.preview(chosen)
    answer = PreviewAnswer(matched=found.matched, bytes=found.bytes, examples=list(found.examples))
    return Response(answer.model_dump_json(), media_type=JSON)


async def get_replays(rooms: InRooms, operator: Operator) -> Response:
    """The newest fifty."""
    newest = await rooms.replays.newest(_NEWEST)
    answer = ReplayListAnswer(items=[replay_answer(replay) for replay in newest])
    return Response(answer.model_dump_json(), media_type=JSON)


async def get_replay(rooms: InRooms, operator: Operator, id: str) -> Response:
    """How far it is, and what it came to."""
    name = read_id(id)
    return _answer(None if name is None else await rooms.replays.replay(name))


async def get_disclosures(
    rooms: InRooms, operator: Operator, id: str, query: Annotated[DisclosureQuery, Query()]
) -> Response:
    """What was received by partners that are not chosen any more, page by page."""
    name = read_id(id)
    if name is None or await rooms.replays.replay(name) is None:
        raise not_found()
    # One more than asked for tells whether a page follows.
    found = await rooms.replays.disclosures(name, query.after, query.limit + 1)
    return Response(disclosure_page_answer(found, query.limit).model_dump_json(), media_type=JSON)


async def post_approval(rooms: InRooms, operator: Approver, id: str) -> Response:
    """Another operator than its author lets it begin."""
    return await _turn(rooms, operator, id, ReplayVerb.APPROVE)


async def post_pause(rooms: InRooms, operator: Replayer, id: str) -> Response:
    """When this is answered, nothing more is planned."""
    return await _turn(rooms, operator, id, ReplayVerb.PAUSE)


async def post_resume(rooms: InRooms, operator: Replayer, id: str) -> Response:
    """It goes on where it was paused."""
    return await _turn(rooms, operator, id, ReplayVerb.RESUME)


async def post_cancel(rooms: InRooms, operator: Replayer, id: str) -> Response:
    """It ends where it is; what was sent again stays so."""
    return await _turn(rooms, operator, id, ReplayVerb.CANCEL)


async def _turn(rooms: Rooms, operator: OperatorIdentity, id: str, verb: ReplayVerb) -> Response:
    name = read_id(id)
    if name is None:
        raise not_found()
    try:
        return _answer(await rooms.replays.turn(name, verb, operator.name))
    except IllegalMove as error:
        raise Problem(409, "conflict", str(error)) from None


async def post_reroute(request: Request, rooms: InRooms, operator: Replayer, id: str) -> Response:
    """Another partner gets what this delivery carries, by a decision by hand. The delivery is withdrawn, unless
    its partner received it already."""
    told = await _read(request, rooms, RerouteIn)
    name = read_id(id)
    to = Subscriber.parse(told.to)
    found = None if name is None else await rooms.replays.reroute(name, to, operator.name, told.reason)
    if found is None:
        raise not_found()
    answer = ReroutedAnswer(decision=found.decision, delivery=found.delivery, disclosed=found.disclosed)
    return Response(answer.model_dump_json(), 201, media_type=JSON)
