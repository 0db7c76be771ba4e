"""Replay (rejeu): carries out operators' orders to send again, page by page, through restarts.

It decides nothing: what is sent again was fixed when the order was given, the lanes do the rest.
"""

from __future__ import annotations

from hub.ports.clock import Clock
from hub.ports.store import Replays


class ReplayRoom:
    def __init__(self, replays: Replays, clock: Clock, page: int = 500) -> None:
        self._replays = replays
        self._clock = clock
        self._page = page

    async def run_once(self, wait: float) -> int:
        """One page of unfinished orders; waits `wait` seconds when there is none. How many items."""
        treated = await self._replays.send_again(self._page)
        if not treated:
            await self._clock.sleep(wait)
        return treated
