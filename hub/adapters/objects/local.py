"""Attachments in a folder of this machine.

Business of this room: sealed files that are whole or absent, whatever happens to the process, the power
or the disk. Not its business: how streams become sealed bytes (`hub.adapters.objects.streams`), and which
submission a file belongs to.

A file is written as `<name>.writing` beside its place, made durable, and only then linked to its name.
Names are spread over 256 sub-folders by their first two digits. All work on files, hashing and sealing
included, is done in threads of this room's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from hub.adapters.objects.sealing import HEADER, Opener, Run
from hub.adapters.objects.streams import (
    NAME,
    NOT_THERE,
    PAGE,
    Given,
    Result,
    Sealing,
    Threads,
    fresh_name,
    pieces,
)
from hub.domain.errors import Unavailable
from hub.ports.attachments import StoredFile
from hub.ports.keyring import DataKey

ROOM_KNOWN = 1.0

WRITING = ".writing"
SHELVES = tuple(f"{number:02x}" for number in range(256))
_NAME_OR_WRITING = re.compile(rf"{NAME.pattern}({re.escape(WRITING)})?")


class LocalAttachments:
    """`folder` is made (0700) when it is first written to; its parents must belong to the hub.

    A name this adapter cannot have made is a name that is not there. Several processes may share a folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = Threads()
        self._durable: set[Path] = set()
        self._room = 1.0
        self._room_until = 0.0

    async def put(self, chunks: AsyncIterator[bytes], key: DataKey) -> StoredFile:
        name = fresh_name()
        draft = _SealedDraft(self._shelf(name), name, key)
        try:
            async with contextlib.aclosing(pieces(chunks)) as plain:
                first, second = await anext(plain, bytearray()), await anext(plain, None)
                if second is None:
                    # Most files are small: one turn in a thread instead of three.
                    return await self._run(self._keep_whole, draft, first)
                await self._run(self._begin, draft)
                for piece in (first, second):
                    await self._run(draft.add, piece)
                async for piece in plain:
                    await self._run(draft.add, piece)
            return await self._run(draft.keep)
        except (Exception, asyncio.CancelledError):
            # A disk that refuses even this leaves the file to the sweep; the first error says more.
            with contextlib.suppress(Unavailable):
                await self._run(draft.discard)
            raise

    async def read(
        self, name: str, key: DataKey, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        if not NAME.fullmatch(name):
            raise Unavailable(NOT_THERE)
        reading = _Reading(self._shelf(name), name, key)
        try:
            plain, runs = await self._run(reading.begin, start, end)
            if plain:
                yield plain
            for run in runs:
                plain = await self._run(reading.open, run)
                if plain:
                    yield plain
        finally:
            reading.close()

    async def remove(self, names: Sequence[str]) -> None:
        paths = [self._shelf(name) / name for name in names if _NAME_OR_WRITING.fullmatch(name)]
        for at in range(0, len(paths), PAGE):
            await self._run(_unlink, paths[at : at + PAGE])

    async def names_older_than(self, age: timedelta) -> AsyncIterator[Sequence[str]]:
        for shelf in SHELVES:
            names = await self._run(_written_before, self._folder / shelf, age)
            for at in range(0, len(names), PAGE):
                yield names[at : at + PAGE]

    async def room(self) -> float:
        # Every post asks; a disk does not fill in a moment.
        if time.monotonic() >= self._room_until:
            self._room = await self._run(self._share_free)
            self._room_until = time.monotonic() + ROOM_KNOWN
        return self._room

    def _shelf(self, name: str) -> Path:
        return self._folder / name[:2]

    def _begin(self, draft: Draft) -> None:
        begin_draft(self._folder, draft, self._durable)

    def _keep_whole(self, draft: _SealedDraft, piece: bytearray) -> StoredFile:
        self._begin(draft)
        draft.add(piece)
        return draft.keep()

    def _share_free(self) -> float:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.statvfs(self._folder)
        blocks = found.f_bavail / found.f_blocks if found.f_blocks else 1.0
        # A disk without inodes takes no file either.
        inodes = found.f_favail / found.f_files if found.f_files else 1.0
        return min(blocks, inodes, 1.0)

    async def _run(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        """In a thread. Raises Unavailable where the work raises OSError."""
        try:
            return await self._threads.run(work, *given, **named)
        except OSError as error:
            raise Unavailable(f"the attachments' folder: {error.strerror or error}") from error


class Draft:
    """One file while it is being written. Its methods block; they are called one after the other."""

    def __init__(self, shelf: Path, name: str) -> None:
        self.shelf = shelf
        self._name = name
        self._temporary = shelf / (name + WRITING)
        # What a failure may take away again: a name that was somebody else's is not ours to remove.
        self._ours: list[Path] = []
        self._descriptor: int | None = None

    def begin(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._descriptor = os.open(self._temporary, flags, 0o600)
        self._ours.append(self._temporary)

    def write(self, sealed: bytes) -> None:
        assert self._descriptor is not None
        with memoryview(sealed) as view:
            written = 0
            while written < len(sealed):
                written += os.write(self._descriptor, view[written:])

    def link(self) -> None:
        """It lies durable under its name. Raises FileExistsError when another does."""
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        self._close()
        # Not a rename, which overwrites. Killed between these two, a whole file stays under both names.
        final = self.shelf / self._name
        os.link(self._temporary, final)
        self._ours.append(final)
        os.unlink(self._temporary)
        _sync_folder(self.shelf)

    def discard(self) -> None:
        self._close()
        _unlink(self._ours)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _SealedDraft(Draft):
    """One that is sealed on its way."""

    def __init__(self, shelf: Path, name: str, key: DataKey) -> None:
        super().__init__(shelf, name)
        self._sealing = Sealing(key, name)

    def add(self, piece: bytearray) -> None:
        self.write(self._sealing.add(piece))

    def keep(self) -> StoredFile:
        self.write(self._sealing.finish())
        self.link()
        return self._sealing.told()


def begin_draft(folder: Path, draft: Draft, durable: set[Path]) -> None:
    """`durable`: the folders that this process knows to be there."""
    # Once for each sub-folder in each process, even if it is there: whoever made it may have been
    # killed before it was durable.
    for each in (folder, draft.shelf):
        if each not in durable:
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_folder(each.parent)
            durable.add(each)
    draft.begin()


class _Reading:
    """One file while it is being read. Opened by a method, not by the caller: what a cancelled caller
    would never be handed could not be closed."""

    def __init__(self, shelf: Path, name: str, key: DataKey) -> None:
        self._path = shelf / name
        self._name = name
        self._key = key
        self._descriptor: int | None = None
        self._opener: Opener | None = None

    def begin(self, start: int, end: int | None) -> tuple[bytes, Iterator[Run]]:
        """The first plain bytes of [start, end), and the runs that follow."""
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise Unavailable(NOT_THERE) from None
        size = os.fstat(self._descriptor).st_size
        self._opener = Opener(self._key, self._name, os.pread(self._descriptor, HEADER, 0), size)
        runs = iter(self._opener.runs(start, end))
        first = next(runs, None)
        return b"" if first is None else self.open(first), runs

    def open(self, run: Run) -> bytes:
        assert self._descriptor is not None
        assert self._opener is not None
        return self._opener.open(run, os.pread(self._descriptor, run.end - run.start, run.start))

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _written_before(shelf: Path, age: timedelta) -> list[str]:
    limit = time.time() - age.total_seconds()
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(shelf) as entries:
        for entry in entries:
            if not _NAME_OR_WRITING.fullmatch(entry.name):
                continue
            # Gone since it was listed: removed, or linked to its final name, which is younger anyway.
            with contextlib.suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < limit:
                    names.append(entry.name)
    return names


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
