"""The clock and the dice: time and chance, so that nothing inside has to ask the world for them.

Due times, holds and leases are not here: those are the store's database's own clock.
"""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch, for what leaves the hub (links, signatures)."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def jitter(self) -> float:
        """A fresh random number in [-1, 1]."""
        ...
