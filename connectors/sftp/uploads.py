"""Files on a partner's server: written with several blocks under way, read back, compared.

Business of this file: that a server which is silent is waited for no longer than a session's limit, and that nothing of
a file is held but the blocks under way.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import cast

import asyncssh

from connectors.sftp.judging import ABSENT, SizeDiffers
from connectors.sftp.sessions import Session
from hub.domain.errors import HubError

BLOCK = 255 * 1024
"""Bytes of one request at most: what OpenSSH's server takes, and small enough for a slow one to show signs of life.
Many take no more than 16 KB, and say so, or do not."""
UNDER_WAY = 16 * BLOCK
"""Bytes of a file that were sent and not answered: enough to hide a round trip."""


async def created(session: Session, path: str) -> asyncssh.SFTPClientFile:
    """A new file, opened exclusively: one of this name can only be a mistake."""
    return await session.soon(_opened(session, path, "xb"))


async def write(
    session: Session, file: asyncssh.SFTPClientFile, pieces: AsyncGenerator[tuple[int, bytes], None]
) -> None:
    """Writes (place, bytes) to it and closes it. Durable where the server can; where several requests made it, the
    server is asked how long it is."""
    block = min(BLOCK, session.sftp.limits.max_write_len)
    under_way: deque[asyncio.Task[int]] = deque()
    size = requests = 0
    async with _closing(session, file) as handle:
        try:
            async with aclosing(pieces) as given:
                async for place, piece in given:
                    size = max(size, place + len(piece))
                    # In equal parts: a small one behind large ones costs as much as they do.
                    step = -(-len(piece) // -(-len(piece) // block)) if len(piece) > block else block
                    for start in range(0, len(piece), step):
                        requests += 1
                        part = piece if len(piece) <= block else piece[start : start + step]
                        under_way.append(asyncio.ensure_future(handle.write(part, place + start)))
                        if len(under_way) * block >= UNDER_WAY:
                            await session.soon(under_way.popleft())
            while under_way:
                await session.soon(under_way.popleft())
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        with suppress(asyncssh.SFTPOpUnsupported):
            await session.soon(handle.fsync())
        if requests > 1 and (await session.soon(handle.stat())).size not in (size, None):
            raise SizeDiffers


async def write_small(session: Session, path: str, content: bytes) -> None:
    """A new file of what fits into one request: it is as long as that was."""
    async with _closing(session, await created(session, path)) as handle:
        if content:
            await session.soon(handle.write(content, 0))
        with suppress(asyncssh.SFTPOpUnsupported):
            await session.soon(handle.fsync())


def fits(session: Session, size: int) -> bool:
    return size <= min(BLOCK, session.sftp.limits.max_write_len)


async def in_order(chunks: AsyncIterator[bytes]) -> AsyncGenerator[tuple[int, bytes], None]:
    """Each chunk with its place. The next one is opened while one is written: what opens it, in a thread, waits for its
    turn beside a loop that is busy."""
    place = 0
    coming = asyncio.ensure_future(_next(chunks))
    try:
        while (chunk := await coming) is not None:
            coming = asyncio.ensure_future(_next(chunks))
            yield place, chunk
            place += len(chunk)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def digest(session: Session, path: str) -> str:
    """Of a file that lies there: SHA-256, lower-case hex."""
    found = hashlib.sha256()
    async with aclosing(pieces(session, path)) as given:
        async for piece in given:
            found.update(piece)
    return found.hexdigest()


async def pieces(session: Session, path: str) -> AsyncGenerator[bytes, None]:
    """All of a file that lies there."""
    async with _closing(session, await _read_opened(session, path)) as handle:
        while piece := await session.soon(handle.read(min(BLOCK, session.sftp.limits.max_read_len))):
            yield cast(bytes, piece)


async def holds(session: Session, path: str, pieces: AsyncGenerator[tuple[int, bytes], None]) -> bool:
    """Whether a file that lies there holds each of these, at its place, and nothing behind the last."""
    size = 0
    async with _closing(session, await _read_opened(session, path)) as handle, aclosing(pieces) as given:
        async for place, piece in given:
            size = max(size, place + len(piece))
            for start in range(0, len(piece), BLOCK):
                wanted = piece[start : start + BLOCK]
                if await _read(session, handle, place + start, len(wanted)) != wanted:
                    return False
        return not await _read(session, handle, size, 1)


async def read_start(session: Session, path: str, most: int) -> bytes:
    """At most so many bytes of it."""
    async with _closing(session, await _read_opened(session, path)) as handle:
        return await _read(session, handle, 0, most)


async def make_empty(session: Session, path: str) -> None:
    """An empty file, if there is none of this name."""
    try:
        async with _closing(session, await created(session, path)):
            pass
    except asyncssh.SFTPError as fault:
        try:
            await session.soon(session.sftp.stat(path))
        except ABSENT:
            raise fault from None


async def _read(session: Session, handle: asyncssh.SFTPClientFile, place: int, size: int) -> bytes:
    """A server may give less at once than it was asked for."""
    found = b""
    while len(found) < size:
        asked = min(size - len(found), session.sftp.limits.max_read_len)
        more = cast(bytes, await session.soon(handle.read(asked, place + len(found))))
        if not more:
            break
        found += more
    return found


@asynccontextmanager
async def _closing(
    session: Session, handle: asyncssh.SFTPClientFile
) -> AsyncIterator[asyncssh.SFTPClientFile]:
    """Closed at the end; after a fault of the connection there is nothing left to be closed."""
    try:
        yield handle
    except (asyncssh.SFTPError, HubError):
        with suppress(asyncssh.SFTPError):
            await session.soon(handle.close())
        raise
    await session.soon(handle.close())


async def _read_opened(session: Session, path: str) -> asyncssh.SFTPClientFile:
    return await session.soon(_opened(session, path, "rb"))


async def _opened(session: Session, path: str, mode: str) -> asyncssh.SFTPClientFile:
    # Requests are cut here, one by one: what the library cuts itself goes on when it is not waited for any more.
    return await session.sftp.open(path, mode, block_size=0)
