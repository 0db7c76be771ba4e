"""Parcels: the bytes of a file, for its owner alone: the delivery's partner, or whoever holds a signed link.

Neither its sender nor an operator reads a file here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from hub.domain.errors import MissingKey
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.entrypoints.http.access import Credentials, a_partner, identity_of, unknown
from hub.entrypoints.http.description import Responses, problems
from hub.entrypoints.http.problems import Problem, moved, not_found
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.ports.connector import ParcelFile
from hub.ports.reads import Read
from hub.wire import read_id

NO_LONGER = frozenset({State.WITHDRAWN, State.EXPIRED, State.RETURNED})
"""States in which a parcel is not, or not any more, its partner's."""


def routes() -> APIRouter:
    router = APIRouter(tags=["parcels"])
    router.add_api_route(
        "/v1/parcels/{id}/attachments/{number}",
        get_file,
        methods=["GET"],
        response_class=Response,
        responses=_responses(),
    )
    return router


def _responses() -> Responses:
    told = problems(401, 403, 404, 410, 416, 422, 503)
    bytes_: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    told[200] = {"description": "The file, with its digest in `ETag` and `Repr-Digest`.", "content": bytes_}
    told[206] = {"description": "One range of it.", "content": bytes_}
    return told


_LinkPart = Annotated[str | None, Query(max_length=200, description="Of a signed link.")]


async def owner_of(
    rooms: InRooms,
    credentials: Credentials,
    id: str,
    number: str,
    expires: _LinkPart = None,
    signature: _LinkPart = None,
) -> Subscriber | None:
    """The partner that asks, None for whoever holds a link to this very file. Raises Problem 401, 403."""
    if signature is None and expires is None:
        return (await a_partner(await identity_of(rooms, credentials))).subscriber
    name = read_id(id)
    if name is None or not _is_number(number):
        raise unknown()
    if not rooms.links.verify(name, int(number), expires or "", signature or ""):
        raise unknown()
    return None


async def get_file(
    request: Request,
    rooms: InRooms,
    owner: Annotated[Subscriber | None, Depends(owner_of)],
    id: str,
    number: str,
) -> Response:
    """A file of a parcel; number 0 is the hub's own description of it. One `Range` is answered."""
    return await fetch(request, rooms, owner, id, number)


async def fetch(request: Request, rooms: Rooms, owner: Subscriber | None, id: str, number: str) -> Response:
    """To `owner`, or (None) to whoever holds a link to this very file."""
    name = read_id(id)
    if name is None or not _is_number(number):
        raise not_found()
    file, read = await _file(rooms, owner, name, int(number))

    async def note(part: str) -> None:
        await rooms.reads.fetched(replace(read, what=f"{read.what}, {part}") if part else read)

    return await answer_file(request, file, note)


async def answer_file(request: Request, file: ParcelFile, note: Callable[[str], Awaitable[None]]) -> Response:
    """The file, or the one range of it that is asked for; to HEAD, what is said of it. `note` is told which ('': all of
    it), and writes who read what, before anything leaves. Raises Problem 416."""
    if request.method == "HEAD":
        return Response(headers=_headers(file) | {"Content-Length": str(file.size)})
    wanted = _wanted(request, file)
    start, end = wanted or (0, file.size)
    await note("" if wanted is None else f"bytes {start}-{end - 1}")
    stream = file.open(start, end)
    # The first bytes before the status line: what does not open is then still a whole problem.
    first = await anext(stream, b"")
    headers = _headers(file) | {"Content-Length": str(end - start)}
    if wanted is None:
        headers["Content-Digest"] = headers["Repr-Digest"]
    else:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    status = 200 if wanted is None else 206
    if len(first) == end - start:
        # Read to its end all the same: so the file is closed.
        await anext(stream, b"")
        return Response(first, status, headers)
    return StreamingResponse(joined(first, stream), status, headers)


async def _file(
    rooms: Rooms, owner: Subscriber | None, delivery: UUID, number: int
) -> tuple[ParcelFile, Read]:
    """Raises Problem 404, the same, and after the same looks, whether there is no such file, or it is another
    partner's, or the parcel is not its partner's any more, or its keys are destroyed; 410 when its partner's place
    was taken."""
    item = await rooms.views.parcel(delivery, owner)
    if item is None and owner is not None and await rooms.views.moved_away(owner, delivery):
        raise moved()
    if item is None or item.state in NO_LONGER or not item.claim.wrapped_key:
        raise not_found()
    try:
        file = rooms.parcels.file(item.claim, number)
    except MissingKey:
        raise not_found() from None
    if file is None:
        raise not_found()
    reader = "link" if owner is None else f"partner:{owner}"
    return file, Read(item.claim.submission, delivery, reader, f"file {number}, {item.state.value}")


def _wanted(request: Request, file: ParcelFile) -> tuple[int, int] | None:
    """[start, end) of the one range asked for, None for the whole file: also when several ranges are asked
    for, or the file is not the one the range is of (RFC 9110, 13.1.5 and 14.2). Raises Problem 416."""
    asked = re.fullmatch(
        r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", request.headers.get("range", ""), re.IGNORECASE
    )
    if asked is None or request.headers.get("if-range", _tag(file)) != _tag(file):
        return None
    first, last = asked[1], asked[2]
    if first and last and int(first) > int(last):
        return None
    if first:
        start, end = int(first), min(int(last) + 1, file.size) if last else file.size
    elif last:
        start, end = max(file.size - int(last), 0), file.size
    else:
        return None
    if start >= end:
        headers = {"Content-Range": f"bytes */{file.size}"}
        raise Problem(416, "range", "the range lies outside the file", headers=headers)
    return start, end


def _headers(file: ParcelFile) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    return {
        # The sender's word for it, which no browser is to act upon.
        "Content-Type": file.media_type if file.media_type.isascii() else "application/octet-stream",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Content-Disposition": disposition(file.name),
        "Accept-Ranges": "bytes",
        "ETag": _tag(file),
        "Repr-Digest": f"sha-256=:{digest}:",
    }


def disposition(name: str) -> str:
    """RFC 6266, with the name as it is (RFC 8187) and in plain signs for old clients. `name` is safe: it has
    neither quotes nor line ends."""
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _tag(file: ParcelFile) -> str:
    return f'"{file.sha256}"'


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


async def joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
