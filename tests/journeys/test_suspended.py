"""A partner that is suspended while deliveries wait for it: what was decided arrives, and nothing new is for it."""

from __future__ import annotations

import asyncio

import aiohttp

from demo.receivers.http import HTTP_503
from tests.journeys.world import BONNEVILLE, accounts, at_rest, post, staged, submission, total

_WAITING = 4


async def test_what_waits_for_a_partner_that_is_suspended_arrives_and_what_comes_later_is_unroutable() -> (
    None
):
    async with staged({}, {BONNEVILLE: HTTP_503}) as world:
        hub = await world.start()
        try:
            token = await hub.token("sender", "site", "--procedure", "recensementCitoyen")
            operator = await hub.token("operator", "o", "--role", "operator")
            async with (
                aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
                aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as watching,
            ):
                for number in range(_WAITING):
                    await post(session, hub.url, submission(number, "recensementCitoyen", "74042"))
                while not (await hub.counts(watching)).get("deliveries.waiting"):
                    await asyncio.sleep(0.05)
                code, told = await hub.command("partners", "suspend", BONNEVILLE, "--reason", "déménagement")
                assert code == 0, told
                await world.receiver.heal()
                counts = await at_rest(hub, watching)
                assert counts["deliveries.delivered"] == _WAITING
                await post(session, hub.url, submission(_WAITING, "recensementCitoyen", "74042"))
                await at_rest(hub, watching)
            submissions = (await accounts(hub))["submissions"]
            assert (total(submissions, "routed"), total(submissions, "unroutable")) == (_WAITING, 1)
        finally:
            await hub.stop()
