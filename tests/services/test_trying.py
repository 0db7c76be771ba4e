"""The room of trials: which endpoints a partner has, what is told when one cannot even be tried, and that a trial
ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from hub.domain.errors import Tampered, TrialUnderWay
from hub.domain.fields import Field
from hub.domain.identity import Subscriber
from hub.domain.pace import ChannelFallback, PartnerPace
from hub.domain.partner import Endpoint, Partner
from hub.domain.trials import Step, StepState, Trial
from hub.ports.partners import KeptPartner
from hub.services.trying import TrialRoom

TOWN = Subscriber("21740042390019", "74042")
SECRET = "hunter2-MfKQ9r8GKYqrTwjU"
WELL = Step("connection", StepState.WELL, "Le port répond.", "The port answers.")


class Kept:
    def __init__(self, partner: Partner) -> None:
        self._partner = partner

    async def get(self, subscriber: Subscriber) -> KeptPartner | None:
        return (self._partner, None, None) if subscriber == self._partner.subscriber else None


class Tried:
    """A connector whose trial is written by a test. `asked`: the endpoints it was tried with."""

    fields: Sequence[Field] = ()

    def __init__(self, steps: Sequence[Step] | Exception = (WELL,), flaws: Sequence[str] = ()) -> None:
        self._steps, self._flaws = steps, flaws
        self.asked: list[tuple[Endpoint, bool]] = []

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return self._flaws

    async def try_out(self, endpoint: Endpoint, limit: float, send: bool) -> Sequence[Step]:
        self.asked.append((endpoint, send))
        if isinstance(self._steps, Exception):
            raise self._steps
        return self._steps


class Untried:
    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return ()


async def trials(
    connectors: Mapping[str, Any],
    pace: PartnerPace | None = None,
    opened: Callable[[KeptPartner], Partner] = lambda kept: kept[0],
) -> Sequence[Trial]:
    partner = Partner(TOWN, "Mairie", Endpoint("fax", {"number": "1"}), None, pace)
    room = TrialRoom(Kept(partner), opened, connectors)  # type: ignore[arg-type]
    found = await room.try_out(TOWN, 5, send=True)
    assert found is not None
    return found


async def test_an_endpoint_is_tried_and_where_notices_go_too() -> None:
    fax, mail = Tried(), Tried([Step("login", StepState.WRONG, "Refusé.", "Refused.", "mail.login_refused")])
    notice = {"host": "smtp.example", "sender": "a@b.example", "recipients": ["c@d.example"]}
    pace = PartnerPace(fallback=ChannelFallback(timedelta(hours=1), notice))
    first, second = await trials({"fax": fax, "mail": mail}, pace)
    assert (first.channel, first.notice, first.is_well, first.steps) == ("fax", False, True, (WELL,))
    assert (second.channel, second.notice, second.is_well) == ("mail", True, False)
    assert fax.asked == [(Endpoint("fax", {"number": "1"}), True)]
    assert mail.asked == [(Endpoint("mail", notice), True)]


@pytest.mark.parametrize(
    ("connectors", "step", "state"),
    [
        ({}, "channel", StepState.WRONG),
        ({"fax": Untried()}, "channel", StepState.NOTED),
        ({"fax": Tried(flaws=["number must be a number"])}, "settings", StepState.WRONG),
        ({"fax": Tried(RuntimeError(SECRET))}, "trial", StepState.WRONG),
    ],
    ids=["no channel", "not to be tried", "settings", "our own fault"],
)
async def test_what_cannot_be_tried_is_a_step_too(
    connectors: Mapping[str, Any], step: str, state: StepState, capfd: pytest.CaptureFixture[str]
) -> None:
    [found] = await trials(connectors)
    assert [(one.name, one.state) for one in found.steps] == [(step, state)]
    told = capfd.readouterr()
    assert SECRET not in str(found) + told.out + told.err


async def test_secrets_that_do_not_open_are_told() -> None:
    def closed(kept: KeptPartner) -> Partner:
        raise Tampered

    fax = Tried()
    [found] = await trials({"fax": fax}, opened=closed)
    assert [(one.name, one.state) for one in found.steps] == [("secrets", StepState.WRONG)]
    assert fax.asked == []


async def test_who_is_no_partner_is_not_tried() -> None:
    room = TrialRoom(Kept(Partner(TOWN, "Mairie", Endpoint("fax", {}))), lambda kept: kept[0], {})  # type: ignore[arg-type]
    assert await room.try_out(Subscriber(TOWN.siret, "other"), 5, send=False) is None


class Silent(Tried):
    """Its trial ends when somebody ends it. `begun`, `ended`: that this happened."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def try_out(self, endpoint: Endpoint, limit: float, send: bool) -> Sequence[Step]:
        self.begun.set()
        try:
            return await asyncio.Future()
        finally:
            self.ended.set()


async def test_a_partner_is_tried_once_at_a_time_and_again_when_that_has_ended() -> None:
    silent = Silent()
    partner = Partner(TOWN, "Mairie", Endpoint("fax", {}))
    room = TrialRoom(Kept(partner), lambda kept: kept[0], {"fax": silent})  # type: ignore[arg-type, dict-item]
    first = asyncio.create_task(room.try_out(TOWN, 60, send=False))
    await silent.begun.wait()
    with pytest.raises(TrialUnderWay):
        await room.try_out(TOWN, 60, send=False)
    assert await room.try_out(Subscriber(TOWN.siret, "other"), 60, send=False) is None
    first.cancel()
    await asyncio.wait([first])
    silent.begun.clear()
    again = asyncio.create_task(room.try_out(TOWN, 60, send=False))
    await silent.begun.wait()
    again.cancel()
    await asyncio.wait([again])


async def test_a_trial_that_does_not_end_is_ended_and_that_is_a_step() -> None:
    silent = Silent()
    partner = Partner(TOWN, "Mairie", Endpoint("fax", {}))
    room = TrialRoom(Kept(partner), lambda kept: kept[0], {"fax": silent})  # type: ignore[arg-type, dict-item]
    found = await room.try_out(TOWN, 0.01, send=False)
    assert found is not None
    assert [(one.name, one.state) for one in found[0].steps] == [("trial", StepState.WRONG)]
    assert "arrêté" in found[0].steps[0].fr
    assert silent.ended.is_set()
