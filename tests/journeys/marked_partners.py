"""Town halls and a sender's endpoint in whose secrets, words and files nothing is but marks; every secret of every
channel is among them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from aiohttp import web

import connectors.mail.settings
import connectors.sftp.settings
import connectors.webhook.settings
from demo.receivers.smtp import own_certificate
from hub.domain.partner import Endpoint, made_up_siret
from tests.certificates import authority
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
from tests.journeys.marks import MARK, PLAIN, WORDS, answer, finds, lines_of, signing_key

PROCEDURE = "recensementCitoyen"
COMMUNES = ("74042", "74164", "74010", "74081", "74056", "74225", "74281", "74208", "74012")
"""Of the nine town halls, in the order in which they are declared."""
MUTUAL, OAUTH, NO_TOKEN, FOLDER, LOGIN, MAIL, BOX, JUMP, DIGEST = range(9)
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
    digest: MailTown
    desk: WebhookTown
    told: list[dict[str, Any]] = field(default_factory=list)
    """As the partners file has them."""
    keys: tuple[bytes, ...] = ()


@asynccontextmanager
async def marked_towns(folder: Path) -> AsyncIterator[Towns]:
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
        (
            towns.digest.endpoint,
            {"mode": "reference", "frequency": "twice_daily"},
            {"username": f"{PLAIN}-user", "password": f"{PLAIN}-mail"},
        ),
        (towns.desk.endpoint, {}, {"secret": signing_key("desk")}),
    ]
    told: list[dict[str, Any]] = []
    for place, (endpoint, more, secrets) in enumerate(endpoints):
        one: dict[str, Any] = {
            "subscriber": number_of(place),
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


def number_of(place: int) -> str:
    return DESK if place == len(COMMUNES) else f"{made_up_siret('217400423', 300 + place)}-{COMMUNES[place]}"


def each_secret_is_set(told: list[dict[str, Any]], keys: tuple[bytes, ...]) -> None:
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


_READ: Mapping[str, Callable[[Endpoint], tuple[object, Sequence[str]]]] = {
    "mail": lambda endpoint: connectors.mail.settings.read(endpoint, None),
    "sftp": connectors.sftp.settings.read,
    "webhook": connectors.webhook.settings.read,
}


def nothing_is_shown(told: list[dict[str, Any]], keys: tuple[bytes, ...]) -> None:
    """Of an endpoint, by its name or as its channel reads it."""
    for one in told:
        endpoint = Endpoint(one["channel"], one["settings"], one["secrets"])
        shown: list[object] = [endpoint]
        if one["secrets"]:
            target, wrong = _READ[one["channel"]](endpoint)
            assert (target is not None, list(wrong)) == (True, [])
            shown.append(target)
        for value in shown:
            assert finds(f"{value!r} {value!s}".encode(), keys) == [], one["subscriber"]
