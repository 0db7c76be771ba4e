"""Events: what partners said of their deliveries, kept once, and read by who sent the submissions.

Business of this port: that an event, the case it moves, its number among its sender's, and the parcel that carries it
to its sender's endpoint (if there is one) come together or not at all. What events say is sealed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from hub.domain.cases import Case, CaseMoves, CaseStatus
from hub.domain.events import NewEvent
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.domain.reports import ReportAnswer


@dataclass(frozen=True, slots=True)
class Reported:
    """A partner's delivery, as who reports on it needs to know it. The wrapped key is empty when it was purged."""

    delivery: UUID
    procedure: str
    state: State
    wrapped_key: bytes = field(repr=False)
    case: Case


@dataclass(frozen=True, slots=True)
class Event:
    """`sealed` opens under its submission's key (empty: it was purged), bound to the delivery and `digest`. `before`:
    the status it found. `location`, `size`: of its file."""

    id: UUID
    sender: str
    number: int
    at: datetime
    submission: UUID
    external_id: str
    procedure: str
    delivery: UUID
    subscriber: Subscriber
    status: CaseStatus | None
    before: CaseStatus
    digest: bytes
    sealed: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)
    location: str | None = None
    size: int | None = None


class Events(Protocol):
    async def reported(self, subscriber: Subscriber, deliveries: Sequence[UUID]) -> Mapping[UUID, Reported]:
        """Those of them that are this partner's, or of whom it stands for at this moment, and carry a submission."""
        ...

    async def moved_away(self, subscriber: Subscriber, deliveries: Sequence[UUID]) -> set[UUID]:
        """Those of them that were this partner's, and are now, by successions, another's."""
        ...

    async def keep(
        self,
        subscriber: Subscriber,
        new: Sequence[NewEvent],
        moves: Mapping[str, CaseMoves],
        edition: int,
    ) -> Sequence[ReportAnswer]:
        """One answer for each, in order, judged one after the other; all of it in one transaction. `moves`: by
        procedure, as this edition of the rule book has them. The file of one that is not kept now is nobody's."""
        ...

    async def since(self, sender: str, after: int, limit: int) -> Sequence[Event]:
        """This sender's events with a number above `after`, each once and in order: none is told before all smaller
        ones can be."""
        ...

    async def one(self, sender: str, id: UUID) -> Event | None:
        """None also for another sender's."""
        ...

    async def shown(self, events: Sequence[Event], reader: str) -> None:
        """These are read: a line of the journal for each that was not before."""
        ...

    async def fetched(self, event: Event, reader: str, what: str) -> None:
        """Its file is read: a line of the journal. `what`: the range, never a name."""
        ...
