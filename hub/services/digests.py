"""Digests: when a lane's next mail leaves, and what goes into it.

Business of this room: asking for an issue when its slot has begun, and letting the lane rest until the next one when
nothing is due. What an issue lists is fixed by the store; how it is concluded is dispatch's business.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hub.domain.digests import DigestHours, frequency_of, slots_around
from hub.ports.clock import Clock
from hub.ports.lanes import IssueClaim, Lane, Lanes, Page

MOST = 200
"""Deliveries in one mail. What is over goes in the next issue of the same slot."""


class DigestRoom:
    def __init__(self, worker: str, lanes: Lanes, clock: Clock, hours: DigestHours) -> None:
        self._worker = worker
        self._lanes = lanes
        self._clock = clock
        self._hours = hours

    async def ask(self, lane: Lane) -> IssueClaim | Page:
        """What of the lane goes now; a page that only gives it back, if nothing does. Raises LeaseLost."""
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        slot, following = slots_around(self._hours.of(frequency_of(lane.endpoint)), now)
        found = await self._lanes.claim_issue(self._worker, lane.id, slot, MOST)
        if isinstance(found, IssueClaim):
            return found
        rest = following - now if found is None else found
        return Page(lane.id, rest=max(rest, timedelta(0)), standing=lane.standing)
