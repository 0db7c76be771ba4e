"""Between a sender's stream and the sealed bytes of one file: what is the same wherever files lie.

Business of this room: fresh names, pieces of one length, sealing and counting them, and the threads in
which that is done. Not its business: how sealing works (`hub.adapters.objects.sealing`), and where sealed
bytes go.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from hub.adapters.objects.sealing import Sealer
from hub.ports.attachments import StoredFile
from hub.ports.keyring import DataKey

Given = ParamSpec("Given")
Result = TypeVar("Result")

# What is handed to a thread at once: enough to make the hand-over cheap, little enough to wait for.
PIECE = 1024 * 1024
PAGE = 1000
THREADS = 8

NOT_THERE = "the file is not there"
# 128 bits. Nothing else is ever joined to a path.
NAME = re.compile(r"[0-9a-f]{32}")


def fresh_name() -> str:
    """A name that nobody else has made or will make: random, 128 bits."""
    return secrets.token_hex(16)


async def pieces(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytearray, None]:
    """The same bytes in pieces of about PIECE, however small or large the chunks are."""
    held = bytearray()
    async for chunk in chunks:
        with memoryview(chunk) as view:
            for at in range(0, len(chunk), PIECE):
                held += view[at : at + PIECE]
                if len(held) >= PIECE:
                    yield held
                    held = bytearray()
    if held:
        yield held


class Sealing:
    """One file while it is being sealed, piece by piece: `add` and `finish` give the sealed bytes."""

    def __init__(self, key: DataKey, name: str) -> None:
        self.name = name
        self._sealer = Sealer(key, name)
        self._sha256 = hashlib.sha256()
        self._size = 0

    def add(self, piece: bytearray) -> bytes:
        self._sha256.update(piece)
        self._size += len(piece)
        return self._sealer.feed(piece)

    def finish(self) -> bytes:
        return self._sealer.finish()

    def told(self) -> StoredFile:
        return StoredFile(self.name, self._size, self._sha256.digest())


class Threads:
    """Threads of a room's own: work that takes its time holds up neither the event loop nor whoever else
    needs a thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="attachments")

    async def run(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        """In a thread, to its end even when cancelled: whoever cleans up or closes afterwards must not
        meet a thread that still writes."""
        loop = asyncio.get_running_loop()
        return await to_its_end(loop.run_in_executor(self._threads, partial(work, *given, **named)))


async def to_its_end(work: Awaitable[Result]) -> Result:
    """Awaited to its end even when cancelled, however often; only then the cancellation goes on."""
    job = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        while not job.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([job])
        raise
