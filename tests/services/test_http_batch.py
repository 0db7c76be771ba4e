"""Batches over HTTP: an answer for each line, whatever the others are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest_asyncio

from tests.services.http_world import ROOMY, SENDER, World, inline, line, offer, open_world, raw

_LIMITS = replace(ROOMY, document=50_000)
_NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path, _LIMITS) as world:
        yield world


async def test_each_line_is_answered_in_order_and_a_bad_one_spoils_no_other(world: World) -> None:
    answers = await world.post_lines(
        [
            line("l-1"),
            b"{",
            line("l-3", procedure="RIEN"),
            line("l-4", procedure="AUTRE"),
            line("l-5", attachments=[inline(b"x" * 100_000)]),
            b"",
            line("l-7", attachments=[inline(b"bon")]),
            line("l-8", attachments=[inline(b"un", sha256="0" * 64)]),
            line("l-1", facts={"commune": "74164"}),
            line("l-1"),
        ]
    )
    assert [(answer["line"], answer["status"]) for answer in answers] == [
        (1, 202),
        (2, 422),
        (3, 422),
        (4, 403),
        (5, 413),
        (7, 202),
        (8, 422),
        (9, 409),
        (10, 202),
    ]
    assert answers[1]["problem"]["errors"][0]["rule"] == "json"
    assert answers[-1]["id"] == answers[0]["id"]
    assert answers[-1]["received_at"] == answers[0]["received_at"]
    assert len(await world.ids()) == 2
    assert len(world.files()) == 1


async def test_a_batch_of_many_groups_is_taken_whole(world: World) -> None:
    answers = await world.post_lines([line(f"l-{n}") for n in range(350)])
    assert {answer["status"] for answer in answers} == {202}
    assert [answer["external_id"] for answer in answers] == [f"l-{n}" for n in range(350)]
    assert len(await world.ids()) == 350


async def test_a_line_is_told_what_a_post_is_told(world: World) -> None:
    (answer,) = await world.post_lines(
        [line("l-1", facts={"commune": "74092"}, attachments=[inline(b"x", type="ZZ")])]
    )
    assert answer["mapped_places"][0]["place"] == "commune:74042"
    assert answer["files_for_nobody"] == [1]


async def test_a_batch_sent_again_gets_the_same_answers(world: World) -> None:
    lines = [line(f"l-{n}", attachments=[inline(b"x")]) for n in range(20)]
    assert await world.post_lines(lines) == await world.post_lines(lines)
    assert len(world.files()) == 20


async def test_two_batches_with_the_same_names_in_opposite_orders_are_both_taken(world: World) -> None:
    lines = [line(f"l-{n}", attachments=[inline(b"x")]) for n in range(500)]
    one, two = await asyncio.gather(world.post_lines(lines), world.post_lines(lines[::-1]))
    assert {answer["status"] for answer in one + two} == {202}
    assert {(a["id"], a["received_at"]) for a in one} == {(a["id"], a["received_at"]) for a in two}
    assert len(await world.ids()) == 500
    assert len(world.files()) == 500


async def test_two_batches_with_other_content_in_opposite_orders_share_the_names_between_them(
    world: World,
) -> None:
    names = [f"l-{n}" for n in range(300)]
    mine = [line(name) for name in names]
    theirs = [line(name, facts={"commune": "74164"}) for name in reversed(names)]
    one, two = await asyncio.gather(world.post_lines(mine), world.post_lines(theirs))
    taken = [a["external_id"] for a in one + two if a["status"] == 202]
    assert sorted(taken) == sorted(names)
    assert {a["status"] for a in one + two} <= {202, 409}


async def test_a_group_that_is_not_full_is_answered_without_waiting_for_more(world: World) -> None:
    answered = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        yield line("l-1") + b"\n"
        await asyncio.wait_for(answered.wait(), 10)
        yield line("l-2") + b"\n"

    headers = {**_NDJSON, "Authorization": f"Bearer {world.tokens[SENDER]}"}
    url = f"{world.url}/v1/submissions:batch"
    async with world.client.post(url, data=lines(), headers=headers) as answer:
        first = json.loads(await answer.content.readline())
        assert (first["line"], first["status"]) == (1, 202)
        answered.set()
        second = json.loads(await answer.content.readline())
        assert (second["line"], second["status"]) == (2, 202)
        assert await answer.content.readline() == b""


async def test_a_client_that_writes_everything_before_it_reads_anything_is_served(
    database: str, tmp_path: Path
) -> None:
    # More than the buffers of both sides of a socket hold, in either direction.
    unknown = json.dumps({f"champ_{number}": "" for number in range(12)}).encode() + b" " * 1500
    body = b"\n".join([unknown] * 12_000)
    async with open_world(database, tmp_path) as world:
        head = (
            f"POST /v1/submissions:batch HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n"
            f"Authorization: Bearer {world.tokens[SENDER]}\r\n"
            f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        answer = await raw(world.url, head, body)
        assert answer.count(b'"status":422,"problem"') == 12_000
        assert len(answer) > 11_000_000


async def test_a_batch_has_only_so_many_lines(database: str, tmp_path: Path) -> None:
    async with open_world(database, tmp_path, replace(_LIMITS, batch_lines=3)) as world:
        answers = await world.post_lines([line(f"l-{n}") for n in range(6)])
        assert [(a["line"], a["status"]) for a in answers] == [(1, 202), (2, 202), (3, 202), (4, 413)]
        assert len(await world.ids()) == 3


async def test_a_batch_cut_off_leaves_nothing_of_the_lines_that_were_not_answered(world: World) -> None:
    lines = b"\n".join(line(f"l-{n}", attachments=[inline(b"x")]) for n in range(3))
    head = (
        f"POST /v1/submissions:batch HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {world.tokens[SENDER]}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(lines) + 100}\r\n\r\n"
    ).encode()
    await raw(world.url, head, lines[:-5], break_off=True, wait=0.1)
    await asyncio.sleep(0.5)
    assert len(world.files()) == len(await world.ids())
    await world.still_works()


async def test_a_batch_is_refused_whole_for_what_is_wrong_with_all_of_it(world: World) -> None:
    url = "/v1/submissions:batch"
    assert (await world.call("POST", url, None, data=line("l-1"), headers=_NDJSON)).status == 401
    assert (await world.call("POST", url, "operator", data=line("l-1"), headers=_NDJSON)).status == 403
    told = {"Content-Type": "application/json"}
    assert (await world.call("POST", url, data=line("l-1"), headers=told)).status == 415
    assert await world.ids() == []


async def test_a_store_that_is_away_is_told_line_by_line(world: World) -> None:
    body = [json.dumps(offer(external_id=f"l-{n}")).encode() for n in range(2)]
    headers = {**_NDJSON, "Authorization": f"Bearer {world.tokens[SENDER]}"}
    closing = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        yield b" \n"
        await closing.wait()
        yield b"\n".join(body)

    url = f"{world.url}/v1/submissions:batch"
    async with aiohttp.ClientSession() as client, client.post(url, data=lines(), headers=headers) as answer:
        await world.rooms.library.newest()
        await world.database.close()
        closing.set()
        told = [json.loads(text) for text in (await answer.read()).splitlines()]
    assert [(one["line"], one["status"]) for one in told] == [(2, 503), (3, 503)]
