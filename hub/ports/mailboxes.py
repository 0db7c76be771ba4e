"""A partner's mailbox: what is found there, what its programs hold, and what it says that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.domain.mailbox import Drawer


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery as a mailbox lists it; nothing of it is sealed. `files` are those of its sender, `size` their
    bytes; `since`: when it came to its state; `fetched`: whether its partner has read any of it since then;
    `leased_until`: until when a program of the partner holds it; `purged`: it can be read no more."""

    delivery: UUID
    submission: UUID
    sequence: int
    sender: str
    external_id: str
    procedure: str
    received_at: datetime
    state: State
    channel: str
    since: datetime
    files: int
    size: int
    fetched: bool
    leased_until: datetime | None
    purged: bool


@dataclass(frozen=True, slots=True)
class EntryPage:
    """`next`: where the following page begins; None: there is none. A page may be short, or empty, and not the
    last."""

    entries: tuple[Entry, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class Leased:
    """What a reader holds now, until then. `full`: the partner's programs hold as many as they may."""

    entries: tuple[Entry, ...]
    until: datetime
    full: bool = False


class Mailboxes(Protocol):
    """Whom a partner stands for at a moment is decided by the successions in force: a partner that is succeeded
    finds nothing."""

    async def look(self, subscriber: Subscriber, drawer: Drawer, begin: int | None, limit: int) -> EntryPage:
        """What is open: the lowest number first, above `begin`. The other drawers: the highest first, below it."""
        ...

    async def entry(self, subscriber: Subscriber, delivery: UUID) -> Entry | None:
        """None: this partner has none of this name, whoever else does."""
        ...

    async def find(self, subscriber: Subscriber, text: str, limit: int) -> Sequence[Entry]:
        """Those whose sender's reference is this, or whose number; where there are none, those of the `LATEST` numbers
        whose reference begins with it, in whichever case. The highest number first."""
        ...

    async def lease(self, subscriber: Subscriber, reader: str, length: timedelta, limit: int) -> Leased:
        """The lowest numbers of what is open and no other reader of this partner holds, among them what this one
        held already. They are its own until then; acknowledging needs no lease, and ends it."""
        ...

    async def release(self, subscriber: Subscriber, reader: str) -> int:
        """This reader holds nothing any more; how many it held."""
        ...

    async def acknowledge(self, subscriber: Subscriber, deliveries: Sequence[UUID]) -> Sequence[UUID]:
        """The partner says it has these; those of them that are acknowledged now (again: still)."""
        ...
