"""Lanes, for operators: which are closed or fail, and opening one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from hub.domain.identity import Subscriber
from hub.entrypoints.http.access import Operator, Replayer
from hub.entrypoints.http.bodies import bounded, media_type, unsupported, whole
from hub.entrypoints.http.description import body_of, problems
from hub.entrypoints.http.problems import not_found
from hub.entrypoints.http.receiving import JSON
from hub.entrypoints.http.rooms import InRooms
from hub.ports.lane_orders import LaneFilter, LaneView
from hub.wire import read_json
from schemas.models.answers import LaneAnswer, LanePageAnswer, OpenedAnswer
from schemas.models.questions import LaneQuery, OpenLaneIn

_DIGITS = 18


def routes() -> APIRouter:
    router = APIRouter(tags=["lanes"])
    router.add_api_route(
        "/v1/lanes",
        get_lanes,
        methods=["GET"],
        response_model=LanePageAnswer,
        responses=problems(401, 403, 422, 503),
    )
    router.add_api_route(
        "/v1/lanes/{id}/open",
        post_open,
        methods=["POST"],
        response_model=OpenedAnswer,
        responses=problems(400, 401, 403, 404, 413, 415, 422, 503),
        openapi_extra=body_of({JSON: {"$ref": "#/components/schemas/OpenLaneIn"}}, "Why it is opened."),
    )
    return router


async def get_lanes(rooms: InRooms, operator: Operator, query: Annotated[LaneQuery, Query()]) -> Response:
    """Those that are closed, because their endpoint refused, or fail; by id. Every filter given must hold."""
    subscriber = None if query.subscriber is None else Subscriber.parse(query.subscriber)
    where = LaneFilter(query.closed, query.failing, subscriber, query.vendor)
    found = await rooms.lanes.lanes(where, query.after, query.limit)
    answer = LanePageAnswer(
        items=[_lane(view) for view in found], next=found[-1].id if len(found) == query.limit else None
    )
    return Response(answer.model_dump_json(), media_type=JSON)


async def post_open(request: Request, rooms: InRooms, operator: Replayer, id: str) -> Response:
    """It is served as if nothing had been tried there yet, and what was parked when it was closed is sent again.
    Opening one that is open is harmless."""
    kind, _ = media_type(request)
    if kind != JSON:
        raise unsupported(JSON)
    limit = rooms.limits.document
    order = read_json(OpenLaneIn, await whole(bounded(request, limit), limit))
    if not (id.isascii() and id.isdigit() and len(id) <= _DIGITS):
        raise not_found()
    opened = await rooms.lanes.open_lane(int(id), f"operator:{operator.name}", order.reason)
    if opened is None:
        raise not_found()
    answer = OpenedAnswer(id=int(id), opened=opened)
    return Response(answer.model_dump_json(), media_type=JSON)


def _lane(view: LaneView) -> LaneAnswer:
    return LaneAnswer(
        id=view.id,
        subscriber=str(view.subscriber),
        partner=view.partner,
        vendor=view.vendor,
        channel=view.channel,
        closed=view.closed,
        failures=view.failures,
        since=view.since,
        cause=view.cause,
        parked=view.parked,
        waiting=view.waiting,
        fell_back_at=view.fell_back_at,
        due_at=view.due_at,
    )
