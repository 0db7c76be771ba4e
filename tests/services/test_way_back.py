"""The way back, whole: three town halls that answer by a page, by a file in a folder of their own server, and by the
API, each twice; their sender reads three events, and has them sent. Real connectors, OpenSSH's server, a receiver that
fails."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.return_folders import PostgresReturnFolders
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner, made_up_siret
from hub.ports.connector import Connector
from hub.ports.returns import Returns
from hub.ports.rule_books import Change
from hub.ports.tokens import PartnerIdentity
from hub.services.collecting import CollectingRoom, CollectPace
from hub.services.endpoints import EndpointRoom
from hub.wire import items
from schemas.models.rules import SubscriptionIn
from tests.conformance.motion import assert_sound
from tests.connectors.openssh import OpenSsh, missing, openssh
from tests.connectors.partners import HERE, SECRET
from tests.ports import free_port
from tests.services.delivering import KEYRING, connected, dispatching
from tests.services.http_world import SENDER, World, offer, open_world
from tests.unit.samples import BONNEVILLE, MARIGNIER

needs_sshd = pytest.mark.skipif(missing() is not None, reason=str(missing()))

ANNECY = Subscriber(made_up_siret("217400100", 1), "74010")
DESK = Subscriber(made_up_siret("130018716", 7), "OSL1")
TOWNS = {BONNEVILLE: "74042", MARIGNIER: "74164", ANNECY: "74010"}


@dataclass
class Desk:
    """The sender's own receiver: it fails `failing` times, then takes what comes and fetches the files."""

    world: World
    port: int = field(default_factory=free_port)
    failing: int = 2
    told: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        if self.failing:
            self.failing -= 1
            return web.Response(status=500)
        body = await request.text()
        Webhook(SECRET).verify(body, dict(request.headers))
        data = json.loads(body)["data"]
        assert request.headers["webhook-id"] == data["delivery"]
        link = urlsplit(data["files"][0]["url"])
        fetched = await self.world.call("GET", f"{link.path}?{link.query}", None)
        assert fetched.status == 200
        self.told.append({"sequence": data["sequence"], "type": json.loads(body)["type"], **fetched.json})
        return web.Response(status=204)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Desk]:
        app = web.Application()
        app.router.add_post("/retours", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, HERE, self.port).start()
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OpenSsh]:
    folder = tmp_path / "sshd"
    folder.mkdir()
    with openssh(folder) as served:
        for name in ("arrivees", "retours"):
            (served.root / name).mkdir()
        yield served


async def declare(world: World, server: OpenSsh, desk: Desk) -> None:
    """Who receives what, and where: the newest edition of the rule book has all three town halls."""
    wishes = [
        SubscriptionIn(procedure="CERTDC", subscriber=str(who), place=f"commune:{code}")
        for who, code in TOWNS.items()
    ]
    told = {key: item for key, item in items((), wishes, (), ("essai", b"essai")).items() if "/" in key[1]}
    newest = (await world.rooms.library.newest()).number
    await PostgresRuleBooks(world.database).publish(
        Change(tuple(told.values())), newest, timedelta(0), "essai", "trois mairies"
    )
    await world.rooms.library.refresh()
    sftp = replace(
        server.endpoint,
        settings={
            **server.endpoint.settings,
            "directory": f"{server.within}/arrivees",
            "return_directory": f"{server.within}/retours",
        },
    )
    partners = [
        Partner(MARIGNIER, "Mairie de Marignier", sftp),
        Partner(ANNECY, "Mairie d'Annecy", Endpoint("mailbox", {})),
        Partner(
            DESK,
            "Formulaires",
            Endpoint("webhook", {"url": f"http://{HERE}:{desk.port}/retours"}, {"secret": SECRET}),
            sender=SENDER,
        ),
    ]
    await PostgresPartners(world.database).keep([EndpointRoom(KEYRING).seal(one) for one in partners])
    for name, who in (("annecy", ANNECY), ("desk", DESK)):
        world.tokens[name] = await world.rooms.tokens.create(PartnerIdentity(who), timedelta(hours=1))


async def deliveries(world: World) -> dict[Subscriber, str]:
    found: dict[Subscriber, str] = {}
    for who, code in TOWNS.items():
        answer = await world.post(offer(external_id=f"dossier-{code}", facts={"commune": code}))
        assert answer.status == 202, answer.body
        await world.route()
        told = (await world.call("GET", f"/v1/submissions/{answer.json['id']}")).json
        [found[who]] = [one["id"] for one in told["deliveries"] if one["subscriber"] == str(who)]
    return found


@asynccontextmanager
async def visiting(world: World, who: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        code = {"code": world.tokens[who]}
        async with browser.post(f"{world.url}/boite/connexion", data=code) as entered:
            assert entered.status == 200, await entered.text()
        yield browser


async def by_page(world: World, delivery: str) -> None:
    """As an agent does it in a browser."""
    async with visiting(world, "bonneville") as browser:
        page = f"{world.url}/boite/plis/{delivery}"
        async with browser.get(page) as shown:
            key = re.search(r'name="cle" value="([0-9a-f]+)"', await shown.text())
        assert key is not None
        for _ in range(2):
            async with browser.post(f"{page}/signaler", data={"cle": key[1], "statut": "DONE"}) as answer:
                assert answer.status == 200, await answer.text()


async def by_file(world: World, server: OpenSsh, known: dict[str, Connector], delivery: str) -> None:
    returns = {name: one for name, one in known.items() if isinstance(one, Returns)}
    room = CollectingRoom(
        PostgresReturnFolders(world.database),
        PostgresPartners(world.database),
        returns,
        world.rooms.reports,
        EndpointRoom(KEYRING),
        world.rooms.clock,
        CollectPace(timedelta(0), timedelta(seconds=10)),
    )
    file = server.root / "retours" / "acquittement.xml"
    for _ in range(2):
        file.write_text(f"<acquittement><remise>{delivery}</remise><statut>DONE</statut></acquittement>")
        async with asyncio.timeout(20):
            while file.exists():
                await room.run_once()


async def by_api(world: World, delivery: str) -> None:
    for status in (201, 200):
        answer = await world.call(
            "POST", f"/v1/mailbox/{delivery}/events", "annecy", json={"status": "DONE", "message": "Fait."}
        )
        assert answer.status == status, answer.body


@needs_sshd
async def test_three_town_halls_say_done_in_three_ways_each_twice_and_their_sender_learns_it_once(
    database: str, tmp_path: Path, server: OpenSsh
) -> None:
    async with open_world(database, tmp_path / "hub") as world, Desk(world).open() as desk:
        await declare(world, server, desk)
        named = await deliveries(world)
        async with connected(world) as known, dispatching(world, known):
            async with asyncio.timeout(30):
                while not any((server.root / "arrivees").iterdir()):
                    await asyncio.sleep(0.05)
            await by_page(world, named[BONNEVILLE])
            await by_file(world, server, known, named[MARIGNIER])
            await by_api(world, named[ANNECY])
            async with asyncio.timeout(30):
                while len(desk.told) < 3:
                    await asyncio.sleep(0.05)
        told = (await world.call("GET", "/v1/events?since=0")).json["items"]
        assert [(one["number"], one["delivery"], one["status"]) for one in told] == [
            (number, named[who], "DONE") for number, who in enumerate(TOWNS, start=1)
        ]
        assert told[2]["message"] == "Fait."
        assert (await world.call("GET", "/v1/events?since=3")).json["items"] == []
        # Sent, too: each under its own name, in its order, with all that is read.
        sent = sorted(desk.told, key=lambda one: int(one["sequence"]))
        assert [one["type"] for one in sent] == ["parcel.news"] * 3
        assert [one["id"] for one in sent] == [one["id"] for one in told]
        assert [one["message"] for one in sent] == [None, None, "Fait."]
        # What goes to itself is no delivery of the sender's submission; operators see it.
        shown = (await world.call("GET", f"/v1/submissions/{told[0]['submission']}")).json
        assert {one["kind"] for one in shown["deliveries"]} == {"submission"}
        seen = (await world.call("GET", f"/v1/submissions/{told[0]['submission']}", "operator")).json
        assert sorted(one["kind"] for one in seen["deliveries"]) == ["news", "submission", "submission"]
        # And whoever looks into the mailbox of the sender's endpoint can read there what was sent.
        async with (
            visiting(world, "desk") as browser,
            browser.get(f"{world.url}/boite/plis/{told[2]['id']}") as page,
        ):
            assert page.status == 200
            assert "Fait." in await page.text()
        await assert_sound(world.database)
