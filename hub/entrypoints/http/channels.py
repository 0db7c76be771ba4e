"""Channels, for operators: which there are, what each asks of an endpoint, and an endpoint tried."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from hub.domain.errors import TrialUnderWay
from hub.domain.identity import Subscriber
from hub.entrypoints.http.access import Operator, Replayer
from hub.entrypoints.http.bodies import bounded, media_type, unsupported, whole
from hub.entrypoints.http.description import body_of, problems
from hub.entrypoints.http.problems import Problem, not_found
from hub.entrypoints.http.receiving import JSON
from hub.entrypoints.http.rooms import InRooms
from hub.wire import read_json
from hub.wire.fields import form, schema
from hub.wire.trials import trial_answers
from schemas.models.channels import ChannelAnswer, ChannelListAnswer, FieldAnswer, TrialAnswer
from schemas.models.questions import TrialIn
from schemas.models.rules import SubscriberNumber

_LATER = "10"
_NUMBER: TypeAdapter[str] = TypeAdapter(SubscriberNumber)
_ANSWER = TypeAdapter(list[TrialAnswer])


def routes() -> APIRouter:
    router = APIRouter(tags=["channels"])
    router.add_api_route(
        "/v1/channels",
        get_channels,
        methods=["GET"],
        response_model=ChannelListAnswer,
        responses=problems(401, 403, 503),
    )
    router.add_api_route(
        "/v1/partners/{number}/test",
        post_test,
        methods=["POST"],
        response_model=list[TrialAnswer],
        responses=problems(400, 401, 403, 404, 413, 415, 422, 429, 503),
        openapi_extra=body_of({JSON: {"$ref": "#/components/schemas/TrialIn"}}, "How it is tried."),
    )
    return router


async def get_channels(rooms: InRooms, operator: Operator) -> Response:
    """Each with the fields of its endpoints, for a form, and with the JSON Schema of an endpoint, for a program. No
    endpoint's values."""
    items = [
        ChannelAnswer(
            channel=channel,
            fields=[FieldAnswer.model_validate(one) for one in form(fields)],
            json_schema=schema(channel, fields),
        )
        for channel, fields in sorted(rooms.channels.items())
    ]
    return Response(ChannelListAnswer(items=items).model_dump_json(exclude_none=True), media_type=JSON)


async def post_test(request: Request, rooms: InRooms, operator: Replayer, number: str) -> Response:
    """What a parcel would meet at the endpoint of this partner (SIRET-branch), and at where its notices go, without
    one; from the machine that answers. One at a time for each partner, four in all; an endpoint is given eight times
    `limit`. Right or wrong, it is told with 200."""
    kind, _ = media_type(request)
    if kind != JSON:
        raise unsupported(JSON)
    size = rooms.limits.document
    how = read_json(TrialIn, await whole(bounded(request, size), size))
    try:
        trials = await rooms.trials.try_out(_named(number), how.limit, send=how.send)
    except TrialUnderWay as error:
        raise Problem(429, "busy", str(error), headers={"Retry-After": _LATER}) from None
    if trials is None:
        raise not_found()
    return Response(_ANSWER.dump_json(trial_answers(trials)), media_type=JSON)


def _named(number: str) -> Subscriber:
    try:
        return Subscriber.parse(_NUMBER.validate_python(number))
    except ValidationError:
        raise not_found() from None
