"""The mailbox: what is there for a partner that comes and fetches, what its programs hold, and its word that it has
it. Every partner has one, whatever its channel; another partner's parcels do not exist for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from hub.domain.errors import MissingKey, Tampered, UnknownKey
from hub.domain.identity import Subscriber
from hub.domain.mailbox import Drawer, drawer
from hub.entrypoints.http.access import Partner
from hub.entrypoints.http.answers import parcel_answer
from hub.entrypoints.http.bodies import bounded, media_type, unsupported, whole
from hub.entrypoints.http.description import body_of, problems
from hub.entrypoints.http.problems import moved, not_found
from hub.entrypoints.http.receiving import JSON
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.ports.connector import Parcel
from hub.ports.mailboxes import Entry
from hub.ports.numbers import Number
from hub.ports.reads import Read
from hub.ports.views import MailboxItem
from hub.wire import read_id, read_json
from schemas.models.answers import (
    AcknowledgedAnswer,
    AcknowledgementAnswer,
    AcknowledgementsAnswer,
    LeaseAnswer,
    MailboxAnswer,
    NumberAnswer,
    NumbersAnswer,
    ParcelAnswer,
    ReleasedAnswer,
)
from schemas.models.questions import AcknowledgeIn, LeaseIn, MailboxQuery, NumbersQuery

log = structlog.get_logger()

_OPENED_AT_ONCE = 20
"""Sealed documents that are in memory together: each may have a megabyte."""

_LONGEST_READER = 60


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
        "/v1/mailbox/leases",
        post_lease,
        methods=["POST"],
        response_model=LeaseAnswer,
        responses=problems(400, 401, 403, 413, 415, 422, 503),
        openapi_extra=body_of({JSON: {"$ref": "#/components/schemas/LeaseIn"}}, "How many, for how long."),
    )
    router.add_api_route(
        "/v1/mailbox/leases/{reader}",
        delete_lease,
        methods=["DELETE"],
        response_model=ReleasedAnswer,
        responses=problems(401, 403, 422, 503),
    )
    router.add_api_route(
        "/v1/mailbox/acknowledge",
        post_acknowledge_several,
        methods=["POST"],
        response_model=AcknowledgementsAnswer,
        responses=problems(400, 401, 403, 413, 415, 422, 503),
        openapi_extra=body_of({JSON: {"$ref": "#/components/schemas/AcknowledgeIn"}}, "Their names."),
    )
    router.add_api_route(
        "/v1/mailbox/{delivery}",
        get_parcel,
        methods=["GET"],
        response_model=ParcelAnswer,
        responses=problems(401, 403, 404, 410, 422, 503),
    )
    router.add_api_route(
        "/v1/mailbox/{delivery}/acknowledge",
        post_acknowledge,
        methods=["POST"],
        response_model=AcknowledgementAnswer,
        responses=problems(401, 403, 404, 410, 422, 503),
    )
    return router


# --- looking ------------------------------------------------------------------------------------------


async def get_mailbox(partner: Partner, rooms: InRooms, query: Annotated[MailboxQuery, Query()]) -> Response:
    """The partner's parcels in one drawer of its mailbox, with a link to each file; looking changes nothing. A gap
    in the numbers is a parcel that is in another drawer, was withdrawn or purged, or moved to whoever took this
    partner's place."""
    page = await rooms.mailboxes.look(partner.subscriber, Drawer(query.drawer), query.after, query.limit)
    answer = MailboxAnswer(items=await _answers(rooms, partner.subscriber, page.entries), next=page.next)
    return Response(answer.model_dump_json(), media_type=JSON)


async def get_parcel(partner: Partner, rooms: InRooms, delivery: str) -> Response:
    """One parcel of this partner, in whichever drawer it is."""
    name = read_id(delivery)
    entry = None if name is None else await rooms.mailboxes.entry(partner.subscriber, name)
    if entry is not None and drawer(entry.state, entry.channel) is not None:
        for answer in await _answers(rooms, partner.subscriber, [entry]):
            return Response(answer.model_dump_json(), media_type=JSON)
    raise await missing(rooms, partner.subscriber, name)


async def missing(rooms: Rooms, subscriber: Subscriber, delivery: UUID | None) -> Exception:
    """Problem 404, or 410 for what was this partner's before its place was taken."""
    gone = delivery is not None and await rooms.views.moved_away(subscriber, delivery)
    return moved() if gone else not_found()


async def _answers(rooms: Rooms, subscriber: Subscriber, entries: Sequence[Entry]) -> list[ParcelAnswer]:
    """Of those that open. That they were shown is written before the answer leaves."""
    answers = []
    for start in range(0, len(entries), _OPENED_AT_ONCE):
        some = {entry.delivery: entry for entry in entries[start : start + _OPENED_AT_ONCE]}
        for item in await rooms.views.parcels(list(some), subscriber):
            parcel = opened(rooms, item)
            if parcel is not None:
                links = {file.number: rooms.links.link(parcel, file.number) for file in parcel.files}
                answers.append(parcel_answer(some[parcel.attempt.delivery], parcel, links))
    told = {answer.delivery for answer in answers}
    await rooms.reads.shown(shown(subscriber, (entry for entry in entries if entry.delivery in told)))
    return answers


def opened(rooms: Rooms, item: MailboxItem) -> Parcel | None:
    """None when it does not open: one such parcel keeps a partner from no other."""
    try:
        return rooms.parcels.build(item.claim)
    except (MissingKey, Tampered, UnknownKey) as error:
        log.error("parcel.unreadable", delivery=str(item.claim.attempt.delivery), error=type(error).__name__)
        return None


def shown(subscriber: Subscriber, entries: Iterable[Entry]) -> list[Read]:
    return [Read(entry.submission, entry.delivery, f"partner:{subscriber}", "") for entry in entries]


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


# --- holding ------------------------------------------------------------------------------------------


async def post_lease(request: Request, partner: Partner, rooms: InRooms) -> Response:
    """The next parcels that no other program of this partner holds, held for the reader that asks. What it does not
    acknowledge until then is anybody's again. A reader that gives itself a name gets what it held before its answer
    was lost; what is being attempted on another channel at this moment is given to nobody."""
    asked = read_json(LeaseIn, await _body(request, rooms))
    reader = asked.reader or secrets.token_hex(8)
    leased = await rooms.mailboxes.lease(
        partner.subscriber, reader, timedelta(seconds=asked.seconds), asked.limit
    )
    items = await _answers(rooms, partner.subscriber, leased.entries)
    read = {item.delivery for item in items}
    answer = LeaseAnswer(
        reader=reader,
        until=leased.until,
        full=leased.full,
        items=items,
        unreadable=[entry.delivery for entry in leased.entries if entry.delivery not in read],
    )
    return Response(answer.model_dump_json(), media_type=JSON)


async def delete_lease(partner: Partner, rooms: InRooms, reader: str) -> Response:
    """What this reader still holds is anybody's again. Saying it again is harmless."""
    named = len(reader) <= _LONGEST_READER and reader.isascii() and reader.isprintable()
    released = await rooms.mailboxes.release(partner.subscriber, reader) if named else 0
    return Response(ReleasedAnswer(released=released).model_dump_json(), media_type=JSON)


async def _body(request: Request, rooms: Rooms) -> bytes:
    kind, _ = media_type(request)
    if kind != JSON:
        raise unsupported(JSON)
    limit = rooms.limits.document
    return await whole(bounded(request, limit), limit)


# --- acknowledging ------------------------------------------------------------------------------------


async def post_acknowledge(partner: Partner, rooms: InRooms, delivery: str) -> Response:
    """The partner has the parcel. Saying it again is harmless."""
    name = read_id(delivery)
    if name is None or name not in await rooms.mailboxes.acknowledge(partner.subscriber, [name]):
        raise await missing(rooms, partner.subscriber, name)
    answer = AcknowledgementAnswer(delivery=name, state="acknowledged")
    return Response(answer.model_dump_json(), media_type=JSON)


async def post_acknowledge_several(request: Request, partner: Partner, rooms: InRooms) -> Response:
    """The partner has these parcels, all of them in one step. What is not its own keeps it from no other."""
    asked = read_json(AcknowledgeIn, await _body(request, rooms)).deliveries
    held = set(await rooms.mailboxes.acknowledge(partner.subscriber, asked))
    items = []
    for name in dict.fromkeys(asked):
        if name in held:
            items.append(AcknowledgedAnswer(delivery=name, state="acknowledged"))
        elif await rooms.views.moved_away(partner.subscriber, name):
            items.append(AcknowledgedAnswer(delivery=name, state="moved"))
        else:
            items.append(AcknowledgedAnswer(delivery=name, state="not_found"))
    return Response(AcknowledgementsAnswer(items=items).model_dump_json(), media_type=JSON)
