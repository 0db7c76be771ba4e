"""Attachments as they lie, in a folder or a bucket: read and laid down sealed, under the names they have.

Business of this file: what carries a whole attachment store to another place. No key is needed: a file's name
is bound into what seals it, so it opens there as it did here, and under no other name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path

from obstore import head_async
from obstore import list as list_objects

from hub.adapters.objects.bucket import Bucket, served
from hub.adapters.objects.local import SHELVES, WRITING, Draft, begin_draft
from hub.adapters.objects.s3 import is_kept, ranged, take_back, verify
from hub.adapters.objects.streams import NAME, NOT_THERE, PAGE, PIECE, Given, Result, Threads, to_its_end
from hub.adapters.objects.upload import Digest, Upload
from hub.domain.errors import SettingsError, Unavailable

Sealed = Callable[[], AsyncGenerator[bytes, None]]


class SealedFolder:
    """Implements `hub.ports.attachments.SealedFiles` on a folder of `LocalAttachments` that no hub works on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = Threads()
        self._durable: set[Path] = set()

    async def sizes(self) -> AsyncIterator[Sequence[tuple[str, int]]]:
        for shelf in SHELVES:
            found = await self._run(_sizes, self._folder / shelf)
            for at in range(0, len(found), PAGE):
                yield found[at : at + PAGE]

    async def sealed(self, name: str) -> AsyncGenerator[bytes, None]:
        path, at = self._path(name), 0
        while piece := await self._run(_piece, path, at):
            yield piece
            at += len(piece)

    async def take(self, name: str, size: int, sealed: Sealed) -> bool:
        there = await self._run(_size, self._path(name))
        if there is not None:
            if there != size or not await self._equal(name, sealed):
                raise _taken(name)
            return False
        draft = Draft(self._folder / name[:2], name)
        try:
            await self._run(self._begin, draft, name)
            async with contextlib.aclosing(sealed()) as pieces:
                async for piece in pieces:
                    await self._run(draft.write, piece)
            await self._run(draft.link)
            return True
        except (Exception, asyncio.CancelledError):
            with contextlib.suppress(Unavailable):
                await self._run(draft.discard)
            raise

    async def _equal(self, name: str, sealed: Sealed) -> bool:
        here, there = await _digest(self.sealed(name), self._threads), await _digest(sealed(), self._threads)
        return here.etag() == there.etag()

    def _begin(self, draft: Draft, name: str) -> None:
        # Of a run that was killed: nobody else writes here.
        (self._folder / name[:2] / (name + WRITING)).unlink(missing_ok=True)
        begin_draft(self._folder, draft, self._durable)

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise Unavailable(NOT_THERE)
        return self._folder / name[:2] / name

    async def _run(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        try:
            return await self._threads.run(work, *given, **named)
        except FileNotFoundError:
            raise Unavailable(NOT_THERE) from None
        except OSError as error:
            raise Unavailable(f"the attachments' folder: {error.strerror or error}") from error


class SealedBucket:
    """Implements `hub.ports.attachments.SealedFiles` on a bucket. Raises SettingsError; asks nobody anything."""

    def __init__(self, bucket: Bucket) -> None:
        self._store = bucket.open()
        self._grace = bucket.patience / 3
        self._threads = Threads()

    async def sizes(self) -> AsyncIterator[Sequence[tuple[str, int]]]:
        pages = aiter(list_objects(self._store, chunk_size=PAGE))
        while True:
            with served():
                page = await anext(pages, None)
            if page is None:
                return
            yield [(found["path"], found["size"]) for found in page if NAME.fullmatch(found["path"])]

    async def sealed(self, name: str) -> AsyncGenerator[bytes, None]:
        size = await self._size(name)
        if size is None:
            raise Unavailable(NOT_THERE)
        for start in range(0, size[0], PIECE):
            yield await ranged(self._store, name, start, min(start + PIECE, size[0]))

    async def take(self, name: str, size: int, sealed: Sealed) -> bool:
        there = await self._size(name)
        if there is not None:
            digest = await _digest(sealed(), self._threads) if there[0] == size else None
            if digest is None or not await is_kept(self._store, name, *there, digest, self._threads):
                raise _taken(name)
            return False
        digest, upload = Digest(), Upload(self._store, name)
        try:
            async with contextlib.aclosing(sealed()) as pieces:
                async for piece in pieces:
                    await self._threads.run(digest.add, piece)
                    await upload.add(piece)
            await verify(self._store, name, digest, await upload.finish(), self._threads)
            return not upload.taken
        except (Exception, asyncio.CancelledError):
            await to_its_end(take_back(self._store, name, upload, self._grace))
            raise

    async def _size(self, name: str) -> tuple[int, str | None] | None:
        """With its ETag; None when it is not there."""
        if not NAME.fullmatch(name):
            raise Unavailable(NOT_THERE)
        with served():
            try:
                found = await head_async(self._store, name)
            except FileNotFoundError:
                return None
        return found["size"], found["e_tag"]


def _taken(name: str) -> SettingsError:
    return SettingsError(f"under the name {name} lies another file than the one that belongs there")


async def _digest(sealed: AsyncGenerator[bytes, None], threads: Threads) -> Digest:
    digest = Digest()
    async with contextlib.aclosing(sealed) as pieces:
        async for piece in pieces:
            await threads.run(digest.add, piece)
    return digest


def _sizes(shelf: Path) -> list[tuple[str, int]]:
    try:
        with os.scandir(shelf) as entries:
            found = [
                (entry.name, entry.stat(follow_symlinks=False).st_size)
                for entry in entries
                if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    return sorted(found)


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return None


def _piece(path: Path, at: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return os.pread(descriptor, PIECE, at)
    finally:
        os.close(descriptor)
