"""One sealed file on its way into a bucket.

Business of this room: a small file in one request, a larger one in parts, never more than two of them with
the store; the digest a store should tell of them; and giving up, so that the store forgets what it has.
Not its business: whether to believe the store (`hub.adapters.objects.s3`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from obstore import put_async
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from hub.adapters.objects.bucket import served

# The least that S3 takes as a part, but for the last: it bounds what is in memory, and 10,000 of them a file.
PART = 5 * 1024 * 1024
PARTS_AT_ONCE = 2


class Digest:
    """Of sealed bytes: their number, and what a store that tells MD5 tells of them as their ETag."""

    __slots__ = ("_part", "_parts", "size")

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._part = _md5()

    def add(self, sealed: bytes) -> None:
        at = 0
        with memoryview(sealed) as view:
            while at < len(sealed):
                until = min(at + PART - self.size % PART, len(sealed))
                self._part.update(view[at:until])
                self.size += until - at
                at = until
                if self.size % PART == 0:
                    self._parts.append(self._part.digest())
                    self._part = _md5()

    def etag(self) -> str:
        parts = [*self._parts, self._part.digest()] if self.size % PART else self._parts
        if self.size <= PART:
            return parts[0].hex()
        return f"{_md5(b''.join(parts)).hexdigest()}-{len(parts)}"


class Upload:
    """`add` and `finish` raise Unavailable. A cancelled or failed upload must be given up."""

    def __init__(self, store: S3Store, name: str) -> None:
        self._store = store
        self._name = name
        self._held: list[bytes] = []
        self._size = 0
        self._handed: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._sending: asyncio.Task[str | None] | None = None
        self._given_up = False
        self.taken = False
        """Something lay under this name before: an earlier try of ours whose answer was lost, or another's."""
        self.may_be_there = False
        """The store was asked to keep the file under its name."""

    async def add(self, sealed: bytes) -> None:
        """Waits while two parts are with the store."""
        if not sealed:
            return
        self._size += len(sealed)
        if self._sending is not None:
            await self._hand(sealed)
            return
        self._held.append(sealed)
        if self._size > PART:
            self._sending = asyncio.create_task(self._in_parts())
            for piece in self._held:
                await self._hand(piece)
            self._held.clear()

    async def finish(self) -> str | None:
        """The ETag that the store tells of it; None where the name was taken."""
        self.may_be_there = True
        if self._sending is None:
            self._sending = asyncio.create_task(self._whole())
        else:
            await self._hand(None)
        with served():
            # To its end also when cancelled: what arrives after it was removed would remain.
            return await asyncio.shield(self._sending)

    async def give_up(self, within: float) -> None:
        """Parts that the store has are forgotten by it. After so many seconds of silence they are left to the
        bucket's own rule, and what may be whole to the sweep."""
        self._given_up = True
        if self._sending is None:
            return
        while not self._handed.empty():
            self._handed.get_nowait()
        self._handed.put_nowait(None)
        await asyncio.wait([self._sending], timeout=within)
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)

    async def _hand(self, piece: bytes | None) -> None:
        assert self._sending is not None
        handing = asyncio.create_task(self._handed.put(piece))
        try:
            await asyncio.wait([handing, self._sending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            handing.cancel()
        if self._sending.done():
            with served():
                self._sending.result()

    async def _whole(self) -> str | None:
        try:
            told = await put_async(self._store, self._name, b"".join(self._held), mode="create")
        except AlreadyExistsError:
            self.taken = True
            return None
        return told["e_tag"]

    async def _in_parts(self) -> str | None:
        # S3 has no such condition for what comes in parts: there the name alone must do, 128 random bits.
        told = await put_async(
            self._store,
            self._name,
            self._pieces(),
            use_multipart=True,
            chunk_size=PART,
            max_concurrency=PARTS_AT_ONCE,
        )
        return told["e_tag"]

    async def _pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._handed.get()) is not None:
            yield piece
        if self._given_up:
            # What fails here is aborted at the store; what ends would be completed.
            raise _GivenUp


class _GivenUp(Exception):
    pass


def _md5(content: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(content, usedforsecurity=False)
