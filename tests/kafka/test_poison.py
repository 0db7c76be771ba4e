"""Records that nobody can read, on a real broker and with a real schema registry: each is set aside with its reason
and its place, never its bytes, operators see it, and its partition goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import pytest_asyncio
import structlog
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]

from hub.adapters.kafka.framing import Framing
from hub.adapters.kafka.log import KafkaLog
from hub.adapters.postgres import tray
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.shelf import PostgresShelf
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.registry.client import HttpSchemaRegistry, RegistryAddress
from hub.adapters.system.clock import SystemClock
from hub.cli.accounting import shelf_table
from hub.domain.decisions import Decision
from hub.domain.errors import Flaw, Invalid
from hub.domain.identity import submission_id
from hub.ports.log import Record, Topic
from hub.ports.shelf import Unreadable
from hub.services import registration, routing, shelf
from hub.services.outgoing import OutgoingRoom
from hub.services.recall import RecallRoom
from hub.services.reconciliation import ReconciliationRoom
from hub.services.registration import RegistrationRoom
from hub.services.routing import RoutingRoom
from hub.services.shelf import Shelf, ShelfRoom
from hub.wire import (
    DecisionWriter,
    SubmissionReader,
    read_decision_record,
    read_unreadable,
    write_submission,
    write_unreadable,
)
from tests.kafka.registry import Registry
from tests.kafka.rig import PACE, KafkaRig
from tests.services.http_world import World, offer, open_world
from tests.services.room_world import column

SECRET = b"Nom de naissance : DUPONT"
MEGABYTE = 1_000_000
PARTITIONS = 2


class Poison(NamedTuple):
    """A record as a stranger writes it, and what must be said of it."""

    reason: str
    value: bytes | None
    key: bytes | None = b"garbage"
    headers: tuple[tuple[str, bytes], ...] = ()


class Journey:
    """Rooms on Kafka with a registry, and one who writes past them."""

    def __init__(self, rig: KafkaRig, registry: HttpSchemaRegistry, world: World) -> None:
        self.rig = rig
        self.registry = registry
        self.world = world
        self.log = KafkaLog(rig.cluster, rig.topics(PARTITIONS), PACE, Framing(registry))
        self.rows = PostgresShelf(world.database)
        self._shelf = Shelf(self.log, write_unreadable, SystemClock())

    async def carry(self) -> None:
        tray = PostgresTray(self.world.database)
        while await OutgoingRoom(tray, self.log, write_submission).run_once(0):
            pass
        await tray.close()

    async def decide(self) -> None:
        library = self.world.rooms.library
        room = RoutingRoom(self.log, library, SubmissionReader().read, DecisionWriter(), self._shelf)
        await self._finish(room, Topic.SUBMISSIONS, routing.GROUP)

    async def register(self, read: Callable[[Record], Decision] = read_decision_record) -> None:
        room = RegistrationRoom(PostgresRegistry(self.world.database), read, self._shelf)
        await self._finish(room, Topic.ROUTINGS, registration.GROUP)

    async def keep(self) -> None:
        room = ShelfRoom(self._shelf, self.rows, read_unreadable)
        await self._finish(room, Topic.SET_ASIDE, shelf.GROUP)

    async def _finish(self, room: Any, topic: Topic, group: str) -> None:
        """All of the topic."""
        async with asyncio.timeout(30), self.log.reader(topic, group) as reader:
            while (await self.log.backlog(topic)).get(group) != 0:
                await room.run_once(reader, 0.2)

    async def write(self, topic: Topic, poison: Sequence[Poison]) -> None:
        """Into the first partition, in their order."""
        async with AIOKafkaProducer(
            bootstrap_servers=self.rig.cluster.bootstrap, max_request_size=8 << 20
        ) as producer:
            for one in poison:
                await producer.send_and_wait(
                    self.rig.name(topic), one.value, key=one.key, partition=0, headers=[*one.headers]
                )

    async def told(self) -> dict[str, list[Unreadable]]:
        """By topic, in the order of their offsets."""
        found: dict[str, list[Unreadable]] = {}
        for one in sorted(await self.rows.newest(1000), key=lambda one: one.offset):
            found.setdefault(one.topic, []).append(one)
        return found


@pytest_asyncio.fixture
async def journey(kafka: str, server: Registry, database: str, tmp_path: Path) -> AsyncIterator[Journey]:
    rig = KafkaRig(kafka)
    registry = HttpSchemaRegistry(RegistryAddress(server.url))
    async with open_world(database, tmp_path) as world:
        made = Journey(rig, registry, world)
        await _roomy(rig, Topic.SUBMISSIONS)
        yield made
        await made.log.close()
    await rig.close()
    await registry.close()


async def _roomy(rig: KafkaRig, topic: Topic) -> None:
    """As an operator who does not mind `hub topics check` may have made it: batches of four megabytes."""
    admin = AIOKafkaAdminClient(bootstrap_servers=rig.cluster.bootstrap)
    await admin.start()
    configs = {"max.message.bytes": str(4 << 20), "retention.ms": "-1"}
    try:
        await admin.create_topics([NewTopic(rig.name(topic), PARTITIONS, 1, topic_configs=configs)])
    finally:
        await admin.close()


async def test_whatever_a_stranger_writes_is_set_aside_and_all_the_rest_is_decided(
    journey: Journey, server: Registry
) -> None:
    world = journey.world
    for number in range(6):
        assert (await world.post(offer(external_id=f"d-{number}"))).status == 202
    accepted = sorted(await world.ids())
    letters = await PostgresTray(world.database).letters(10)
    damaged = letters[0].content.submission
    await PostgresTray(world.database).discard([letters[0].position])
    number = server.ask("POST", "/subjects/theirs-value/versions", {"schema": '"string"'})["id"]
    ours = (await journey.registry.ids())["submission.v1"]
    poison = [
        Poison("no_avro", _framed(ours, SECRET), key=damaged.bytes),
        Poison("unknown_schema", _framed(8_765_432, SECRET)),
        Poison("unknown_schema", _framed(number, SECRET), key=submission_id("nobody", "1").bytes),
        Poison("unknown_schema", SECRET * (MEGABYTE // len(SECRET))),
        Poison("no_avro", SECRET * (3 * MEGABYTE // len(SECRET)), headers=_named("submission.v1")),
        Poison("unknown_schema", None, key=b""),
        Poison("no_avro", None, headers=_named("submission.v1")),
        Poison("unknown_schema", SECRET, headers=_named("submission.v999")),
        Poison("unknown_schema", _framed(-5, SECRET), headers=_named("registry")),
        Poison("unknown_schema", b"\0\0\0\0", headers=_named("\udcff")),
    ]
    with structlog.testing.capture_logs() as lines:
        await journey.write(Topic.SUBMISSIONS, poison[:5])
        await journey.carry()
        await journey.write(Topic.SUBMISSIONS, poison[5:])
        await journey.decide()
        strange = [Poison("no_avro", SECRET, headers=_named("decision.v2")), Poison("unknown_schema", None)]
        await journey.write(Topic.ROUTINGS, strange)
        await journey.register()
        await journey.write(Topic.SET_ASIDE, [Poison("unknown_schema", SECRET)])
        await journey.keep()
    assert [line["event"] for line in lines].count("record.set_aside") == len(poison) + len(strange) + 1
    told = await journey.told()
    assert [(one.reason, one.size) for one in told["submissions"]] == [
        (one.reason, _size(one, ours)) for one in poison
    ]
    assert [one.submission for one in told["submissions"]][:4] == [
        damaged,
        None,
        submission_id("nobody", "1"),
        None,
    ]
    assert [one.reason for one in told["routings"]] == [one.reason for one in strange]
    assert [one.reason for one in told["set-aside"]] == ["unknown_schema"]
    lives = {one.life for one in told["submissions"]}
    assert lives == {await journey.log.incarnation(Topic.SUBMISSIONS)}
    # Every partition went on, the equations hold, and what nobody accepted stands beside.
    for topic in (Topic.SUBMISSIONS, Topic.ROUTINGS, Topic.SET_ASIDE):
        assert set((await journey.log.backlog(topic)).values()) == {0}
    accounts, differences = await ReconciliationRoom(PostgresLedger(world.database)).read()
    assert not differences
    [line] = accounts.submissions
    assert (line.accepted, line.routed, line.set_aside, line.undecided) == (6, 5, 1, 0)
    assert accounts.strays == 1
    assert await _verdict(world, damaged) == ["set_aside"]
    assert damaged in accepted
    # Never a byte of it: not in the store, the log, the hub's own log, or what an operator sees.
    assert (await world.rooms.views.counts())["set_aside.records"] == len(poison) + len(strange) + 1
    for where in (str(lines), str(told), json.dumps(await _cells(world))):
        assert "DUPONT" not in where
    assert shelf_table([one for several in told.values() for one in several]).row_count == 13


async def test_what_is_read_again_is_set_aside_once_and_a_topic_of_another_life_has_its_own(
    journey: Journey,
) -> None:
    bad = [Poison("unknown_schema", SECRET) for _ in range(3)]
    await journey.write(Topic.SUBMISSIONS, bad)
    for _ in range(2):
        await journey.decide()
        await journey.log.remove_group(Topic.SUBMISSIONS, routing.GROUP)
        await journey.keep()
        assert len((await journey.told())["submissions"]) == 3
    await journey.rig.delete(Topic.SUBMISSIONS)
    again = Journey(journey.rig, journey.registry, journey.world)
    assert await again.log.incarnation(Topic.SUBMISSIONS)
    await again.write(Topic.SUBMISSIONS, bad)
    await again.decide()
    await again.keep()
    told = (await again.told())["submissions"]
    assert len(told) == 6
    assert len({one.life for one in told}) == 2
    await again.log.close()


async def test_a_decision_that_an_older_release_could_not_read_is_made_again(
    journey: Journey, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = journey.world
    assert (await world.post(offer())).status == 202
    await journey.carry()
    await journey.decide()

    def older(_: Record) -> Decision:
        raise Invalid(Flaw("", "schema", "not a decision.v0 record"))

    await journey.register(older)
    await journey.keep()
    assert [one.reason for one in (await journey.told())["routings"]] == ["unknown_schema"]
    assert await column(world, "SELECT verdict FROM decision") == []
    # What was received just now may still be on its way: here it is not.
    monkeypatch.setattr(tray, "_LONGEST_ACCEPTANCE", timedelta(0))
    letters = PostgresTray(world.database)
    assert await RecallRoom(letters, journey.log).find_lost() == 1
    await letters.close()
    await journey.carry()
    await journey.decide()
    await journey.register()
    accounts, differences = await ReconciliationRoom(PostgresLedger(world.database)).read()
    assert not differences
    assert [line.undecided for line in accounts.submissions] == [0]


def _framed(number: int, value: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big", signed=True) + value


def _named(schema: str) -> tuple[tuple[str, bytes], ...]:
    return (("schema", schema.encode("utf-8", "surrogateescape")),)


def _size(poison: Poison, ours: int) -> int:
    """Of the value alone, where the frame before it is the hub's own."""
    value = poison.value or b""
    return len(value) - 5 if value.startswith(_framed(ours, b"")) else len(value)


async def _verdict(world: World, submission: UUID) -> list[str]:
    return await column(world, f"SELECT verdict FROM decision WHERE submission = '{submission}'")


async def _cells(world: World) -> list[Any]:
    return await column(world, "SELECT row_to_json(set_aside_record)::text FROM set_aside_record")
