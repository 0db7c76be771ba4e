"""Dispatch over one mail lane, on a real store: what tests of digests and of mails that come back stand on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.system.clock import SystemClock
from hub.domain.errors import MissingKey
from hub.domain.retry import Policies
from hub.ports.connector import Connector, Parcel
from hub.ports.lanes import Claim
from hub.services.dispatch import DispatchRoom, Pace
from hub.services.parcels import ParcelRoom
from tests.conformance.samples import rows
from tests.connectors.partners import some_file

POLICIES = Policies((timedelta(0),) * 5, timedelta(seconds=5), {}, {})
DAY = timedelta(days=1).total_seconds()


@dataclass
class Bare(ParcelRoom):
    """Parcels of one small file: only who gets which mail is looked at. `purged`: sequences that do not open."""

    purged: frozenset[int] = field(default_factory=frozenset)

    def build(self, claim: Claim) -> Parcel:
        if claim.sequence in self.purged:
            raise MissingKey
        return Parcel(
            claim.attempt, claim.subscriber, claim.sequence, claim.sender, claim.external_id, claim.procedure, "",
            claim.kind, claim.revision, claim.received_at, (some_file(0, "submission.json", b"{}"),),
        )  # fmt: skip

    def seal_answer(self, claim: Claim, answer: bytes | None) -> bytes | None:
        return b"sealed"


class Later(SystemClock):
    """So many seconds ahead: with a day, the next slot of a digest has begun."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def now(self) -> float:
        return super().now() + self._ahead


@asynccontextmanager
async def serving(
    channel: Connector,
    lanes: PostgresLanes,
    worker: str = "anna",
    ahead: float = 0,
    policies: Policies = POLICIES,
    parcels: ParcelRoom | None = None,
) -> AsyncIterator[None]:
    """Dispatch at work, and killed at the end: nothing that is under way ends."""
    room = DispatchRoom(
        worker, lanes, {"mail": channel}, parcels or Bare(), Later(ahead), policies,
        lambda lane: lane.endpoint, Pace(idle=0.05, lease=timedelta(seconds=1)),
    )  # fmt: skip
    running = asyncio.create_task(room.run(asyncio.Event(), 0))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await lanes.close()


async def until(true: Callable[[], Awaitable[bool]], within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not await true():
            await asyncio.sleep(0.02)


async def states(database: Database) -> list[str]:
    return [row["state"] for row in await rows(database, "SELECT state FROM delivery ORDER BY sequence")]


def all_are(database: Database, *expected: str) -> Callable[[], Awaitable[bool]]:
    async def true() -> bool:
        return await states(database) == list(expected)

    return true
