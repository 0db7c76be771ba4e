"""The hub's key is rotated in the middle of a day: what was sealed opens, what comes again is recognised, links that
were given out lead to their files, and endpoints' secrets sign as before."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import aiohttp

from demo.hub import Hub
from tests.journeys.children import hub as command
from tests.journeys.world import BONNEVILLE, SECRET, Stage, at_rest, fetched, post, stage, submission


async def _told(world: Stage, *words: str, code: int = 0) -> str:
    told = await command(world.environment, *words)
    assert told.code == code, told.text
    return told.text


async def _token(world: Stage, *words: str) -> str:
    return (await _told(world, "tokens", "create", *words)).strip()


def _key_file(world: Stage) -> Path:
    return Path(world.environment["HUB_FOLDER"]) / "hub.key"


async def _link(hub: Hub, token: str) -> str:
    """A signed link, as the mailbox gives it."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        found = await hub.read(session, "/v1/mailbox")
    return str(found["items"][0]["files"][0]["link"])


async def _status(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        await answer.read()
        return answer.status


async def test_a_key_rotated_while_the_hub_is_at_work_loses_nothing() -> None:
    async with stage() as world:
        _serve_by_mailbox(world, BONNEVILLE)
        hub = await world.start()
        sender = await _token(world, "sender", "site", "--procedure", "recensementCitoyen")
        operator, partner = await _token(world, "operator", "o"), await _token(world, "partner", BONNEVILLE)
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {sender}"}) as session,
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as watching,
        ):
            first = await post(session, hub.url, submission(1, "recensementCitoyen", "74042"))
            await post(session, hub.url, submission(2, "recensementCitoyen", "74164"))
            await at_rest(hub, watching)
            link = await _link(hub, partner)
            old = _key_file(world).read_text().strip()

            # A stream of posts goes on all the while.
            posting = asyncio.create_task(_stream(session, hub))
            assert "wrapped anew" in await _told(world, "keys", "rotate")
            assert len(_key_file(world).read_text().split()) == 2
            await posting
            assert await _status(link) == 200
            assert await post(session, hub.url, submission(1, "recensementCitoyen", "74042")) == first
            # Posts that were under way, if any, were wrapped under the old key.
            await _told(world, "keys", "rotate")
            assert "still good" in await _told(world, "keys", "forget", code=2)
            assert await _status(link) == 200
            await _told(world, "keys", "forget", "--at-once")
            assert old not in _key_file(world).read_text()
            listed = json.loads(await _told(world, "keys", "list", "--json"))
            assert [(one["newest"], one["known"]) for one in listed] == [(True, True)]
            # A link of before is gone with its key, as soon as the process has looked at its file again; a new one is
            # good.
            async with asyncio.timeout(30):
                while await _status(link) == 200:
                    await asyncio.sleep(0.1)
            assert await _status(link) == 401
            assert await _status(await _link(hub, partner)) == 200
            assert await post(session, hub.url, submission(1, "recensementCitoyen", "74042")) == first
            await post(session, hub.url, submission(98, "recensementCitoyen", "74164"))
            counts = await at_rest(hub, watching)
            assert counts.get("deliveries.parked", 0) == 0

        # The receiver believes no other secret: the endpoint's opened each time.
        await fetched(world)
        assert len({line["delivery"] for line in world.arrivals()}) == 1 + 20 + 1
        await hub.stop()
        assert base64.b64decode(old) not in (world.folder / "hub.log").read_bytes()
        assert SECRET.encode() not in (world.folder / "hub.log").read_bytes()


async def _stream(session: aiohttp.ClientSession, hub: Hub) -> None:
    for number in range(10, 30):
        await post(session, hub.url, submission(number, "recensementCitoyen", "74164"))


def _serve_by_mailbox(world: Stage, subscriber: str) -> None:
    path = world.folder / "partners.json"
    told: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for partner in told["partners"]:
        if partner["subscriber"] == subscriber:
            partner.update(channel="mailbox", settings={}, secrets={})
    path.write_text(json.dumps(told))
