"""Uploads: files that a sender sends ahead of a deposit, because a record of its topic would be too small for them."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub.domain.errors import Flaw, Invalid
from hub.entrypoints.http.access import Poster
from hub.entrypoints.http.bodies import bounded, media_type, unsupported
from hub.entrypoints.http.description import body_of, problems
from hub.entrypoints.http.limits import keep_reserve
from hub.entrypoints.http.multipart import Parts
from hub.entrypoints.http.problems import Problem
from hub.entrypoints.http.receiving import JSON, MULTIPART, too_slow, while_there_is_room
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.services.uploads import Loading
from schemas.models.submission import MOST_ATTACHMENTS, FileReceipt, UploadReceipt


def routes() -> APIRouter:
    router = APIRouter(tags=["submissions"])
    router.add_api_route(
        "/v1/uploads",
        post_upload,
        methods=["POST"],
        status_code=201,
        response_model=UploadReceipt,
        responses=problems(400, 401, 403, 408, 413, 415, 422, 429, 503),
        openapi_extra=body_of(
            {
                MULTIPART: {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                    "required": ["file"],
                }
            },
            "One part `file` for each file; a deposit names them by their numbers, from 1 on.",
        ),
    )
    return router


async def post_upload(request: Request, rooms: InRooms, sender: Poster) -> Response:
    """Take in files ahead of the deposit that names them. They are kept for ten days, then forgotten unless a deposit
    has taken them over; an upload is taken over once."""
    if not rooms.uploads.is_for(sender.sender):
        flaw = Flaw(
            "", "no_topic", "this sender has no topic for deposits: files are posted with what they are of"
        )
        raise Problem(403, "forbidden", flaw.detail, flaw)
    kind, options = media_type(request)
    if kind != MULTIPART:
        raise unsupported(MULTIPART)
    await keep_reserve(rooms.attachments, rooms.limits)
    loading = rooms.uploads.begin(sender.sender)
    try:
        async with asyncio.timeout(rooms.limits.longest_post) as time_left:
            await _load(
                rooms, loading, Parts(bounded(request, rooms.limits.body), options.get(b"boundary", b""))
            )
    except BaseException as error:
        await rooms.uploads.give_up(loading)
        if isinstance(error, TimeoutError) and time_left.expired():
            raise too_slow() from None
        raise
    id, files = await rooms.uploads.keep(loading)
    receipt = UploadReceipt(
        id=id,
        files=[
            FileReceipt(number=number, sha256=file.sha256.hex(), size=file.size)
            for number, file in enumerate(files, start=1)
        ],
    )
    return Response(receipt.model_dump_json(), 201, media_type=JSON)


async def _load(rooms: Rooms, loading: Loading, parts: Parts) -> None:
    while (name := await parts.next()) is not None:
        if name != "file":
            raise Invalid(Flaw("", "unknown_part", "every part is named `file`"))
        if len(loading.files) == MOST_ATTACHMENTS:
            raise Invalid(Flaw("", "too_long", f"an upload has at most {MOST_ATTACHMENTS} files"))
        await rooms.uploads.store_file(loading, while_there_is_room(rooms, parts.body()))
    if not loading.files:
        raise Invalid(Flaw("", "no_file", "an upload has at least one file"))
