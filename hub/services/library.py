"""The library: the rule-book snapshots this process has read, and up to which instant they are certain.

Business of this room: which snapshot was in force when a submission was received. It publishes nothing
and reads no file.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime

from hub.domain.errors import RuleBookError, Unavailable
from hub.domain.rules import RuleBook, Snapshot
from hub.ports.store import RuleBooks

_KEPT = 4


class Library:
    """`read` turns an edition's content into a rule book (see `hub.wire`)."""

    def __init__(self, editions: RuleBooks, read: Callable[[bytes], RuleBook]) -> None:
        self._editions = editions
        self._read = read
        self._list: tuple[tuple[int, datetime], ...] = ()
        self._until = datetime.min.replace(tzinfo=UTC)
        self._books: dict[int, Snapshot] = {}
        self._reading = asyncio.Lock()

    async def at(self, received_at: datetime) -> Snapshot:
        """The snapshot in force at a receipt time, the same for ever: asked again whenever the receipt is
        later than what is certain. Raises RuleBookError when no rule book was ever published, Unavailable
        when it is not certain yet."""
        if received_at > self._until:
            await self._confirm()
        if received_at > self._until:
            # The database's clock stepped back: it is asked again until it has caught up.
            raise Unavailable("which rule book was in force at a receipt is not certain yet")
        return await self._snapshot(self._number_at(received_at))

    async def newest(self) -> Snapshot:
        """The snapshot in force now, for checks whose answer may change (intake)."""
        if not self._list:
            await self._confirm()
        return await self._snapshot(self._number_at(self._until))

    def title(self, procedure: str) -> str:
        """A procedure's title as it is known here, else its code."""
        for number in sorted(self._books, reverse=True):
            found = self._books[number].book.procedures.get(procedure)
            if found is not None:
                return found.title
        return procedure

    async def refresh(self) -> None:
        """Look for newer snapshots; called every few seconds."""
        await self._confirm()

    async def _confirm(self) -> None:
        told = await self._editions.confirm()
        if told.until >= self._until:
            self._list, self._until = told.editions, told.until

    def _number_at(self, instant: datetime) -> int:
        place = bisect_right(self._list, instant, key=lambda edition: edition[1])
        if place == 0:
            raise RuleBookError("no rule book is in force: none was published")
        return self._list[place - 1][0]

    async def _snapshot(self, number: int) -> Snapshot:
        async with self._reading:
            if number not in self._books:
                edition = await self._editions.edition(number)
                book = await asyncio.to_thread(self._read, edition.content)
                while len(self._books) >= _KEPT:
                    self._books.pop(min(self._books))
                self._books[number] = Snapshot(edition.number, edition.effective_from, book)
            return self._books[number]
