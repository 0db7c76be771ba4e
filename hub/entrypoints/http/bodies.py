"""Bodies: what is read of a request, never more than is allowed, never more at once than a few chunks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from hub.entrypoints.http.problems import Problem


def media_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    """In lower case, with its parameters. Raises Problem 415 for a body that is compressed."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem(415, "media_type", "a body is not compressed here")
    kind, options = parse_options_header(request.headers.get("content-type"))
    return kind.decode("latin-1"), options


def unsupported(*known: str) -> Problem:
    return Problem(415, "media_type", f"the body is one of: {', '.join(known)}")


async def bounded(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Problem 413 before the first byte if it is announced too large, or as
    soon as it is; ClientDisconnect when it is cut off."""
    announced = request.headers.get("content-length", "")
    if re.fullmatch(r"[0-9]{1,20}", announced) and int(announced) > limit:
        raise too_large(limit)
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit:
            raise too_large(limit)
        if chunk:
            yield chunk


async def whole(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """Small things, at once. Raises Problem 413."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        if len(held) > limit:
            raise too_large(limit)
    return bytes(held)


async def lines(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes | None]:
    """Line by line, without their ends; None for a line longer than `limit`, which is never held."""
    held = bytearray()
    skipping = False
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            held += piece
            yield None if skipping or len(held) > limit else bytes(held)
            held.clear()
            skipping = False
        held += rest
        if len(held) > limit:
            held.clear()
            skipping = True
    if skipping:
        yield None
    elif held:
        yield bytes(held)


def too_large(limit: int) -> Problem:
    return Problem(413, "too_large", f"at most {limit} bytes are taken here")
