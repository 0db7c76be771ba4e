"""Supervision: counts what comes for each procedure and partner, and says when a flow that usually comes stopped.

Business of this room: folding the journal into histories by the hour, and raising one alarm for each silence. The
histories are kept by whoever hosts it, in a mapping of flows to JSON; a line of the journal that is read twice
counts twice, which harms nothing. What silence is, `hub.domain.silence` says.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from hub.domain.ledger import hour_since_epoch
from hub.domain.silence import expected, noted
from hub.ports.log import Record
from hub.ports.outgoing import News

GROUP = "supervision"
COUNTED = "delivery.planned"

Histories = MutableMapping[str, dict[str, int]]
"""By flow (`procedure subscriber`); in each its hours (as text, for JSON keeps no numbers as names) with their
counts."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Silent:
    """A flow that stopped: `last` came in this hour, `expected` have not come since."""

    procedure: str
    subscriber: str
    last: int
    expected: float


class SupervisionRoom:
    """`read` raises Invalid. `enough`: how many must have been expected before silence is one."""

    def __init__(self, read: Callable[[Record], News], enough: float) -> None:
        self._read = read
        self._enough = enough
        self._told: dict[str, int] = {}

    def note(self, histories: Histories, record: Record, now: datetime) -> None:
        """A line of the journal; most count for no flow. Raises Invalid for what is none."""
        news = self._read(record)
        if news.event != COUNTED or news.procedure is None or news.subscriber is None:
            return
        flow = f"{news.procedure} {news.subscriber}"
        before = {int(hour): count for hour, count in histories.get(flow, {}).items()}
        after = noted(before, hour_since_epoch(news.at), hour_since_epoch(now))
        histories[flow] = {str(hour): count for hour, count in after.items()}

    def look(self, histories: Histories, now: datetime) -> Sequence[Silent]:
        """All that are silent at this moment; each silence is told in the hub's log when it begins."""
        found = []
        for flow, told in list(histories.items()):
            history = {int(hour): count for hour, count in told.items()}
            missing = expected(history, hour_since_epoch(now))
            if missing < self._enough:
                continue
            procedure, _, subscriber = flow.partition(" ")
            silent = Silent(procedure, subscriber, max(history), missing)
            found.append(silent)
            if self._told.get(flow) != silent.last:
                self._told[flow] = silent.last
                log.warning(
                    "flow.silent",
                    procedure=procedure,
                    subscriber=subscriber,
                    last=datetime.fromtimestamp(silent.last * 3600, now.tzinfo).isoformat(),
                    expected=round(missing, 1),
                )
        return found
