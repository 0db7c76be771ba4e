"""Registration: writes each decision, with its planned deliveries and their awakened lanes, into the store.

One transaction for a page; what is there by the same decision is skipped, so reading a page again is
harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from hub.domain.decisions import Decision
from hub.domain.errors import Invalid
from hub.ports.log import Entry, LogReader, Record, Topic, places
from hub.ports.store import Registry
from hub.services.shelf import Shelf, Unread

GROUP = "registration"

log = structlog.get_logger()


class RegistrationRoom:
    """`read` turns a record into a decision (see `hub.wire`); it raises Invalid."""

    def __init__(
        self, registry: Registry, read: Callable[[Record], Decision], shelf: Shelf, page: int = 500
    ) -> None:
        self._registry = registry
        self._read = read
        self._shelf = shelf
        self._page = page

    async def run_once(self, reader: LogReader, wait: float) -> int:
        """One page of decisions; waits up to `wait` seconds for the first. How many were read."""
        entries = await reader.read(self._page, wait)
        if not entries:
            return 0
        decisions, unread = self._distinct(entries)
        await self._shelf.put(Topic.ROUTINGS, unread)
        if decisions:
            registered = await self._registry.register(decisions)
            log.info(
                "decisions.registered",
                decisions=registered.decisions,
                deliveries=registered.deliveries,
                strays=registered.strays,
            )
        await reader.done(places(entries))
        return len(entries)

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
