"""The way back: what a partner reports of a delivery, and the events that its sender reads.

A report is answered once it is durable; what is said again gets the same answer. A sender reads its own events alone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from typing import Annotated, Any, assert_never
from uuid import UUID

import structlog
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from hub.domain.cases import CaseStatus
from hub.domain.errors import Flaw, Invalid, MissingKey, Tampered
from hub.domain.identity import Subscriber
from hub.domain.reports import Declined, Kept, NotTaken, Report, ReportAnswer, ReturnedFile
from hub.entrypoints.http.access import Partner, Reporter, Sender
from hub.entrypoints.http.bodies import bounded, media_type, unsupported, whole
from hub.entrypoints.http.description import Responses, body_of, problems
from hub.entrypoints.http.limits import keep_reserve
from hub.entrypoints.http.multipart import Parts
from hub.entrypoints.http.parcels import answer_file
from hub.entrypoints.http.problems import Problem, moved, not_found
from hub.entrypoints.http.receiving import JSON, MULTIPART, too_slow, while_there_is_room
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.ports.events import Event
from hub.services.events import OpenedEvent
from hub.wire import read_id, read_json
from schemas.models import events as told

log = structlog.get_logger()


def routes() -> APIRouter:
    router = APIRouter(tags=["events"])
    router.add_api_route(
        "/v1/mailbox/{delivery}/events",
        post_event,
        methods=["POST"],
        status_code=201,
        response_model=told.ReportAnswer,
        responses={
            200: {"description": "It was reported before.", "model": told.ReportAnswer},
            **problems(400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 503),
        },
        openapi_extra=_BODY,
    )
    router.add_api_route(
        "/v1/mailbox/{delivery}/case",
        get_case,
        methods=["GET"],
        response_model=told.CaseAnswer,
        responses=problems(401, 403, 404, 422, 503),
    )
    router.add_api_route(
        "/v1/events",
        get_events,
        methods=["GET"],
        response_model=told.EventsAnswer,
        responses=problems(401, 403, 422, 503),
    )
    router.add_api_route(
        "/v1/events/{id}/file",
        get_file,
        methods=["GET"],
        response_class=Response,
        responses=_file_responses(),
    )
    return router


_BODY: dict[str, Any] = body_of(
    {
        JSON: {"$ref": "#/components/schemas/ReportIn"},
        MULTIPART: {
            "type": "object",
            "properties": {
                "event": {"$ref": "#/components/schemas/ReportIn"},
                "file": {"type": "string", "format": "binary"},
            },
            "required": ["event"],
        },
    },
    "JSON, with a small file inline; or multipart: first the part `event`, then the part `file` if it tells of one.",
)


def _file_responses() -> Responses:
    responses = problems(401, 403, 404, 416, 422, 503)
    bytes_: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    responses[200] = {
        "description": "The file, with its digest in `ETag` and `Repr-Digest`.",
        "content": bytes_,
    }
    responses[206] = {"description": "One range of it.", "content": bytes_}
    return responses


# --- partners -----------------------------------------------------------------------------------------


async def post_event(request: Request, partner: Reporter, rooms: InRooms, delivery: str) -> Response:
    """What the partner says of a parcel: how far it is, a message, a file. Idempotent: by `reference`; without one, by
    the file; without a file, what repeats the status that the case has is the same event."""
    name = read_id(delivery)
    if name is None:
        raise not_found()
    await keep_reserve(rooms.attachments, rooms.limits)
    try:
        async with asyncio.timeout(rooms.limits.longest_post) as time_left:
            answer = await _receive(request, rooms, partner.subscriber, name)
    except TimeoutError:
        if time_left.expired():
            raise too_slow() from None
        raise
    match answer:
        case Kept():
            text = told.ReportAnswer(event=answer.event, status=answer.status.value, fresh=answer.fresh)
            return Response(text.model_dump_json(), 201 if answer.fresh else 200, media_type=JSON)
        case Declined():
            raise _declined(answer)
        case _:
            assert_never(answer)


async def _receive(request: Request, rooms: Rooms, subscriber: Subscriber, delivery: UUID) -> ReportAnswer:
    kind, options = media_type(request)
    match kind:
        case "application/json":
            body = await whole(bounded(request, rooms.limits.document), rooms.limits.document)
            posted = read_json(told.ReportIn, body)
            return await _report(rooms, subscriber, delivery, posted, _inline(posted))
        case "multipart/form-data":
            parts = Parts(bounded(request, rooms.limits.body), options.get(b"boundary", b""))
            return await _receive_parts(rooms, subscriber, delivery, parts)
        case _:
            raise unsupported(JSON, MULTIPART)


def _inline(posted: told.ReportIn) -> AsyncIterator[bytes] | None:
    if posted.file is None:
        return None
    if posted.file.content is None:
        raise Invalid(Flaw("/file", "missing_file", "in JSON, `content` carries its bytes"))
    try:
        return _once(base64.b64decode(posted.file.content, validate=True))
    except (binascii.Error, ValueError):
        raise Invalid(Flaw("/file/content", "base64", "this is not well-formed base64")) from None


async def _receive_parts(rooms: Rooms, subscriber: Subscriber, delivery: UUID, parts: Parts) -> ReportAnswer:
    if await parts.next() != "event":
        raise Invalid(Flaw("", "first_part", "the first part is named `event`"))
    posted = read_json(told.ReportIn, await whole(parts.body(), rooms.limits.document))
    if posted.file is not None and posted.file.content is not None:
        raise Invalid(Flaw("/file/content", "inline_content", "in multipart, the bytes come as a part"))
    content = None
    if posted.file is not None:
        if await parts.next() != "file":
            raise Invalid(Flaw("/file", "missing_file", "the bytes of this file did not come"))
        content = _last_part(rooms, parts)
    elif await parts.next() is not None:
        raise Invalid(Flaw("/file", "extra_file", "a file came that was not announced"))
    return await _report(rooms, subscriber, delivery, posted, content)


async def _last_part(rooms: Rooms, parts: Parts) -> AsyncIterator[bytes]:
    """A body that is cut off after the file, or goes on, is refused before the file counts as whole."""
    async for chunk in while_there_is_room(rooms, parts.body()):
        yield chunk
    if await parts.next() is not None:
        raise Invalid(Flaw("/file", "extra_file", "more files came than announced"))


async def _report(
    rooms: Rooms,
    subscriber: Subscriber,
    delivery: UUID,
    posted: told.ReportIn,
    content: AsyncIterator[bytes] | None,
) -> ReportAnswer:
    file = posted.file
    report = Report(
        delivery,
        None if posted.status is None else CaseStatus(posted.status),
        posted.message,
        posted.reference,
        None if file is None else ReturnedFile(file.name, file.media_type, file.size, file.sha256),
    )
    (answer,) = await rooms.reports.report(subscriber, [report], {} if content is None else {0: content})
    return answer


def _declined(answer: Declined) -> Problem:
    match answer.why:
        case NotTaken.UNKNOWN:
            return not_found()
        case NotTaken.MOVED:
            return moved()
        case NotTaken.INVALID:
            detail = "what was sent does not satisfy the rules of this hub"
            return Problem(422, "invalid", detail, *(answer.flaws or (answer.flaw,)))
        case NotTaken.CONFLICT:
            return Problem(409, "conflict", answer.flaw.detail, answer.flaw)
        case _:
            assert_never(answer.why)


async def get_case(partner: Partner, rooms: InRooms, delivery: str) -> Response:
    """How far the case of a parcel is by what its partner reported, and what it may report now."""
    name = read_id(delivery)
    found = None if name is None else await rooms.reports.case(partner.subscriber, name)
    if name is None or found is None:
        raise not_found()
    case, allowed = found
    answer = told.CaseAnswer(
        delivery=name,
        status=case.status.value,
        since=case.changed_at,
        allowed=[status.value for status in allowed],
    )
    return Response(answer.model_dump_json(), media_type=JSON)


# --- senders ------------------------------------------------------------------------------------------


async def get_events(sender: Sender, rooms: InRooms, query: Annotated[told.EventsQuery, Query()]) -> Response:
    """What partners said of this sender's submissions, above `since`, each once and in order. Numbers have no gap: who
    knows all up to the highest misses nothing."""
    found = await rooms.events.since(sender.sender, query.since, query.limit)
    items = [_event(rooms, event) for event in found]
    # Who read what is written before anything leaves.
    await rooms.events.shown([event for event in found if event.wrapped_key], f"sender:{sender.sender}")
    answer = told.EventsAnswer(
        items=items,
        next=found[-1].number if len(found) == query.limit else None,
    )
    return Response(answer.model_dump_json(), media_type=JSON)


def _event(rooms: Rooms, event: Event) -> told.EventAnswer:
    """One that does not open keeps its sender from no other."""
    opened: OpenedEvent | None = None
    try:
        opened = rooms.opened_events.open(event)
    except MissingKey:
        pass
    except Tampered as error:
        log.error("event.unreadable", event_id=str(event.id), error=type(error).__name__)
    file = None if opened is None else opened.file
    return told.EventAnswer(
        id=event.id,
        number=event.number,
        at=event.at,
        submission=event.submission,
        external_id=event.external_id,
        procedure=event.procedure,
        delivery=event.delivery,
        subscriber=str(event.subscriber),
        status=None if event.status is None else event.status.value,
        before=event.before.value,
        message=None if opened is None else opened.message,
        reference=None if opened is None else opened.reference,
        file=None
        if file is None
        else told.EventFileAnswer(
            name=file.name,
            original_name=file.original,
            media_type=file.media_type,
            size=file.size,
            sha256=file.sha256,
        ),
        purged=not event.wrapped_key,
    )


async def get_file(request: Request, sender: Sender, rooms: InRooms, id: str) -> Response:
    """The file that a partner returned with this event. One `Range` is answered."""
    name = read_id(id)
    event = None if name is None else await rooms.events.one(sender.sender, name)
    if event is None:
        raise not_found()
    try:
        file = rooms.opened_events.open(event).file
    except MissingKey:
        raise not_found() from None
    if file is None:
        raise not_found()

    async def note(part: str) -> None:
        await rooms.events.fetched(event, f"sender:{sender.sender}", part)

    return await answer_file(request, file, note)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
