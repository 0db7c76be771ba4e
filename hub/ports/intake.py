"""Taking in: what was answered with a 202 is in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from hub.domain.submission import Acceptance, Submission


class Intake(Protocol):
    async def accept(self, batch: Sequence[Submission]) -> Sequence[Acceptance]:
        """One answer for each, in order. Inserts name, key, sealed content, receipt time and a letter for
        the router, or returns what is there. Ids in a batch are distinct. An upload is taken over by one:
        raises Unavailable for all of the batch when one names an upload that is gone."""
        ...

    async def recognise(self, id: UUID, digest: bytes) -> Acceptance | None:
        """What accepting a submission of this id and digest would answer if the id was accepted before; None if
        it was not."""
        ...

    async def named(self, locations: Sequence[str]) -> set[str]:
        """Which of these attachment-store names an accepted submission or an upload names (for the sweep)."""
        ...
