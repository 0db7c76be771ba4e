"""Routing: from each submission's record to one decision, by the rule book in force when it was received.

Reads and writes the log; reads the rule book; knows no store. A record that cannot be read is decided too:
set aside, with a reason and never its bytes; so is one whose edition of the rule book is gone. But where nobody
can say yet which edition it is, or this process cannot read it (a newer one published it), nothing is decided:
another answer than that of who can read it would stand for ever. Such records wait, and their page with them;
what else stands on it is decided.

A country's submissions pass through here. What is done for each is a few look-ups; all else is done for a page.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from hub.domain.decisions import SetAside
from hub.domain.errors import Invalid, Pruned
from hub.domain.matching import Asked, chosen
from hub.domain.plans import Choice, Grant
from hub.domain.rule_book import Snapshot
from hub.domain.submission import AttachmentFacts
from hub.ports.log import Entry, Log, LogReader, Position, Record, Topic, places
from hub.services.library import Library, Missing
from hub.services.shelf import Shelf, Unread, submission_of

GROUP = "routing"
_UNDECIDED_BY_ANY_BOOK = 0

log = structlog.get_logger()

_PRUNED = Choice((), SetAside("rule_book_pruned"), None)


class Writer(Protocol):
    """Writes the first decision of a submission (the 16 bytes of its id) by what was chosen; see `hub.wire`."""

    def write(
        self,
        submission: bytes,
        snapshot: int,
        found: Choice | Grant,
        files: tuple[AttachmentFacts, ...],
        /,
    ) -> Record: ...


class RoutingRoom:
    """`read` says what matching asks of a record (see `hub.wire`), and raises Invalid. Up to `pages` of `page`
    records are read before all of them are done, with up to `ahead` appends under way."""

    def __init__(
        self,
        journey: Log,
        library: Library,
        read: Callable[[Record], Asked],
        writer: Writer,
        shelf: Shelf,
        page: int = 500,
        pages: int = 40,
        ahead: int = 1,
    ) -> None:
        self._journey = journey
        self._library = library
        self._read = read
        self._writer = writer
        self._shelf = shelf
        self._page = page
        self._pages = pages
        self._ahead = ahead
        # Decided beside what waits: not again at each look at their page.
        self._beside: frozenset[Position] = frozenset()

    async def run_once(self, reader: LogReader, wait: float) -> int:
        """Pages of submissions, as long as there are some; waits up to `wait` seconds for the first. How many
        were read. When some must wait, the others are in the log, and their page is not done: raises why,
        RuleBookError or Unavailable."""
        under_way: deque[asyncio.Task[None]] = deque()
        # Not their records: what is held for long falls out of the processor's caches.
        done: list[Position] = []
        waits: Missing | None = None
        try:
            while waits is None and len(done) < self._page * self._pages:
                entries = await reader.read(self._page, 0 if done else wait)
                if not entries:
                    break
                records, waits = await self._decide(entries)
                under_way.append(asyncio.create_task(self._journey.append(Topic.ROUTINGS, records)))
                while len(under_way) >= self._ahead:
                    await under_way.popleft()
                if waits is None:
                    done += places(entries)
            while under_way:
                await under_way.popleft()
        finally:
            for append in under_way:
                append.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        if done:
            await reader.done(done)
        if waits is not None:
            raise waits
        self._beside = frozenset()
        return len(done)

    async def _decide(self, entries: Sequence[Entry]) -> tuple[list[Record], Missing | None]:
        """In the order of the page, which is that of each partner's numbers; and why some must wait, if any."""
        if self._beside:
            entries = [one for one in entries if one.position not in self._beside]
        readable, told, unread = self._read_all(entries)
        await self._shelf.put(Topic.SUBMISSIONS, unread)
        records = [record for one in unread if (record := self._unreadable(one.entry)) is not None]
        books = await self._library.in_force([asked.received_at for asked in told])
        write, verdicts = self._writer.write, Counter[str]()
        waiting: dict[Position, Missing] = {}
        for entry, asked, book in zip(readable, told, books, strict=True):
            if isinstance(book, Snapshot):
                found = chosen(asked, book.book)
                if not isinstance(found, Grant) and found.verdict is not None:
                    verdicts[type(found.verdict).__name__] += 1
                records.append(write(entry.record.key, book.number, found, asked.attachments))
            elif isinstance(book, Pruned):
                # It was decided once, or its edition would be here: whatever this says is skipped.
                verdicts["SetAside"] += 1
                records.append(write(entry.record.key, _UNDECIDED_BY_ANY_BOOK, _PRUNED, asked.attachments))
            else:
                waiting[entry.position] = book
        log.info(
            "submissions.decided",
            submissions=len(records),
            unroutable=verdicts["Unroutable"],
            set_aside=verdicts["SetAside"] + len(unread),
            waiting=len(waiting),
        )
        if not waiting:
            return records, None
        self._beside |= frozenset(entry.position for entry in entries) - waiting.keys()
        return records, next(iter(waiting.values()))

    def _read_all(self, entries: Sequence[Entry]) -> tuple[list[Entry], list[Asked], list[Unread]]:
        """Those that can be read, what each of them asks, and the others."""
        read = self._read
        try:
            # As most pages are.
            return list(entries), [read(record) for _, record in entries], []
        except Invalid:
            pass
        readable: list[Entry] = []
        told: list[Asked] = []
        unread: list[Unread] = []
        for entry in entries:
            try:
                told.append(read(entry.record))
                readable.append(entry)
            except Invalid as error:
                unread.append(Unread(entry, error))
        return readable, told, unread

    def _unreadable(self, entry: Entry) -> Record | None:
        """The key still names the submission, unless it too is damaged: then nothing is decided."""
        if submission_of(entry.record.key) is None:
            return None
        return self._writer.write(entry.record.key, _UNDECIDED_BY_ANY_BOOK, _UNREADABLE, ())


_UNREADABLE = Choice((), SetAside("unreadable_record"), None)
