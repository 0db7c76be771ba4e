"""From the store to the log: letters for the router, and the journal's news."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from hub.domain.identity import Subscriber
from hub.domain.submission import RoutingFacts


@dataclass(frozen=True, slots=True)
class Letter:
    """Something accepted that the log does not know yet."""

    position: int
    content: RoutingFacts


class Tray(Protocol):
    async def letters(self, limit: int) -> Sequence[Letter]:
        """The oldest letters."""
        ...

    async def discard(self, positions: Sequence[int]) -> None:
        """The log has them."""
        ...

    async def wait(self, seconds: float) -> None:
        """Until a letter may have come, or this long."""
        ...

    async def put_back(self, life: str) -> int:
        """A letter again for each submission that is not decided, if letters were last put back for another
        life of the log than this one; how many."""
        ...

    async def carried_until(self) -> datetime:
        """What was received before this has no letter here; so the log was given it, and all of that before
        this call."""
        ...

    async def put_back_lost(self, before: datetime) -> int:
        """A letter again for each submission that was received before this, is not decided and has none; how
        many."""
        ...


JournalPlace = tuple[int, int]
"""Where a line of the journal stands among the others."""


@dataclass(frozen=True, slots=True)
class News:
    """A line of the journal, with what it is about: the procedure, and of a delivery the partner it is with
    now."""

    at: datetime
    event: str
    submission: UUID | None
    delivery: UUID | None
    procedure: str | None
    subscriber: Subscriber | None


class Journal(Protocol):
    """The journal as news to be carried elsewhere. Who asks for the first time begins at that moment."""

    async def news(self, limit: int) -> Sequence[tuple[JournalPlace, News]]:
        """The oldest that were not carried yet. No line is passed by that commits later."""
        ...

    async def carried(self, place: JournalPlace) -> None:
        """The log has this one and all before it."""
        ...
