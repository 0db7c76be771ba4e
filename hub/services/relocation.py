"""Relocation: the files of one attachment store carried to another, as they lie.

Business of this room: every file once, several at a time; begun again, what is there already is looked at and
left. Not its business: the store beside them, and when either side may be started (the assembly).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hub.ports.attachments import SealedFiles

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Carried:
    """`files` and `size` (sealed bytes): all there are; `before`: those of them that were there already.
    `named`: those that a submission names."""

    files: int = 0
    size: int = 0
    before: int = 0
    named: int = 0


class RelocationRoom:
    """`count_named`: how many of these files the store's submissions name."""

    def __init__(self, old: SealedFiles, count_named: Callable[[Sequence[str]], Awaitable[int]]) -> None:
        self._old = old
        self._count_named = count_named

    async def count(self) -> Carried:
        """What there is to carry; nothing is carried."""
        found = Carried()
        async for page in self._old.sizes():
            found = _more(found, page, 0, await self._count_named([name for name, _ in page]))
        return found

    async def carry(self, new: SealedFiles) -> Carried:
        """Raises Unavailable, SettingsError when another file lies under one of the names."""
        found, most = Carried(), asyncio.Semaphore(AT_ONCE)

        async def one(name: str, size: int) -> bool:
            async with most:
                return await new.take(name, size, lambda: self._old.sealed(name))

        async for page in self._old.sizes():
            named = await self._count_named([name for name, _ in page])
            async with asyncio.TaskGroup() as tasks:
                doing = [tasks.create_task(one(name, size)) for name, size in page]
            found = _more(found, page, sum(not task.result() for task in doing), named)
        return found


def _more(found: Carried, page: Sequence[tuple[str, int]], before: int, named: int) -> Carried:
    return Carried(
        found.files + len(page),
        found.size + sum(size for _, size in page),
        found.before + before,
        found.named + named,
    )
