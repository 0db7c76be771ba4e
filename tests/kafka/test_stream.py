"""The stream router on a real broker: it hosts routing, and its histories outlive it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import gettempdir

import pytest
import pytest_asyncio
import structlog

from hub.adapters.kafka.brokers import Brokers
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.framing import Framing
from hub.adapters.kafka.groups import kafka_name
from hub.adapters.kafka.log import KafkaLog
from hub.adapters.kafka.topics import create, flows, table
from hub.adapters.system.clock import SystemClock
from hub.domain.errors import Unavailable
from hub.domain.identity import Subscriber
from hub.entrypoints import stream
from hub.ports.log import Record, Topic
from hub.ports.outgoing import News
from hub.services.shelf import Shelf, Unread
from hub.services.supervision import COUNTED, GROUP, Silent, SupervisionRoom
from hub.wire import read_news, write_news, write_unreadable
from tests.kafka.rig import PACE

PARTITIONS = 4
TOWNS = [Subscriber(f"2174004239{number:04d}", "74042") for number in range(6)]


class World:
    def __init__(self, bootstrap: str, framing: Framing | None = None) -> None:
        self.cluster = KafkaCluster(bootstrap)
        self.prefix = f"s{secrets.token_hex(4)}."
        required = {Topic.JOURNAL: [GROUP]}
        self.topics = table(self.prefix, PARTITIONS, 1, required, strangers=[GROUP])
        self.flows = flows(self.prefix, PARTITIONS, 1)
        self.framing = framing or Framing()
        self.log = KafkaLog(self.cluster, self.topics, PACE, self.framing)
        self.told: list[Sequence[Silent]] = []
        self.routes = asyncio.Event()

    def hosted(self) -> stream.Hosted:
        async def routing() -> None:
            self.routes.set()
            await asyncio.Event().wait()

        journal = self.topics[Topic.JOURNAL].name
        shelf = Shelf(self.log, write_unreadable, SystemClock())
        return stream.Hosted(
            brokers=stream.Brokers(self.cluster.addresses),
            group=kafka_name(journal, GROUP),
            journal=journal,
            flows=self.flows.name,
            partitions=PARTITIONS,
            folder=Path(gettempdir()) / "hub-stream",
            session=PACE.session,
            routing=routing,
            supervision=SupervisionRoom(read_news, enough=5),
            undress=lambda dressed: self.framing.read(*dressed),
            set_aside=lambda entry, error: shelf.put(Topic.JOURNAL, [Unread(entry, error)]),
            silent=self.told.append,
            look_every=0.5,
        )

    async def feed(self, hours: Sequence[int]) -> None:
        """So many hours ago, for each town."""
        now = datetime.now(UTC)
        news = [
            News(now - timedelta(hours=hour), COUNTED, None, None, "EtatCivil", town)
            for hour in hours
            for town in TOWNS
        ]
        await self.log.append(Topic.JOURNAL, [write_news(one) for one in news])

    async def silent(self, count: int) -> None:
        async with asyncio.timeout(30):
            while not (self.told and len(self.told[-1]) == count):
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture
async def world(kafka: str) -> AsyncIterator[World]:
    made = World(kafka)
    brokers = Brokers(made.cluster)
    await create(brokers, [*made.topics.values(), made.flows])
    await brokers.close()
    yield made
    await made.log.close()


async def test_the_app_hosts_routing_and_tells_flows_that_stopped_also_after_it_was_started_again(
    world: World,
) -> None:
    await world.feed(range(400, 60, -1))
    for _ in range(2):
        stopping = asyncio.Event()
        hosting = asyncio.create_task(stream.host(world.hosted(), stopping))
        await asyncio.wait_for(world.routes.wait(), 30)
        await world.silent(len(TOWNS))
        stopping.set()
        await asyncio.wait_for(hosting, 30)
        world.told.clear()
        world.routes.clear()
    # What came meanwhile is counted once it is back: that town is silent no more.
    now = datetime.now(UTC)
    await world.log.append(Topic.JOURNAL, [write_news(News(now, COUNTED, None, None, "EtatCivil", TOWNS[0]))])
    stopping = asyncio.Event()
    hosting = asyncio.create_task(stream.host(world.hosted(), stopping))
    await world.silent(len(TOWNS) - 1)
    stopping.set()
    await asyncio.wait_for(hosting, 30)


async def test_what_the_app_has_read_of_the_journal_can_be_trimmed(world: World) -> None:
    await world.feed(range(10))
    assert await world.log.trim(Topic.JOURNAL) == 0
    stopping = asyncio.Event()
    hosting = asyncio.create_task(stream.host(world.hosted(), stopping))
    trimmed = 0
    async with asyncio.timeout(40):
        while trimmed < 10 * len(TOWNS):
            trimmed += await world.log.trim(Topic.JOURNAL)
            await asyncio.sleep(0.2)
    stopping.set()
    await asyncio.wait_for(hosting, 30)


async def test_a_poison_record_in_the_journal_stops_no_other(world: World) -> None:
    await world.feed(range(400, 60, -1))
    good = write_news(News(datetime.now(UTC), COUNTED, None, None, "EtatCivil", TOWNS[0]))
    bad = [Record(good.key, good.schema, value) for value in (b"", b"\xff" * 50)]
    with structlog.testing.capture_logs() as lines:
        await world.log.append(Topic.JOURNAL, bad)
        await world.log.append(Topic.JOURNAL, [good])
        stopping = asyncio.Event()
        hosting = asyncio.create_task(stream.host(world.hosted(), stopping))
        async with asyncio.timeout(30):
            while [line["event"] for line in lines].count("record.set_aside") < len(bad):
                await asyncio.sleep(0.1)
        # All that lay before them was read; the one behind them is counted: its town is not silent.
        await world.silent(len(TOWNS) - 1)
        stopping.set()
        await asyncio.wait_for(hosting, 30)
    assert [line["event"] for line in lines].count("record.set_aside") == len(bad)


async def test_an_app_whose_routing_breaks_ends_with_an_error_so_that_it_is_begun_again(world: World) -> None:
    async def breaks() -> None:
        world.routes.set()
        raise RuntimeError

    broken = replace(world.hosted(), routing=breaks)
    with pytest.raises((RuntimeError, Unavailable)):
        await asyncio.wait_for(stream.host(broken, asyncio.Event()), 30)
    assert world.routes.is_set()
