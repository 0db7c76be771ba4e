"""Tasks that are to end, and do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_AFTER = 3.0
"""Seconds: more than tidying up takes, which another cancellation would cut short."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancelled until they have ended, whatever they came to. Once is not enough: before Python 3.12, libraries that
    wait by `asyncio.wait_for` lose a cancellation which meets what they waited for."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_AFTER)
