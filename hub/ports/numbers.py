"""A partner's running numbers: by them it can prove to itself that it misses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State


@dataclass(frozen=True, slots=True)
class Number:
    """What became of what was given this number, and since when. `state` is None for what moved to another
    partner, `moved_to`."""

    number: int
    delivery: UUID
    procedure: str
    state: State | None
    since: datetime
    moved_to: Subscriber | None


class Numbers(Protocol):
    async def since(self, subscriber: Subscriber, after: int, limit: int) -> Sequence[Number]:
        """The numbers above `after` that were given to what is or was this partner's, each once and in order,
        without a gap: none is told before all smaller ones can be."""
        ...
