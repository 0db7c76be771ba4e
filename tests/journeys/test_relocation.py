"""From one machine to the cluster by a command: what was accepted, undecided or undelivered here is delivered
there, under the names it had; and the two are never both open."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]

from demo.hub import Hub
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.assembly import make_topics, relocation
from hub.ports.log import Topic
from hub.settings import Settings, WrittenSettings
from tests.conformance.attachment_server import ACCESS_KEY, SECRET_KEY, Asked, Kept, Server, serving
from tests.journeys.children import Told, is_a_sentence
from tests.journeys.children import hub as command
from tests.journeys.world import (
    Stage,
    accounts,
    at_rest,
    fetched,
    kill,
    post,
    stage,
    submission,
    total,
)
from tests.kafka.broker import shared
from tests.ports import free_port

DELIVERED, UNDELIVERED, UNDECIDED = 100, 50, 50
ALL = DELIVERED + UNDELIVERED + UNDECIDED
PROCEDURE = "recensementCitoyen"
DOORS, ROUTERS = ("intake", "outgoing", "dispatch", "upkeep"), ("routing", "registration")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def bucket(server: Server) -> Kept:
    return server.bucket()


@pytest.fixture
def elsewhere(fresh_database: Callable[[], str]) -> str:
    return fresh_database()


def cluster(dsn: str, bucket: Kept, folder: Path) -> dict[str, str]:
    return {
        "HUB_DATABASE_URL": dsn,
        "HUB_KEY_FILE": str(folder / "hub" / "hub.key"),
        "HUB_ATTACHMENTS": f"s3://{bucket.name}/pieces",
        "HUB_S3_ENDPOINT": bucket.server.endpoint,
        "HUB_S3_ACCESS_KEY": ACCESS_KEY,
        "HUB_S3_SECRET_KEY": SECRET_KEY,
        "HUB_KAFKA": shared(),
        "HUB_KAFKA_PREFIX": f"relocated-{secrets.token_hex(4)}.",
        "HUB_KAFKA_PARTITIONS": "2",
        "HUB_KAFKA_REPLICAS": "1",
        "HUB_KAFKA_SESSION": "3",
    }


def written(folder: Path, told: Mapping[str, str]) -> str:
    path = folder / "cluster.env"
    path.write_text("".join(f"{name}={value}\n" for name, value in told.items()), encoding="utf-8")
    return str(path)


@asynccontextmanager
async def in_the_way(world: Stage, table: str) -> AsyncIterator[None]:
    """Nobody writes into this table of the running hub's store."""
    dsn = await EmbeddedPostgres(world.folder / "hub" / "postgres").running()
    assert dsn is not None
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE")
        yield
    finally:
        connection.terminate()


async def claim_nothing(world: Stage) -> None:
    """From now on whoever would claim a row of the running hub's store is refused, and holds nothing meanwhile."""
    dsn = await EmbeddedPostgres(world.folder / "hub" / "postgres").running()
    assert dsn is not None
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
              $$BEGIN RAISE EXCEPTION 'nothing is claimed here'; END$$;
            CREATE TRIGGER refuse BEFORE UPDATE ON delivery
              FOR EACH ROW WHEN (NEW.state = 'in_flight') EXECUTE FUNCTION refuse()
            """
        )
    finally:
        await connection.close()


async def lived_in(world: Stage) -> None:
    """An embedded hub that is killed while some of what it accepted is undelivered, and some undecided."""
    hub = await world.start()
    token = await hub.token("sender", "site", "--procedure", PROCEDURE)
    operator = await hub.token("operator", "o")
    forms = iter([submission(number, PROCEDURE, "74042") for number in range(ALL)])

    async def clerk(session: aiohttp.ClientSession, count: int) -> None:
        for _ in range(count):
            await post(session, hub.url, next(forms))

    async def posted(count: int) -> None:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            await asyncio.gather(*(clerk(session, count // 10) for _ in range(10)))

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as session:
        await posted(DELIVERED)
        await at_rest(hub, session)
        await fetched(world)
        await claim_nothing(world)
        await posted(UNDELIVERED)
        while (await hub.counts(session)).get("submissions.undecided"):
            await asyncio.sleep(0.05)
        async with in_the_way(world, "decision"):
            await posted(UNDECIDED)
            kill(hub)
            await hub.process.wait()


async def killed_at(
    server: Server, environment: Mapping[str, str], kind: str, count: int, *words: str
) -> None:
    """`hub …` in a process of its own, killed when the bucket is asked this for the so-many-th time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hub", *words),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
    )
    asked = iter(range(count, 0, -1))

    def conduct(one: Asked) -> None:
        if one.kind == kind and next(asked, 0) == 1:
            os.kill(process.pid, signal.SIGKILL)

    server.conduct = conduct
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    server.well()


def refused(told: Told, *words: str) -> None:
    assert told.code == 2, told.text
    assert is_a_sentence(told)
    for word in words:
        assert word in told.errors, told.errors
    assert SECRET_KEY not in told.text


async def test_what_one_machine_held_is_delivered_by_the_cluster_under_the_same_names(
    elsewhere: str, server: Server, bucket: Kept
) -> None:
    async with stage() as world:
        await lived_in(world)
        target = cluster(elsewhere, bucket, world.folder)
        file, here = written(world.folder, target), world.environment
        await make_topics(WrittenSettings.read(Path(file)))
        await killed_at(server, here, "PUT", ALL // 2, "relocate", file)
        # Neither here nor there.
        refused(await command(here, "run"), "is being relocated")
        told = await command(here, "relocate", file)
        assert told.code == 0, told.text
        assert f"{ALL} submissions" in told.out
        assert f"{ALL} files" in told.out
        assert "(0 of them" not in told.out
        assert f"{UNDECIDED} submissions are undecided" in told.out
        refused(await command(here, "run"), "was relocated to postgresql://")
        await delivered_there(world, target)


async def test_topics_that_are_not_there_or_were_written_to_by_another_hub_are_told(
    elsewhere: str, bucket: Kept, tmp_path: Path
) -> None:
    target = {**cluster(elsewhere, bucket, tmp_path), "HUB_KEY_FILE": str(tmp_path / "hub.key")}
    there = WrittenSettings.read(Path(written(tmp_path, target)))
    here = Settings(folder=tmp_path)

    async def against(resumed: bool = False) -> list[str]:
        return await relocation._against_topics(here, there, resumed)

    assert all("hub topics create" in line for line in await against())
    assert len(await against()) >= len(Topic)
    await make_topics(there)
    assert await against() == []
    async with AIOKafkaProducer(bootstrap_servers=shared()) as other:
        await other.send_and_wait(f"{there.kafka_prefix}{Topic.SUBMISSIONS}", b"of another hub")
    [line] = await against()
    assert "another HUB_KAFKA_PREFIX" in line
    # By itself: what a run that was killed left, the folder being closed, is no other hub's.
    assert await against(resumed=True) == []


async def delivered_there(world: Stage, target: Mapping[str, str]) -> None:
    before = arrived(world)
    assert len(before) == DELIVERED
    # In a folder of its own, as on another machine; only the key was brought along.
    key = world.folder / "brought.key"
    (world.folder / "hub" / "hub.key").rename(key)
    own = {"HUB_KEY_FILE": str(key), "HUB_FOLDER": str(world.folder / "there")}
    url = f"http://127.0.0.1:{world.environment['HUB_PORT']}"
    moved = dataclasses.replace(
        world, environment={**world.environment, **target, **own, "HUB_PUBLIC_URL": url}
    )
    port = {"HUB_PORT": str(free_port())}
    hub = await Hub.start(moved.environment, world.folder / "doors.log", *DOORS)
    routers = await Hub.start({**moved.environment, **port}, world.folder / "routers.log", *ROUTERS)
    try:
        operator = await hub.token("operator", "o2")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as session:
            await at_rest(hub, session)
            deliveries = await hub.deliveries(session)
        told = await accounts(hub)
        await fetched(moved)
    finally:
        await asyncio.gather(hub.stop(), routers.stop())
    assert total(told["submissions"], "accepted") == total(told["submissions"], "routed") == ALL
    assert {item["state"] for item in deliveries} == {"delivered"}
    names = {(item["subscriber"], item["id"]) for item in deliveries}
    assert len(names) == ALL
    assert arrived(world) == names >= before
    # What was delivered here is not delivered there again.
    lines = world.arrivals()
    assert sum((line["partner"], line["delivery"]) in before for line in lines) == len(before)


def arrived(world: Stage) -> set[tuple[str, str]]:
    return {(line["partner"], line["delivery"]) for line in world.arrivals()}
