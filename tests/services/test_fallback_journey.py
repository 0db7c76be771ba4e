"""A partner whose service is away for longer than it bears, from the first failure to the last parcel: real
connectors, a real mail server, and a webhook's receiver that comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from hub.adapters.postgres.partners import PostgresPartners
from hub.domain.pace import read_pace
from hub.domain.partner import Endpoint, Partner
from hub.services.endpoints import EndpointRoom
from tests.connectors.partners import HERE, SECRET, attachments, mail_town, plain_of
from tests.ports import free_port
from tests.services.delivering import KEYRING, connected, dispatching
from tests.services.http_world import World, offer, open_world
from tests.unit.samples import BONNEVILLE


async def until(met: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(15):
        while not await met():
            await asyncio.sleep(0.05)


async def fetch(world: World, query: str) -> list[Any]:
    async def work(connection: Any) -> list[Any]:
        return list(await connection.fetch(query))

    return await world.database.run(work)


async def post(world: World, *names: str) -> None:
    for name in names:
        assert (await world.post(offer(external_id=name))).status == 202
    await world.route()


async def _lie(world: World, count: int) -> bool:
    theirs = await fetch(world, f"SELECT FROM delivery WHERE lies AND subscriber = '{BONNEVILLE}'")
    return len(theirs) == count


async def test_a_service_that_is_away_costs_its_partner_no_parcel_and_is_used_again_when_it_is_back(
    database: str, tmp_path: Path
) -> None:
    taken: list[str] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(request.headers["webhook-id"])
        return web.Response()

    port = free_port()
    async with open_world(database, tmp_path) as world, mail_town() as town:
        wish = {"fallback": {"after": 3600, "notice": dict(town.endpoint.settings)}}
        endpoint = Endpoint("webhook", {"url": f"http://{HERE}:{port}/depot"}, {"secret": SECRET})
        partner = Partner(BONNEVILLE, "Mairie de Bonneville", endpoint, None, read_pace(wish))
        await PostgresPartners(world.database).keep([EndpointRoom(KEYRING).seal(partner)])
        await post(world, "d-1", "d-2", "d-3")
        async with connected(world) as known, dispatching(world, known):
            await until(lambda: fetch(world, "SELECT FROM lane WHERE failures > 1"))
            assert town.mails == []
            # Two hours later.
            await fetch(
                world,
                "UPDATE lane SET failing_since = failing_since - interval '2 hours' WHERE channel = 'webhook'"
                " RETURNING id",
            )
            await until(
                lambda: fetch(world, "SELECT FROM delivery WHERE kind = 'notice' AND state = 'delivered'")
            )
            await until(lambda: _lie(world, 2))
            # The one that is due first goes on trying; chance says which.
            lying = (await world.call("GET", "/v1/mailbox", "bonneville")).json["items"]
            assert [item["sequence"] for item in lying] == [1, 2, 3]
            assert [item["state"] for item in lying].count("delivered") == 2
            [mail] = town.read()
            told = plain_of(mail)
            assert str(BONNEVILLE) in told
            assert "boîte de dépôt" in told
            assert attachments(mail) == {}

            app = web.Application()
            app.router.add_post("/depot", take)
            runner = web.AppRunner(app)
            await runner.setup()
            with contextlib.suppress(asyncio.CancelledError):
                await web.TCPSite(runner, HERE, port).start()
            await until(
                lambda: fetch(world, "SELECT FROM lane WHERE channel = 'webhook' AND left_for IS NULL")
            )
            await post(world, "d-4")
            await until(
                lambda: fetch(
                    world,
                    "SELECT FROM delivery WHERE sequence = 4 AND state = 'delivered' AND channel = 'webhook'",
                )
            )
            await runner.cleanup()
        numbers = (await world.call("GET", "/v1/mailbox/numbers", "bonneville")).json["items"]
        assert [(one["number"], one["state"]) for one in numbers] == [(n, "delivered") for n in (1, 2, 3, 4)]
        assert len(taken) == 2
        assert len(town.mails) == 1
