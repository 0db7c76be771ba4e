"""The webhook connector: signed requests that an independent library verifies, and what answers mean."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import sentinel

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from connectors.webhook import AT_ONCE, body, connector, judge, wait_of
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector
from tests.connectors.partners import (
    NOW,
    SECRET,
    WebhookTown,
    names,
    some_parcel,
    surroundings,
    tried_again,
    webhook_town,
)

LIMIT = 1.5


@pytest.fixture
async def webhook() -> AsyncIterator[Connector]:
    made = connector(surroundings(time.time()))
    yield made
    await made.close()


@pytest.fixture
async def town() -> AsyncIterator[WebhookTown]:
    async with webhook_town() as found:
        yield found


# --- what answers mean --------------------------------------------------------------------------------

WAIT = timedelta(seconds=7)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Delivered("http 200")),
        (204, Delivered("http 204")),
        (202, Delivered("http 202")),
        (429, Deferred("webhook.http_429", About.ENDPOINT, WAIT)),
        (503, Deferred("webhook.http_503", About.ENDPOINT, WAIT)),
        (500, Deferred("webhook.http_500")),
        (502, Deferred("webhook.http_502")),
        (504, Deferred("webhook.http_504")),
        (408, Deferred("webhook.http_408")),
        (425, Deferred("webhook.http_425")),
        (302, Deferred("webhook.http_302")),
        (307, Deferred("webhook.http_307")),
        (304, Deferred("webhook.http_304")),
        (301, Refused("webhook.http_301", About.ENDPOINT)),
        (308, Refused("webhook.http_308", About.ENDPOINT)),
        (401, Refused("webhook.http_401", About.ENDPOINT)),
        (403, Refused("webhook.http_403", About.ENDPOINT)),
        (404, Refused("webhook.http_404", About.ENDPOINT)),
        (405, Refused("webhook.http_405", About.ENDPOINT)),
        (410, Refused("webhook.http_410", About.ENDPOINT)),
        (400, Refused("webhook.http_400", About.EITHER)),
        (415, Refused("webhook.http_415", About.EITHER)),
        (409, Refused("webhook.http_409", About.PARCEL)),
        (413, Refused("webhook.http_413", About.PARCEL)),
        (422, Refused("webhook.http_422", About.PARCEL)),
        (999, Deferred("webhook.not_http")),
    ],
)
def test_each_status_has_one_meaning(status: int, expected: Outcome) -> None:
    assert judge(status, WAIT) == expected


KEY = sentinel.connection_key


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (TimeoutError(), Deferred("webhook.timeout")),
        (aiohttp.ServerTimeoutError(), Deferred("webhook.timeout")),
        (aiohttp.ServerDisconnectedError(), Deferred("webhook.disconnected")),
        (aiohttp.ClientOSError(104, "x"), Deferred("webhook.disconnected")),
        (aiohttp.ClientPayloadError("x"), Deferred("webhook.disconnected")),
        (aiohttp.ClientResponseError(KEY, ()), Deferred("webhook.not_http")),
        (
            aiohttp.ClientConnectorError(KEY, ConnectionRefusedError()),
            Deferred("webhook.connection_refused"),
        ),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror()), Deferred("webhook.host_unknown")),
        (aiohttp.ClientConnectorError(KEY, OSError(113, "x")), Deferred("webhook.unreachable")),
        (aiohttp.ClientConnectorError(KEY, OSError(24, "x")), Deferred("hub.exhausted", About.PARCEL)),
        (
            aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError()),
            Deferred("webhook.certificate_invalid"),
        ),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError()), Deferred("webhook.tls_failed")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_fault_has_one_meaning(fault: Exception, expected: Outcome) -> None:
    assert judge(fault) == expected


AT = datetime(2026, 2, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("0", timedelta(0)),
        (" 120 ", timedelta(seconds=120)),
        ("Sun, 01 Feb 2026 12:01:00 GMT", timedelta(seconds=60)),
        ("Sun, 01 Feb 2026 11:00:00 GMT", timedelta(0)),
        ("Sun, 01 Feb 2026 12:01:00", timedelta(seconds=60)),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("٣٠", None),
        ("²", None),
        ("9" * 5000, timedelta(days=30)),
        ("99999999", timedelta(days=30)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", timedelta(days=30)),
        ("Fri, 31 Dec 9999 23:59:59 -2359", timedelta(days=30)),
        ("Fri, 31 Dec 9999 23:59:59 -9959", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", timedelta(0)),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
        ("\x00" * 300, None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_and_never_a_trap(
    header: str | None, expected: timedelta | None
) -> None:
    assert wait_of(header, AT) == expected


# --- what is sent -------------------------------------------------------------------------------------


async def test_an_independent_verifier_believes_the_signature(webhook: Connector, town: WebhookTown) -> None:
    parcel = some_parcel()
    await webhook.deliver(town.endpoint, [parcel], LIMIT)
    (taken,) = town.requests
    told = Webhook(SECRET).verify(taken.body, dict(taken.headers))
    assert told["data"]["delivery"] == str(parcel.attempt.delivery)
    assert taken.headers["webhook-id"] == str(parcel.attempt.delivery)
    other = "whsec_" + "A" * 32
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(taken.body, dict(taken.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(taken.body + b" ", dict(taken.headers))


async def test_the_body_tells_what_the_partner_needs_to_fetch_and_file_the_parcel(
    webhook: Connector, town: WebhookTown
) -> None:
    parcel = some_parcel(sequence=9)
    await webhook.deliver(town.endpoint, [parcel], LIMIT)
    delivery = str(parcel.attempt.delivery)
    assert json.loads(town.requests[0].body) == {
        "type": "parcel.submission",
        "timestamp": "2026-04-03T14:26:40.000000Z",
        "data": {
            "delivery": delivery,
            "subscriber": "21640122200017-64122",
            "sequence": 9,
            "procedure": "EtatCivil",
            "external_id": "A-9-X3UGO4V7",
            "sender": "service-public",
            "kind": "submission",
            "revision": 1,
            "files": [
                {
                    "number": file.number,
                    "name": file.name,
                    "type": "piece",
                    "media_type": file.media_type,
                    "size": file.size,
                    "sha256": file.sha256,
                    "url": f"https://hub.test/f/{delivery}/{file.number}?s=x",
                }
                for file in parcel.files
            ],
        },
    }


def test_two_attempts_of_a_delivery_have_one_body() -> None:
    parcel = some_parcel()
    assert body(parcel, ["a", "b"]) == body(tried_again(parcel, 5), ["a", "b"])


async def test_the_attempt_stands_in_a_header_only(webhook: Connector, town: WebhookTown) -> None:
    await webhook.deliver(town.endpoint, [tried_again(some_parcel(), 3)], LIMIT)
    (taken,) = town.requests
    assert taken.headers["aiguillage-attempt"] == "1.3"
    assert b"attempt" not in taken.body


@pytest.mark.parametrize("secret", [SECRET, SECRET.rstrip("=")], ids=["padded", "unpadded"])
async def test_a_secret_may_lack_its_padding(webhook: Connector, town: WebhookTown, secret: str) -> None:
    await webhook.deliver(replace(town.endpoint, secrets={"secret": secret}), [some_parcel()], LIMIT)
    assert Webhook(SECRET).verify(town.requests[0].body, dict(town.requests[0].headers))


# --- the conversation ---------------------------------------------------------------------------------


async def test_connections_are_kept_between_pages_and_bounded_within_one(
    webhook: Connector, town: WebhookTown
) -> None:
    for _ in range(3):
        await webhook.deliver(town.endpoint, [some_parcel() for _ in range(40)], LIMIT)
    assert len(town.requests) == 120
    assert len(town.peers) <= AT_ONCE


async def test_a_server_s_retry_after_is_passed_on_and_spares_it_the_rest_of_the_page(
    webhook: Connector, town: WebhookTown
) -> None:
    town.answers = [web.Response(status=503, headers={"Retry-After": "120"}) for _ in range(100)]
    outcomes = await webhook.deliver(town.endpoint, [some_parcel() for _ in range(100)], LIMIT)
    assert set(outcomes) == {Deferred("webhook.http_503", About.ENDPOINT, timedelta(seconds=120))}
    assert len(town.answers) >= 100 - 2 * AT_ONCE


async def test_a_redirect_is_not_followed(webhook: Connector, town: WebhookTown) -> None:
    town.answers = [web.Response(status=307, headers={"Location": "/hooks/mairie"})]
    outcomes = await webhook.deliver(town.endpoint, [some_parcel()], LIMIT)
    assert outcomes == [Deferred("webhook.http_307")]
    assert town.requests == []


async def test_no_cookie_is_kept(webhook: Connector, town: WebhookTown) -> None:
    town.answers = [web.Response(status=204, headers={"Set-Cookie": "a=b; Path=/"})]
    # By name: no cookie of a numeric address would be kept anyhow.
    endpoint = replace(town.endpoint, settings={"url": f"http://localhost:{town.port}/hooks/mairie"})
    await webhook.deliver(endpoint, [some_parcel()], LIMIT)
    await webhook.deliver(endpoint, [some_parcel()], LIMIT)
    assert "Cookie" not in town.requests[0].headers


async def test_no_proxy_of_the_surroundings_is_used(
    webhook: Connector, town: WebhookTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert names(await webhook.deliver(town.endpoint, [some_parcel()], LIMIT)) == ["Delivered"]


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "secret", "field"),
    [
        ({"url": "http://mairie.test/hook"}, SECRET, "url"),
        ({"url": "ftp://mairie.test/"}, SECRET, "url"),
        ({"url": "https://a:b@mairie.test/"}, SECRET, "url"),
        ({"url": "https:///hook"}, SECRET, "url"),
        ({"url": "https://mairie.test:x/"}, SECRET, "url"),
        ({"url": "https://mairié.test/"}, SECRET, "url"),
        ({}, SECRET, "url"),
        ({"url": "https://mairie.test/"}, None, "secret"),
        ({"url": "https://mairie.test/"}, "abc", "secret"),
        ({"url": "https://mairie.test/"}, "whsec_" + "A" * 8, "secret"),
        ({"url": "https://mairie.test/"}, "x" + SECRET, "secret"),
        ({"url": "https://mairie.test/"}, "whsec_%%%", "secret"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    settings: dict[str, object], secret: str | None, field: str
) -> None:
    flaws = connector(surroundings()).check(
        Endpoint("webhook", settings, {} if secret is None else {"secret": secret})
    )
    assert [flaw.split()[0] for flaw in flaws] == [field]


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "https://mairie.test/hook"},
        {"url": "http://127.0.0.1:8080/hook"},
        {"url": "http://receiver:8080/hook", "plain": True},
    ],
)
def test_plain_http_is_a_choice_said_aloud(settings: dict[str, object]) -> None:
    assert connector(surroundings(NOW)).check(Endpoint("webhook", settings, {"secret": SECRET})) == ()


async def test_a_query_is_a_secret_that_is_put_behind_the_url(town: WebhookTown, webhook: Connector) -> None:
    endpoint = town.endpoint
    secrets = {**endpoint.secrets, "url_query": "token=T0KEN%2F&x=1"}
    secret = Endpoint("webhook", endpoint.settings, secrets)
    assert webhook.check(secret) == ()
    assert await webhook.deliver(secret, [some_parcel()], LIMIT) == [Delivered("http 204")]
    assert town.queries == ["token=T0KEN%2F&x=1"]


@pytest.mark.parametrize(
    ("url", "query", "field"),
    [
        ("https://mairie.test/hook?token=T0KEN", "", "url"),
        ("https://mairie.test/hook?", "", "url"),
        ("https://mairie.test/hook#", "", "url"),
        ("https://mairie.test/hook", "?token=T0KEN", "url_query"),
        ("https://mairie.test/hook", "token=T0KEN#x", "url_query"),
        ("https://mairie.test/hook", "token=T0 KEN", "url_query"),
        ("https://mairie.test/hook", "token=T0KÉN", "url_query"),
    ],
)
def test_a_token_in_a_url_is_refused_and_never_told(url: str, query: str, field: str) -> None:
    endpoint = Endpoint("webhook", {"url": url}, {"secret": SECRET, "url_query": query})
    flaws = connector(surroundings(NOW)).check(endpoint)
    assert [flaw.split()[0] for flaw in flaws] == [field]
    assert "T0K" not in str(flaws)
