"""What the HTTP API says of itself: its description, its health, its measures; and what it never says."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from hub.domain.errors import Unavailable
from hub.entrypoints.http.app import build
from hub.entrypoints.http.server import serve
from tests.services.http_world import SENDER, World, inline, offer, open_world, raw, ready


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world


def operations(told: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def references(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                if name == "$ref":
                    yield inner
                yield from references(inner)
        case list():
            for inner in value:
                yield from references(inner)


async def test_every_route_is_described_with_its_answers_and_its_problems(world: World) -> None:
    answer = await world.call("GET", "/openapi.json", None)
    told = answer.json
    described = dict(operations(told))
    assert set(described) == {
        "POST /v1/submissions",
        "POST /v1/submissions:batch",
        "POST /v1/uploads",
        "GET /v1/submissions/{id}",
        "GET /v1/deliveries",
        "GET /v1/parcels/{id}/attachments/{number}",
        "POST /v1/replays",
        "POST /v1/replays:preview",
        "GET /v1/replays",
        "GET /v1/replays/{id}",
        "GET /v1/replays/{id}/disclosures",
        "POST /v1/replays/{id}/approval",
        "POST /v1/replays/{id}/pause",
        "POST /v1/replays/{id}/resume",
        "POST /v1/replays/{id}/cancel",
        "POST /v1/deliveries/{id}/reroute",
        "GET /v1/mailbox",
        "GET /v1/mailbox/numbers",
        "GET /v1/mailbox/{delivery}",
        "POST /v1/mailbox/leases",
        "DELETE /v1/mailbox/leases/{reader}",
        "POST /v1/mailbox/acknowledge",
        "POST /v1/mailbox/{delivery}/events",
        "GET /v1/mailbox/{delivery}/case",
        "GET /v1/events",
        "GET /v1/events/{id}/file",
        "GET /v1/channels",
        "POST /v1/partners/{number}/test",
        "GET /v1/lanes",
        "POST /v1/lanes/{id}/open",
        "POST /v1/mailbox/{delivery}/acknowledge",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    }
    for name, operation in described.items():
        responses = operation["responses"]
        assert any(status.startswith("2") for status in responses), name
        assert "500" in responses, name
        for status, response in responses.items():
            assert response["description"], (name, status)
            if int(status) < 400:
                assert response["content"], (name, status)
            elif (name, status) != ("GET /readyz", "503"):
                assert set(response["content"]) == {"application/problem+json"}, (name, status)
        if "/v1/" in name:
            assert operation["security"] == [{"token": []}], name
            assert {"401", "403"} <= set(responses) or name == "GET /v1/deliveries", name
            assert "503" in responses, name
    assert told["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


async def test_every_reference_of_the_description_leads_somewhere(world: World) -> None:
    told = (await world.call("GET", "/openapi.json", None)).json
    for reference in references(told):
        place = told
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    for name in ("POST /v1/submissions", "POST /v1/submissions:batch", "POST /v1/replays"):
        assert dict(operations(told))[name]["requestBody"]["required"], name


async def test_no_page_loads_anything_from_elsewhere(world: World) -> None:
    for path in ("/docs", "/redoc"):
        assert (await world.call("GET", path, None)).status == 404


async def test_what_is_not_there_is_a_problem_too(world: World) -> None:
    nowhere = await world.call("GET", "/v2/rien", None)
    assert nowhere.status == 404
    assert nowhere.rules == set()
    wrong = await world.call("DELETE", "/v1/submissions", None)
    assert wrong.status == 405
    assert wrong.headers["Allow"] == "POST"
    assert wrong.rules == set()
    assert (await world.call("GET", "/v1/submissions/", None)).status in (401, 404)


async def test_health_asks_for_no_token(world: World) -> None:
    assert (await world.call("GET", "/healthz", None)).json == {"status": "ok"}
    answer = await world.call("GET", "/readyz", None)
    assert (answer.status, answer.json) == (200, {"ready": True, "parts": {"store": True}})


async def test_a_hub_that_misses_something_is_not_ready(world: World) -> None:
    async def away() -> dict[str, bool]:
        raise Unavailable

    for readiness in (ready({"store": True, "disk": False}), away):
        app = build(world.rooms, replace(world.vitals, readiness=readiness))
        async with serve(app, "127.0.0.1", 0) as listening:
            answer = await world.call("GET", f"{listening.url}/readyz", None)
            assert (answer.status, answer.json["ready"]) == (503, False)


async def test_measures_count_by_route_and_name_nobody(world: World) -> None:
    id = (await world.post(offer(attachments=[inline(b"x")]))).json["id"]
    await world.call("GET", f"/v1/submissions/{id}")
    await world.call("GET", f"/nulle/part/{id}", None)
    answer = await world.call("GET", "/metrics", None)
    text = answer.body.decode()
    assert 'hub_http_answers_total{route="/v1/submissions",status="202"} 1.0' in text
    assert 'hub_http_answers_total{route="/v1/submissions/{id}",status="200"} 1.0' in text
    assert 'hub_http_answers_total{route="unmatched",status="404"} 1.0' in text
    assert 'hub_submissions{state="accepted"} 1.0' in text
    assert 'hub_deliveries{state="parked"} 0.0' in text
    assert id not in text
    assert SENDER not in text
    await world.database.close()
    text = (await world.call("GET", "/metrics", None)).body.decode()
    assert "hub_store_answers 0.0" in text
    assert "hub_submissions{" not in text


async def test_a_failure_nobody_expected_says_nothing_of_what_it_met(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("le secret du citoyen")

    world.rooms.intake.begin = broken  # type: ignore[method-assign, assignment]
    with caplog.at_level(logging.DEBUG), capture_logs() as lines:
        answer = await world.post(offer())
    assert answer.status == 500
    assert answer.json["type"] == "urn:aiguillage:problem:failed"
    (line,) = [line for line in lines if line["event"] == "request.failed"]
    assert line["error"] == "RuntimeError"
    assert any("receiving.py" in place for place in line["places"])
    for written in (answer.body.decode(), json.dumps(lines), caplog.text, *capfd.readouterr()):
        assert "secret" not in written


async def test_a_signed_link_is_written_into_no_log(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    await world.post(offer(attachments=[inline(b"x")]))
    await world.route()
    with caplog.at_level(logging.DEBUG, logger="uvicorn"), capture_logs() as lines:
        told = (await world.call("GET", "/v1/mailbox", "bonneville")).json["items"][0]
        link = told["files"][1]["link"].replace("https://hub.example", world.url)
        assert (await world.call("GET", link, None)).status == 200
        for file in world.files():
            file.unlink()
        assert (await world.call("GET", link, None)).status == 503
    for written in (json.dumps(lines), caplog.text, *capfd.readouterr()):
        assert "signature" not in written


async def test_answers_do_not_say_which_server_gives_them_and_are_kept_nowhere(world: World) -> None:
    answer = await world.call("GET", "/healthz", None)
    assert "Server" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_bytes_that_are_no_http_are_refused(world: World) -> None:
    assert (await raw(world.url, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400")
    await world.holds_nothing_and_works()


async def test_a_server_takes_no_signals_and_frees_its_address(world: World) -> None:
    import signal

    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    async with serve(build(world.rooms, world.vitals), "127.0.0.1", 0) as listening:
        assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
        with pytest.raises(OSError, match="in use"):
            async with serve(build(world.rooms, world.vitals), "127.0.0.1", listening.port):
                pass
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", listening.port)
