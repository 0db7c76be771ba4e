"""Alarms: looking every few minutes for what stands still or runs out, and saying once what begins to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import structlog

from hub.domain.alarms import Alarm, AlarmKind, Patience, beginning, expiring
from hub.domain.fields import Field
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint
from hub.ports.alarms import Alarms
from hub.ports.clock import Clock
from hub.ports.partners import Partners

_SHOWN = 20

log = structlog.get_logger()


class AlarmRoom:
    """`fields`: what each channel asks of an endpoint; those that are known to run out are looked at."""

    def __init__(
        self,
        alarms: Alarms,
        partners: Partners,
        fields: Mapping[str, Sequence[Field]],
        patience: Patience,
        clock: Clock,
    ) -> None:
        self._alarms = alarms
        self._partners = partners
        self._fields = {
            channel: [one for one in described if one.until is not None]
            for channel, described in fields.items()
        }
        self._patience = patience
        self._clock = clock

    async def run_once(self) -> None:
        """A line for each kind of which more partners are concerned than at the last look: how many in all, and with
        whom it begins (the first twenty)."""
        names = {one.name for fields in self._fields.values() for one in fields}
        # Reading thousands of certificates takes a while.
        ending = await asyncio.to_thread(self._ending, await self._partners.having(names))
        before, now = await self._alarms.look(self._patience, ending)
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

    def _ending(self, endpoints: Sequence[tuple[Subscriber, Endpoint]]) -> Sequence[Alarm]:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        looked = (
            expiring(
                subscriber, endpoint, self._fields.get(endpoint.channel, ()), self._patience.expiring, now
            )
            for subscriber, endpoint in endpoints
        )
        return [alarm for alarm in looked if alarm is not None]


def _named(alarm: Alarm) -> str:
    return " ".join(word for word in (alarm.subscriber, alarm.channel, alarm.cause) if word)
