"""The hub in pieces: each role in a process of its own, on one store, and each of them killed on the way."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from demo.hub import Hub
from tests.conformance.attachment_server import ACCESS_KEY, SECRET_KEY, serving
from tests.journeys.children import hub as command
from tests.journeys.children import is_a_sentence
from tests.journeys.world import (
    Stage,
    accounts,
    at_rest,
    fetched,
    free_port,
    kill,
    post,
    stage,
    submission,
    total,
)
from tests.kafka.broker import shared

ROLES = ("intake", "outgoing", "routing", "registration", "dispatch", "upkeep")
SUBMISSIONS = 600
AT_ONCE = 12


class Pieces:
    """One hub of each role."""

    def __init__(self, world: Stage) -> None:
        self._world = world
        self._ports = {"intake": int(world.environment["HUB_PORT"])}
        self.hubs: dict[str, Hub] = {}

    async def start(self, role: str) -> None:
        port = self._ports.setdefault(role, free_port())
        environment = {**self._world.environment, "HUB_PORT": str(port)}
        self.hubs[role] = await Hub.start(environment, self._world.folder / f"{role}.log", role)

    async def kill(self, role: str) -> None:
        kill(self.hubs[role])
        await self.hubs[role].process.wait()

    @property
    def intake(self) -> Hub:
        return self.hubs["intake"]


@asynccontextmanager
async def pieces(dsn: str, **settings: str) -> AsyncIterator[tuple[Stage, Pieces]]:
    key = base64.b64encode(bytes(range(32))).decode()
    async with AsyncExitStack() as stack:
        port = free_port()
        own = {"HUB_PORT": str(port), "HUB_PUBLIC_URL": f"http://127.0.0.1:{port}"}
        world = await stack.enter_async_context(stage(HUB_DATABASE_URL=dsn, HUB_KEY=key, **own, **settings))
        found = Pieces(world)
        # The one that publishes the rule book first; the others find it.
        await found.start("intake")
        await asyncio.gather(*(found.start(role) for role in ROLES[1:]))
        try:
            yield world, found
        finally:
            await asyncio.gather(*(hub.stop() for hub in found.hubs.values()))


@pytest.fixture(params=["embedded", "cluster"])
def settings(request: pytest.FixtureRequest) -> Iterator[Mapping[str, str]]:
    """On what the roles stand beside their store: its own log and a folder, or Kafka and a bucket."""
    if request.param == "embedded":
        yield {}
        return
    with serving() as server:
        yield {
            "HUB_ATTACHMENTS": f"s3://{server.bucket().name}/pieces",
            "HUB_S3_ENDPOINT": server.endpoint,
            "HUB_S3_ACCESS_KEY": ACCESS_KEY,
            "HUB_S3_SECRET_KEY": SECRET_KEY,
            **_kafka(),
        }


def _kafka() -> Mapping[str, str]:
    return {
        "HUB_KAFKA": shared(),
        "HUB_KAFKA_PREFIX": f"roles-{secrets.token_hex(4)}.",
        "HUB_KAFKA_PARTITIONS": "4",
        "HUB_KAFKA_REPLICAS": "1",
        "HUB_KAFKA_SESSION": "3",
    }


async def test_roles_in_processes_of_their_own_account_for_everything_whichever_is_killed(
    fresh_database: Callable[[], str], settings: Mapping[str, str]
) -> None:
    async with pieces(fresh_database(), **settings) as (world, apart):
        await assert_each_has_one_door_on_loopback(apart)
        token = await apart.intake.token("sender", "site", "--procedure", "recensementCitoyen")
        operator = await apart.intake.token("operator", "o")
        places = ("74042", "74164", "74010")
        forms = iter([submission(n, "recensementCitoyen", places[n % 3]) for n in range(SUBMISSIONS)])
        ids: list[str] = []
        killed: list[str] = []

        async def clerk(session: aiohttp.ClientSession) -> None:
            for form in forms:
                ids.append(await post(session, apart.intake.url, form))

        async def killer() -> None:
            for turn, role in enumerate(ROLES, start=1):
                while len(ids) < SUBMISSIONS * turn // (len(ROLES) + 1):
                    await asyncio.sleep(0.02)
                await apart.kill(role)
                killed.append(role)
                await apart.start(role)

        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            await asyncio.gather(killer(), *(clerk(session) for _ in range(AT_ONCE)))
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as session:
            await at_rest(apart.intake, session)
            deliveries = await apart.intake.deliveries(session)
        told = await accounts(apart.intake)
        await fetched(world)
        assert killed == list(ROLES)
        assert total(told["submissions"], "accepted") == len(set(ids)) == SUBMISSIONS
        assert total(told["submissions"], "undecided") == 0
        # One place in three has nobody; each of the others got each of its own, under one name.
        assert len(deliveries) == len({item["submission"] for item in deliveries}) == SUBMISSIONS * 2 // 3
        assert {item["state"] for item in deliveries} == {"delivered"}
        arrived = {(line["partner"], line["delivery"]) for line in world.arrivals()}
        assert arrived == {(item["subscriber"], item["id"]) for item in deliveries}


async def test_a_role_without_a_store_that_others_reach_is_refused_in_a_sentence(tmp_path: Path) -> None:
    told = await command({"HUB_FOLDER": str(tmp_path / "hub")}, "run", "routing")
    assert told.code == 2
    assert is_a_sentence(told)
    assert "HUB_DATABASE_URL" in told.errors
    assert not (tmp_path / "hub").exists()


async def assert_each_has_one_door_on_loopback(apart: Pieces) -> None:
    async with aiohttp.ClientSession() as session:
        for role, hub in apart.hubs.items():
            assert listening(hub.process.pid) == {("127.0.0.1", int(hub.environment["HUB_PORT"]))}, role
            async with session.get(f"{hub.url}/readyz") as answer:
                assert answer.status == 200
            async with session.get(f"{hub.url}/v1/deliveries") as answer:
                assert answer.status == (401 if role == "intake" else 404)


def listening(process: int) -> set[tuple[str, int]]:
    """Address and port of each socket at which a process waits for others, over IPv4 and IPv6."""
    inodes = set()
    for handle in Path(f"/proc/{process}/fd").iterdir():
        target = str(handle.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return {
        (_address(local), int(port, 16))
        for table in ("tcp", "tcp6")
        for _, where, _, state, *_, inode in _sockets(process, table)
        if state == "0A" and inode in inodes
        for local, _, port in (where.partition(":"),)
    }


def _sockets(process: int, table: str) -> list[tuple[str, ...]]:
    lines = Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]
    return [tuple(line.split()[:10]) for line in lines]


def _address(written: str) -> str:
    if len(written) == 8:
        return ".".join(str(part) for part in reversed(bytes.fromhex(written)))
    return "::" if set(written) == {"0"} else written
