"""The whole journey, with the hub killed on the way."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp

from tests.journeys.world import accounts, at_rest, fetched, kill, post, stage, submission, total

SUBMISSIONS = 2000
KILLS_AT = (500, 1200)
AT_ONCE = 24


def _forms() -> list[tuple[dict[str, object], list[bytes]]]:
    places = ("74042", "74164", "74010")
    return [
        submission(n, "CERTDC" if n % 3 == 0 else "recensementCitoyen", places[n % 7 % 3])
        for n in range(SUBMISSIONS)
    ]


async def test_a_hub_that_is_killed_in_the_middle_makes_each_delivery_under_one_name() -> None:
    async with stage() as world:
        hub = await world.start()
        token = await hub.token(
            "sender", "site", "--procedure", "CERTDC", "--procedure", "recensementCitoyen"
        )
        operator = await hub.token("operator", "o", "--role", "operator")
        forms = iter(_forms())
        ids: list[str] = []
        kills = list(KILLS_AT)

        async def clerk(session: aiohttp.ClientSession) -> None:
            nonlocal hub
            for form in forms:
                ids.append(await post(session, hub.url, form))
                if kills and len(ids) >= kills[0]:
                    kills.pop(0)
                    kill(hub)
                    await hub.process.wait()
                    hub = await world.start()

        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            await asyncio.gather(*(clerk(session) for _ in range(AT_ONCE)))
        assert not kills
        assert len(set(ids)) == SUBMISSIONS

        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as session:
            counts = await at_rest(hub, session)
            deliveries = await hub.deliveries(session)
        told = await accounts(hub)
        await fetched(world)
        await hub.stop()

        # Everything that was answered with a 202 is there, decided, and accounted for.
        assert total(told["submissions"], "accepted") == SUBMISSIONS
        assert total(told["submissions"], "undecided") == 0
        assert counts["deliveries.delivered"] == len(deliveries) == total(told["deliveries"], "named")
        # One name for one submission at one partner, and no sequence number twice or missing.
        pairs = Counter((item["submission"], item["subscriber"]) for item in deliveries)
        assert max(pairs.values()) == 1
        for subscriber in {item["subscriber"] for item in deliveries}:
            numbers = sorted(item["sequence"] for item in deliveries if item["subscriber"] == subscriber)
            assert numbers == list(range(1, len(numbers) + 1))
        # What the partners saw: each delivery, under its name; again at most under the same name.
        arrived = {(line["partner"], line["delivery"]) for line in world.arrivals()}
        assert arrived == {(item["subscriber"], item["id"]) for item in deliveries}


async def test_a_hub_that_is_stopped_loses_nothing_and_goes_on_where_it_was() -> None:
    async with stage() as world:
        hub = await world.start()
        token = await hub.token("sender", "site", "--procedure", "recensementCitoyen")
        operator = await hub.token("operator", "o")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            for number in range(50):
                await post(session, hub.url, submission(number, "recensementCitoyen", "74042"))
        await hub.stop()
        assert hub.process.returncode == 0

        hub = await world.start()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as session:
            counts = await at_rest(hub, session)
        await hub.stop()
        assert counts["deliveries.delivered"] == 50
