"""Outgoing: carries from the store to the log, and only then forgets: letters from the tray, news of the journal.

Killed anywhere, it appends again: who reads a letter twice decides the same, and registration skips it; who
watches the journal counts a line twice.
"""

from __future__ import annotations

from collections.abc import Callable

from hub.domain.submission import RoutingFacts
from hub.ports.log import Log, Record, Topic
from hub.ports.outgoing import Journal, News, Tray


class OutgoingRoom:
    """`write` turns routing facts into a record (see `hub.wire`)."""

    def __init__(
        self, tray: Tray, log: Log, write: Callable[[RoutingFacts], Record], page: int = 500
    ) -> None:
        self._tray = tray
        self._log = log
        self._write = write
        self._page = page

    async def run_once(self, wait: float) -> int:
        """One page of letters; waits up to `wait` seconds for the first. How many were carried."""
        letters = await self._tray.letters(self._page)
        if not letters:
            await self._tray.wait(wait)
            return 0
        await self._log.append(Topic.SUBMISSIONS, [self._write(letter.content) for letter in letters])
        await self._tray.discard([letter.position for letter in letters])
        return len(letters)


class NewsRoom:
    """Only where somebody reads the journal's topic: it is trimmed when its readers have done it."""

    def __init__(self, journal: Journal, log: Log, write: Callable[[News], Record], page: int = 1000) -> None:
        self._journal = journal
        self._log = log
        self._write = write
        self._page = page

    async def run_once(self) -> int:
        """One page; how many lines were carried."""
        news = await self._journal.news(self._page)
        if news:
            await self._log.append(Topic.JOURNAL, [self._write(one) for _, one in news])
            await self._journal.carried(news[-1][0])
        return len(news)
