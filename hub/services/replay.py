"""Replay (rejeu): carries out operators' orders to send again, page by page, through restarts.

What is sent again was fixed when the order was given, and the lanes do the rest. By the rules of today,
submissions are decided by the rule book that is in force when their page is.
"""

from __future__ import annotations

import structlog

from hub.domain.errors import RuleBookError
from hub.domain.matching import match
from hub.ports.clock import Clock
from hub.ports.replays import Replays, TodaysRules
from hub.services.library import Library

log = structlog.get_logger()


class ReplayRoom:
    def __init__(self, replays: Replays, library: Library, clock: Clock, page: int = 500) -> None:
        self._replays = replays
        self._library = library
        self._clock = clock
        self._page = page

    async def run_once(self, wait: float) -> int:
        """One page of a running order; waits `wait` seconds when there is none. How many items."""
        try:
            treated = await self._replays.send_again(self._page, self._rules)
        except RuleBookError as error:
            # Those by the rules of then need no rule book: one that cannot be read keeps none of them waiting.
            log.error("replay.waits", error=type(error).__name__, reason=str(error))
            treated = await self._replays.send_again(self._page)
        if not treated:
            await self._clock.sleep(wait)
        return treated

    async def _rules(self) -> TodaysRules:
        await self._library.refresh()
        snapshot = await self._library.newest()
        return TodaysRules(snapshot.number, lambda facts: match(facts, snapshot.book))
