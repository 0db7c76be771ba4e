"""Dispatch: lanes are leased, their rows claimed, and what came of it concluded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from hub.domain.circuit import UNKNOWN, Standing
from hub.domain.delivery import Attempt, Conclusion
from hub.domain.digests import Issue
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.partner import Endpoint
from hub.domain.submission import StoredAttachment
from hub.ports.events import Event


@dataclass(frozen=True, slots=True)
class Lane:
    """One partner on one channel. `endpoint` is where its rows leave today, without secrets: those are
    `sealed_secrets`, under the key wrapped in `wrapped_key` (both None: there are none). That is by the
    partner's channel of today, except for a mailbox's lane, which stays one. `standing`: how its endpoint
    does; `failing`: for how long it has failed or been closed (None: neither); `closed`: why nothing is tried;
    `pace` and `maintenance` as the partner declared them, as JSON."""

    id: int
    subscriber: Subscriber
    endpoint: Endpoint
    sealed_secrets: bytes | None = field(default=None, repr=False)
    wrapped_key: bytes | None = field(default=None, repr=False)
    standing: Standing = UNKNOWN
    failing: timedelta | None = None
    closed: str | None = None
    vendor: str | None = None
    pace: Mapping[str, object] | None = None
    maintenance: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery taken for an attempt, with all that its parcel is made of. `named`: whom its decision named, where it
    moved from there to a successor; `event`: what a parcel of news carries."""

    attempt: Attempt
    subscriber: Subscriber
    sequence: int
    kind: ParcelKind
    revision: int
    submission: UUID
    sender: str
    external_id: str
    procedure: str
    received_at: datetime
    sealed: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)
    attachments: tuple[StoredAttachment, ...]
    named: Subscriber | None = None
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class IssueClaim:
    """A mail of a digest, and the deliveries that it lists, in its order, each taken for an attempt."""

    issue: Issue
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A lane that was leased, and what was claimed of it. `claims` is None for a lane that is closed or left, or
    whose partner has a pace, a maintenance or digests: what of it goes now is asked with `Lanes.claim` or
    `Lanes.claim_issue`."""

    lane: Lane
    claims: tuple[Claim, ...] | None


@dataclass(frozen=True, slots=True)
class Page:
    """What came of a lane that was taken. `rest`: it is not due again before this is over; `standing`: how its
    endpoint does from now on. `closes`: its endpoint refused, for this cause, when this delivery was tried: the
    lane is closed. `blocked`: none of what is due may go yet, so it is due with the next row that becomes so."""

    lane: int
    conclusions: tuple[Conclusion, ...] = ()
    rest: timedelta = timedelta(0)
    standing: Standing = UNKNOWN
    closes: tuple[str, UUID] | None = None
    blocked: bool = False


class Lanes(Protocol):
    async def take(
        self, worker: str, healthy: int, failing: int, page: int, length: timedelta
    ) -> Sequence[Taken]:
        """Lanes that are due and held by nobody, now held by `worker` for `length`: at most so many whose
        endpoint does not fail, and so many whose does (one row of each is claimed, to try). Of each the next due
        rows are claimed, at most `page` and at most as many as its standing lets go at once. In flight from now
        on, for as long as the lane is held; a row that was in flight in an earlier lease is claimed as a new
        attempt. A row that is to be withdrawn is withdrawn instead. Of a
        lane that was left for another, or whose partner is succeeded, nothing is claimed here."""
        ...

    async def lease(self, worker: str, limit: int, length: timedelta) -> Sequence[Lane]:
        """The same of any lanes, and nothing claimed."""
        ...

    async def claim(
        self, worker: str, lane: int, limit: int, ordered: Collection[str] = (), *, closes: bool = False
    ) -> Sequence[Claim]:
        """Of a lane that `worker` holds, what `take` claims. Of an `ordered` procedure only its first row in
        motion; `closes`: and not even that while an earlier one is parked. A lane that was left for another,
        or whose partner is succeeded, gives its rows away instead: to the lane that took over; to the successor's
        (its channel's; its mailbox's only what a rule wants there), under the same names and the successor's next
        numbers, due at once there. What lies in the mailbox of who is succeeded moves with it, and lies there or,
        where the successor is served otherwise, is planned again. Raises LeaseLost if `worker` does not hold the
        lane."""
        ...

    async def claim_issue(
        self, worker: str, lane: int, slot: datetime, most: int
    ) -> IssueClaim | timedelta | None:
        """Of a lane that `worker` holds, the issue that is under way, all of it: the same list until it came to its
        end, or without what was withdrawn, moved, parked or sent again since, as the next issue. If none is, a
        new one of what was due when `slot` began, at most so many. A duration: the one under way is due again
        then, or there may be more at once; None: nothing until the next slot. The list is durable when this
        returns. A lane that was left gives its rows away, as `claim` does. Raises LeaseLost if `worker` does not
        hold the lane."""
        ...

    async def renew(self, worker: str, lanes: Sequence[int], length: timedelta) -> set[int]:
        """Lengthen the leases, and with them the holds of their rows in flight; the lanes still held."""
        ...

    async def conclude(self, worker: str, pages: Sequence[Page]) -> Sequence[UUID]:
        """Write what came of attempts, and the lanes' next wake-ups; gives the lanes back. Stale bad news
        (another attempt has begun, or the row is at rest) is refused, good news of the same sending is
        welcome; one row's illegal move fails no other's. What failed and is to be withdrawn, is. Of what moved to
        a successor meanwhile, only the journal learns what came of it. Returns the deliveries whose news was
        refused."""
        ...

    async def fall_back(self, worker: str, lane: int) -> None:
        """Leave a lane that `worker` holds for its partner's mailbox, while its endpoint is away: what waits
        moves there, but for the row that is due first, which goes on trying it. The partner is told, once. Raises
        LeaseLost if `worker` does not hold the lane."""
        ...

    async def rest_vendor(self, vendor: str, rest: timedelta, spread: timedelta) -> int:
        """Let the failing or idle lanes of this software vendor's partners rest for that long, and so much
        longer each as chance has it, at most `spread`; how many. Those under way are not touched."""
        ...

    async def wake_vendor(self, vendor: str, spread: timedelta) -> int:
        """Its lanes that rest are due again, one after the other within `spread`; how many."""
        ...

    async def next_due(self) -> float | None:
        """Seconds until the next lane is due (0 if one is now), None when all sleep."""
        ...

    async def wait(self, seconds: float) -> None:
        """Until a lane may have become due, or this long."""
        ...
