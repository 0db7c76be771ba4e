"""Tokens: fixed ones, and those of an OAuth 2.0 server, which may be slow, ill, hostile, or take its tokens back."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from connectors.webhook import authorising, connector, judge_token
from connectors.webhook.authorising import read_token
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector
from tests.connectors.partners import HERE, SECRET, closed_port, silent_port, some_parcel, surroundings

LIMIT = 2.0
GOOD = [Delivered("http 204")]


@dataclass
class Vendor:
    """A partner's software and the server that gives tokens for it. `answers` come before the good ones."""

    port: int = 0
    life: object = 3600
    asked: list[Mapping[str, str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)
    answers: list[web.Response] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)
    gate: asyncio.Event | None = None

    @property
    def endpoint(self) -> Endpoint:
        return self.asking_at(self.port)

    def asking_at(self, port: int, host: str = HERE, **settings: object) -> Endpoint:
        told = {
            "url": f"http://{HERE}:{self.port}/hooks",
            "token_url": f"http://{host}:{port}/token",
            "client_id": "hub:1",
            **settings,
        }
        return Endpoint("webhook", told, {"secret": SECRET, "client_secret": "é% s3cret"})

    async def give(self, request: web.Request) -> web.StreamResponse:
        self.asked.append({name: str(value) for name, value in (await request.post()).items()})
        self.logins.append(request.headers.get("Authorization", ""))
        if self.gate is not None:
            await self.gate.wait()
        if self.answers:
            return self.answers.pop(0)
        token = f"token-{len(self.asked)}"
        self.valid.add(token)
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": self.life})

    async def take(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        shown = request.headers.get("Authorization")
        self.shown.append(shown)
        good = shown is not None and shown.removeprefix("Bearer ") in self.valid
        return web.Response(status=204 if good else 401)


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    async with _vendor() as found:
        yield found


@asynccontextmanager
async def _vendor() -> AsyncIterator[Vendor]:
    found = Vendor()
    application = web.Application()
    application.router.add_post("/token", found.give)
    application.router.add_post("/hooks", found.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HERE, 0, shutdown_timeout=0.1).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture
async def webhook() -> AsyncIterator[Connector]:
    made = connector(surroundings())
    yield made
    await made.close()


async def test_a_fixed_token_is_shown(webhook: Connector, vendor: Vendor) -> None:
    vendor.valid.add("f1xed.t0ken==")
    endpoint = Endpoint(
        "webhook", {"url": f"http://{HERE}:{vendor.port}/hooks"}, {"secret": SECRET, "token": "f1xed.t0ken=="}
    )
    assert await webhook.deliver(endpoint, [some_parcel()], LIMIT) == GOOD
    assert vendor.shown == ["Bearer f1xed.t0ken=="]


async def test_a_token_is_asked_for_once_however_many_parcels_and_partners_wait_for_it(
    webhook: Connector, vendor: Vendor
) -> None:
    vendor.gate = asyncio.Event()
    lanes = [replace(vendor.endpoint) for _ in range(30)]
    pages = [
        asyncio.create_task(webhook.deliver(lane, [some_parcel() for _ in range(5)], LIMIT)) for lane in lanes
    ]
    while not vendor.asked:
        await asyncio.sleep(0.01)
    vendor.gate.set()
    assert [outcome for page in await asyncio.gather(*pages) for outcome in page] == GOOD * 150
    assert len(vendor.asked) == 1
    assert set(vendor.shown) == {"Bearer token-1"}


async def test_one_who_is_aborted_does_not_take_the_token_from_the_others(
    webhook: Connector, vendor: Vendor
) -> None:
    vendor.gate = asyncio.Event()
    first = asyncio.create_task(webhook.deliver(vendor.endpoint, [some_parcel()], LIMIT))
    while not vendor.asked:
        await asyncio.sleep(0.01)
    second = asyncio.create_task(webhook.deliver(vendor.endpoint, [some_parcel()], LIMIT))
    await asyncio.sleep(0)
    first.cancel()
    vendor.gate.set()
    assert await second == GOOD
    assert len(vendor.asked) == 1


async def test_name_and_secret_go_where_the_server_wants_them(webhook: Connector, vendor: Vendor) -> None:
    own = vendor.asking_at(vendor.port, scope="depot lire", audience="urn:mairie", token_login="body")
    assert webhook.check(own) == ()
    for endpoint in (vendor.endpoint, own):
        assert await webhook.deliver(endpoint, [some_parcel()], LIMIT) == GOOD
    assert vendor.asked == [
        {"grant_type": "client_credentials"},
        {
            "grant_type": "client_credentials",
            "scope": "depot lire",
            "audience": "urn:mairie",
            "client_id": "hub:1",
            "client_secret": "é% s3cret",
        },
    ]
    # Each encoded before they are put together (RFC 6749, 2.3.1).
    assert vendor.logins == [f"Basic {base64.b64encode(b'hub%3A1:%C3%A9%25+s3cret').decode()}", ""]


async def test_a_token_that_was_taken_back_is_replaced_once_and_nobody_notices(
    webhook: Connector, vendor: Vendor
) -> None:
    assert await webhook.deliver(vendor.endpoint, [some_parcel()], LIMIT) == GOOD
    vendor.valid.clear()
    parcels = [some_parcel() for _ in range(20)]
    assert await webhook.deliver(vendor.endpoint, parcels, LIMIT) == GOOD * 20
    assert len(vendor.asked) == 2


async def test_an_endpoint_that_takes_no_token_refuses_and_asks_for_few(
    webhook: Connector, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor, "valid", _Nothing())
    outcomes = await webhook.deliver(vendor.endpoint, [some_parcel() for _ in range(40)], LIMIT)
    assert outcomes == [Refused("webhook.http_401", About.ENDPOINT)] * 40
    assert len(vendor.asked) <= 20


class _Nothing(set[str]):
    def __contains__(self, _: object) -> bool:
        return False


async def test_a_token_is_not_used_at_its_end(webhook: Connector, vendor: Vendor) -> None:
    vendor.life = 0
    for _ in range(2):
        assert await webhook.deliver(vendor.endpoint, [some_parcel()], LIMIT) == GOOD
    assert vendor.shown == ["Bearer token-1", "Bearer token-2"]


async def test_another_secret_gets_another_token(webhook: Connector, vendor: Vendor) -> None:
    other = replace(vendor.endpoint, secrets={"secret": SECRET, "client_secret": "other"})
    for endpoint in (vendor.endpoint, other, vendor.endpoint):
        assert await webhook.deliver(endpoint, [some_parcel()], LIMIT) == GOOD
    assert len(vendor.asked) == 2


# --- a token server that is ill -----------------------------------------------------------------------


def _json(told: object) -> Callable[[], web.Response]:
    return lambda: web.Response(text=json.dumps(told), content_type="application/json")


UNREADABLE = Deferred("webhook.token_unreadable")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda: web.Response(status=400, text='{"error":"invalid_client"}'), "http_400"),
        (lambda: web.Response(status=401), "http_401"),
        (lambda: web.Response(status=301, headers={"Location": "/hooks"}), "http_301"),
        (
            lambda: web.Response(status=302, headers={"Location": "/hooks"}),
            Deferred("webhook.token_http_302"),
        ),
        (lambda: web.Response(status=500), Deferred("webhook.token_http_500")),
        (
            lambda: web.Response(status=503, headers={"Retry-After": "9"}),
            Deferred("webhook.token_http_503", About.ENDPOINT, timedelta(seconds=9)),
        ),
        (lambda: web.Response(text="x" * 1_000_000), UNREADABLE),
        (lambda: web.Response(text="["), UNREADABLE),
        (_json([]), UNREADABLE),
        (_json({"access_token": "a\r\nX-Evil: 1"}), UNREADABLE),
        (_json({"access_token": "jeton é"}), UNREADABLE),
        (_json({"access_token": ""}), UNREADABLE),
        (_json({"access_token": 7}), UNREADABLE),
        (_json({"access_token": "a" * 20_000}), UNREADABLE),
        (_json({"access_token": "abc", "token_type": "mac"}), UNREADABLE),
    ],
    ids=[
        "400",
        "401",
        "301",
        "302",
        "500",
        "503",
        "endless",
        "no JSON",
        "a list",
        "two lines",
        "not ASCII",
        "empty",
        "a number",
        "too long",
        "of another kind",
    ],
)
async def test_a_server_that_gives_no_token_is_the_endpoint_s_fault_and_nothing_is_sent(
    webhook: Connector, vendor: Vendor, answer: Callable[[], web.Response], expected: Outcome | str
) -> None:
    if isinstance(expected, str):
        expected = Refused(f"webhook.token_{expected}", About.ENDPOINT)
    vendor.answers = [answer()]
    outcomes = await webhook.deliver(vendor.endpoint, [some_parcel() for _ in range(20)], LIMIT)
    assert set(outcomes) == {expected}
    assert vendor.shown == []
    assert len(vendor.asked) == 1
    assert await webhook.deliver(vendor.endpoint, [some_parcel()], LIMIT) == GOOD


async def test_a_token_server_that_is_silent_or_away_costs_a_page_one_limit(
    webhook: Connector, vendor: Vendor
) -> None:
    parcels = [some_parcel() for _ in range(20)]
    with silent_port() as port:
        began = asyncio.get_running_loop().time()
        outcomes = await webhook.deliver(vendor.asking_at(port), parcels, 0.5)
        assert asyncio.get_running_loop().time() - began < 2
    assert set(outcomes) == {Deferred("webhook.token_timeout")}
    with closed_port() as port:
        outcomes = await webhook.deliver(vendor.asking_at(port), parcels, LIMIT)
    assert set(outcomes) == {Deferred("webhook.token_connection_refused")}
    assert vendor.shown == []


async def test_a_token_server_is_connected_to_through_the_guard(vendor: Vendor) -> None:
    webhook = connector(replace(surroundings(), outgoing=GuardedOutgoing()))
    outcomes = await webhook.deliver(vendor.endpoint, [some_parcel()], LIMIT)
    await webhook.close()
    assert outcomes == [Refused("webhook.token_address_forbidden", About.ENDPOINT)]
    assert vendor.asked == []


async def test_no_secret_and_no_token_stands_in_what_may_be_shown(vendor: Vendor, webhook: Connector) -> None:
    vendor.answers = [web.Response(status=400, text="s3cret token-1")]
    outcomes = await webhook.deliver(vendor.endpoint, [some_parcel()], LIMIT)
    assert outcomes[0].answer is None, "what it answers may hold what it was sent"
    asked = authorising.TokenRequest(
        url=URL("https://a.test"),
        client="hub",
        secret="s3cret",
        scope="",
        audience="",
        login="basic",
        trust=None,
    )
    assert "s3cret" not in f"{outcomes!r} {asked!r} {authorising.NoToken(outcomes[0])!r}"


@pytest.mark.parametrize(
    ("told", "life"),
    [
        (3600, 3600.0),
        ("3600", 3600.0),
        (59.5, 59.5),
        (None, 300.0),
        ("soon", 300.0),
        (True, 300.0),
        (-1, 0.0),
        (1e300, 300.0),
        (10**9, 86400.0),
        ([], 300.0),
    ],
    ids=str,
)
def test_a_token_is_good_for_as_long_as_its_server_says_within_reason(told: Any, life: float) -> None:
    assert read_token(json.dumps({"access_token": "abc", "expires_in": told}).encode()) == ("abc", life)


def test_numbers_that_are_none_end_no_token_s_life() -> None:
    for word in (b"NaN", b"Infinity", b"-Infinity"):
        assert read_token(b'{"access_token":"abc","expires_in":' + word + b"}") in (("abc", 300.0), None)


def test_what_is_said_of_the_token_server_has_names_of_its_own() -> None:
    assert judge_token(None) == UNREADABLE
    assert judge_token(200) == UNREADABLE
    assert judge_token(422) == Refused("webhook.token_http_422", About.ENDPOINT)
    assert judge_token(OSError(24, "x")) == Deferred("hub.exhausted", About.PARCEL)


@pytest.mark.parametrize(
    ("settings", "secrets", "field"),
    [
        ({"token_url": "https://t.test/"}, {}, "token_url"),
        ({"client_id": "hub"}, {}, "client_id"),
        ({}, {"client_secret": "x"}, "client_secret"),
        ({"token_url": "http://t.test/", "client_id": "hub"}, {"client_secret": "x"}, "token_url"),
        ({"url": "http://m.test/", "plain": True}, {"token": "x"}, "url"),
        ({"token_url": "https://t.test/?a=b", "client_id": "hub"}, {"client_secret": "x"}, "token_url"),
        ({"token_url": "https://t.test/", "client_id": "hub"}, {"client_secret": "x", "token": "y"}, "token"),
        (
            {"token_url": "https://t.test/", "client_id": "h", "scope": 'a "b"'},
            {"client_secret": "x"},
            "scope",
        ),
        ({}, {"token": "a b"}, "token"),
        ({}, {"token": "é"}, "token"),
    ],
)
def test_what_does_not_go_together_is_named(
    settings: dict[str, object], secrets: dict[str, str], field: str
) -> None:
    endpoint = Endpoint("webhook", {"url": "https://m.test/", **settings}, {"secret": SECRET, **secrets})
    flaws = connector(surroundings()).check(endpoint)
    assert flaws
    assert {flaw.split()[0] for flaw in flaws} == {field}
