"""The shelf: where a record is put that its reader cannot read, so that its partition goes on and operators see it.

Business of this room: saying of such a record where it lies and why it was not read, in a topic of its own, before
its reader is done with it; and keeping what that topic says in the store. Never its bytes. Repeating is harmless: a
record is known by where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import structlog

from hub.domain.errors import Invalid
from hub.ports.clock import Clock
from hub.ports.log import Entry, Log, LogReader, Record, Topic, places
from hub.ports.shelf import ShelfRows, Unreadable

GROUP = "shelf"

log = structlog.get_logger()

_REASONS = {"schema": "unknown_schema", "avro": "no_avro", "key": "wrong_key"}
_NAMED_BY_WHAT_IT_NAMES = 5


class Unread(NamedTuple):
    """What could not be read, and what its reader said of it."""

    entry: Entry
    error: Invalid


class Shelf:
    """`write` turns what is told into a record (see `hub.wire`)."""

    def __init__(self, journey: Log, write: Callable[[Unreadable], Record], clock: Clock) -> None:
        self._journey = journey
        self._write = write
        self._clock = clock

    async def put(self, topic: Topic, unread: Sequence[Unread]) -> None:
        """Durable when it returns; to be awaited before these are said done. Raises Unavailable."""
        if not unread:
            return
        told = await self.told(topic, unread)
        await self._journey.append(Topic.SET_ASIDE, [self._write(one) for one in told])

    async def told(self, topic: Topic, unread: Sequence[Unread]) -> list[Unreadable]:
        """What is to be said of these. Raises Unavailable."""
        life = await self._journey.incarnation(topic)
        at = datetime.fromtimestamp(self._clock.now(), UTC)
        return [_told(topic, life, at, entry, error) for entry, error in unread]


def _told(topic: Topic, life: str, at: datetime, entry: Entry, error: Invalid) -> Unreadable:
    position, record = entry.position, entry.record
    rule = error.flaws[0].rule if error.flaws else ""
    reason = _REASONS.get(rule, "unreadable")
    submission = submission_of(record.key)
    log.error(
        "record.set_aside",
        topic=topic.value,
        partition=position.partition,
        offset=position.offset,
        reason=reason,
        submission=None if submission is None else str(submission),
    )
    return Unreadable(
        topic, life, position.partition, position.offset, reason, len(record.value), at, submission
    )


def submission_of(key: bytes) -> UUID | None:
    """The submission that a key names; None if it cannot be the name of one."""
    if len(key) != 16:
        return None
    name = UUID(bytes=key)
    return name if name.version == _NAMED_BY_WHAT_IT_NAMES else None


class ShelfRoom:
    """From the topic to the store. `read` raises Invalid."""

    def __init__(
        self, shelf: Shelf, rows: ShelfRows, read: Callable[[Record], Unreadable], page: int = 500
    ) -> None:
        self._shelf = shelf
        self._rows = rows
        self._read = read
        self._page = page

    async def run_once(self, reader: LogReader, wait: float) -> int:
        """One page; waits up to `wait` seconds for the first. How many were read."""
        entries = await reader.read(self._page, wait)
        if not entries:
            return 0
        found: list[Unreadable] = []
        unread: list[Unread] = []
        for entry in entries:
            try:
                found.append(self._read(entry.record))
            except Invalid as error:
                unread.append(Unread(entry, error))
        if unread:
            # Not into the topic again: who reads it would find it there for ever.
            found += await self._shelf.told(Topic.SET_ASIDE, unread)
        await self._rows.keep(found)
        await reader.done(places(entries))
        return len(entries)
