"""Return folders: the files that a partner left, read and later taken away.

Business of this file: which files are looked at, which of them are documents that another one returns, and that one
which is still being written, or cannot be read, stops none of the others. What a file says is
`connectors.acknowledgements`' business.
"""

from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

import asyncssh

from connectors.acknowledgements import LARGEST, Unreadable, read_acknowledgement
from connectors.sftp import uploads
from connectors.sftp.judging import ABSENT, is_answer
from connectors.sftp.sessions import Session
from connectors.sftp.settings import Target
from hub.domain.reports import ReturnedFile
from hub.ports.returns import STEM, DocumentAway, FoundFile, SeenFile

LISTED = 10_000
"""Entries of the folder that are looked at."""

LONGEST_NAME = 255
"""Bytes: no file system has longer ones, so it is no file that could be read."""

AGAIN = 10
"""How many times as many files as are wanted are read, of those that wait for their documents."""

_UNFINISHED = (".part", ".tmp", ".filepart", ".swp", ".lock")


async def collect(
    session: Session, target: Target, most: int, passed: Collection[bytes], until: float
) -> Sequence[FoundFile]:
    """Ends by `until`, a time of the loop, with what was read; raises what `judge` understands, a TimeoutError too when
    that is nothing."""
    folder = target.return_directory
    async with asyncio.timeout_at(until):
        if folder is None or not await session.is_directory(folder):
            raise NotADirectoryError
        there = {file.name: file for file in await _listed(session, folder)}
    known, read = set(passed), list[FoundFile]()
    new, waiting = _pages(there.values(), known, AGAIN * most)
    try:
        async with asyncio.timeout_at(until):
            for file in new:
                if len(read) >= most:
                    break
                read += await _found(session, target, file, there)
            for file in waiting:
                read += await _found(session, target, file, there)
    except TimeoutError:
        # What was asked last may still be answered: nothing else is asked on this connection.
        session.abort()
        if not read:
            raise
    documents = {one.document.name for one in read if one.document is not None}
    found = [
        one
        for one in read
        if one.mark not in known and (one.document is not None or one.seen.name not in documents)
    ]
    return sorted(found, key=lambda one: _age(one.seen))[:most]


def _pages(
    there: Iterable[SeenFile], known: Collection[bytes], most: int
) -> tuple[Sequence[SeenFile], Sequence[SeenFile]]:
    """Those that are new, and those that were told and wait for their document, which are read again each time, to see
    whether it has come: the eldest first, at most so many of either. However many wait, what is new does not."""
    told = {mark[:STEM] for mark in known}
    new: list[SeenFile] = []
    waiting: list[SeenFile] = []
    for file in sorted(there, key=_age):
        mark = file.mark
        if mark not in known:
            (waiting if mark[:STEM] in told else new).append(file)
    return new[:most], waiting[:most]


def _age(file: SeenFile) -> tuple[int, str]:
    return file.modified, file.name


async def _found(
    session: Session, target: Target, file: SeenFile, there: Mapping[str, SeenFile]
) -> Sequence[FoundFile]:
    """One or none."""
    one = await _read(session, str(target.return_directory), file)
    return [] if one is None else [_with_document(one, there, target.return_max_size)]


def _with_document(file: FoundFile, there: Mapping[str, SeenFile], largest: int) -> FoundFile:
    if file.said is None or file.said.document is None:
        return file
    document, told = there.get(file.said.document.name), file.said.document
    if document is None or document.name == file.seen.name:
        return replace(file, flaw="document_missing")
    return replace(file, document=document, flaw=_flaw(document, file.seen, told, largest))


def _flaw(document: SeenFile, by: SeenFile, told: ReturnedFile, largest: int) -> str | None:
    if document.size > largest:
        return "document_too_large"
    # One of another size, or that was written to since, may still be being written.
    if told.size is not None and told.size != document.size:
        return "document_size"
    if told.size is None and told.sha256 is None and document.modified > by.modified:
        return "document_later"
    return None


async def read(session: Session, target: Target, document: SeenFile) -> AsyncGenerator[bytes, None]:
    """Raises what `judge` understands; DocumentAway when it is not, before or after, as it was seen."""
    path = f"{target.return_directory}/{document.name}"
    await _unchanged(session, path, document)
    left = document.size
    async with aclosing(uploads.pieces(session, path)) as given:
        async for piece in given:
            left -= len(piece)
            if left < 0:
                break
            yield piece
    if left != 0:
        raise DocumentAway("document_changed")
    await _unchanged(session, path, document)


async def _unchanged(session: Session, path: str, document: SeenFile) -> None:
    if _seen(document.name, await session.soon(session.sftp.stat(path))) != document:
        raise DocumentAway("document_changed")


async def take_away(session: Session, target: Target, files: Sequence[SeenFile], until: float) -> None:
    """Raises what `judge` understands, a TimeoutError too at `until`."""
    async with asyncio.timeout_at(until):
        await _take_each(session, target, files)


async def _take_each(session: Session, target: Target, files: Sequence[SeenFile]) -> None:
    refused: asyncssh.SFTPError | NotADirectoryError | None = None
    for file in files:
        try:
            await _take(session, target, file)
        except ABSENT:
            continue
        except NotADirectoryError as fault:
            refused = refused or fault
        except asyncssh.SFTPError as fault:
            if not is_answer(fault):
                raise
            refused = refused or fault
    if refused is not None:
        raise refused


async def _take(session: Session, target: Target, file: SeenFile) -> None:
    path = f"{target.return_directory}/{file.name}"
    if _seen(file.name, await session.soon(session.sftp.stat(path))) != file:
        # Written anew since it was read: it is another file, to be read at the next look.
        return
    if target.return_kept is None:
        await session.soon(session.sftp.remove(path))
    else:
        await _move(session, path, f"{target.return_kept}/{file.name}", file)


async def _move(session: Session, path: str, kept: str, file: SeenFile) -> None:
    try:
        await _rename(session, path, kept)
    except ABSENT:
        raise
    except asyncssh.SFTPError as fault:
        if not is_answer(fault):
            raise
        # There is one of this name from an earlier time.
        await _rename(session, path, f"{kept}.{file.modified}")


async def _rename(session: Session, path: str, to: str) -> None:
    """NotADirectoryError: there is no folder that it could go to."""
    try:
        await session.soon(session.sftp.rename(path, to))
    except ABSENT:
        # Servers say the same of a file that is gone: then they say it again.
        await session.soon(session.sftp.stat(path))
        raise NotADirectoryError from None


async def _listed(session: Session, folder: str) -> list[SeenFile]:
    found: list[SeenFile] = []
    entries = session.sftp.scandir(folder)
    for _ in range(LISTED):
        entry = await session.soon(anext(entries, None))
        if entry is None:
            break
        name = str(entry.filename)
        if _is_file(name, entry.attrs):
            found.append(_seen(name, entry.attrs))
    return found


def _is_file(name: str, attributes: asyncssh.SFTPAttrs) -> bool:
    regular = attributes.permissions is None or stat.S_ISREG(attributes.permissions)
    named = not name.startswith(".") and not name.casefold().endswith(_UNFINISHED) and "/" not in name
    return regular and named and len(name.encode(errors="surrogateescape")) <= LONGEST_NAME


def _seen(name: str, attributes: asyncssh.SFTPAttrs) -> SeenFile:
    return SeenFile(name, attributes.size or 0, int(attributes.mtime or 0))


async def _read(session: Session, folder: str, file: SeenFile) -> FoundFile | None:
    """None when it is gone, or changes while it is read."""
    if not file.name.isprintable():
        return FoundFile(file, "", None, "name")
    try:
        content = await uploads.read_start(session, f"{folder}/{file.name}", LARGEST + 1)
    except ABSENT:
        return None
    except asyncssh.SFTPError as fault:
        if not is_answer(fault):
            raise
        return FoundFile(file, "", None, "not_readable")
    if len(content) != min(file.size, LARGEST + 1):
        return None
    digest = hashlib.sha256(content).hexdigest()
    try:
        return FoundFile(file, digest, read_acknowledgement(content))
    except Unreadable as why:
        return FoundFile(file, digest, None, str(why))
