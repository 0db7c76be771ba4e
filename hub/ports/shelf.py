"""The shelf: what the store keeps of records that nobody could read, for operators.

Business of this port: one row for each place in the log. What was wrong with a record, and putting it aside, is the
business of its reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record of the log that its reader could not read: where it lies (`life`: the topic's incarnation), why (a
    word), how many bytes its value has, when it was set aside, and the submission its key names, if it may be one.
    Never its bytes."""

    topic: str
    life: str
    partition: int
    offset: int
    reason: str
    size: int
    at: datetime
    submission: UUID | None


class ShelfRows(Protocol):
    async def keep(self, told: Sequence[Unreadable]) -> int:
        """One row for each place in the log; how many are new."""
        ...

    async def newest(self, limit: int) -> Sequence[Unreadable]:
        """Those set aside last come first."""
        ...
