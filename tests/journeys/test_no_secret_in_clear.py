"""Every secret that an endpoint can have is a mark, and so is what servers, mails and files of partners say, by every
way that leads back to the hub. What the first journey of this kind shows for content, this one shows for these.

A channel that gets a new secret field fails here until one of `marked_partners` has it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from demo.hub import Hub
from hub.adapters.postgres.embedded import EmbeddedPostgres
from tests.connectors import partners
from tests.connectors.partners import MailTown
from tests.connectors.test_bounce_door import client
from tests.journeys.children import hub as command
from tests.journeys.marked_partners import (
    BOX,
    COMMUNES,
    DIGEST,
    FOLDER,
    JUMP,
    LOGIN,
    MAIL,
    MUTUAL,
    NO_TOKEN,
    OAUTH,
    PROCEDURE,
    Towns,
    each_secret_is_set,
    marked_towns,
    nothing_is_shown,
    number_of,
)
from tests.journeys.marks import (
    MARK,
    PLAIN,
    WORDS,
    finds,
    nothing_in_files,
    nothing_in_tables,
    value_of,
)
from tests.journeys.world import Stage, post, stage, submission
from tests.ports import free_port
from tests.unit.test_bounces import FAILED, report


async def test_no_secret_and_nothing_that_partners_say_lies_in_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partners, "PASSWORD", f"{MARK}-password")
    door = free_port()
    settings = {
        "HUB_RETRY_WAITS": "0.1,0.1",
        "HUB_MAIL_RETURN_DOMAIN": "retours.test",
        "HUB_BOUNCES_PORT": str(door),
    }
    async with stage(**settings) as world, marked_towns(tmp_path) as towns:
        each_secret_is_set(towns.told, towns.keys)
        nothing_is_shown(towns.told, towns.keys)
        (world.folder / "partners.json").write_text(json.dumps({"partners": towns.told}))
        hub = await world.start()
        sender = await hub.token("sender", "site", "--procedure", PROCEDURE)
        operator = await hub.token("operator", "o", "--role", "operator")
        box = await hub.token("partner", number_of(BOX))
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {sender}"}) as session,
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as watching,
        ):
            for number, commune in enumerate(COMMUNES, 1):
                await post(session, hub.url, submission(number, PROCEDURE, commune))
            await _until(lambda: _states(hub, watching), {MUTUAL, FOLDER, LOGIN, MAIL}, "delivered")
            await _until(lambda: _states(hub, watching), {OAUTH, NO_TOKEN, JUMP}, "parked")
            await asyncio.gather(
                _slot_begins(world, towns.digest),
                _left_in_a_folder(world, tmp_path / "folder" / "retours"),
                _comes_back(door, towns.mail),
                _on_the_page(hub, box, towns.keys),
            )
            await _until(lambda: _states(hub, watching), {DIGEST}, "delivered")
            await _until(lambda: _states(hub, watching), {MAIL}, "parked")
            await _events(hub, session, 2)
            async with asyncio.timeout(30):
                while len(towns.desk.requests) < 2:
                    await asyncio.sleep(0.05)
            deliveries = {one["subscriber"]: one["id"] for one in await hub.deliveries(watching)}
            for path in ("/metrics", "/v1/deliveries", "/v1/lanes", "/v1/channels"):
                async with watching.get(f"{hub.url}{path}") as answer:
                    assert finds(await answer.read(), towns.keys) == [], path
            for place in (OAUTH, NO_TOKEN, JUMP):
                async with watching.post(f"{hub.url}/v1/partners/{number_of(place)}/test", json={}) as answer:
                    assert answer.status == 200, await answer.text()
                    assert finds(await answer.read(), towns.keys) == [], place
        await _nothing_in_commands(world, towns, deliveries)
        await nothing_in_tables(world.folder, b"J-00001", towns.keys)
        await hub.stop()
        assert hub.process.returncode == 0
        nothing_in_files(world.folder, b"J-00001", towns.keys)
        _partners_saw_it(towns)


async def _until(asked: Callable[[], Any], places: set[int], state: str) -> None:
    async with asyncio.timeout(60):
        while {state} != {(found := await asked()).get(number_of(place)) for place in places}:
            await asyncio.sleep(0.1)
    assert found


async def _states(hub: Hub, watching: aiohttp.ClientSession) -> dict[str, str]:
    return {one["subscriber"]: one["state"] for one in await hub.deliveries(watching)}


async def _as_if_it_were_time(world: Stage, *statements: str) -> None:
    dsn = await EmbeddedPostgres(world.folder / "hub" / "postgres").running()
    assert dsn is not None
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement)
    finally:
        await connection.close()


async def _slot_begins(world: Stage, town: MailTown) -> None:
    """For what waits for its digest since yesterday."""
    mine = f"subscriber = '{number_of(DIGEST)}'"
    async with asyncio.timeout(30):
        while not town.mails:
            await _as_if_it_were_time(
                world,
                f"UPDATE lane SET due_at = clock_timestamp() WHERE {mine} AND holder IS NULL",
                f"UPDATE delivery SET due_at = due_at - interval '1 day' WHERE {mine} AND state = 'planned'",
            )
            await asyncio.sleep(0.2)


async def _left_in_a_folder(world: Stage, folder: Path) -> None:
    """One that is a report with a document, some that are none."""
    dossier = f"<numero>J-{FOLDER + 1:05d}</numero><demarche>{PROCEDURE}</demarche>"
    message = f"<message>{value_of('content')}</message>"
    document = value_of("filebytes") * 50
    described = (
        f"<fichier>{PLAIN}.txt</fichier><taille>{len(document.encode())}</taille>"
        f"<empreinte>{hashlib.sha256(document.encode()).hexdigest()}</empreinte>"
    )
    for name, inside in (
        (f"{PLAIN}.txt", document),
        ("fait.xml", f"<acquittement>{dossier}<statut>DONE</statut>{message}{described}</acquittement>"),
        (f"{PLAIN}.xml", f"<acquittement>{dossier}<statut>{value_of('content')}</statut></acquittement>"),
        (
            "inconnu.xml",
            f"<acquittement><numero>{MARK}</numero><demarche>{MARK}</demarche>{message}</acquittement>",
        ),
        ("mal.xml", f"<{PLAIN}>{MARK}"),
    ):
        (folder / name).write_text(inside)
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    await _as_if_it_were_time(world, "UPDATE return_folder SET due_at = clock_timestamp()")
    async with asyncio.timeout(30):
        while (folder / "fait.xml").exists():
            await asyncio.sleep(0.05)


async def _comes_back(door: int, town: MailTown) -> None:
    [address] = town.return_addresses
    told = FAILED.replace("x-unix; no", f"x-unix; {PLAIN}-answer").replace("gone@", f"{PLAIN}@")
    content = report(told).replace(b"Subject: x", f"Subject: {PLAIN}-answer".encode())
    assert finds(content)
    async with client(door) as mail:
        assert (await mail.hand_over(content, address)).startswith("250")
        assert (await mail.hand_over(content, f"{PLAIN}@retours.test")).startswith("550")
        assert finds((await mail.say(f"MAIL FROM:<{PLAIN}> {PLAIN}=1")).encode()) == []


async def _on_the_page(hub: Hub, token: str, keys: tuple[bytes, ...]) -> None:
    """An agent mistakes the code, then reports in its own words; what it sees may be its own words alone."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.post(f"{hub.url}/boite/connexion", data={"code": value_of("content")}) as answer:
            assert finds(await answer.read(), keys) == []
        async with browser.post(f"{hub.url}/boite/connexion", data={"code": token}) as answer:
            listed = await answer.text()
        [parcel] = re.findall(r'href="(/boite/plis/[0-9a-f-]{36})"', listed)[:1]
        async with browser.get(f"{hub.url}/boite/recherche", params={"q": value_of("content")}) as answer:
            assert answer.status < 500
        async with browser.get(f"{hub.url}{parcel}") as answer:
            page = await answer.text()
        [key] = re.findall(r'name="cle" value="([0-9a-f]{64})"', page)[:1]
        told = {"cle": key, "statut": "IN_PROGRESS", "message": value_of("content")}
        async with browser.post(f"{hub.url}{parcel}/signaler", data=told, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
            assert finds(repr(answer.headers).encode(), keys) == []
        async with browser.post(f"{hub.url}{parcel}/signaler", data={**told, "cle": WORDS}) as answer:
            assert finds(await answer.read(), keys) in ([], ["content"])


async def _events(hub: Hub, session: aiohttp.ClientSession, count: int) -> None:
    """The sender reads what the town halls wrote."""
    async with asyncio.timeout(30):
        while len(events := (await hub.read(session, "/v1/events"))["items"]) < count:
            await asyncio.sleep(0.1)
    assert [one["message"] for one in events] == [value_of("content")] * count
    [file] = [one["id"] for one in events if one.get("file")]
    async with session.get(f"{hub.url}/v1/events/{file}/file") as answer:
        assert finds(await answer.read()) == ["filebytes"]


async def _nothing_in_commands(world: Stage, towns: Towns, deliveries: Mapping[str, str]) -> None:
    for words in (
        ("deliveries",),
        ("lanes",),
        ("partners", "export"),
        ("partners", "import", str(world.folder / "partners.json"), "--dry-run"),
        ("reconcile",),
        ("keys", "rotate"),
        *(("partners", "test", number_of(place)) for place in range(len(COMMUNES) + 1)),
    ):
        told = await command(world.environment, *words)
        assert told.text.strip(), words
        assert finds(told.text.encode(), towns.keys) == [], words
    # As evidence they are kept: for who has the key.
    told = await command(world.environment, "deliveries", "answers", deliveries[number_of(OAUTH)])
    assert WORDS in told.out
    told = await command(world.environment, "deliveries", "bounces", deliveries[number_of(MAIL)])
    assert "address 1: accueil@mairie.test 5.1.1" in told.out
    told = await command(world.environment, "deliveries", "bounces", deliveries[number_of(MAIL)], "--json")
    assert [one["address"] for one in json.loads(told.out)["bounced"]] == ["accueil@mairie.test"]


def _partners_saw_it(towns: Towns) -> None:
    """Each secret was used: what is found nowhere was there."""
    assert towns.mutual.queries == [f"jeton={PLAIN}-query"]
    assert towns.tokens.shown
    assert len(towns.no_tokens.shown) > 0
    assert len(towns.mail.mails) == len(towns.digest.mails) == 1
    assert len(towns.login.received()) == 1
