"""What operators see and say of lanes and of the endpoints behind them.

Business of this port: which lanes are closed or fail, opening one, and times in which a partner is not called.
Leasing lanes and serving them is `hub.ports.lanes.Lanes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from hub.domain.identity import Subscriber
from hub.domain.pace import Maintenance


@dataclass(frozen=True, slots=True)
class LaneFilter:
    """Every field given must hold. With neither `closed` nor `failing`: lanes that are one of the two."""

    closed: bool = False
    failing: bool = False
    subscriber: Subscriber | None = None
    vendor: str | None = None


@dataclass(frozen=True, slots=True)
class LaneView:
    """`since` when it is closed or fails, `cause` why; `parked`: the delivery that its endpoint refused.
    `waiting`: deliveries in it that are not at rest. `fell_back_at`: since when the mailbox stands in for it."""

    id: int
    subscriber: Subscriber
    partner: str
    vendor: str | None
    channel: str
    closed: bool
    failures: int
    since: datetime | None
    cause: str | None
    parked: UUID | None
    waiting: int
    fell_back_at: datetime | None
    due_at: datetime | None


class LaneOrders(Protocol):
    async def lanes(self, where: LaneFilter, after: int, limit: int) -> Sequence[LaneView]:
        """By id, above `after`."""
        ...

    async def find(self, subscriber: Subscriber, channel: str | None) -> Sequence[LaneView]:
        """A partner's lanes (on this channel), whatever is the matter with them."""
        ...

    async def open_lane(self, lane: int, actor: str, reason: str) -> bool | None:
        """It is served as if nothing had been tried there yet; what was parked when it was closed is planned
        again. Whether anything was the matter with it; None: there is no such lane."""
        ...

    async def maintenance(self, subscriber: Subscriber) -> Sequence[Maintenance] | None:
        """What is planned or under way; None: there is no such partner."""
        ...

    async def plan_maintenance(self, subscriber: Subscriber, planned: Maintenance, actor: str) -> bool:
        """Beside what is planned already. Whether there is such a partner. Raises Invalid when there are more
        than fifty, or it ends before it begins or before now."""
        ...

    async def end_maintenance(self, subscriber: Subscriber, actor: str) -> int | None:
        """What is under way ends, what was planned is not; how many. None: there is no such partner."""
        ...
