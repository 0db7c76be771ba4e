"""Alarms, as the store finds and keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hub.domain.alarms import Alarm, Patience


class Alarms(Protocol):
    async def look(
        self, patience: Patience, beside: Sequence[Alarm] = ()
    ) -> tuple[Sequence[Alarm], Sequence[Alarm]]:
        """What stood there before, and what stands there now, which is kept for all to see; `beside`: found by who
        asks. One looks at a time: who comes second sees what the first one kept, twice."""
        ...

    async def standing(self) -> Sequence[Alarm]:
        """What was there at the last look, by kind and partner."""
        ...
