"""Attachments in a bucket of Amazon S3, or of any store that speaks it.

Business of this room: sealed files that are whole or absent under their names, whatever happens to the
process, the network or the store. Not its business: how streams become sealed bytes
(`hub.adapters.objects.streams`), how they travel (`hub.adapters.objects.upload`), and which submission a
file belongs to.

A file is kept when the store tells of it what was sent: its length and its ETag, asked for under its name
after it arrived. Where ETags are no MD5 (a store that encrypts under keys of its own), all of it is read
back instead. On its way each request carries the SHA-256 of its body in its signature, which a store checks.

What a bucket must be set to: uploads that were not completed are aborted after a day (a killed process
leaves some, which no listing shows and no reader can open); no versions are kept, or only for days: what is
removed here would stay there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from obstore import delete_async, get_async, get_range_async, head_async, put_async
from obstore import list as list_objects
from obstore.exceptions import AlreadyExistsError, GenericError
from obstore.store import S3Store

from hub.adapters.objects.bucket import Bucket, served
from hub.adapters.objects.sealing import HEADER, Opener, Run, opening
from hub.adapters.objects.streams import (
    NAME,
    NOT_THERE,
    PAGE,
    PIECE,
    Sealing,
    Threads,
    fresh_name,
    pieces,
    to_its_end,
)
from hub.adapters.objects.upload import Digest, Upload
from hub.domain.errors import Tampered, Unavailable
from hub.ports.attachments import StoredFile
from hub.ports.keyring import DataKey

# Runs that a reader has asked for before it needs them: the store's answers take their time.
AHEAD = 3

MARK = "attachments.store"


class S3Attachments:
    """Raises SettingsError when the bucket's settings cannot be used; asks nobody anything.

    A name this adapter cannot have made is a name that is not there. Several processes may share a bucket.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._store = bucket.open()
        self._grace = bucket.patience / 3
        self._threads = Threads()

    async def put(self, chunks: AsyncIterator[bytes], key: DataKey) -> StoredFile:
        name = fresh_name()
        sealing, digest = Sealing(key, name), Digest()
        upload = Upload(self._store, name)
        try:
            async with contextlib.aclosing(pieces(chunks)) as plain:
                async for piece in plain:
                    await upload.add(await self._threads.run(_sealed, sealing, digest, piece))
            await upload.add(await self._threads.run(_sealed, sealing, digest, None))
            await verify(self._store, name, digest, await upload.finish(), self._threads)
            return sealing.told()
        except (Exception, asyncio.CancelledError):
            await to_its_end(take_back(self._store, name, upload, self._grace))
            raise

    async def read(
        self, name: str, key: DataKey, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        if not NAME.fullmatch(name):
            raise Unavailable(NOT_THERE)
        begun, size = await self._begun(name, opening(start, end))
        opener = Opener(key, name, begun[:HEADER], size)
        async with contextlib.aclosing(self._runs(name, begun, opener.runs(start, end))) as runs:
            async for run, sealed in runs:
                plain = await self._threads.run(opener.open, run, sealed)
                if plain:
                    yield plain

    async def remove(self, names: Sequence[str]) -> None:
        ours = [name for name in names if NAME.fullmatch(name)]
        for at in range(0, len(ours), PAGE):
            with served():
                await delete_async(self._store, ours[at : at + PAGE])

    async def names_older_than(self, age: timedelta) -> AsyncIterator[Sequence[str]]:
        """By the store's clock. What came in parts counts from when it was begun."""
        limit = datetime.now(UTC) - age
        pages = aiter(list_objects(self._store, chunk_size=PAGE))
        while True:
            with served():
                page = await anext(pages, None)
            if page is None:
                return
            names = [
                found["path"]
                for found in page
                if NAME.fullmatch(found["path"]) and found["last_modified"] < limit
            ]
            if names:
                yield names

    async def room(self) -> float:
        return 1.0

    async def owner(self, store: str) -> str:
        """Whose files lie here: from now on those of `store`, if it was nobody yet. Raises Unavailable, also
        when this hub may not read or write here."""
        with served():
            found = await self._mark()
            if found is None:
                with contextlib.suppress(AlreadyExistsError):
                    await put_async(self._store, MARK, store.encode(), mode="create")
                found = await self._mark()
            return found or ""

    async def known_owner(self) -> str | None:
        """The same, and nothing is written; None: they are nobody's. Raises Unavailable."""
        with served():
            return await self._mark()

    async def _mark(self) -> str | None:
        try:
            told = await get_async(self._store, MARK)
        except FileNotFoundError:
            return None
        return bytes(await told.bytes_async()).decode("ascii", "replace").strip()

    async def _begun(self, name: str, until: int) -> tuple[bytes, int]:
        """The first sealed bytes, up to `until`, and how many there are. Raises Tampered when there is none."""
        with served():
            try:
                told = await get_async(self._store, name, options={"range": (0, until)})
                return bytes(await told.bytes_async()), told.meta["size"]
            except FileNotFoundError:
                raise Unavailable(NOT_THERE) from None
            except GenericError as error:
                # No range of an empty file can be had (status 416), and that is all the library tells.
                if "416" not in str(error) or (await head_async(self._store, name))["size"]:
                    raise
        raise Tampered

    async def _runs(
        self, name: str, begun: bytes, runs: Iterator[Run]
    ) -> AsyncGenerator[tuple[Run, bytes], None]:
        """Each run with its sealed bytes. A request for each: one for all would be broken off by the store
        while a slow partner takes its time."""
        asked: deque[tuple[Run, asyncio.Task[bytes]]] = deque()
        try:
            while True:
                for run in islice(runs, AHEAD - len(asked)):
                    asked.append((run, asyncio.create_task(self._run(name, begun, run))))
                if not asked:
                    return
                run, task = asked[0]
                sealed = await task
                asked.popleft()
                yield run, sealed
        finally:
            for _, task in asked:
                task.cancel()
            await asyncio.gather(*(task for _, task in asked), return_exceptions=True)

    async def _run(self, name: str, begun: bytes, run: Run) -> bytes:
        if run.end <= len(begun):
            return begun[run.start : run.end]
        return await self._range(name, run.start, run.end)

    async def _range(self, name: str, start: int, end: int) -> bytes:
        return await ranged(self._store, name, start, end)


async def take_back(store: S3Store, name: str, upload: Upload, grace: float) -> None:
    """What failed half way is not there, if it is ours."""
    await upload.give_up(grace)
    if upload.may_be_there and not upload.taken:
        # A store that is away leaves the file to the sweep; the first error says more.
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(grace):
                with served():
                    await delete_async(store, [name])


async def verify(store: S3Store, name: str, digest: Digest, told: str | None, threads: Threads) -> None:
    """Raises Unavailable when the store keeps anything but what was sent; `told`: what it said of that."""
    with served():
        found = await head_async(store, name)
    if (told is not None and _bare(told) != _bare(found["e_tag"])) or not await is_kept(
        store, name, found["size"], found["e_tag"], digest, threads
    ):
        raise Unavailable("the attachments' bucket keeps something else than it was sent")


async def is_kept(
    store: S3Store, name: str, size: int, etag: str | None, digest: Digest, threads: Threads
) -> bool:
    """Whether a file of this size and ETag is what the digest is of. Raises Unavailable."""
    if size != digest.size:
        return False
    if _bare(etag) == digest.etag():
        return True
    again = Digest()
    for start in range(0, size, PIECE):
        sealed = await ranged(store, name, start, min(start + PIECE, size))
        await threads.run(again.add, sealed)
    return again.etag() == digest.etag()


async def ranged(store: S3Store, name: str, start: int, end: int) -> bytes:
    """Sealed bytes [start, end). Raises Unavailable."""
    with served():
        return bytes(await get_range_async(store, name, start=start, end=end))


def _bare(etag: str | None) -> str:
    """Stores quote ETags in headers, and not all of them in documents."""
    return (etag or "").strip('"')


def _sealed(sealing: Sealing, digest: Digest, piece: bytearray | None) -> bytes:
    """Of a piece, or of the end."""
    sealed = sealing.finish() if piece is None else sealing.add(piece)
    digest.add(sealed)
    return sealed
