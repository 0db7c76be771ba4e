"""The webhook connector against nginx: certificates on both sides, kept connections, and what it answers by itself.

One server for this file."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
import uvloop
from standardwebhooks.webhooks import Webhook

from connectors.webhook import AT_ONCE
from connectors.webhook.delivering import WebhookConnector
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.addresses import read_networks
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.domain.partner import Endpoint
from hub.domain.trials import Step, StepState
from hub.ports.connector import Connector
from tests.connectors.nginx import ABSENT, NGINX, Nginx, look_up, running_nginx
from tests.connectors.partners import SECRET, some_file, some_parcel, surroundings

OTHER_SECRET = "whsec_" + "A" * 32
LIMIT = 10.0

pytestmark = pytest.mark.skipif(NGINX is None, reason=ABSENT)


@pytest.fixture(scope="module")
def event_loop_policy() -> object:
    """The loop that the hub runs on."""
    return uvloop.EventLoopPolicy()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with running_nginx(tmp_path_factory.mktemp("nginx")) as found:
        yield found


@pytest.fixture
async def webhook() -> AsyncIterator[WebhookConnector]:
    guard = GuardedOutgoing(read_networks("127.0.0.1"), look_up)
    made = WebhookConnector(replace(surroundings(time.time()), outgoing=guard))
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    yield made
    await made.close()


async def test_a_parcel_arrives_over_tls_and_an_independent_verifier_believes_it(
    nginx: Nginx, webhook: Connector
) -> None:
    parcel = some_parcel()
    assert await webhook.deliver(nginx.at(nginx.port), [parcel], LIMIT) == [Delivered("http 204")]
    (seen,) = await nginx.seen(parcel.attempt.delivery)
    told = Webhook(SECRET).verify(seen["body"], seen)
    assert told["data"]["delivery"] == str(parcel.attempt.delivery)
    assert seen["tls"] in ("TLSv1.2", "TLSv1.3")


async def test_while_a_signing_key_is_replaced_both_are_believed(nginx: Nginx, webhook: Connector) -> None:
    parcel = some_parcel()
    endpoint = nginx.at(nginx.port, rotated_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), overlap=1)
    secrets = {"secret": OTHER_SECRET, "previous_secret": SECRET}
    assert await webhook.deliver(replace(endpoint, secrets=secrets), [parcel], LIMIT) == [
        Delivered("http 204")
    ]
    (seen,) = await nginx.seen(parcel.attempt.delivery)
    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(seen["body"], seen)["data"]["sequence"] == 1


async def test_files_go_along_where_a_partner_wants_them(nginx: Nginx, webhook: Connector) -> None:
    content = bytes(range(256)) * 2000
    parcel = some_parcel(some_file(0, "submission.json", b"{}"), some_file(1, "plan.tif", content))
    endpoint = nginx.at(nginx.port, content=True)
    assert await webhook.deliver(endpoint, [parcel], LIMIT) == [Delivered("http 204")]
    (seen,) = await nginx.seen(parcel.attempt.delivery)
    files = Webhook(SECRET).verify(seen["body"], seen)["data"]["files"]
    assert [len(file["content"]) for file in files] == [4, 682668]


async def test_connections_are_kept_over_tls(nginx: Nginx, webhook: Connector) -> None:
    parcels = [some_parcel() for _ in range(40)]
    endpoint = nginx.at(nginx.port)
    for page in (parcels[:20], parcels[20:]):
        assert set(await webhook.deliver(endpoint, page, LIMIT)) == {Delivered("http 204")}
    seen = [line for parcel in parcels for line in await nginx.seen(parcel.attempt.delivery)]
    assert len({line["connection"] for line in seen}) <= AT_ONCE


# --- certificates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        lambda nginx: _without(nginx.at(nginx.port), "ca"),
        lambda nginx: nginx.at(nginx.port, ca=nginx.clients.file.read_text()),
        lambda nginx: nginx.at(nginx.expired),
    ],
    ids=["of an authority nobody knows", "of another authority", "expired"],
)
async def test_a_server_whose_certificate_does_not_hold_gets_nothing(
    nginx: Nginx, webhook: Connector, endpoint: Callable[[Nginx], Endpoint]
) -> None:
    before = (nginx.folder / "seen.log").read_text()
    outcomes = await webhook.deliver(endpoint(nginx), [some_parcel(), some_parcel()], LIMIT)
    assert outcomes == [Deferred("webhook.certificate_invalid")] * 2
    assert (nginx.folder / "seen.log").read_text() == before


def _without(endpoint: Endpoint, field: str) -> Endpoint:
    return replace(
        endpoint, settings={name: value for name, value in endpoint.settings.items() if name != field}
    )


async def test_a_hub_that_shows_its_certificate_is_let_in(nginx: Nginx, webhook: Connector) -> None:
    parcel = some_parcel()
    endpoint = nginx.showing(nginx.clients.sign("hub-of-the-departement"))
    assert webhook.check(endpoint) == ()
    assert await webhook.deliver(endpoint, [parcel], LIMIT) == [Delivered("http 204")]
    (seen,) = await nginx.seen(parcel.attempt.delivery)
    assert seen["client"] == "CN=hub-of-the-departement"


async def test_one_that_shows_none_or_one_of_another_authority_is_not_let_in(
    nginx: Nginx, webhook: Connector
) -> None:
    """What nginx answers then is no word of the protocol of TLS, but of HTTP, and the same as to a broken request."""
    for endpoint in (nginx.at(nginx.mutual), nginx.showing(nginx.servers.sign("stranger"))):
        assert await webhook.deliver(endpoint, [some_parcel()], LIMIT) == [
            Refused("webhook.http_400", About.EITHER)
        ]


async def test_each_partner_gets_the_certificate_meant_for_it(nginx: Nginx, webhook: Connector) -> None:
    endpoints = {f"hub-{number}": nginx.showing(nginx.clients.sign(f"hub-{number}")) for number in range(3)}
    parcels = {name: some_parcel() for name in endpoints}
    await asyncio.gather(
        *(webhook.deliver(endpoints[name], [parcels[name]], LIMIT) for name in endpoints),
    )
    for name, parcel in parcels.items():
        (seen,) = await nginx.seen(parcel.attempt.delivery)
        assert seen["client"] == f"CN={name}"


# --- trials -------------------------------------------------------------------------------------------


def _wrong(trial: Sequence[Step]) -> list[tuple[str, str | None]]:
    return [(one.name, one.cause) for one in trial if one.state is StepState.WRONG]


async def test_a_trial_sends_a_signed_ping_that_an_independent_verifier_believes(
    nginx: Nginx, webhook: WebhookConnector
) -> None:
    before = len((nginx.folder / "seen.log").read_text().splitlines())
    endpoint = nginx.showing(nginx.clients.sign("hub-on-trial"))
    steps = await webhook.try_out(endpoint, LIMIT, True)
    assert _wrong(steps) == []
    assert {"encryption", "ping"} <= {one.name for one in steps if one.state is StepState.WELL}
    await nginx.count("CN=hub-on-trial", 1)
    (seen,) = map(json.loads, (nginx.folder / "seen.log").read_text().splitlines()[before:])
    assert Webhook(SECRET).verify(seen["body"], seen)["type"] == "ping"


async def test_a_trial_says_which_certificate_does_not_hold_and_sends_nothing(
    nginx: Nginx, webhook: WebhookConnector
) -> None:
    before = (nginx.folder / "seen.log").read_text()
    for endpoint in (_without(nginx.at(nginx.port), "ca"), nginx.at(nginx.expired)):
        steps = await webhook.try_out(endpoint, LIMIT, True)
        assert _wrong(steps) == [("encryption", "webhook.certificate_invalid")]
    assert (nginx.folder / "seen.log").read_text() == before
    steps = await webhook.try_out(nginx.at(nginx.mutual), LIMIT, True)
    assert _wrong(steps) == [("ping", "webhook.http_400")]
    assert "certificat de la plateforme" in steps[-1].fr


# --- what nginx answers by itself ---------------------------------------------------------------------


async def test_a_busy_server_is_spared_for_as_long_as_it_says(nginx: Nginx, webhook: Connector) -> None:
    outcomes = await webhook.deliver(nginx.at(nginx.port, "/busy"), [some_parcel()], LIMIT)
    assert outcomes == [Deferred("webhook.http_503", About.ENDPOINT, timedelta(seconds=120))]
    answer = outcomes[0].answer
    assert answer is not None
    assert answer.startswith(b"503 Service Temporarily Unavailable\n")
    assert answer.endswith(b"\n\nthese words must go nowhere")
    assert "words" not in repr(outcomes)


async def test_a_server_that_moved_is_not_followed(nginx: Nginx, webhook: Connector) -> None:
    parcel = some_parcel()
    outcomes = await webhook.deliver(nginx.at(nginx.port, "/moved"), [parcel], LIMIT)
    assert outcomes == [Refused("webhook.http_301", About.ENDPOINT)]
    assert len(await nginx.seen(parcel.attempt.delivery)) == 1


async def test_a_message_that_is_too_large_for_it_is_refused_alone(nginx: Nginx, webhook: Connector) -> None:
    outcomes = await webhook.deliver(nginx.at(nginx.port, "/small"), [some_parcel()], LIMIT)
    assert outcomes == [Refused("webhook.http_413", About.PARCEL)]
