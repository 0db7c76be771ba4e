"""What a webhook's server says: read within bounds, kept as evidence, and believed in nothing but its status."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from connectors.webhook import ANSWER, EVIDENCE, connector
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.ports.connector import Connector
from tests.connectors.hostile import raw_server
from tests.connectors.partners import WebhookTown, some_parcel, surroundings, webhook_town

LIMIT = 1.5


@pytest.fixture
async def webhook() -> AsyncIterator[Connector]:
    made = connector(surroundings())
    yield made
    await made.close()


@pytest.fixture
async def town() -> AsyncIterator[WebhookTown]:
    async with webhook_town() as found:
        yield found


async def test_a_yes_with_an_endless_body_is_a_yes(webhook: Connector) -> None:
    said: list[int] = []
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with raw_server(head, chunk, said) as endpoint:
        outcomes = await webhook.deliver(endpoint, [some_parcel()], 5)
    assert outcomes == [Delivered("http 200")]
    assert sum(said) < 12_000_000, "what the system's buffers hold, and little more"


async def test_a_yes_whose_body_never_comes_is_a_yes(webhook: Connector) -> None:
    began = time.monotonic()
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") as endpoint:
        outcomes = await webhook.deliver(endpoint, [some_parcel()], 5)
    assert outcomes == [Delivered("http 200")]
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=["another protocol", "no status", "TLS", "endless header"],
)
async def test_what_is_no_http_is_never_taken_for_a_yes(webhook: Connector, answer: bytes) -> None:
    async with raw_server(answer) as endpoint:
        (outcome,) = await webhook.deliver(endpoint, [some_parcel()], LIMIT)
    assert isinstance(outcome, Deferred)
    assert outcome.cause in ("webhook.not_http", "webhook.disconnected", "webhook.timeout")


@pytest.mark.parametrize(
    ("answer", "endless"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Filling: y\r\n" * 100),
        (b"HTTP/1.1 103 Early Hints\r\n", b"Link: </x>\r\n" * 100),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (b"HTTP/1.1 200 ", b"x" * 1000),
    ],
    ids=["headers", "early hints", "one header", "a reason"],
)
async def test_a_head_without_end_is_given_up_within_the_limit_and_held_nowhere(
    webhook: Connector, answer: bytes, endless: bytes
) -> None:
    tracemalloc.start()
    began = time.monotonic()
    try:
        async with raw_server(answer, endless) as endpoint:
            (outcome,) = await webhook.deliver(endpoint, [some_parcel()], LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(outcome, Deferred)
    assert outcome.cause in ("webhook.not_http", "webhook.disconnected", "webhook.timeout")
    assert time.monotonic() - began < LIMIT + 5
    assert peak < 20_000_000


async def test_a_server_that_says_again_and_again_that_it_is_at_work_is_cut_off(webhook: Connector) -> None:
    """Nobody else's turn would come while its words are read."""
    async with raw_server(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000) as endpoint:
        assert await webhook.deliver(endpoint, [some_parcel()], 60) == [Deferred("webhook.disconnected")]


async def test_one_that_says_so_a_few_times_is_heard_to_the_end(webhook: Connector) -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 5 + b"HTTP/1.1 204 No Content\r\n\r\n"
    async with raw_server(answer) as endpoint:
        assert await webhook.deliver(endpoint, [some_parcel()], LIMIT) == [Delivered("http 204")]


# --- evidence -----------------------------------------------------------------------------------------


async def test_nothing_said_is_nothing_kept(webhook: Connector, town: WebhookTown) -> None:
    (outcome,) = await webhook.deliver(town.endpoint, [some_parcel()], LIMIT)
    assert outcome == Delivered("http 204")
    assert outcome.answer is None


async def test_what_was_said_is_kept_beside_the_outcome_and_shown_by_none_of_its_words(
    webhook: Connector, town: WebhookTown
) -> None:
    town.answers = [
        web.Response(status=422, reason="Unprocessable", text="Dupont, né le 3", content_type="text/plain"),
        web.Response(status=200, text='{"ok":true}', content_type="application/json"),
    ]
    refused, _ = await webhook.deliver(town.endpoint, [some_parcel(), some_parcel()], LIMIT)
    assert refused == Refused("webhook.http_422", About.PARCEL)
    assert refused.answer == "422 Unprocessable\ntext/plain; charset=utf-8\n\nDupont, né le 3".encode()
    assert "Dupont" not in repr(refused)
    assert "Dupont" not in str(refused)


@pytest.mark.parametrize(("status", "asked"), [(503, {"Retry-After": "9"}), (403, {})])
async def test_what_was_said_to_one_is_kept_for_no_other_that_shares_its_outcome(
    webhook: Connector, town: WebhookTown, status: int, asked: dict[str, str]
) -> None:
    """It may say again what that one held, and is sealed under the key of whom it stands with."""
    town.answers = [web.Response(status=status, text="Dupont", headers=asked)]
    first, *others = await webhook.deliver(town.endpoint, [some_parcel() for _ in range(4)], LIMIT)
    assert first.answer is not None
    assert others == [first] * 3
    assert [other.answer for other in others] == [None] * 3
    assert town.requests == []


async def test_no_more_is_kept_than_the_beginning(webhook: Connector, town: WebhookTown) -> None:
    town.answers = [web.Response(status=500, body=b"x" * (ANSWER - 1000)) for _ in range(2)]
    outcomes = await webhook.deliver(town.endpoint, [some_parcel(), some_parcel()], LIMIT)
    for outcome in outcomes:
        assert outcome.answer is not None
        assert outcome.answer.partition(b"\n\n")[2] == b"x" * EVIDENCE
    assert len(town.peers) == 1, "what is short enough is read to its end, and the connection used again"


async def test_what_is_packed_stays_packed(webhook: Connector, town: WebhookTown) -> None:
    """A thousand times as much would come of it."""
    packed = zlib.compress(b"\0" * 50_000_000)
    town.answers = [web.Response(status=500, body=packed, headers={"Content-Encoding": "deflate"})]
    tracemalloc.start()
    try:
        (outcome,) = await webhook.deliver(town.endpoint, [some_parcel()], LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert outcome.answer is not None
    assert outcome.answer.endswith(b"\ndeflate\n\n" + packed[:EVIDENCE])
    assert peak < 5_000_000


async def test_a_head_of_strange_signs_is_kept_as_well_as_it_can_be(webhook: Connector) -> None:
    head = b"HTTP/1.1 500 \xff\xfe\r\nContent-Type: \xe9\r\nContent-Length: 3\r\n\r\n\x00\xff\n"
    async with raw_server(head) as endpoint:
        (outcome,) = await webhook.deliver(endpoint, [some_parcel()], LIMIT)
    assert outcome == Deferred("webhook.http_500")
    assert outcome.answer is not None
    assert outcome.answer.startswith(b"500 ")
    assert outcome.answer.endswith(b"\n\n\x00\xff\n")
