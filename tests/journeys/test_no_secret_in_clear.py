"""Every secret that an endpoint can have is a mark, and so is what servers, mails and files of partners say, by every
way that leads back to the hub. What the first journey of this kind shows for content, this one shows for these.

A channel that gets a new secret field fails here until a partner below has it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from demo.hub import Hub
from demo.receivers.smtp import own_certificate
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.domain.partner import Endpoint, made_up_siret
from tests.certificates import authority
from tests.connectors import partners
from tests.connectors.partners import (
    HERE,
    MailTown,
    SftpTown,
    WebhookTown,
    mail_town,
    sftp_town,
    surroundings,
    webhook_town,
)
from tests.connectors.test_bounce_door import client
from tests.journeys.children import hub as command
from tests.journeys.marks import (
    MARK,
    PLAIN,
    WORDS,
    answer,
    finds,
    lines_of,
    nothing_in_files,
    signing_key,
    value_of,
)
from tests.journeys.world import Stage, post, stage, submission
from tests.ports import free_port
from tests.unit.test_bounces import FAILED, report

PROCEDURE = "recensementCitoyen"
COMMUNES = ("74042", "74164", "74010", "74081", "74056", "74225", "74281", "74208")
"""Of the eight town halls, in the order in which they are declared."""
MUTUAL, OAUTH, NO_TOKEN, FOLDER, LOGIN, MAIL, BOX, JUMP = range(8)
DESK = "13000918600011-PSL"


@dataclass
class TokenServer:
    """Gives tokens that are marks, or refuses them in such words."""

    refusing: bool
    port: int = 0
    shown: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.shown.append(request.headers.get("Authorization", ""))
        if self.refusing:
            return web.json_response(
                {"error": "invalid_client", "error_description": f"{PLAIN}-answer"},
                status=400,
                headers={"X-Answer": f"{PLAIN}-answer"},
            )
        return web.json_response(
            {"access_token": f"{PLAIN}-token", "token_type": "Bearer", "expires_in": 60, "more": WORDS}
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TokenServer]:
        application = web.Application()
        application.router.add_post("/token", self.answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HERE, 0, shutdown_timeout=0.1).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


@dataclass
class Towns:
    mutual: WebhookTown
    oauth: WebhookTown
    tokens: TokenServer
    no_token: WebhookTown
    no_tokens: TokenServer
    folder: SftpTown
    login: SftpTown
    mail: MailTown
    desk: WebhookTown
    told: list[dict[str, Any]] = field(default_factory=list)
    """As the partners file has them."""
    keys: tuple[bytes, ...] = ()


@asynccontextmanager
async def _towns(folder: Path) -> AsyncIterator[Towns]:
    ours = authority(folder / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ours.sign("server"))
    context.load_verify_locations(ours.file)
    context.verify_mode = ssl.CERT_REQUIRED
    mail_context, mail_ca = own_certificate()
    for name in ("folder", "folder/retours", "login"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        towns = Towns(
            await stack.enter_async_context(webhook_town(context)),
            await stack.enter_async_context(webhook_town()),
            await stack.enter_async_context(TokenServer(refusing=False).open()),
            await stack.enter_async_context(webhook_town()),
            await stack.enter_async_context(TokenServer(refusing=True).open()),
            await stack.enter_async_context(sftp_town(folder / "folder")),
            await stack.enter_async_context(sftp_town(folder / "login")),
            await stack.enter_async_context(
                mail_town("starttls", mail_context, mail_ca, password=f"{PLAIN}-mail")
            ),
            await stack.enter_async_context(webhook_town()),
        )
        towns.mutual.answers = [answer(200)]
        towns.oauth.answers = [answer(401) for _ in range(20)]
        towns.desk.answers = [answer(500)]
        certificate, key = (file.read_text() for file in ours.sign("client"))
        towns.told = _told(towns, ours.file.read_text(), certificate, key)
        secrets = [secret for partner in towns.told for secret in partner.get("secrets", {}).values()]
        towns.keys = tuple(line for secret in secrets if "PRIVATE" in secret for line in lines_of(secret))
        assert len(towns.keys) >= 5
        yield towns


def _told(towns: Towns, ca: str, certificate: str, key: str) -> list[dict[str, Any]]:
    """The town halls, and the sender's own endpoint."""
    endpoints: list[tuple[Endpoint, Mapping[str, object], Mapping[str, str]]] = [
        (
            towns.mutual.endpoint,
            {
                "ca": ca,
                "client_certificate": certificate,
                "rotated_at": "2026-01-01T00:00:00Z",
                "overlap": 2160,
            },
            {
                "secret": signing_key("ed25519", kind="whsk_"),
                "previous_secret": signing_key("previous"),
                "token": f"{PLAIN}-fixed-token",
                "url_query": f"jeton={PLAIN}-query",
                "client_key": key,
            },
        ),
        (
            towns.oauth.endpoint,
            {"token_url": f"http://{HERE}:{towns.tokens.port}/token", "client_id": "hub"},
            {"secret": signing_key("oauth"), "client_secret": f"{MARK}-client"},
        ),
        (
            towns.no_token.endpoint,
            {
                "token_url": f"http://{HERE}:{towns.no_tokens.port}/token",
                "client_id": "hub",
                "token_login": "body",
            },
            {"secret": signing_key("no-token"), "client_secret": f"{MARK}-client"},
        ),
        (
            towns.folder.endpoint,
            {"return_directory": "retours", "layout": "service-public", "sender_siret": "13000918600011"},
            towns.folder.endpoint.secrets,
        ),
        (towns.login.endpoint, {}, {"password": f"{MARK}-password"}),
        (
            towns.mail.endpoint,
            {"frequency": "unit"},
            {"username": f"{PLAIN}-user", "password": f"{PLAIN}-mail"},
        ),
        (Endpoint("mailbox", {}), {}, {}),
        (
            towns.login.endpoint,
            {
                f"jump_{name}": towns.login.endpoint.settings[name]
                for name in ("host", "port", "username", "host_key")
            },
            {
                "password": f"{MARK}-password",
                "jump_private_key": towns.login.endpoint.secrets["private_key"],
                "jump_password": f"{MARK}-password",
            },
        ),
        (towns.desk.endpoint, {}, {"secret": signing_key("desk")}),
    ]
    told: list[dict[str, Any]] = []
    for place, (endpoint, more, secrets) in enumerate(endpoints):
        one: dict[str, Any] = {
            "subscriber": _number(place),
            "name": f"Partenaire {place}",
            "channel": endpoint.channel,
            "settings": {**endpoint.settings, **more},
            "secrets": dict(secrets),
        }
        if place < len(COMMUNES):
            one["subscriptions"] = [{"procedure": PROCEDURE, "place": f"commune:{COMMUNES[place]}"}]
        else:
            one["sender"] = "site"
        told.append(one)
    return told


def _number(place: int) -> str:
    return DESK if place == len(COMMUNES) else f"{made_up_siret('217400423', 300 + place)}-{COMMUNES[place]}"


def _each_secret_is_set(told: list[dict[str, Any]], keys: tuple[bytes, ...]) -> None:
    known = {
        (point.name, one.name)
        for point in entry_points(group="hub.connectors")
        for one in point.load()(surroundings()).fields
        if one.secret
    }
    assert {(one["channel"], name) for one in told for name in one["secrets"]} == known
    for one in told:
        for secret in one["secrets"].values():
            assert finds(secret.encode(), keys), one["subscriber"]


# --- the journey ----------------------------------------------------------------------------------------


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
    async with stage(**settings) as world, _towns(tmp_path) as towns:
        _each_secret_is_set(towns.told, towns.keys)
        (world.folder / "partners.json").write_text(json.dumps({"partners": towns.told}))
        hub = await world.start()
        sender = await hub.token("sender", "site", "--procedure", PROCEDURE)
        operator = await hub.token("operator", "o", "--role", "operator")
        box = await hub.token("partner", _number(BOX))
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {sender}"}) as session,
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as watching,
        ):
            for number, commune in enumerate(COMMUNES, 1):
                await post(session, hub.url, submission(number, PROCEDURE, commune))
            await _until(lambda: _states(hub, watching), {MUTUAL, FOLDER, LOGIN, MAIL}, "delivered")
            await _until(lambda: _states(hub, watching), {OAUTH, NO_TOKEN, JUMP}, "parked")
            await _left_in_a_folder(world, tmp_path / "folder" / "retours")
            await _comes_back(door, towns.mail)
            await _until(lambda: _states(hub, watching), {MAIL}, "parked")
            await _on_the_page(hub, box, towns.keys)
            await _events(hub, session, 2)
            async with asyncio.timeout(30):
                while len(towns.desk.requests) < 2:
                    await asyncio.sleep(0.05)
            deliveries = {one["subscriber"]: one["id"] for one in await hub.deliveries(watching)}
            for path in ("/metrics", "/v1/deliveries", "/v1/lanes", "/v1/channels"):
                async with watching.get(f"{hub.url}{path}") as answer:
                    assert finds(await answer.read(), towns.keys) == [], path
        await _nothing_in_commands(world, towns, deliveries)
        await hub.stop()
        assert hub.process.returncode == 0
        nothing_in_files(world.folder, b"J-00001", towns.keys)
        _partners_saw_it(towns)


async def _until(asked: Callable[[], Any], places: set[int], state: str) -> None:
    async with asyncio.timeout(60):
        while {state} != {(found := await asked()).get(_number(place)) for place in places}:
            await asyncio.sleep(0.1)
    assert found


async def _states(hub: Hub, watching: aiohttp.ClientSession) -> dict[str, str]:
    return {one["subscriber"]: one["state"] for one in await hub.deliveries(watching)}


async def _left_in_a_folder(world: Stage, folder: Path) -> None:
    """One that is a report, some that are none."""
    dossier = f"<numero>J-{FOLDER + 1:05d}</numero><demarche>{PROCEDURE}</demarche>"
    message = f"<message>{value_of('content')}</message>"
    for name, inside in (
        ("fait.xml", f"<acquittement>{dossier}<statut>DONE</statut>{message}</acquittement>"),
        (f"{PLAIN}.xml", f"<acquittement>{dossier}<statut>{value_of('content')}</statut></acquittement>"),
        (
            "inconnu.xml",
            f"<acquittement><numero>{MARK}</numero><demarche>{MARK}</demarche>{message}</acquittement>",
        ),
        ("mal.xml", f"<{PLAIN}>{MARK}"),
    ):
        (folder / name).write_text(inside)
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    # As if the time for the next look had come.
    dsn = await EmbeddedPostgres(world.folder / "hub" / "postgres").running()
    assert dsn is not None
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE return_folder SET due_at = clock_timestamp()")
    await connection.close()
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


async def _nothing_in_commands(world: Stage, towns: Towns, deliveries: Mapping[str, str]) -> None:
    for words in (
        ("deliveries",),
        ("lanes",),
        ("partners", "export"),
        ("partners", "import", str(world.folder / "partners.json"), "--dry-run"),
        ("reconcile",),
        ("keys", "rotate"),
        *(("partners", "test", _number(place)) for place in range(len(COMMUNES) + 1)),
        *(("partners", "test", "--lang", "en", _number(place)) for place in (OAUTH, NO_TOKEN)),
    ):
        told = await command(world.environment, *words)
        assert told.text.strip(), words
        assert finds(told.text.encode(), towns.keys) == [], words
    # As evidence they are kept: for who has the key.
    told = await command(world.environment, "deliveries", "answers", deliveries[_number(OAUTH)])
    assert WORDS in told.out
    told = await command(world.environment, "deliveries", "bounces", deliveries[_number(MAIL)])
    assert "address 1: accueil@mairie.test 5.1.1" in told.out
    told = await command(world.environment, "deliveries", "bounces", deliveries[_number(MAIL)], "--json")
    assert [one["address"] for one in json.loads(told.out)["bounced"]] == ["accueil@mairie.test"]


def _partners_saw_it(towns: Towns) -> None:
    """Each secret was used: what is found nowhere was there."""
    assert towns.mutual.queries == [f"jeton={PLAIN}-query"]
    assert towns.tokens.shown
    assert len(towns.no_tokens.shown) > 0
    assert len(towns.mail.mails) == 1
    assert len(towns.login.received()) == 1
