"""Several ways to do the same, timed in turn: what else the machine does meanwhile meets all of them."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence

Turn = Callable[[], Awaitable[float]]
"""Seconds it took."""


async def in_turn(turns: int, *contenders: Turn) -> Sequence[float]:
    """The median of each."""
    took: list[list[float]] = [[] for _ in contenders]
    for _ in range(turns):
        for place, contender in enumerate(contenders):
            took[place].append(await contender())
    return [statistics.median(times) for times in took]
