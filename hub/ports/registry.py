"""Registration: decisions become deliveries in lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.domain.decisions import Decision


@dataclass(frozen=True, slots=True)
class Registered:
    """What a batch of decisions came to: new decisions, new deliveries, and records that name no accepted
    submission (shown beside the accounts, never in them)."""

    decisions: int
    deliveries: int
    strays: int


class Registry(Protocol):
    async def register(self, decisions: Sequence[Decision]) -> Registered:
        """Each decision once; a planned delivery for each recipient, with the next number of its partner,
        its lane awake. What is there by the same decision is skipped. A recipient that is succeeded at this
        moment is named still; the delivery is its successor's from the beginning."""
        ...
