"""The mailbox: what lies there for a partner that comes and fetches, and its word that it has it."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Query
from starlette.responses import Response

from hub.domain.errors import MissingKey, Tampered
from hub.entrypoints.http.access import Partner
from hub.entrypoints.http.answers import parcel_answer
from hub.entrypoints.http.description import problems
from hub.entrypoints.http.problems import moved, not_found
from hub.entrypoints.http.receiving import JSON
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.ports.numbers import Number
from hub.ports.reads import Read
from hub.ports.views import MailboxItem
from hub.wire import read_id
from schemas.models.answers import (
    AcknowledgementAnswer,
    MailboxAnswer,
    NumberAnswer,
    NumbersAnswer,
    ParcelAnswer,
)
from schemas.models.questions import MailboxQuery, NumbersQuery

log = structlog.get_logger()


def routes() -> APIRouter:
    router = APIRouter(tags=["mailbox"])
    router.add_api_route(
        "/v1/mailbox",
        get_mailbox,
        methods=["GET"],
        response_model=MailboxAnswer,
        responses=problems(401, 403, 422, 503),
    )
    router.add_api_route(
        "/v1/mailbox/numbers",
        get_numbers,
        methods=["GET"],
        response_model=NumbersAnswer,
        responses=problems(401, 403, 422, 503),
    )
    router.add_api_route(
        "/v1/mailbox/{delivery}/acknowledge",
        post_acknowledge,
        methods=["POST"],
        response_model=AcknowledgementAnswer,
        responses=problems(401, 403, 404, 410, 422, 503),
    )
    return router


async def get_mailbox(partner: Partner, rooms: InRooms, query: Annotated[MailboxQuery, Query()]) -> Response:
    """The partner's parcels that it has not acknowledged, by their sequence numbers, with a link to each
    file. A gap in the numbers is a parcel that was acknowledged, withdrawn, or purged, or that moved to
    whoever took this partner's place."""
    items = await rooms.views.mailbox(partner.subscriber, query.after, query.limit)
    opened = [(item, parcel) for item in items if (parcel := _parcel(rooms, item)) is not None]
    parcels = [parcel for _, parcel in opened]
    reader = f"partner:{partner.subscriber}"
    await rooms.reads.shown(
        [Read(item.claim.submission, item.claim.attempt.delivery, reader, "") for item, _ in opened]
    )
    answer = MailboxAnswer(
        items=parcels, next=items[-1].claim.sequence if len(items) == query.limit else None
    )
    return Response(answer.model_dump_json(), media_type=JSON)


def _parcel(rooms: Rooms, item: MailboxItem) -> ParcelAnswer | None:
    """None when it does not open: one such parcel keeps a partner from no other."""
    try:
        parcel = rooms.parcels.build(item.claim)
    except (MissingKey, Tampered) as error:
        log.error("parcel.unreadable", delivery=str(item.claim.attempt.delivery), error=type(error).__name__)
        return None
    links = {file.number: rooms.links.link(parcel, file.number) for file in parcel.files}
    return parcel_answer(parcel, item.state.value, links)


async def get_numbers(partner: Partner, rooms: InRooms, query: Annotated[NumbersQuery, Query()]) -> Response:
    """Every number above `after` that was given to a parcel for this partner, once and in order, with what became
    of it, on whatever channel: none is missing, so who knows them all misses nothing."""
    found = await rooms.numbers.since(partner.subscriber, query.after, query.limit)
    answer = NumbersAnswer(
        items=[_number(one) for one in found], next=found[-1].number if len(found) == query.limit else None
    )
    return Response(answer.model_dump_json(), media_type=JSON)


def _number(one: Number) -> NumberAnswer:
    return NumberAnswer(
        number=one.number,
        delivery=one.delivery,
        procedure=one.procedure,
        state="moved" if one.state is None else one.state.value,
        since=one.since,
        moved_to=None if one.moved_to is None else str(one.moved_to),
    )


async def post_acknowledge(partner: Partner, rooms: InRooms, delivery: str) -> Response:
    """The partner has the parcel. Saying it again is harmless."""
    name = read_id(delivery)
    if name is None:
        raise not_found()
    if name not in await rooms.mailboxes.acknowledge(partner.subscriber, [name]):
        raise moved() if await rooms.views.moved_away(partner.subscriber, name) else not_found()
    answer = AcknowledgementAnswer(delivery=name, state="acknowledged")
    return Response(answer.model_dump_json(), media_type=JSON)
