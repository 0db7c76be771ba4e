"""Channels, for operators' forms: which there are, and what each asks of an endpoint."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from hub.entrypoints.http.access import Operator
from hub.entrypoints.http.description import problems
from hub.entrypoints.http.receiving import JSON
from hub.entrypoints.http.rooms import InRooms
from hub.wire.fields import form, schema
from schemas.models.channels import ChannelAnswer, ChannelListAnswer, FieldAnswer


def routes() -> APIRouter:
    router = APIRouter(tags=["channels"])
    router.add_api_route(
        "/v1/channels",
        get_channels,
        methods=["GET"],
        response_model=ChannelListAnswer,
        responses=problems(401, 403, 503),
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
