"""Recall: what is accepted and was never decided gets its letter again, when the log may have lost it.

Business of this room: telling when. The log may have begun a new life (its topics were deleted, its cluster was made
anew, or the hub moved to another log): then everything undecided is given to it again. Or single records may be gone:
then what is undecided although all that was in the log has passed. Repeating is harmless: who reads a letter twice
decides the same, and registration skips it.
"""

from __future__ import annotations

import structlog

from hub.ports.log import Log, Topic
from hub.ports.outgoing import Tray
from hub.services import registration, routing

log = structlog.get_logger()

# In the order of the journey: what the first has done is before the second by then.
_PASSED = ((Topic.SUBMISSIONS, routing.GROUP), (Topic.ROUTINGS, registration.GROUP))


class RecallRoom:
    def __init__(self, tray: Tray, journey: Log) -> None:
        self._tray = tray
        self._journey = journey

    async def follow_life(self) -> int:
        """How many letters were put back because the log lives anew."""
        life = " ".join([await self._journey.incarnation(topic) for topic, _ in _PASSED])
        count = await self._tray.put_back(life)
        if count:
            log.warning("log.new_life", letters=count)
        return count

    async def find_lost(self) -> int | None:
        """How many letters were put back because nothing was left in the log that could be about them; None:
        there is something left, ask again."""
        before = await self._tray.carried_until()
        for topic, group in _PASSED:
            if (await self._journey.backlog(topic)).get(group) != 0:
                return None
        count = await self._tray.put_back_lost(before)
        if count:
            log.warning("log.records_lost", letters=count)
        return count
