"""With attachments in a bucket: while it is away nothing is accepted that could not be kept, what was
accepted waits, and once it is back everything goes on."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from hub.adapters.objects.s3 import S3Attachments
from hub.adapters.objects.upload import PART
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.domain.delivery import Delivered, Outcome
from hub.ports.connector import Parcel
from hub.services.sweep import SweepRoom
from tests.conformance.attachment_server import Kept, Server, dawdle, refuse, serving
from tests.services.http_world import Answer, World, inline, offer, open_world, until
from tests.services.room_world import (
    ScriptedPartner,
    all_in,
    column,
    decide_all,
    dispatch,
    ports,
    serve_lanes,
)

SMALL = os.urandom(50_000)
LARGE = os.urandom(PART + 1_000_000)
PATIENCE = 1.0

AWAY: dict[str, Callable[[Server], None]] = {
    "refuses connections": Server.shut,
    "does not answer": lambda server: setattr(server, "conduct", dawdle(PATIENCE * 2)),
    "503": lambda server: setattr(server, "conduct", refuse("503 Slow Down")),
    "403": lambda server: setattr(server, "conduct", refuse("403 Forbidden")),
}


@pytest.fixture(scope="module")
def serving_all() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def server(serving_all: Server) -> Iterator[Server]:
    serving_all.well()
    yield serving_all
    back(serving_all)


def back(server: Server) -> None:
    server.well()
    if not server.listens:
        server.open()


@pytest.fixture
def bucket(server: Server) -> Kept:
    return server.bucket()


@pytest_asyncio.fixture
async def world(
    database: str, bucket: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    attachments = S3Attachments(bucket.settings(patience=PATIENCE))
    monkeypatch.setattr("tests.services.http_world.LocalAttachments", lambda _: attachments)
    async with open_world(database, tmp_path) as world:
        yield world


async def post(world: World, *files: bytes, name: str = "dossier-1") -> Answer:
    return await world.post_parts(offer(files, external_id=name), files)


async def test_what_was_posted_lies_sealed_in_the_bucket_and_its_partner_reads_it(
    world: World, bucket: Kept
) -> None:
    assert (await post(world, SMALL, LARGE)).status == 202
    kept = bucket.all()
    assert len(kept) == 2
    assert not any(SMALL[:20] in content or LARGE[:20] in content for content in kept.values())
    await world.route()
    [item] = (await world.call("GET", "/v1/mailbox", "bonneville")).json["items"]
    files = f"/v1/parcels/{item['delivery']}/attachments"
    assert (await world.call("GET", f"{files}/1", "bonneville")).body == SMALL
    assert (await world.call("GET", f"{files}/2", "bonneville")).body == LARGE
    cut = await world.call("GET", f"{files}/2", "bonneville", headers={"Range": "bytes=3000000-3000009"})
    assert (cut.status, cut.body) == (206, LARGE[3_000_000:3_000_010])


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("files", [(SMALL,), (SMALL, LARGE)], ids=["small", "large"])
async def test_a_post_while_the_bucket_is_away_is_told_to_come_back_and_is_taken_then(
    world: World, server: Server, bucket: Kept, away: str, files: Sequence[bytes]
) -> None:
    AWAY[away](server)
    async with asyncio.timeout(4 * PATIENCE):
        answer = await post(world, *files)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert bucket.name not in answer.body.decode()
    assert await world.ids() == []
    # What carries no files needs no bucket.
    assert (await world.post(offer(external_id="sans-fichier"))).status == 202
    back(server)
    assert (await post(world, *files)).status == 202
    assert len(await world.ids()) == 2


async def test_files_in_a_json_body_are_refused_the_same_way(
    world: World, server: Server, bucket: Kept
) -> None:
    server.conduct = refuse("503 Slow Down")
    body = offer(attachments=[inline(SMALL), inline(SMALL)])
    assert (await world.post(body)).status == 503
    back(server)
    assert bucket.all() == {}
    assert (await world.post(body)).status == 202
    assert len(bucket.all()) == 2


async def test_a_bucket_that_goes_away_in_the_middle_of_a_post_leaves_nothing_named(
    world: World, server: Server, bucket: Kept
) -> None:
    server.conduct = refuse("503 Slow Down", "uploads", "part")
    assert (await post(world, SMALL, LARGE)).status == 503
    assert await world.ids() == []
    # The first file was kept already, and is taken back.
    await until(lambda: bucket.all() == {})


@pytest.mark.parametrize("away", AWAY)
async def test_what_was_accepted_waits_for_its_files_and_is_delivered_when_they_are_back(
    world: World, server: Server, away: str
) -> None:
    assert (await post(world, SMALL, LARGE)).status == 202
    partner = ScriptedPartner()
    arrived: list[bytes] = []

    async def read_all(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        for parcel in parcels:
            for file in parcel.files:
                told = hashlib.sha256()
                async for chunk in file.open(0, None):
                    told.update(chunk)
                assert told.hexdigest() == file.sha256
                arrived.append(told.digest())
        return [Delivered("here") for _ in parcels]

    partner.conduct = read_all
    await decide_all(world, ports(world, partner))
    lanes = PostgresLanes(world.database)
    AWAY[away](server)
    serving = asyncio.create_task(
        serve_lanes(dispatch(world, lanes, {"mailbox": partner}), lambda: all_in(world, "delivered"), 30)
    )
    try:
        async with asyncio.timeout(15):
            while not await column(world, "SELECT cause FROM journal WHERE cause = 'hub.content_away'"):
                await asyncio.sleep(0.05)
        assert not await column(world, "SELECT id FROM delivery WHERE state = 'delivered'")
        back(server)
        await serving
    finally:
        serving.cancel()
        await lanes.close()
    assert {hashlib.sha256(content).digest() for content in (SMALL, LARGE)} <= set(arrived)


@pytest.mark.parametrize("away", ["refuses connections", "403"])
async def test_a_partner_that_fetches_meanwhile_is_told_to_come_back(
    world: World, server: Server, away: str
) -> None:
    assert (await post(world, SMALL)).status == 202
    await world.route()
    [item] = (await world.call("GET", "/v1/mailbox", "bonneville")).json["items"]
    file = f"/v1/parcels/{item['delivery']}/attachments/1"
    AWAY[away](server)
    answer = await world.call("GET", file, "bonneville")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    back(server)
    assert (await world.call("GET", file, "bonneville")).body == SMALL


async def test_the_sweep_takes_what_no_submission_names_and_nothing_else(world: World, bucket: Kept) -> None:
    assert (await post(world, SMALL)).status == 202
    [named] = bucket.all()
    for name in (named, "0" * 32, "1" * 32):
        if name != named:
            bucket.lay(f"essai/pieces/{name}", b"left behind")
        bucket.make_older(name, timedelta(days=2))
    young = "2" * 32
    bucket.lay(f"essai/pieces/{young}", b"under way")
    bucket.lay("essai/pieces/notes.txt", b"of the operator")
    room = SweepRoom(world.rooms.attachments, PostgresIntake(world.database))
    assert await room.run_once() == 2
    assert set(bucket.all()) == {named, young, "notes.txt"}
