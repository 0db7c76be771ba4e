"""The hub in pieces, each role in a process of its own; form sites that post to it, and what must come of it all.

Business of this file: starting, killing and stopping pieces; and one check for after any fault: everything that
was answered with a 202 is accounted for, and every partner has each delivery under one name.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from demo.hub import Hub
from hub.adapters.postgres.embedded import EmbeddedPostgres
from tests.journeys.world import (
    BONNEVILLE,
    MARIGNIER,
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
from tests.kafka.rig import KafkaRig
from tests.ports import free_port, free_ports

ROLES = ("intake", "outgoing", "routing", "registration", "dispatch", "upkeep")
PROCEDURE = "recensementCitoyen"

# One place in three has nobody.
_PLACES = (("74042", BONNEVILLE), ("74164", MARIGNIER), ("74010", None))


class Pieces:
    """One process for each role, by the role's name; a `further` one of a role has that word behind it."""

    def __init__(self, world: Stage) -> None:
        self._world = world
        others = free_ports(len(ROLES))
        self._ports = {**dict(zip(ROLES, others, strict=True)), "intake": int(world.environment["HUB_PORT"])}
        self.hubs: dict[str, Hub] = {}

    @property
    def intake(self) -> Hub:
        return self.hubs["intake"]

    @property
    def running(self) -> list[str]:
        return [name for name, hub in self.hubs.items() if hub.process.returncode is None]

    async def start(self, role: str, further: str = "", **settings: str) -> None:
        """`settings`: in this process they overrule those of all."""
        known = f"{role} {further}".strip()
        port = self._ports.setdefault(known, free_port())
        environment = {**self._world.environment, **settings, "HUB_PORT": str(port)}
        self.hubs[known] = await Hub.start(environment, self._world.folder / f"{known}.log", role)

    async def start_all(self, roles: Collection[str], further: str = "", **settings: str) -> None:
        await asyncio.gather(*(self.start(role, further, **settings) for role in roles))

    async def kill(self, name: str) -> None:
        kill(self.hubs[name])
        await self.hubs[name].process.wait()

    async def stop(self, *names: str) -> None:
        """As an operator stops them."""
        stopped = [self.hubs[name] for name in names]
        await asyncio.gather(*(hub.stop() for hub in stopped))
        assert {hub.process.returncode for hub in stopped} == {0}

    async def end(self) -> None:
        """All of them; one that does not stop is killed, and told."""
        names = self.running
        stopping = await asyncio.gather(*(self.hubs[name].stop() for name in names), return_exceptions=True)
        hanging = [name for name, error in zip(names, stopping, strict=True) if error is not None]
        for name in hanging:
            await self.kill(name)
        assert not hanging, {name: self._told(name) for name in hanging}

    def alarms(self) -> list[str]:
        """The last lines that each role has logged, but for those that say that all is well."""
        found = []
        for name in self.hubs:
            lines = [line for line in self._told(name, 200_000).splitlines() if '"level": "info"' not in line]
            found += [f"{name}: {line[:500]}" for line in lines[-12:]]
        return found

    def _told(self, name: str, most: int = 2000) -> str:
        return (self._world.folder / f"{name}.log").read_text("utf-8")[-most:]


class Town:
    """`accepted`: for each submission that was answered with a 202, who must get it. Nobody else posts here."""

    def __init__(self, world: Stage, apart: Pieces, sender: str, operator: str) -> None:
        self.world = world
        self.apart = apart
        self.accepted: dict[str, str | None] = {}
        self._posted = 0
        self._sender = {"Authorization": f"Bearer {sender}"}
        self._operator = {"Authorization": f"Bearer {operator}"}

    @asynccontextmanager
    async def posting(
        self, count: int | None = None, at_once: int = 12, each: float = 0
    ) -> AsyncIterator[None]:
        """So many submissions, until all are accepted; or None: as long as this lasts. `at_once` form sites, which
        rest for `each` seconds after each."""
        last = None if count is None else self._posted + count
        leaving = asyncio.Event()

        async def site(session: aiohttp.ClientSession) -> None:
            while not leaving.is_set() if last is None else self._posted < last:
                number, self._posted = self._posted, self._posted + 1
                place, partner = _PLACES[number % 3]
                form = submission(number, PROCEDURE, place)
                self.accepted[await post(session, self.apart.intake.url, form)] = partner
                await asyncio.sleep(each)

        # A site that fails ends the test, whatever it waits for.
        async with aiohttp.ClientSession(headers=self._sender) as session, asyncio.TaskGroup() as sites:
            for _ in range(at_once):
                sites.create_task(site(session))
            yield
            leaving.set()

    async def post(self, count: int) -> None:
        async with self.posting(count):
            pass

    async def reached(self, count: int) -> None:
        """So many were accepted, since the first."""
        while len(self.accepted) < count:
            await asyncio.sleep(0.02)

    async def counts(self) -> dict[str, int]:
        async with aiohttp.ClientSession() as session:
            return await self.apart.intake.counts(session)

    async def decided(self) -> int:
        counts = await self.counts()
        return counts["submissions.accepted"] - counts["submissions.undecided"]

    async def until(self, name: str, count: int, within: float = 60) -> None:
        """So many stand there, as `/metrics` of intake tells."""
        async with asyncio.timeout(within):
            while (await self.counts()).get(name) != count:
                await asyncio.sleep(0.1)

    async def accounted_for(self, within: float = 60) -> None:
        """Nothing is undecided or in motion after so many seconds; the two equations hold; what was accepted was
        decided, planned and delivered once; and each partner has each of its deliveries, under one name."""
        async with aiohttp.ClientSession(headers=self._operator) as session:
            try:
                await at_rest(self.apart.intake, session, within)
            except TimeoutError:
                alarms = "\n".join(self.apart.alarms())
                raise AssertionError(
                    f"not at rest after {within} s: {await self.counts()}\n{alarms}"
                ) from None
            deliveries = await self.apart.intake.deliveries(session)
        told = await accounts(self.apart.intake)
        await fetched(self.world)
        assert total(told["submissions"], "accepted") == len(self.accepted) == self._posted
        assert total(told["submissions"], "undecided") == 0
        wanted = {(id, partner) for id, partner in self.accepted.items() if partner is not None}
        assert total(told["deliveries"], "named") == len(deliveries) == len(wanted)
        assert {(one["submission"], one["subscriber"]) for one in deliveries} == wanted
        assert {one["state"] for one in deliveries} == {"delivered"}
        for partner, count in Counter(one["subscriber"] for one in deliveries).items():
            numbers = sorted(one["sequence"] for one in deliveries if one["subscriber"] == partner)
            assert numbers == list(range(1, count + 1)), partner
        # What partners saw is the evidence: again at most under the same name.
        arrived = {(line["partner"], line["delivery"]) for line in self.world.arrivals()}
        assert arrived == {(one["subscriber"], one["id"]) for one in deliveries}, (
            await self.world.receiver.status()
        )


async def each_killed(here: Town, count: int) -> None:
    """While so many are posted, each role in turn; others are killed while it starts anew."""
    before = len(here.accepted)
    async with here.posting(count), asyncio.TaskGroup() as starting:
        for turn, role in enumerate(ROLES, start=1):
            await here.reached(before + count * turn // (len(ROLES) + 1))
            assert len(here.accepted) < before + count
            await here.apart.kill(role)
            starting.create_task(here.apart.start(role))


@asynccontextmanager
async def town(dsn: str, **settings: str) -> AsyncIterator[Town]:
    """All roles at work, each in a process of its own, on one store."""
    key = base64.b64encode(bytes(range(32))).decode()
    async with AsyncExitStack() as stack:
        port = free_port()
        own = {"HUB_PORT": str(port), "HUB_PUBLIC_URL": f"http://127.0.0.1:{port}"}
        world = await stack.enter_async_context(stage(HUB_DATABASE_URL=dsn, HUB_KEY=key, **own, **settings))
        apart = Pieces(world)
        try:
            # The one that publishes the rule book first; the others find it.
            await apart.start("intake")
            sender, operator, _ = await asyncio.gather(
                apart.intake.token("sender", "site", "--procedure", PROCEDURE),
                apart.intake.token("operator", "o"),
                apart.start_all(ROLES[1:]),
            )
            yield Town(world, apart, sender, operator)
        finally:
            await apart.end()


def on_kafka(rig: KafkaRig) -> Mapping[str, str]:
    """Settings of roles whose log is the rig's."""
    return {
        "HUB_KAFKA": rig.cluster.bootstrap,
        "HUB_KAFKA_PREFIX": rig.prefix,
        "HUB_KAFKA_PARTITIONS": "4",
        "HUB_KAFKA_REPLICAS": "1",
        "HUB_KAFKA_SESSION": "3",
    }


@asynccontextmanager
async def database_server() -> AsyncIterator[EmbeddedPostgres]:
    """A started PostgreSQL that may be stopped and started: nobody else uses it."""
    folder = Path(tempfile.mkdtemp(prefix="hub-journey-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        async with EmbeddedPostgres(folder / "database") as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)
