"""Receiving: from the body of a post to a complete reception, its files sealed and stored.

Business of this file: that a post that fails, is cut off, takes too long or is cancelled before it is
complete leaves nothing. Accepting is not here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator

from starlette.requests import Request

from hub.domain.errors import Flaw, Invalid
from hub.entrypoints.http.bodies import bounded, media_type, unsupported, whole
from hub.entrypoints.http.limits import keep_reserve
from hub.entrypoints.http.multipart import Parts
from hub.entrypoints.http.problems import Problem
from hub.entrypoints.http.rooms import Rooms
from hub.ports.tokens import SenderIdentity
from hub.services.intake import Offer, Reception
from hub.wire import offer_document, read_submission
from schemas.models.submission import AttachmentIn, SubmissionIn

JSON = "application/json"
MULTIPART = "multipart/form-data"


async def receive(request: Request, rooms: Rooms, sender: SenderIdentity) -> Reception:
    """A complete reception. Raises Problem, Invalid, Unavailable; nothing remains then."""
    await keep_reserve(rooms.attachments, rooms.limits)
    try:
        async with asyncio.timeout(rooms.limits.longest_post) as time_left:
            return await _receive(request, rooms, sender)
    except TimeoutError:
        if time_left.expired():
            raise too_slow() from None
        raise


def too_slow() -> Problem:
    return Problem(408, "too_slow", "the body took too long", headers={"Connection": "close"})


async def _receive(request: Request, rooms: Rooms, sender: SenderIdentity) -> Reception:
    kind, options = media_type(request)
    match kind:
        case "application/json":
            body = await whole(bounded(request, rooms.limits.document), rooms.limits.document)
            return await receive_alone(rooms, sender, read_submission(body))
        case "multipart/form-data":
            parts = Parts(bounded(request, rooms.limits.body), options.get(b"boundary", b""))
            return await _receive_parts(rooms, sender, parts)
        case _:
            raise unsupported(JSON, MULTIPART)


async def receive_alone(rooms: Rooms, sender: SenderIdentity, posted: SubmissionIn) -> Reception:
    """A submission that carries its files in itself."""
    contents = _inline(posted.attachments)
    reception = await _begin(rooms, sender, posted)
    await rooms.intake.store_whole(reception, dict(enumerate(contents, start=1)))
    return reception


def _inline(files: list[AttachmentIn]) -> list[bytes]:
    contents: list[bytes] = []
    flaws: list[Flaw] = []
    for index, file in enumerate(files):
        if file.content is None:
            flaws.append(
                Flaw(f"/attachments/{index}", "missing_file", "in JSON, `content` carries its bytes")
            )
            continue
        try:
            contents.append(base64.b64decode(file.content, validate=True))
        except (binascii.Error, ValueError):
            flaws.append(Flaw(f"/attachments/{index}/content", "base64", "this is not well-formed base64"))
    if flaws:
        raise Invalid(*flaws)
    return contents


async def _receive_parts(rooms: Rooms, sender: SenderIdentity, parts: Parts) -> Reception:
    if await parts.next() != "submission":
        raise Invalid(Flaw("", "first_part", "the first part is named `submission`"))
    posted = read_submission(await whole(parts.body(), rooms.limits.document))
    flaws = [
        Flaw(f"/attachments/{index}/content", "inline_content", "in multipart, the bytes come as parts")
        for index, file in enumerate(posted.attachments)
        if file.content is not None
    ]
    if flaws:
        raise Invalid(*flaws)
    reception = await _begin(rooms, sender, posted)
    try:
        await _store_parts(rooms, reception, parts)
        rooms.intake.complete(reception)
    except BaseException:
        await rooms.intake.give_up(reception)
        raise
    return reception


async def _store_parts(rooms: Rooms, reception: Reception, parts: Parts) -> None:
    announced = len(reception.offer.document.files)
    number = 0
    while (name := await parts.next()) is not None:
        number += 1
        if name != "file":
            raise Invalid(Flaw("", "unknown_part", "after `submission`, every part is named `file`"))
        if number > announced:
            raise Invalid(Flaw(f"/attachments/{number - 1}", "extra_file", "more files came than announced"))
        await rooms.intake.store_file(reception, number, while_there_is_room(rooms, parts.body()))


async def while_there_is_room(rooms: Rooms, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Many large posts that began with room enough must not fill the disk together."""
    async for chunk in chunks:
        await keep_reserve(rooms.attachments, rooms.limits)
        yield chunk


async def _begin(rooms: Rooms, sender: SenderIdentity, posted: SubmissionIn) -> Reception:
    await rooms.intake.may_post(sender.procedures, posted.procedure)
    return await rooms.intake.begin(Offer(sender.sender, posted.external_id, offer_document(posted)))
