"""Outgoing: carries letters from the store's tray to the log, and only then forgets them.

Killed anywhere, it appends a letter again: who reads it decides the same, and registration skips it.
"""

from __future__ import annotations

from collections.abc import Callable

from hub.domain.submission import RoutingFacts
from hub.ports.log import Log, Record, Topic
from hub.ports.store import Tray


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
