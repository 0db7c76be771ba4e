"""Registration: writes each decision, with its planned deliveries and their awakened lanes, into the store.

One transaction for a page; what is there by the same decision is skipped, so reading a page again is
harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from hub.domain.decisions import Decision
from hub.domain.errors import Invalid
from hub.ports.log import Entry, LogReader, Position, Record, Topic, places
from hub.ports.registry import Registry
from hub.services.shelf import Shelf, Unread

GROUP = "registration"

log = structlog.get_logger()


_LONGEST_TURN = 2.0
"""Seconds. Whoever stops this role, or joins its group, waits for a turn; a slow store must not make it longer."""


class RegistrationRoom:
    """`read` turns a record into a decision (see `hub.wire`); it raises Invalid. One page is read while the store
    works on the one before."""

    def __init__(
        self, registry: Registry, read: Callable[[Record], Decision], shelf: Shelf, page: int = 500
    ) -> None:
        self._registry = registry
        self._read = read
        self._shelf = shelf
        self._page = page

    async def run_once(self, reader: LogReader, wait: float) -> int:
        """Pages of decisions, as long as there are some, for some seconds; waits up to `wait` seconds for the
        first. How many were read."""
        clock = asyncio.get_running_loop().time
        until = clock() + wait + _LONGEST_TURN
        done: list[Position] = []
        registering: asyncio.Task[None] | None = None
        try:
            while clock() < until:
                entries = await reader.read(self._page, 0 if done else wait)
                if not entries:
                    break
                decisions, unread = self._distinct(entries)
                await self._shelf.put(Topic.ROUTINGS, unread)
                if registering is not None:
                    # One after the other: a partner's numbers follow the order of the log.
                    await registering
                registering = asyncio.create_task(self._register(decisions))
                done += places(entries)
            if registering is not None:
                await registering
        finally:
            if registering is not None:
                registering.cancel()
                await asyncio.gather(registering, return_exceptions=True)
        await reader.done(done)
        return len(done)

    async def _register(self, decisions: Sequence[Decision]) -> None:
        if not decisions:
            return
        registered = await self._registry.register(decisions)
        log.info(
            "decisions.registered",
            decisions=registered.decisions,
            deliveries=registered.deliveries,
            strays=registered.strays,
        )

    def _distinct(self, entries: Sequence[Entry]) -> tuple[list[Decision], list[Unread]]:
        """A letter that was carried twice stands in the log twice, with the same decision."""
        found: dict[tuple[bytes, int], Decision] = {}
        unread: list[Unread] = []
        for entry in entries:
            try:
                decision = self._read(entry.record)
            except Invalid as error:
                unread.append(Unread(entry, error))
                continue
            found.setdefault((decision.submission.bytes, decision.number), decision)
        return list(found.values()), unread
