"""Parcels placed in a partner's directory: each appears whole, under a name that is never overwritten.

Business of this file: a page of parcels on one session. What is written goes under a hidden name made of delivery,
sending and attempt; one rename, or a link, makes it visible; a parcel that is there already is recognised. It decides
no retry.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import asyncssh

from connectors.layouts import Entry, Layout, packed, packed_size
from connectors.parcels import patience
from connectors.sftp import uploads
from connectors.sftp.judging import ABSENT, FAULTS, is_answer, judge
from connectors.sftp.sessions import Session
from connectors.sftp.settings import Target
from hub.domain.delivery import About, Attempt, Deferred, Delivered, Outcome, Refused
from hub.domain.errors import HubError
from hub.ports.connector import Parcel

_HIDDEN = re.compile(
    r"\.(?P<delivery>[0-9a-f-]{36})\.(?P<sending>[0-9]{1,9})\.(?P<number>[0-9]{1,9})(\.[0-9]{1,9})?\.(part|gone)"
)

T = TypeVar("T")


@dataclass(slots=True)
class Visit:
    """One session for a page of parcels. Once it is broken, whatever is still to do shares that outcome: a
    page must not wait for the same silent server one parcel after the other."""

    session: Session
    target: Target
    broken: Deferred | Refused | None = None
    _closed: dict[str, Deferred | Refused] = field(default_factory=dict)
    _leftovers: dict[str, list[str]] = field(default_factory=dict)

    async def prepare(self, parcels: Sequence[Parcel]) -> None:
        """Looks at each directory that these go to, once: whether it is there, and what earlier attempts left."""
        directories: dict[str, bool] = {}
        for parcel in parcels:
            tried = (parcel.attempt.sending, parcel.attempt.number) > (1, 1)
            directory = self.target.directory_of(parcel)
            directories[directory] = directories.get(directory, False) or tried
        for directory, tried in directories.items():
            if self.broken is not None:
                return
            try:
                await self._enter(directory)
                if tried:
                    self._leftovers[directory] = await self._hidden(directory)
            except FAULTS as fault:
                self._closed[directory] = judge(fault)
                if not is_answer(fault) and not isinstance(fault, NotADirectoryError):
                    self._break(judge(fault))

    async def deliver(self, parcel: Parcel) -> Outcome:
        directory = self.target.directory_of(parcel)
        told = self.broken or self._closed.get(directory)
        if told is not None:
            return told
        size = sum(file.size for file in parcel.files)
        try:
            async with asyncio.timeout(patience(size, self.session.limit)):
                outcome = await self._place(parcel, directory)
                await self._clear(directory, parcel.attempt)
            return outcome
        except FAULTS as fault:
            outcome = judge(fault)
            if isinstance(fault, asyncssh.SFTPFailure) and await self._is_full(directory, parcel):
                outcome = Deferred("sftp.no_space")
            if outcome.cause == "sftp.no_space":
                # The rest of the page would be sent in vain, byte for byte.
                self.broken = outcome
                return outcome
            return outcome if is_answer(fault) else self._break(outcome)

    def _break(self, outcome: Deferred | Refused) -> Deferred | Refused:
        self.broken = self.broken or outcome
        self.session.abort()
        return self.broken

    # --- directories ---

    async def _enter(self, directory: str) -> None:
        if await self.session.is_directory(directory):
            return
        if self.target.make_directories:
            parts = directory.split("/")
            for end in range(1, len(parts) + 1):
                path = "/".join(parts[:end])
                if path and not await self.session.is_directory(path):
                    # Another worker may be quicker: whether it is there now is what counts.
                    with suppress(asyncssh.SFTPError):
                        await self.session.soon(self.session.sftp.mkdir(path))
            if await self.session.is_directory(directory):
                return
        raise NotADirectoryError

    async def _hidden(self, directory: str) -> list[str]:
        """Listed only when a parcel was tried before: a first attempt has left nothing, and directories can be long."""
        found: list[str] = []
        entries = self.session.sftp.scandir(directory)
        try:
            while (entry := await self.session.soon(anext(entries, None))) is not None:
                name = str(entry.filename)
                if _HIDDEN.fullmatch(name):
                    found.append(name)
        except asyncssh.SFTPError as fault:
            # A server that does not let its directory be listed still takes parcels.
            if not is_answer(fault):
                raise
        return found

    async def _is_full(self, directory: str, parcel: Parcel) -> bool:
        """Version 3 has no word for a full disk; most servers tell how much room there is."""
        try:
            told = await self.session.soon(self.session.sftp.statvfs(directory))
        except FAULTS:
            return False
        needed = sum(file.size + told.frsize for file in parcel.files)
        return bool(told.bavail * told.frsize < needed)

    # --- placing ---

    async def _place(self, parcel: Parcel, directory: str) -> Outcome:
        name = self.target.layout.name(parcel)
        final = f"{directory}/{name}"
        receipt = name if directory == self.target.directory else f"{directory}/{name}"
        entries = await self.target.layout.entries(parcel, self.target.origin)
        placing = _Placing(self, parcel, directory, final, entries)
        # At the first attempt it is not there, and if it is, placing it finds that out.
        first = (parcel.attempt.sending, parcel.attempt.number) == (1, 1)
        there = None if first else await placing.compare()
        if there is None:
            there = await placing.place()
        if not there:
            return Refused("sftp.conflict", About.PARCEL)
        marker = self.target.marker_of(name)
        if marker is not None:
            await uploads.make_empty(self.session, f"{directory}/{marker}")
        return Delivered(receipt)

    # --- what earlier attempts left ---

    async def _clear(self, directory: str, attempt: Attempt) -> None:
        """Never fails a delivery: what cannot be cleared now is tried again by a later attempt."""
        mine = (attempt.sending, attempt.number)
        names = self._leftovers.get(directory, ())
        older = [name for name in names if (told := _attempt_of(name, attempt)) and told < mine]
        for count, name in enumerate(older, 1):
            with suppress(asyncssh.SFTPError):
                await self.set_aside(directory, name, attempt, count)

    async def set_aside(self, directory: str, name: str, attempt: Attempt, count: int) -> None:
        """Renamed before it is emptied: a worker that only seemed dead may still write into it, and must not find it
        again to publish half of a parcel."""
        gone = f"{directory}/.{attempt.delivery}.{attempt.sending}.{attempt.number}.{count}.gone"
        if name.endswith(".gone"):
            gone = f"{directory}/{name}"
        else:
            await self.session.soon(self.session.sftp.rename(f"{directory}/{name}", gone))
        await self.remove(gone)

    async def remove(self, path: str) -> None:
        """A file, or a folder with the files in it."""
        sftp, soon = self.session.sftp, self.session.soon
        try:
            await soon(sftp.remove(path))
            return
        except asyncssh.SFTPError as fault:
            if not is_answer(fault):
                raise
        for name in await soon(sftp.listdir(path)):
            if name not in (".", ".."):
                await soon(sftp.remove(f"{path}/{name}"))
        await soon(sftp.rmdir(path))


@dataclass(frozen=True, slots=True)
class _Placing:
    """One parcel on its way to its final name."""

    visit: Visit
    parcel: Parcel
    directory: str
    final: str
    entries: Sequence[Entry]

    @property
    def _session(self) -> Session:
        return self.visit.session

    @property
    def _layout(self) -> Layout:
        return self.visit.target.layout

    async def compare(self) -> bool | None:
        """None when nothing stands under the final name; else whether it is this parcel. What the partner added to a
        folder is its own business; our files must all be there, unchanged."""
        try:
            size = (await self._session.soon(self._session.sftp.stat(self.final))).size
        except ABSENT:
            return None
        if self._layout.is_packed:
            return await self._is_archive(size)
        to_read = sum(entry.size for entry in self.entries) <= self.visit.target.read_back
        for entry in self.entries:
            if not await self._is_there(f"{self.final}/{entry.name}", entry, to_read):
                return False
        return True

    async def _is_archive(self, size: int | None) -> bool:
        wanted = packed_size(self.entries)
        if size is not None and size != wanted:
            return False
        if wanted > self.visit.target.read_back:
            return True
        try:
            return await uploads.holds(
                self._session, self.final, packed(self.entries, self.parcel.received_at)
            )
        except asyncssh.SFTPPermissionDenied:
            return True

    async def _is_there(self, path: str, entry: Entry, to_read: bool) -> bool:
        try:
            size = (await self._session.soon(self._session.sftp.stat(path))).size
            if size != entry.size or not to_read:
                return size == entry.size
            return await uploads.digest(self._session, path) == entry.sha256
        except ABSENT:
            return False
        except asyncssh.SFTPPermissionDenied:
            # A drop box may be written and not read. The final name was given after the last byte.
            return True

    async def place(self) -> bool:
        """True: it is there. False: something else is. Raises what `judge` understands."""
        part = f"{self.directory}/{_part_name(self.parcel.attempt)}"
        try:
            if self._layout.is_packed:
                file = await self._begun(part, partial(uploads.created, self._session))
                await uploads.write(self._session, file, packed(self.entries, self.parcel.received_at))
                return await self._publish_file(part)
            await self._begun(part, self._make_folder)
            for entry in self.entries:
                await self._write(f"{part}/{entry.name}", entry)
            await self._session.soon(self._session.sftp.rename(part, self.final))
        except (asyncssh.SFTPError, HubError) as fault:
            with suppress(asyncssh.SFTPError):
                await self.visit.remove(part)
            # Another attempt of this delivery may have been quicker.
            found = await self.compare() if isinstance(fault, asyncssh.SFTPError) else None
            if found is None:
                raise
            return found
        return True

    async def _write(self, path: str, entry: Entry) -> None:
        if uploads.fits(self._session, entry.size):
            content = b"".join([chunk async for chunk in entry.open(0, None)])
            await uploads.write_small(self._session, path, content)
        else:
            file = await uploads.created(self._session, path)
            await uploads.write(self._session, file, uploads.in_order(entry.open(0, None)))

    async def _begun(self, part: str, begin: Callable[[str], Awaitable[T]]) -> T:
        """Perhaps this very attempt was begun before, and its end was forgotten: then it is begun again."""
        try:
            return await begin(part)
        except asyncssh.SFTPError as fault:
            if not is_answer(fault):
                raise
            try:
                attempt = self.parcel.attempt
                await self.visit.set_aside(self.directory, _part_name(attempt), attempt, 0)
            except asyncssh.SFTPError:
                raise fault from None
            return await begin(part)

    async def _make_folder(self, part: str) -> None:
        await self._session.soon(self._session.sftp.mkdir(part))

    async def _publish_file(self, part: str) -> bool:
        """A hard link never overwrites; what a server's rename does with a name that is taken, nobody knows."""
        session = self._session
        if session.links:
            try:
                await session.soon(session.sftp.link(part, self.final))
            except asyncssh.SFTPError as fault:
                if not is_answer(fault):
                    raise
                session.links = False
            else:
                # It is there, whatever becomes of its hidden name.
                with suppress(asyncssh.SFTPError):
                    await session.soon(session.sftp.remove(part))
                return True
        found = await self.compare()
        if found is None:
            await session.soon(session.sftp.rename(part, self.final))
            return True
        await self.visit.remove(part)
        return found


def _part_name(attempt: Attempt) -> str:
    return f".{attempt.delivery}.{attempt.sending}.{attempt.number}.part"


def _attempt_of(name: str, attempt: Attempt) -> tuple[int, int] | None:
    """(sending, number) that a hidden name of this delivery belongs to; None for any other name."""
    told = _HIDDEN.fullmatch(name)
    if told is None or told["delivery"] != str(attempt.delivery):
        return None
    return int(told["sending"]), int(told["number"])
