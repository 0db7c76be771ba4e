"""Evidence: what partners' servers answered to attempts, as it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from hub.domain.delivery import Attempt


@dataclass(frozen=True, slots=True)
class SealedAnswer:
    """`wrapped_key` is empty when the submission was purged."""

    attempt: Attempt
    at: datetime
    outcome: str
    cause: str | None
    sealed: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)


class Evidence(Protocol):
    async def answers(self, delivery: UUID, reader: str, most: int) -> Sequence[SealedAnswer]:
        """The newest of a delivery, oldest first. That `reader` (`operator:<name>`) looked is a line of the journal,
        written before, where there is anything to see."""
        ...
