"""Trials (essais) of endpoints: the room that tries what a partner's parcels would meet, and sends none of them.

Business of this room: which endpoints a partner has, that a connector which cannot be tried, or an endpoint that
cannot be read, is told as a step too, and that a trial ends. What a step is on a channel is its connector's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from hub.domain.errors import MissingKey, Tampered, TrialUnderWay, UnknownKey
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner
from hub.domain.trials import Step, StepState, Trial
from hub.ports.connector import Connector, Triable
from hub.ports.partners import KeptPartner, Partners

AT_ONCE = 4
"""Trials under way in one process."""

_STEPS = 8
"""How often a trial may wait for a silent server, which is then no server that parcels arrive at. One that ends by
itself before tells what it found."""

log = structlog.get_logger()


class TrialRoom:
    def __init__(
        self,
        partners: Partners,
        opened: Callable[[KeptPartner], Partner],
        connectors: Mapping[str, Connector],
    ) -> None:
        self._partners = partners
        self._opened = opened
        self._connectors = connectors
        self._under_way: set[Subscriber] = set()

    async def try_out(self, subscriber: Subscriber, limit: float, *, send: bool) -> Sequence[Trial] | None:
        """Of its endpoint, and of where its notices go, if anywhere; None for one that is no partner. `limit`: seconds
        to wait for a silent server, and eight times as many for each endpoint in all; `send`: something that is no
        parcel may be sent there. Raises TrialUnderWay, also where too many partners are tried at once."""
        if subscriber in self._under_way or len(self._under_way) >= AT_ONCE:
            raise TrialUnderWay
        self._under_way.add(subscriber)
        try:
            kept = await self._partners.get(subscriber)
            return None if kept is None else await self._trials(kept, limit, send)
        finally:
            self._under_way.discard(subscriber)

    async def _trials(self, kept: KeptPartner, limit: float, send: bool) -> Sequence[Trial]:
        channel = kept[0].endpoint.channel
        try:
            partner = self._opened(kept)
        except (MissingKey, Tampered, UnknownKey):
            return [Trial(channel, False, [_UNREADABLE])]
        trials = [Trial(channel, False, await self._try_out(partner.endpoint, limit, send))]
        fallback = None if partner.pace is None else partner.pace.fallback
        if fallback is not None and fallback.notice is not None:
            steps = await self._try_out(Endpoint("mail", fallback.notice), limit, send)
            trials.append(Trial("mail", True, steps))
        return trials

    async def _try_out(self, endpoint: Endpoint, limit: float, send: bool) -> Sequence[Step]:
        connector = self._connectors.get(endpoint.channel)
        if connector is None:
            return [
                _step(
                    "channel", StepState.WRONG, "Ce canal n'existe pas ici.", "There is no such channel here."
                )
            ]
        flaws = connector.check(endpoint)
        if flaws:
            return [
                _step("settings", StepState.WRONG, f"Paramètre refusé : {one}.", f"{one}.") for one in flaws
            ]
        if not isinstance(connector, Triable):
            return [
                _step(
                    "channel", StepState.NOTED, "Ce canal ne s'essaie pas.", "This channel cannot be tried."
                )
            ]
        whole = asyncio.timeout(limit * _STEPS)
        try:
            async with whole:
                return await connector.try_out(endpoint, limit, send)
        except Exception as fault:  # our own fault, of a connector that is perhaps not ours
            if whole.expired():
                return [
                    _step(
                        "trial",
                        StepState.WRONG,
                        "L'essai a été arrêté : il n'en finissait pas.",
                        "The trial was stopped: it did not come to an end.",
                    )
                ]
            log.error("trial.failed", channel=endpoint.channel, error=type(fault).__name__)
            return [
                _step(
                    "trial",
                    StepState.WRONG,
                    "L'essai a échoué : défaut de la plateforme.",
                    "The trial failed: a fault of the hub's.",
                )
            ]


def _step(name: str, state: StepState, fr: str, en: str) -> Step:
    return Step(name, state, fr, en)


_UNREADABLE = _step(
    "secrets",
    StepState.WRONG,
    "Les secrets de ce partenaire ne s'ouvrent pas : importez-les de nouveau.",
    "This partner's secrets do not open: import them again.",
)
