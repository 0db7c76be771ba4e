"""Concluding: pages of many lanes, written together.

Business of this room: that what lanes have to say is written in as few transactions as possible, without any of
them waiting for a timer: while one is being written, the next ones gather. What is known must not be forgotten
for a moment's absence of the store (what arrived would be sent again), and one page that cannot be written takes no
other with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog

from hub.domain.errors import Unavailable
from hub.ports.clock import Clock
from hub.ports.lanes import Lanes, Page

log = structlog.get_logger()

_TRIED_AGAIN_AFTER = 0.5


class ConcludingRoom:
    """`patience`: seconds for which the store may be away. `most`: deliveries in one transaction, about."""

    def __init__(self, worker: str, lanes: Lanes, clock: Clock, patience: float, most: int = 1_000) -> None:
        self._worker = worker
        self._lanes = lanes
        self._clock = clock
        self._patience = patience
        self._most = most
        self._waiting: list[tuple[Page, asyncio.Future[frozenset[UUID]]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def conclude(self, page: Page) -> frozenset[UUID]:
        """The deliveries whose news was refused. Raises Unavailable when patience has ended."""
        told: asyncio.Future[frozenset[UUID]] = asyncio.get_running_loop().create_future()
        self._waiting.append((page, told))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await told

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _write(self) -> None:
        while self._waiting:
            # Whoever was aborted meanwhile has nothing to say: its lane is another's.
            batch = [(page, told) for page, told in self._next() if not told.done()]
            if not batch:
                continue
            try:
                refused = await self._patiently([page for page, _ in batch])
            except Exception as error:
                await self._apart(batch, error)
            else:
                _answer(batch, refused)

    def _next(self) -> list[tuple[Page, asyncio.Future[frozenset[UUID]]]]:
        count = size = 0
        while count < len(self._waiting) and size < self._most:
            size += 1 + len(self._waiting[count][0].conclusions)
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _apart(
        self, batch: Sequence[tuple[Page, asyncio.Future[frozenset[UUID]]]], error: Exception
    ) -> None:
        if len(batch) == 1 or isinstance(error, Unavailable):
            for _, told in batch:
                if not told.done():
                    told.set_exception(error)
            return
        log.error("conclusions.failed", pages=len(batch), error=type(error).__name__)
        for one in batch:
            try:
                _answer([one], await self._patiently([one[0]]))
            except Exception as fault:
                await self._apart([one], fault)

    async def _patiently(self, pages: Sequence[Page]) -> Sequence[UUID]:
        until = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                return await self._lanes.conclude(self._worker, pages)
            except Unavailable:
                if asyncio.get_running_loop().time() > until:
                    raise
                await self._clock.sleep(_TRIED_AGAIN_AFTER)


def _answer(batch: Sequence[tuple[Page, asyncio.Future[frozenset[UUID]]]], refused: Sequence[UUID]) -> None:
    stale = frozenset(refused)
    for _, told in batch:
        if not told.done():
            told.set_result(stale)
