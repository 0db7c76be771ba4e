"""The library: the rule-book snapshots this process has read, and up to which instant they are certain.

Business of this room: which snapshot was in force when a submission was received. It publishes nothing
and reads no file. No clock of this process has a part in it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from hub.domain.errors import Pruned, RuleBookError, Unavailable
from hub.domain.rule_book import RuleBook, Snapshot
from hub.ports.rule_books import Change, RuleBooks

_KEPT = 4

_Listed = tuple[int, datetime]
"""An edition: its number, and since when it is in force."""

Missing = RuleBookError | Unavailable
"""Why a snapshot cannot be had: its items are gone (Pruned), this process cannot read them (any other
RuleBookError: a newer one wrote them), or it is not certain yet which one it is (Unavailable)."""

log = structlog.get_logger()


class Library:
    """`read` turns what is different from a rule book (None: from nothing) into the one after it (see
    `hub.wire`); it runs in a thread of its own, and raises RuleBookError."""

    def __init__(self, editions: RuleBooks, read: Callable[[RuleBook | None, Change], RuleBook]) -> None:
        self._editions = editions
        self._read = read
        self._list: list[_Listed] = []
        self._until = datetime.min.replace(tzinfo=UTC)
        self._books: dict[int, Snapshot] = {}
        self._reading = asyncio.Lock()

    async def at(self, received_at: datetime) -> Snapshot:
        """The snapshot in force at a receipt time, the same for ever: asked again whenever the receipt is
        later than what is certain. Raises RuleBookError when no rule book was ever published, or its
        edition cannot be had; Unavailable when it is not certain yet."""
        await self._look(received_at)
        if received_at > self._until:
            raise _not_certain()
        return await self._snapshot(self._listed_at(received_at))

    async def in_force(self, receipts: Sequence[datetime]) -> Sequence[Snapshot | Missing]:
        """The same for many receipts at once, each edition read once: for each the snapshot, or why it cannot
        be had; which keeps no other from its own. Raises RuleBookError when no rule book was ever
        published."""
        if not receipts:
            return []
        first, last = min(receipts), max(receipts)
        await self._look(last)
        if last <= self._until and (edition := self._listed_at(first)) == self._listed_at(last):
            # As most pages are: there is nothing to tell apart.
            return [await self._found(edition)] * len(receipts)
        listed = [self._listed_at(received_at) for received_at in receipts]
        certain = {edition for at, edition in zip(receipts, listed, strict=True) if at <= self._until}
        # One after the other, by number: each is read as what is different from the one before.
        found = {edition: await self._found(edition) for edition in sorted(certain)}
        return [
            found[edition] if at <= self._until else _not_certain()
            for at, edition in zip(receipts, listed, strict=True)
        ]

    async def newest(self) -> Snapshot:
        """The snapshot in force now, for checks whose answer may change (intake)."""
        if not self._list:
            await self._confirm()
        return await self._snapshot(self._listed_at(self._until))

    def title(self, procedure: str) -> str:
        """A procedure's title as it is known here, else its code."""
        for number in sorted(self._books, reverse=True):
            found = self._books[number].book.procedures.get(procedure)
            if found is not None:
                return found.title
        return procedure

    async def refresh(self) -> None:
        """Look for newer snapshots, and read the newest before it is needed; called every few seconds."""
        await self._confirm()
        if self._list:
            await self._snapshot(self._list[-1])

    async def _look(self, instant: datetime) -> None:
        if instant > self._until or not self._list:
            await self._confirm()

    async def _confirm(self) -> None:
        """Of several at once, one may come back late: it knows no more than the others, and takes nothing
        away."""
        told = await self._editions.confirm(self._newest_known())
        known = self._newest_known()
        self._list.extend(edition for edition in told.editions if edition[0] > known)
        self._until = max(self._until, told.until)

    def _newest_known(self) -> int:
        return self._list[-1][0] if self._list else 0

    def _listed_at(self, instant: datetime) -> _Listed:
        place = bisect_right(self._list, instant, key=lambda edition: edition[1])
        if place == 0:
            raise RuleBookError("no rule book is in force: none was published")
        return self._list[place - 1]

    async def _found(self, edition: _Listed) -> Snapshot | RuleBookError:
        try:
            return await self._snapshot(edition)
        except Pruned as error:
            return error
        except RuleBookError as error:
            log.error("rule_book.unreadable", edition=edition[0])
            return error

    async def _snapshot(self, edition: _Listed) -> Snapshot:
        number, effective_from = edition
        if number in self._books:
            return self._books[number]
        async with self._reading:
            # Whoever waited here for the same one finds it now.
            if number not in self._books:
                book = await self._load(number)
                while len(self._books) >= _KEPT:
                    self._books.pop(min(self._books))
                self._books[number] = Snapshot(number, effective_from, book)
            return self._books[number]

    async def _load(self, number: int) -> RuleBook:
        """As what is different from the nearest one here, so that both share what is not."""
        nearest = min(self._books, key=lambda known: abs(known - number), default=None)
        if nearest is not None:
            try:
                change = await self._editions.changes(nearest, number)
                return await asyncio.to_thread(self._read, self._books[nearest].book, change)
            except Pruned:
                # Perhaps only the nearest one's items are gone.
                pass
        return await asyncio.to_thread(self._read, None, await self._editions.changes(0, number))


def _not_certain() -> Unavailable:
    # The database's clock stepped back: it is asked again until it has caught up.
    return Unavailable("which rule book was in force at a receipt is not certain yet")
