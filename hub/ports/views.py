"""What people and programs look at: reads of the store, in the shapes they ask for.

Business of this port: answering `GET`, `hub deliveries` and the like. It changes nothing, decides nothing,
and opens nothing that is sealed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from hub.domain.cases import CaseStatus
from hub.domain.decisions import Reason, Verdict
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.lifecycle import State
from hub.domain.submission import RoutingFacts
from hub.ports.lanes import Claim


@dataclass(frozen=True, slots=True)
class AttemptView:
    sending: int
    number: int
    started_at: datetime | None
    """None where its beginning was not told: another one had begun since."""
    ended_at: datetime | None
    outcome: str | None
    """`delivered`, `deferred`, `refused`; `lost` when its worker died; None while it runs."""
    cause: str | None
    receipt: str | None


@dataclass(frozen=True, slots=True)
class DeliveryView:
    id: UUID
    submission: UUID
    sender: str
    external_id: str
    procedure: str
    subscriber: Subscriber
    partner: str
    channel: str
    sequence: int
    state: State
    cause: str | None
    attachments: tuple[int, ...]
    kind: ParcelKind
    case: CaseStatus
    reasons: tuple[Reason, ...]
    created_at: datetime
    changed_at: datetime
    due_at: datetime | None
    attempts: tuple[AttemptView, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalLine:
    at: datetime
    event: str
    delivery: UUID | None
    actor: str
    detail: str


@dataclass(frozen=True, slots=True)
class SubmissionView:
    """`state`: `accepted` (not decided yet), `routed`, `unroutable` or `set_aside`; `explanation`: what an
    unroutable one's rules looked for, or why it was set aside."""

    id: UUID
    sender: str
    external_id: str
    procedure: str
    received_at: datetime
    state: str
    snapshot: int | None
    explanation: tuple[str, ...]
    deliveries: tuple[DeliveryView, ...]
    journal: tuple[JournalLine, ...]


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Every field given must hold. `sender` limits what a sender's token may see."""

    sender: str | None = None
    subscriber: Subscriber | None = None
    channel: str | None = None
    procedure: str | None = None
    state: State | None = None
    cause: str | None = None
    submission: UUID | None = None
    kind: ParcelKind | None = None


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """`next`: the key of the following page, None on the last."""

    items: tuple[DeliveryView, ...]
    next: tuple[datetime, UUID] | None


class Grouping(StrEnum):
    """What parked deliveries are grouped by, beside their cause and channel."""

    VENDOR = "vendor"
    PARTNER = "partner"


@dataclass(frozen=True, slots=True)
class ParkedGroup:
    """Parked deliveries that share a cause and a channel; and what was asked for (`of`: the vendor, or SIRET and
    branch of the partner; '' where nothing was)."""

    of: str
    cause: str
    channel: str
    deliveries: int
    partners: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class MailboxItem:
    """A parcel of a partner, with the key of its submission to open it."""

    claim: Claim = field(repr=False)
    state: State


class Views(Protocol):
    async def submission(self, id: UUID) -> SubmissionView | None: ...

    async def deliveries(
        self, where: DeliveryFilter, after: tuple[datetime, UUID] | None, limit: int
    ) -> DeliveryPage:
        """By (created_at, id), without their attempts."""
        ...

    async def parked(self, by: Grouping | None = None) -> Sequence[ParkedGroup]:
        """The largest groups first, at most a thousand. Who has told no vendor is grouped under ''."""
        ...

    async def parcel(self, delivery: UUID, owner: Subscriber | None = None) -> MailboxItem | None:
        """One delivery with all its parcel is made of, whatever its state. `owner`: None, unless it is this
        partner's."""
        ...

    async def parcels(self, deliveries: Sequence[UUID], owner: Subscriber) -> Sequence[MailboxItem]:
        """Those of them that are this partner's, in the order asked."""
        ...

    async def moved_away(self, subscriber: Subscriber, delivery: UUID) -> bool:
        """Whether it was this partner's, and is now, by successions, another's: whoever has it, has it still."""
        ...

    async def counts(self) -> dict[str, int]:
        """Gauges for metrics, of a few rows each: `submissions.accepted`, `submissions.undecided` (no decision is
        registered), `deliveries.<term>`, `tray.letters`, `set_aside.records`, `alarms.<kind>` (how many at the last
        look), `ledger_differences.<check>` (what the last check found), and `lag_seconds.undecided` and `.due`."""
        ...


# --- what was received --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """A submission as routing knew it, and its first decision (both None: not decided yet)."""

    facts: RoutingFacts
    snapshot: int | None
    verdict: Verdict | None


class ReceivedViews(Protocol):
    """What was received, for asking again how it would be routed."""

    async def one(self, submission: UUID) -> Received | None: ...

    async def received(
        self,
        since: datetime,
        until: datetime,
        procedure: str | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[Received]:
        """Those received from `since` on and before `until`, by (received_at, id), above `after`."""
        ...
