"""Reporting: what partners say of their deliveries becomes events of the submission, each once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import UUID

from hub.domain.cases import Case, CaseStatus
from hub.domain.identity import Subscriber
from hub.domain.reports import Report, ReportAnswer


class ReportRoom:
    async def report(
        self,
        subscriber: Subscriber,
        reports: Sequence[Report],
        contents: Mapping[int, AsyncIterator[bytes]] | None = None,
    ) -> Sequence[ReportAnswer]:
        """One answer for each, in order; what is kept is durable when this returns. `contents`: the bytes of the file
        of the n-th report (from 0), read once, and only if they are needed. Saying the same again is harmless. Raises
        Unavailable."""
        raise NotImplementedError

    async def case(
        self, subscriber: Subscriber, delivery: UUID
    ) -> tuple[Case, tuple[CaseStatus, ...]] | None:
        """How far the case of this partner's delivery is, and what may be reported of it now; None: it has no such
        delivery."""
        raise NotImplementedError
