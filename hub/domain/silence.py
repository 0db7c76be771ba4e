"""Silence: whether a flow that usually comes has stopped. Pure; hours are counted from the epoch.

A flow's history is how much came in each of its hours, those without anything left out, for the last four weeks.
What should have come since is what came in the same hours of the weeks before: nights and Sundays are quiet by
themselves, and a town hall that gets one birth certificate a month is never missed.
"""

from __future__ import annotations

from collections.abc import Mapping

History = Mapping[int, int]

WEEK = 168
WEEKS = 4


def noted(history: History, hour: int, now: int) -> dict[int, int]:
    """With one more in this hour, and without what is too old to be compared with."""
    found = {**history, hour: history.get(hour, 0) + 1}
    return {one: count for one, count in found.items() if one > now - (WEEKS + 1) * WEEK}


def expected(history: History, now: int) -> float:
    """How much should have come since the last that came, and before the hour `now`. 0 while there is no week to
    compare with."""
    if not history:
        return 0.0
    first, last = min(history), max(history)
    total = 0.0
    for hour, count in history.items():
        for weeks in range(1, WEEKS + 1):
            then = hour + weeks * WEEK
            if last < then < now:
                total += count / _compared(then, first)
    return total


def _compared(hour: int, first: int) -> int:
    """How many of the weeks before have this hour within what is known."""
    return min(WEEKS, (hour - first) // WEEK)
