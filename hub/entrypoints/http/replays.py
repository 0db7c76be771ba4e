"""Replays: an operator's order to send deliveries again, and how far it is."""

from __future__ import annotations

from uuid import uuid4

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub.domain.errors import Flaw, Invalid
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State, may_move
from hub.entrypoints.http.access import Operator, Replayer
from hub.entrypoints.http.answers import replay_answer
from hub.entrypoints.http.bodies import bounded, media_type, unsupported, whole
from hub.entrypoints.http.description import body_of, problems
from hub.entrypoints.http.problems import not_found
from hub.entrypoints.http.receiving import JSON
from hub.entrypoints.http.rooms import InRooms
from hub.ports.store import Selection
from hub.wire import read_id, read_json
from schemas.models.answers import ReplayAnswer
from schemas.models.questions import ReplayIn


def routes() -> APIRouter:
    router = APIRouter(tags=["replays"])
    router.add_api_route(
        "/v1/replays",
        post_replay,
        methods=["POST"],
        status_code=202,
        response_model=ReplayAnswer,
        responses=problems(400, 401, 403, 413, 415, 422, 503),
        openapi_extra=body_of(
            {JSON: {"$ref": "#/components/schemas/ReplayIn"}}, "What to send again, and why."
        ),
    )
    router.add_api_route(
        "/v1/replays/{id}",
        get_replay,
        methods=["GET"],
        response_model=ReplayAnswer,
        responses=problems(401, 403, 404, 422, 503),
    )
    return router


async def post_replay(request: Request, rooms: InRooms, operator: Replayer) -> Response:
    """Fix which deliveries match, and send them again one after the other. The same `id` again finds the
    replay that is there, whatever else is said."""
    kind, _ = media_type(request)
    if kind != JSON:
        raise unsupported(JSON)
    limit = rooms.limits.document
    order = read_json(ReplayIn, await whole(bounded(request, limit), limit))
    state = State(order.state)
    if not may_move(state, State.PLANNED):
        raise Invalid(Flaw("/state", "not_replayable", "what is in this state is not sent again"))
    selection = Selection(
        deliveries=None if order.deliveries is None else tuple(order.deliveries),
        submission=order.submission,
        subscriber=None if order.subscriber is None else Subscriber.parse(order.subscriber),
        channel=order.channel,
        procedure=order.procedure,
        cause=order.cause,
        state=state,
    )
    replay = await rooms.replays.begin(order.id or uuid4(), selection, operator.name, order.reason)
    headers = {"Location": f"/v1/replays/{replay.id}"}
    return Response(replay_answer(replay).model_dump_json(), 202, headers=headers, media_type=JSON)


async def get_replay(rooms: InRooms, operator: Operator, id: str) -> Response:
    """How many were sent again so far."""
    name = read_id(id)
    replay = None if name is None else await rooms.replays.replay(name)
    if replay is None:
        raise not_found()
    return Response(replay_answer(replay).model_dump_json(), media_type=JSON)
