"""Dispatch: leases the lanes that are due, hands their parcels to connectors, writes what came of it.

One task serves one lane, a page of rows at a time: a partner that hangs costs its lane and nobody else's.
What partners do is an outcome; what goes wrong on our side is an unknown result, so it is deferred. A
lease that could not be renewed is work that another worker may be doing: it is aborted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from hub.domain.delivery import About, Conclusion, Deferred, Delivered, Outcome, Refused, conclude, lane_rest
from hub.domain.errors import LeaseLost, MissingKey, Tampered, Unavailable
from hub.domain.partner import Endpoint
from hub.domain.retry import RetryPolicy
from hub.ports.clock import Clock
from hub.ports.connector import Connector, Parcel
from hub.ports.store import Claim, Lane, Lanes
from hub.services.parcels import ParcelRoom

log = structlog.get_logger()

_LARGE = 65_536


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once: `lanes` served side by side, `page` rows of a lane, `lease` of a lane (renewed at
    a third of its length), `idle` seconds at most between two looks."""

    lanes: int = 200
    page: int = 20
    lease: timedelta = timedelta(seconds=30)
    idle: float = 1.0


class DispatchRoom:
    """`policy` gives the retry policy of a channel; `open_secrets` a lane's endpoint with its secrets."""

    def __init__(
        self,
        worker: str,
        lanes: Lanes,
        connectors: Mapping[str, Connector],
        parcels: ParcelRoom,
        clock: Clock,
        policy: Callable[[str], RetryPolicy],
        open_secrets: Callable[[Lane], Endpoint],
        pace: Pace,
    ) -> None:
        self._worker = worker
        self._lanes = lanes
        self._connectors = connectors
        self._parcels = parcels
        self._clock = clock
        self._policy = policy
        self._open_secrets = open_secrets
        self._pace = pace
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._a_place = asyncio.Event()

    async def run(self, stopping: asyncio.Event, grace: float) -> None:
        """Until `stopping` is set; then lanes in service have `grace` seconds to end."""
        renewing = asyncio.create_task(self._renew_for_ever())
        try:
            while not stopping.is_set():
                if renewing.done():
                    renewing.result()
                try:
                    await self._lease_some()
                except Unavailable:
                    # What is under way goes on: its leases are good for a while.
                    log.warning("lanes.away")
                    await self._clock.sleep(self._pace.idle)
            if self._serving:
                await asyncio.wait(self._serving.values(), timeout=grace)
        finally:
            tasks = [renewing, *self._serving.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _lease_some(self) -> None:
        places = self._pace.lanes - len(self._serving)
        if places <= 0:
            self._a_place.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._a_place.wait(), self._pace.idle)
            return
        leased = await self._lanes.lease(self._worker, places, self._pace.lease)
        for lane in leased:
            self._begin(lane)
        if not leased:
            due = await self._lanes.next_due()
            await self._lanes.wait(self._pace.idle if due is None else min(max(due, 0.01), self._pace.idle))

    def _begin(self, lane: Lane) -> None:
        task = asyncio.create_task(self._serve(lane))
        self._serving[lane.id] = task
        task.add_done_callback(lambda _: self._ended(lane.id, task))

    def _ended(self, lane: int, task: asyncio.Task[None]) -> None:
        if self._serving.get(lane) is task:
            del self._serving[lane]
        self._a_place.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("lane.failed", lane=lane, error=type(error).__name__)

    async def _serve(self, lane: Lane) -> None:
        """A page of the lane. Whatever ends this early leaves rows that are claimed again after the hold."""
        try:
            claims = await self._lanes.claim(self._worker, lane.id, self._pace.page, self._pace.lease)
            conclusions = await self._attempt(lane, claims) if claims else []
            rest = lane_rest(conclusions)
            refused = await self._conclude(lane, conclusions, rest)
        except LeaseLost:
            log.warning("lane.lost", lane=lane.id)
            return
        stale = set(refused)
        for claim, conclusion in zip(claims, conclusions, strict=True):
            _tell(lane, claim, conclusion, stale=claim.attempt.delivery in stale)

    async def _conclude(
        self, lane: Lane, conclusions: Sequence[Conclusion], rest: timedelta
    ) -> Sequence[UUID]:
        """What is known now must not be forgotten for a moment's absence of the store: what arrived would
        be sent again."""
        until = asyncio.get_running_loop().time() + self._pace.lease.total_seconds() / 2
        while True:
            try:
                return await self._lanes.conclude(self._worker, lane.id, conclusions, rest)
            except Unavailable:
                if asyncio.get_running_loop().time() > until:
                    raise
                await self._clock.sleep(0.5)

    async def _attempt(self, lane: Lane, claims: Sequence[Claim]) -> list[Conclusion]:
        policy = self._policy(lane.endpoint.channel)
        outcomes: list[Outcome | None] = [None] * len(claims)
        ready: list[tuple[int, Parcel]] = []
        for place, claim in enumerate(claims):
            # A large document takes tens of milliseconds: not in the way of everybody else.
            large = len(claim.sealed) > _LARGE
            built = await asyncio.to_thread(self._build, claim) if large else self._build(claim)
            if isinstance(built, Parcel):
                ready.append((place, built))
            else:
                outcomes[place] = built
        if ready:
            delivered = await self._deliver(lane, [parcel for _, parcel in ready], policy)
            for (place, _), outcome in zip(ready, delivered, strict=True):
                outcomes[place] = outcome
        return [
            conclude(claim.attempt, outcome or Deferred("hub.fault"), policy, self._clock.jitter())
            for claim, outcome in zip(claims, outcomes, strict=True)
        ]

    def _build(self, claim: Claim) -> Parcel | Outcome:
        try:
            return self._parcels.build(claim)
        except (MissingKey, Tampered):
            return Refused("hub.content_unreadable", About.PARCEL)

    async def _deliver(self, lane: Lane, parcels: Sequence[Parcel], policy: RetryPolicy) -> Sequence[Outcome]:
        connector = self._connectors.get(lane.endpoint.channel)
        if connector is None:
            return [Refused("hub.unknown_channel", About.ENDPOINT)] * len(parcels)
        try:
            endpoint = self._open_secrets(lane)
            outcomes = await connector.deliver(endpoint, parcels, policy.limit.total_seconds())
        except (MissingKey, Tampered):
            return [Refused("hub.secrets_unreadable", About.ENDPOINT)] * len(parcels)
        except Unavailable:
            return [Deferred("hub.content_away", About.PARCEL)] * len(parcels)
        except Exception as error:  # our own fault: nobody knows what arrived
            log.error("connector.failed", channel=lane.endpoint.channel, error=type(error).__name__)
            return [Deferred("hub.fault", About.PARCEL)] * len(parcels)
        if len(outcomes) != len(parcels):
            log.error("connector.miscounted", channel=lane.endpoint.channel)
            return [Deferred("hub.fault", About.PARCEL)] * len(parcels)
        return outcomes

    async def _renew_for_ever(self) -> None:
        third = self._pace.lease.total_seconds() / 3
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        while True:
            await self._clock.sleep(third)
            held = dict(self._serving)
            if not held:
                renewed_at = loop.time()
                continue
            try:
                kept = await asyncio.wait_for(
                    self._lanes.renew(self._worker, list(held), self._pace.lease), third
                )
                renewed_at = loop.time()
            except (Unavailable, asyncio.TimeoutError):
                # One failure is borne; before the leases that were renewed last can end, all is aborted.
                kept = set(held) if loop.time() < renewed_at + 1.5 * third else set()
            for lane in set(held) - kept:
                # Only whom was asked for: a lane that was given back may have been leased anew meanwhile.
                held[lane].cancel()


def _tell(lane: Lane, claim: Claim, conclusion: Conclusion, *, stale: bool) -> None:
    outcome = conclusion.outcome
    log.info(
        "delivery.attempted",
        delivery=str(claim.attempt.delivery),
        submission=str(claim.submission),
        procedure=claim.procedure,
        partner=str(claim.subscriber),
        channel=lane.endpoint.channel,
        sending=claim.attempt.sending,
        attempt=claim.attempt.number,
        outcome=type(outcome).__name__.lower(),
        cause=None if isinstance(outcome, Delivered) else outcome.cause,
        state=conclusion.state.value,
        stale=stale,
    )
