"""The machine's clock and dice."""

from __future__ import annotations

import asyncio
import random
import time


class SystemClock:
    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def jitter(self) -> float:
        # Spreads load; nothing secret hangs on it.
        return random.uniform(-1, 1)
