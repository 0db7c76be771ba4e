"""Dispatch: takes the lanes that are due, hands their parcels to connectors, writes what came of it.

One task serves one lane, a page of rows at a time: a partner that hangs costs its lane and nobody else's.
Lanes whose endpoint fails have places of their own, so what is old and fails starves nothing that is new.
What partners do is an outcome; what goes wrong on our side is an unknown result, so it is deferred. A
lease that could not be renewed is work that another worker may be doing: it is aborted. How an endpoint stands,
and what that lets through, is decided in `hub.domain.circuit`; when a partner may be called, in
`hub.domain.pace`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog

from hub.domain.circuit import VendorCircuit, next_circuit, next_standing, rest_after, tell_apart
from hub.domain.delivery import About, Conclusion, Deferred, Delivered, Outcome, Refused, conclude, hold_back
from hub.domain.digests import USUAL_HOURS, DigestHours, Frequency, Issue, conclude_issue, frequency_of
from hub.domain.errors import LeaseLost, MissingKey, Tampered, Unavailable, UnknownKey
from hub.domain.lifecycle import State
from hub.domain.pace import (
    Maintenance,
    PartnerPace,
    falls_back,
    opens_in,
    page_of,
    read_maintenance,
    read_pace,
)
from hub.domain.pace import rest_after as rest_for_rate
from hub.domain.partner import Endpoint
from hub.domain.retry import Policies, RetryPolicy
from hub.ports.clock import Clock
from hub.ports.connector import Connector, Parcel
from hub.ports.lanes import Claim, IssueClaim, Lane, Lanes, Page, Taken
from hub.services.concluding import ConcludingRoom
from hub.services.digests import DigestRoom
from hub.services.ending import end
from hub.services.parcels import ParcelRoom

log = structlog.get_logger()

_LARGE = 65_536
_MOMENT = 0.01
_SHARE = 4
_ONE_BY_ONE = 10.0
"""Seconds within which a vendor's lanes come back, one after the other, when one of them was served."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once: `lanes` served side by side and, apart from them, `failing` ones; `page` rows of a
    lane, `rows` of all; `lease` of a lane (renewed at a third of its length), `idle` seconds at most between two
    looks. `vendor_opens_at`: how many lanes of one software vendor must fail in a row for all to rest."""

    lanes: int = 2_000
    failing: int = 500
    page: int = 20
    rows: int = 10_000
    lease: timedelta = timedelta(seconds=30)
    idle: float = 1.0
    vendor_opens_at: int = 5
    taken: int = 200


class DispatchRoom:
    """`open_secrets` gives a lane's endpoint with its secrets; `policies` by channel, procedure and partner."""

    def __init__(
        self,
        worker: str,
        lanes: Lanes,
        connectors: Mapping[str, Connector],
        parcels: ParcelRoom,
        clock: Clock,
        policies: Policies,
        open_secrets: Callable[[Lane], Endpoint],
        pace: Pace,
        digest_hours: DigestHours = USUAL_HOURS,
    ) -> None:
        self._worker = worker
        self._lanes = lanes
        self._connectors = connectors
        self._parcels = parcels
        self._clock = clock
        self._policies = policies
        self._open_secrets = open_secrets
        self._pace = pace
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._failing: set[int] = set()
        self._aborting: set[asyncio.Task[None]] = set()
        self._rows = 0
        self._a_place = asyncio.Event()
        self._concluding = ConcludingRoom(worker, lanes, clock, pace.lease.total_seconds() / 2)
        self._digests = DigestRoom(worker, lanes, clock, digest_hours)
        self._vendors: defaultdict[str, VendorCircuit] = defaultdict(VendorCircuit)

    async def run(self, stopping: asyncio.Event, grace: float) -> None:
        """Until `stopping` is set; then lanes in service have `grace` seconds to end."""
        renewing = asyncio.create_task(self._renew_for_ever())
        try:
            while not stopping.is_set():
                if renewing.done():
                    renewing.result()
                try:
                    await self._take_some()
                except Unavailable:
                    # What is under way goes on: its leases are good for a while.
                    log.warning("lanes.away")
                    await self._clock.sleep(self._pace.idle)
            if self._serving:
                await asyncio.wait(self._serving.values(), timeout=grace)
        finally:
            await end([renewing, *self._aborting, *self._serving.values()])
            await self._concluding.close()

    # --- taking ---

    async def _take_some(self, *, waited: bool = False) -> None:
        pace = self._pace
        healthy = min(pace.lanes - len(self._serving) + len(self._failing), pace.taken)
        failing = min(pace.failing - len(self._failing), pace.taken)
        if self._rows >= pace.rows or (healthy <= 0 and failing <= 0):
            self._a_place.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(pace.idle):
                    await self._a_place.wait()
            return
        if healthy < pace.lanes / _SHARE and not waited:
            # Nearly all places are taken: a moment more, and one transaction fills several of them.
            await self._clock.sleep(_MOMENT)
            await self._take_some(waited=True)
            return
        taken = await self._lanes.take(self._worker, max(healthy, 0), max(failing, 0), pace.page, pace.lease)
        for one in taken:
            self._begin(one)
        if len(taken) < max(healthy, failing) / 2:
            await self._rest(bool(taken))

    async def _rest(self, busy: bool) -> None:
        """Until something may be due. While there is work, what comes meanwhile is taken together."""
        if busy:
            await self._clock.sleep(_MOMENT)
            return
        due = await self._lanes.next_due()
        await self._lanes.wait(self._pace.idle if due is None else min(max(due, 0.02), self._pace.idle))

    def _begin(self, taken: Taken) -> None:
        lane = taken.lane
        task = asyncio.create_task(self._serve(taken))
        rows = len(taken.claims or ())
        self._serving[lane.id] = task
        self._rows += rows
        if lane.standing.fails:
            self._failing.add(lane.id)
        task.add_done_callback(lambda _: self._ended(lane.id, task, rows))

    def _ended(self, lane: int, task: asyncio.Task[None], rows: int) -> None:
        self._rows -= rows
        if self._serving.get(lane) is task:
            del self._serving[lane]
            self._failing.discard(lane)
        self._a_place.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("lane.failed", lane=lane, error=type(error).__name__)

    # --- serving one lane ---

    async def _serve(self, taken: Taken) -> None:
        """A page of the lane. Whatever ends this early leaves rows that are claimed again after the lease."""
        lane = taken.lane
        pace = None if lane.pace is None else read_pace(lane.pace)
        try:
            asked = await self._ask(lane, pace) if taken.claims is None else taken.claims
            if isinstance(asked, Page):
                await self._concluding.conclude(asked)
                return
            issue, claims = (asked.issue, asked.claims) if isinstance(asked, IssueClaim) else (None, asked)
            page = await self._page(lane, pace, claims, issue)
            if lane.failing is not None and page.standing.fails and falls_back(pace, lane.failing):
                await self._lanes.fall_back(self._worker, lane.id)
            stale = await self._concluding.conclude(page)
        except LeaseLost:
            log.warning("lane.lost", lane=lane.id)
            return
        for claim, conclusion in zip(claims, page.conclusions, strict=True):
            _tell(lane, claim, conclusion, stale=claim.attempt.delivery in stale)
        if lane.vendor is not None and claims:
            await self._heed_vendor(lane, lane.vendor, page)

    async def _ask(self, lane: Lane, pace: PartnerPace | None) -> Sequence[Claim] | IssueClaim | Page:
        """What of a lane apart from the others goes now; a page that only gives it back, if nothing does."""
        if lane.closed is not None:
            log.warning(
                "lane.closed", lane=lane.id, partner=str(lane.subscriber), cause=lane.closed, again=True
            )
            if lane.failing is not None and falls_back(pace, lane.failing):
                await self._lanes.fall_back(self._worker, lane.id)
            return Page(lane.id, standing=lane.standing)
        closed_for = self._closed_for(pace, read_maintenance(lane.maintenance))
        if closed_for > timedelta(0):
            return Page(lane.id, rest=closed_for, standing=lane.standing)
        if frequency_of(lane.endpoint) is not Frequency.UNIT:
            # A whole issue is what tries the endpoint: before it goes again, all but one of it falls back.
            if lane.standing.fails and lane.failing is not None and falls_back(pace, lane.failing):
                await self._lanes.fall_back(self._worker, lane.id)
            return await self._digests.ask(lane)
        most = 1 if lane.standing.fails else min(page_of(pace, self._pace.page), lane.standing.at_once)
        ordered, closes = (
            (pace.ordered, pace.ordered_closes) if pace is not None else (frozenset[str](), False)
        )
        claims = await self._lanes.claim(self._worker, lane.id, most, ordered, closes=closes)
        return claims or Page(lane.id, standing=lane.standing, blocked=bool(ordered))

    def _closed_for(self, pace: PartnerPace | None, maintenance: Sequence[Maintenance]) -> timedelta:
        return opens_in(pace, maintenance, datetime.fromtimestamp(self._clock.now(), UTC))

    async def _page(
        self, lane: Lane, pace: PartnerPace | None, claims: Sequence[Claim], issue: Issue | None
    ) -> Page:
        channel = lane.endpoint.channel
        of = {
            procedure: self._policies.policy(channel, procedure, pace)
            for procedure in {claim.procedure for claim in claims}
        }
        policies = [of[claim.procedure] for claim in claims]
        outcomes = await self._attempt(lane, claims, policies[0], issue) if claims else ()
        outcomes = tell_apart(lane.standing, outcomes)
        conclusions, refused = hold_back(self._conclude(claims, outcomes, policies, issue))
        if pace is not None and pace.ordered:
            conclusions = tuple(
                _noted(conclusion, claim, pace) for conclusion, claim in zip(conclusions, claims, strict=True)
            )
        standing = next_standing(lane.standing, conclusions, self._pace.page)
        closes = None
        if refused is not None and (cause := refused.cause) is not None:
            log.error("lane.closed", lane=lane.id, partner=str(lane.subscriber), channel=channel, cause=cause)
            closes = (cause, refused.attempt.delivery)
        rest = timedelta(0)
        if claims:
            rest = rest_after(standing, conclusions, policies[0], self._clock.jitter())
        calls = len(claims) if issue is None else 1
        return Page(lane.id, conclusions, max(rest, rest_for_rate(pace, calls)), standing, closes)

    def _conclude(
        self,
        claims: Sequence[Claim],
        outcomes: Sequence[Outcome],
        policies: Sequence[RetryPolicy],
        issue: Issue | None,
    ) -> Sequence[Conclusion]:
        if issue is None:
            conclusions = [
                conclude(claim.attempt, outcome, policy, self._clock.jitter())
                for claim, outcome, policy in zip(claims, outcomes, policies, strict=True)
            ]
        else:
            attempts = [claim.attempt for claim in claims]
            conclusions = conclude_issue(issue, attempts, outcomes, policies[0], self._clock.jitter())
        return [
            conclusion
            if conclusion.outcome.answer is None
            else replace(conclusion, sealed=self._parcels.seal_answer(claim, conclusion.outcome.answer))
            for conclusion, claim in zip(conclusions, claims, strict=True)
        ]

    async def _attempt(
        self, lane: Lane, claims: Sequence[Claim], policy: RetryPolicy, issue: Issue | None
    ) -> Sequence[Outcome]:
        outcomes: list[Outcome] = [Deferred("hub.fault", About.PARCEL)] * len(claims)
        ready: list[tuple[int, Parcel]] = []
        for place, claim in enumerate(claims):
            # A large document takes tens of milliseconds: not in the way of everybody else.
            large = len(claim.sealed) > _LARGE
            built = await asyncio.to_thread(self._build, claim) if large else self._build(claim)
            if isinstance(built, Parcel):
                ready.append((place, built))
            else:
                outcomes[place] = built
        if issue is not None:
            if len(ready) < len(claims):
                # Its list is fixed: without those that cannot be read it is another issue, the next one.
                for place, _ in ready:
                    outcomes[place] = Deferred("hub.issue_incomplete", About.PARCEL)
                return outcomes
            ready = [(place, replace(parcel, issue=issue)) for place, parcel in ready]
        if ready:
            delivered = await self._deliver(lane, [parcel for _, parcel in ready], policy)
            for (place, _), outcome in zip(ready, delivered, strict=True):
                outcomes[place] = outcome
        return outcomes

    def _build(self, claim: Claim) -> Parcel | Outcome:
        try:
            return self._parcels.build(claim)
        except UnknownKey:
            # Amid a rotation of the hub's key: this process, or the one that sealed it, learns the other's in time.
            return Deferred("hub.key_unknown", About.PARCEL)
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

    # --- vendors ---

    async def _heed_vendor(self, lane: Lane, vendor: str, page: Page) -> None:
        """Lanes whose endpoints fail together rest together, and come back one after the other."""
        now = asyncio.get_running_loop().time()
        before = self._vendors[vendor]
        after = next_circuit(before, lane.id, page.standing, now, self._pace.vendor_opens_at, page.rest)
        self._vendors[vendor] = after
        try:
            if after.rests > before.rests:
                rested = await self._lanes.rest_vendor(vendor, page.rest, page.rest)
                log.warning("vendor.rests", vendor=vendor, lanes=rested, seconds=page.rest.total_seconds())
            elif before.is_open and not after.is_open:
                woken = await self._lanes.wake_vendor(vendor, timedelta(seconds=_ONE_BY_ONE))
                log.info("vendor.served", vendor=vendor, lanes=woken)
        except Unavailable:
            log.warning("lanes.away")

    # --- holding ---

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
                # The store counts from when it hears of it: later than this, never earlier.
                asked_at = loop.time()
                async with asyncio.timeout_at(min(asked_at + third, renewed_at + 2.5 * third)):
                    kept = await self._lanes.renew(self._worker, list(held), self._pace.lease)
                renewed_at = asked_at
            except (Unavailable, asyncio.TimeoutError):
                # One failure is borne; before the leases that were renewed last can end, all is aborted.
                kept = set(held) if loop.time() < renewed_at + 1.5 * third else set()
            # Only whom was asked for: a lane that was given back may have been leased anew meanwhile.
            if lost := [held[lane] for lane in set(held) - kept]:
                aborting = asyncio.create_task(end(lost))
                self._aborting.add(aborting)
                aborting.add_done_callback(self._aborting.discard)


def _noted(conclusion: Conclusion, claim: Claim, pace: PartnerPace) -> Conclusion:
    """One that is parked where the order matters: those behind it go on, or wait for an operator."""
    if conclusion.state is not State.PARKED or claim.procedure not in pace.ordered:
        return conclusion
    note = "closes its procedure" if pace.ordered_closes else "leaves the order of its procedure"
    return replace(conclusion, note=note)


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
