"""Limits of the HTTP API: each refuses what is too much, and only that, and lets the next one in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from hub.entrypoints.http.limits import Limits, Turnstile
from hub.entrypoints.http.problems import Problem
from tests.services.http_world import (
    OTHER_SENDER,
    ROOMY,
    SENDER,
    World,
    inline,
    multipart,
    offer,
    open_world,
    until,
)


async def test_a_json_body_that_is_announced_too_large_is_refused_before_it_comes(
    database: str, tmp_path: Path
) -> None:
    async with open_world(database, tmp_path, replace(ROOMY, document=20_000)) as world:
        answer = await world.post(offer(attachments=[inline(b"x" * 30_000)]))
        assert answer.status == 413
        await world.holds_nothing_and_works()


async def test_a_json_body_of_unknown_length_is_refused_once_it_is_too_large(
    database: str, tmp_path: Path
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"external_id": "'
        for _ in range(100):
            yield b"x" * 1000

    async with open_world(database, tmp_path, replace(ROOMY, document=20_000)) as world:
        headers = {"Content-Type": "application/json"}
        answer = await world.call("POST", "/v1/submissions", data=endless(), headers=headers)
        assert answer.status == 413
        await world.holds_nothing_and_works()


async def test_files_that_are_too_large_together_are_refused_and_leave_nothing(
    database: str, tmp_path: Path
) -> None:
    async with open_world(database, tmp_path, replace(ROOMY, body=1_000_000)) as world:
        files = [b"x" * 400_000] * 3
        assert (await world.post_parts(offer(files), files)).status == 413
        await world.holds_nothing_and_works()


async def test_a_sender_that_posts_too_often_is_told_when_to_come_back(database: str, tmp_path: Path) -> None:
    async with open_world(database, tmp_path, replace(ROOMY, rate=0.5, burst=3)) as world:
        answers = [await world.post(offer(external_id=f"d-{n}")) for n in range(4)]
        assert [answer.status for answer in answers] == [202, 202, 202, 429]
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 2
        assert len(await world.ids()) == 3
        assert (await world.post(offer(), OTHER_SENDER)).status == 202
        await asyncio.sleep(2.1)
        assert (await world.post(offer(external_id="d-3"))).status == 202


async def test_too_many_posts_at_a_time_are_refused_until_one_is_done(database: str, tmp_path: Path) -> None:
    going = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        body = json.dumps(offer()).encode()
        yield body[:10]
        await going.wait()
        yield body[10:]

    async with open_world(database, tmp_path, replace(ROOMY, in_flight=1)) as world:
        headers = {"Content-Type": "application/json"}
        first = asyncio.create_task(world.call("POST", "/v1/submissions", data=slow(), headers=headers))
        await asyncio.sleep(0.3)
        second = await world.post(offer(external_id="d-2"))
        assert second.status == 429
        assert int(second.headers["Retry-After"]) >= 1
        assert (await world.post(offer(), OTHER_SENDER)).status == 202
        going.set()
        assert (await first).status == 202
        assert (await world.post(offer(external_id="d-2"))).status == 202


async def test_a_post_that_takes_too_long_is_ended_and_leaves_nothing(database: str, tmp_path: Path) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        body = multipart(b"b", offer([b"un", b"deux"]), b"un", b"deux")
        yield body[: body.index(b"deux")]
        await asyncio.sleep(30)

    async with open_world(database, tmp_path, replace(ROOMY, longest_post=0.7)) as world:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = await world.call("POST", "/v1/submissions", data=stuck(), headers=headers)
        assert answer.status == 408
        assert answer.headers["Content-Type"] == "application/problem+json"
        await world.holds_nothing_and_works()


async def test_no_post_is_taken_when_the_disk_is_nearly_full(database: str, tmp_path: Path) -> None:
    async with open_world(database, tmp_path, replace(ROOMY, reserve=1.01)) as world:
        answer = await world.post(offer())
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert await world.ids() == []


async def test_a_database_that_goes_away_is_a_problem_that_passes(database: str, tmp_path: Path) -> None:
    async with open_world(database, tmp_path) as world:
        await world.database.close()
        answer = await world.post(offer())
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json["errors"] == []


async def test_a_server_that_stops_lets_a_post_finish_that_is_under_way(
    database: str, tmp_path: Path
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        body = json.dumps(offer()).encode()
        yield body[:10]
        await asyncio.sleep(1)
        yield body[10:]

    async with open_world(database, tmp_path) as world:
        headers = {"Content-Type": "application/json"}
        post = asyncio.create_task(_own_client(world, slow(), headers))
        await asyncio.sleep(0.3)
    assert await post == 202


async def test_a_server_that_stops_waits_no_longer_than_it_was_told_and_nothing_remains(
    database: str, tmp_path: Path
) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        body = multipart(b"b", offer([b"un", b"deux"]), b"un", b"deux")
        yield body[: body.index(b"deux")]
        await asyncio.sleep(30)

    async with open_world(database, tmp_path, grace=1) as world:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        post = asyncio.create_task(_own_client(world, stuck(), headers))
        await until(lambda: len(world.files()) > 0)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 4
    assert world.files() == []
    post.cancel()
    await asyncio.gather(post, return_exceptions=True)


async def _own_client(world: World, body: AsyncIterator[bytes], headers: dict[str, str]) -> int:
    """Outlives the world."""
    headers = {**headers, "Authorization": f"Bearer {world.tokens[SENDER]}"}
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{world.url}/v1/submissions", data=body, headers=headers) as answer,
    ):
        return answer.status


def test_the_turnstile_forgets_the_quietest_sender_and_never_one_with_a_post_under_way() -> None:
    turnstile = Turnstile(Limits(senders=2, burst=1, rate=0.001), lambda: 1000.0)
    turnstile.enter("a")
    turnstile.enter("b")
    turnstile.leave("b")
    turnstile.enter("c")
    turnstile.enter("b")
    turnstile.leave("a")
    turnstile.leave("b")
    turnstile.leave("c")


def test_a_clock_that_steps_back_gives_nothing_away_and_blocks_nobody() -> None:
    now = [1000.0]
    turnstile = Turnstile(Limits(burst=1, rate=1.0), lambda: now[0])
    turnstile.enter("a")
    now[0] = 10.0
    with pytest.raises(Problem) as refused:
        turnstile.enter("a")
    assert refused.value.status == 429
    now[0] = 11.5
    turnstile.enter("a")
