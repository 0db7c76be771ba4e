"""Alarms: looking every few minutes for what stands still, and saying once what begins to."""

from __future__ import annotations

from collections import defaultdict

import structlog

from hub.domain.alarms import Alarm, AlarmKind, Patience, beginning
from hub.ports.alarms import Alarms

_SHOWN = 20

log = structlog.get_logger()


class AlarmRoom:
    def __init__(self, alarms: Alarms, patience: Patience) -> None:
        self._alarms = alarms
        self._patience = patience

    async def run_once(self) -> None:
        """A line for each kind of which more partners are concerned than at the last look: how many in all, and with
        whom it begins (the first twenty)."""
        before, now = await self._alarms.look(self._patience)
        begun: defaultdict[AlarmKind, list[Alarm]] = defaultdict(list)
        for alarm in beginning(before, now):
            begun[alarm.kind].append(alarm)
        for kind, alarms in begun.items():
            log.warning(
                "alarm.begins",
                kind=kind.value,
                number=sum(alarm.number for alarm in alarms),
                partners=len(alarms),
                since=min(alarm.since for alarm in alarms).isoformat(),
                first=[_named(alarm) for alarm in alarms[:_SHOWN]],
            )


def _named(alarm: Alarm) -> str:
    return " ".join(word for word in (alarm.subscriber, alarm.channel, alarm.cause) if word)
