"""What must be true of a schema registry beside Kafka: how records name their schemas, and what the hub does when it
is away, empty, or no registry at all. On a real one, and on a real broker."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import structlog
from aiohttp import BasicAuth, web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]

from hub import assembly
from hub.adapters.kafka.brokers import Brokers
from hub.adapters.kafka.framing import Framing
from hub.adapters.kafka.log import KafkaLog, partition_of
from hub.adapters.kafka.topics import create
from hub.adapters.registry.client import HttpSchemaRegistry, RegistryAddress
from hub.domain.errors import SettingsError, Unavailable
from hub.domain.identity import Subscriber
from hub.entrypoints.stream import host
from hub.entrypoints.workers import keep
from hub.ports.log import Record, Topic
from hub.ports.outgoing import News
from hub.settings import Settings
from hub.wire import read_news, read_unreadable, write_news
from schemas.avro import published, text
from tests.certificates import authority
from tests.conformance.log_suite import read, read_and_do
from tests.journeys.world import at_rest, post, stage, submission
from tests.kafka.registry import Registry
from tests.kafka.rig import PACE, KafkaRig
from tests.kafka.test_stream import PARTITIONS, TOWNS
from tests.kafka.test_stream import World as Streaming

GROUP = "readers"
NEWS = News(
    datetime(2026, 3, 1, 12, tzinfo=UTC),
    "delivery.planned",
    None,
    None,
    "EtatCivil",
    Subscriber("21740042390019", "74042"),
)
LINE = write_news(NEWS)

# NEWS as confluent-kafka 2.16.1 wrote it by journal.v1, to which a registry had given the number 9.
WRITTEN_BY_CONFLUENT = bytes.fromhex(
    "000000000980c0f8daa6fda5062064656c69766572792e706c616e6e65640000021245746174436976696c02"
    "1c3231373430303432333930303139020a3734303432"
)


@pytest_asyncio.fixture
async def registry(server: Registry) -> AsyncIterator[HttpSchemaRegistry]:
    made = HttpSchemaRegistry(RegistryAddress(server.url))
    yield made
    await made.close()


@pytest_asyncio.fixture
async def rig(kafka: str) -> AsyncIterator[KafkaRig]:
    made = KafkaRig(kafka)
    yield made
    await made.close()


class Wavering:
    """A registry that is away when a test says so."""

    def __init__(self, real: HttpSchemaRegistry) -> None:
        self.real = real
        self.away = False
        self.asked: list[int] = []

    async def ids(self) -> Mapping[str, int]:
        if self.away:
            raise Unavailable
        return await self.real.ids()

    async def name(self, id: int) -> str | None:
        self.asked.append(id)
        if self.away:
            raise Unavailable
        return await self.real.name(id)


def framed(number: int, value: bytes = LINE.value) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + value


@asynccontextmanager
async def foreign(rig: KafkaRig) -> AsyncIterator[Callable[..., Any]]:
    """Writes to the journal as anybody's producer does."""
    async with AIOKafkaProducer(bootstrap_servers=rig.cluster.bootstrap) as producer:

        async def send(*values: bytes) -> None:
            for value in values:
                await producer.send_and_wait(rig.name(Topic.JOURNAL), value, key=LINE.key)

        yield send


# --- registering --------------------------------------------------------------------------------------


async def test_what_is_published_is_registered_in_order_by_record_and_known_again(
    server: Registry, registry: HttpSchemaRegistry, kafka: str
) -> None:
    settings = Settings(kafka=kafka, schema_registry=server.url + "/")
    assert sorted(await assembly.make_schemas(settings)) == published()
    assert await assembly.missing_schemas(settings) == []
    assert await assembly.make_schemas(settings) == []
    numbers = await registry.ids()
    assert sorted(numbers) == published()
    assert {name: await registry.name(number) for name, number in numbers.items()} == {
        name: name for name in published()
    }
    versions = server.ask("GET", "/subjects/aiguillage.v1.Decision/versions")
    told = [server.ask("GET", f"/subjects/aiguillage.v1.Decision/versions/{one}") for one in versions]
    family = [name for name in published() if name.startswith("decision.")]
    assert [one["id"] for one in told] == [numbers[name] for name in family]


async def test_a_schema_of_ours_is_known_by_whatever_number_and_in_whatever_form_it_was_registered(
    server: Registry, registry: HttpSchemaRegistry
) -> None:
    ours = json.loads(text("journal.v1"))
    ours["doc"] = "The same, told otherwise."
    written = json.dumps(dict(reversed(ours.items())), indent=4)
    number = server.ask("POST", "/subjects/theirs-value/versions", {"schema": written})["id"]
    assert number not in (await registry.ids()).values()
    assert await registry.name(number) == "journal.v1"


async def test_a_schema_that_is_not_ours_and_a_number_that_is_nobody_s_have_no_name(
    server: Registry, registry: HttpSchemaRegistry
) -> None:
    theirs = json.loads(text("journal.v1"))
    theirs["fields"].pop()
    proto = 'syntax = "proto3"; message Line { string event = 1; }'
    others = (
        {"schema": json.dumps(theirs)},
        {"schema": '"bytes"'},
        {"schema": proto, "schemaType": "PROTOBUF"},
    )
    for count, told in enumerate(others):
        number = server.ask("POST", f"/subjects/others-{count}/versions", told)["id"]
        assert await registry.name(number) is None
    assert await registry.name(2**31 - 1) is None


# --- records ------------------------------------------------------------------------------------------


async def test_a_record_has_the_bytes_that_confluent_s_own_client_writes() -> None:
    class Fixed:
        async def ids(self) -> Mapping[str, int]:
            return {"journal.v1": 9}

        async def name(self, id: int) -> str | None:
            raise AssertionError(id)

    framing = Framing(Fixed())
    await framing.prepare()
    value, headers = framing.dress(LINE)
    assert value == WRITTEN_BY_CONFLUENT
    told = framing.undress(LINE.key, WRITTEN_BY_CONFLUENT, ())
    assert (told, read_news(told)) == (framing.undress(LINE.key, value, headers), NEWS)


async def test_what_the_hub_writes_is_what_any_reader_with_the_registry_expects(
    server: Registry, registry: HttpSchemaRegistry, rig: KafkaRig
) -> None:
    log = numbered(rig, registry)
    await log.append(Topic.JOURNAL, [LINE])
    consumer = AIOKafkaConsumer(
        rig.name(Topic.JOURNAL), bootstrap_servers=rig.cluster.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found = await asyncio.wait_for(consumer.getone(), 20)
    finally:
        await consumer.stop()
    number = int.from_bytes(found.value[1:5], "big")
    assert (found.value[0], found.value[5:], found.key) == (0, LINE.value, LINE.key)
    assert json.loads(server.ask("GET", f"/schemas/ids/{number}")["schema"]) == json.loads(text("journal.v1"))


async def test_a_hub_that_was_given_a_registry_reads_what_it_wrote_before_and_what_others_number(
    server: Registry, registry: HttpSchemaRegistry, rig: KafkaRig
) -> None:
    """Also one number it was never told of, and one of nobody: asked for once, and no record is passed by."""
    before, wavering = rig.log(1), Wavering(registry)
    after = numbered(rig, wavering)
    await before.append(Topic.JOURNAL, [LINE])
    await after.append(Topic.JOURNAL, [LINE])
    asked = "/subjects/theirs-again/versions"
    theirs = server.ask("POST", asked, {"schema": json.dumps(json.loads(text("journal.v1")), indent=3)})["id"]
    nobody = 7_654_321
    async with foreign(rig) as send:
        await send(framed(theirs), framed(nobody), framed(theirs), framed(nobody, b"x"), b"\0\0\0", b"")
    await before.append(Topic.JOURNAL, [LINE])
    fresh = numbered(rig, wavering)
    async with fresh.reader(Topic.JOURNAL, GROUP) as reader:
        found = [entry.record for entry in await read_and_do(reader, 9)]
    assert [record.schema for record in found] == [
        *("journal.v1", "journal.v1", "journal.v1", "", "journal.v1", "", "", "", "journal.v1")
    ]
    assert all(bare(record) == LINE for record in found if record.schema)
    assert next(record.value for record in found if not record.schema) == framed(nobody)
    assert await fresh.backlog(Topic.JOURNAL) == {GROUP: 0}
    assert sorted(wavering.asked).count(nobody) == 1


async def test_a_hub_without_a_registry_says_why_it_does_not_read_numbered_records_and_passes_none_by(
    registry: HttpSchemaRegistry, rig: KafkaRig
) -> None:
    await numbered(rig, registry).append(Topic.JOURNAL, [LINE])
    log = rig.log(1)
    async with log.reader(Topic.JOURNAL, GROUP) as reader:
        for _ in range(2):
            with pytest.raises(SettingsError, match="HUB_SCHEMA_REGISTRY"):
                await read(reader, 1)
    assert await log.backlog(Topic.JOURNAL) == {GROUP: 1}
    stopping = asyncio.Event()

    async def life() -> None:
        async with log.reader(Topic.JOURNAL, GROUP) as reader:
            await read(reader, 1)

    with structlog.testing.capture_logs() as lines:
        working = asyncio.create_task(keep("registration", life, stopping))
        while not lines:
            await asyncio.sleep(0.05)
        stopping.set()
        await working
    assert "HUB_SCHEMA_REGISTRY" in lines[0]["reason"]
    async with numbered(rig, registry).reader(Topic.JOURNAL, GROUP) as reader:
        assert bare((await read(reader, 1))[0].record) == LINE


async def test_while_the_registry_is_away_nothing_is_appended_or_passed_by_and_then_all_goes_on(
    registry: HttpSchemaRegistry, rig: KafkaRig
) -> None:
    wavering = Wavering(registry)
    log = numbered(rig, wavering)
    wavering.away = True
    with pytest.raises(Unavailable):
        await log.append(Topic.JOURNAL, [LINE])
    number = (await registry.ids())["journal.v1"]
    async with foreign(rig) as send:
        await send(framed(number), framed(number))
    async with log.reader(Topic.JOURNAL, GROUP) as reader:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await read(reader, 1)
        wavering.away = False
        assert [bare(entry.record) for entry in await read_and_do(reader, 2)] == [LINE, LINE]
        await log.append(Topic.JOURNAL, [LINE])
        assert len(await read_and_do(reader, 1)) == 1
    # A writer knows its numbers by now, and needs nobody.
    wavering.away = True
    await log.append(Topic.JOURNAL, [LINE])


def numbered(rig: KafkaRig, registry: Any) -> KafkaLog:
    return KafkaLog(rig.cluster, rig.topics(1), PACE, Framing(registry))


def bare(record: Record) -> Record:
    return Record(record.key, record.schema, record.value)


async def test_the_stream_router_counts_numbered_lines_and_sets_aside_what_is_none(
    registry: HttpSchemaRegistry, kafka: str
) -> None:
    world = Streaming(kafka, Framing(registry))
    brokers = Brokers(world.cluster)
    await create(brokers, [*world.topics.values(), world.flows])
    await brokers.close()
    await world.feed(range(400, 60, -1))
    topic = world.topics[Topic.JOURNAL].name
    number = (await registry.ids())["journal.v1"]
    nobody = 7_654_322
    poison = [b"\xff" * 50, framed(number, b"\xff"), framed(nobody), bytes(1_000_000), None]
    here = write_news(replace(NEWS, at=datetime.now(UTC), subscriber=TOWNS[0]))
    partition = partition_of(here.key, PARTITIONS)
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for value in poison:
            await producer.send_and_wait(topic, value, key=here.key, partition=partition)
    await world.log.append(Topic.JOURNAL, [here])
    stopping = asyncio.Event()
    hosting = asyncio.create_task(host(world.hosted(), stopping))
    async with world.log.reader(Topic.SET_ASIDE, GROUP) as reader:
        told = [read_unreadable(entry.record) for entry in await read_and_do(reader, len(poison))]
    assert [one.reason for one in told] == [
        *("unknown_schema", "no_avro", "unknown_schema", "unknown_schema", "unknown_schema")
    ]
    assert {(one.topic, one.partition) for one in told} == {("journal", partition)}
    # All that lay before them was read; the one behind them is counted: its town is not silent.
    await world.silent(len(TOWNS) - 1)
    stopping.set()
    await asyncio.wait_for(hosting, 30)
    await world.log.close()


async def test_a_whole_hub_with_a_registry_delivers_and_shows_operators_what_it_could_not_read(
    server: Registry, kafka: str
) -> None:
    prefix = f"numbered-{secrets.token_hex(4)}."
    told = {
        "HUB_KAFKA": kafka,
        "HUB_KAFKA_PREFIX": prefix,
        "HUB_KAFKA_PARTITIONS": "1",
        "HUB_KAFKA_REPLICAS": "1",
        "HUB_KAFKA_SESSION": "3",
        "HUB_SCHEMA_REGISTRY": server.url,
    }
    async with stage(**told) as world:
        hub = await world.start()
        token = await hub.token("sender", "site", "--procedure", "recensementCitoyen")
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            await producer.send_and_wait(f"{prefix}submissions", SECRET.encode() * 9, key=b"k", partition=0)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            for number in range(3):
                await post(session, hub.url, submission(number, "recensementCitoyen", "74042"))
            async with asyncio.timeout(30):
                while (counts := await at_rest(hub, session)).get("set_aside.records") != 1:
                    await asyncio.sleep(0.1)
        assert counts["deliveries.delivered"] == 3
        code, said = await hub.command("reconcile")
        assert code == 0
        line = next(line for line in said.splitlines() if "unknown_schema" in line)
        assert [word.strip() for word in line.split("│")][1:6] == [
            "submissions",
            "0",
            "0",
            "unknown_schema",
            "135",
        ]
        await hub.stop()
        assert SECRET not in said + (world.folder / "hub.log").read_text("utf-8")


# --- what else may answer -----------------------------------------------------------------------------


@asynccontextmanager
async def answering(answer: web.Response, tls: ssl.SSLContext | None = None) -> AsyncIterator[Answering]:
    """Something that is no registry, or a registry in trouble."""
    seen: list[web.BaseRequest] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls, shutdown_timeout=0.1)
    await site.start()
    [(_, port)] = [address[:2] for address in runner.addresses]
    try:
        yield Answering(f"{'http' if tls is None else 'https'}://127.0.0.1:{port}", seen)
    finally:
        await runner.cleanup()


class Answering:
    def __init__(self, url: str, seen: Sequence[web.BaseRequest]) -> None:
        self.url = url
        self.seen = seen


SECRET = "un-mot-de-passe"


def said(status: int, told: Any = None, **more: Any) -> web.Response:
    return web.Response(status=status, body=json.dumps(told).encode(), **more)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (said(401), SettingsError),
        (said(403), SettingsError),
        (said(409, {"error_code": 409, "message": SECRET}), SettingsError),
        (said(422, {"error_code": 42201}), SettingsError),
        (said(500, SECRET), Unavailable),
        (said(503), Unavailable),
        (said(429), Unavailable),
        # Not in a registry's words: else every record would be set aside because a proxy is in the way.
        (said(404), Unavailable),
        (said(404, {"error_code": 404, "message": "no such page"}), Unavailable),
        (said(200, [1]), Unavailable),
        (said(200, {"schema": 7, "id": "7"}), Unavailable),
        (said(200, {"id": True}), Unavailable),
        (said(302, headers={"Location": "http://127.0.0.1:9/"}), Unavailable),
        (web.Response(body=b"<html>" + SECRET.encode()), Unavailable),
        (web.Response(body=b"[" * 100_000), Unavailable),
        (said(200, "x" * (3 << 20)), Unavailable),
    ],
    ids=lambda value: str(value.status) if isinstance(value, web.Response) else None,
)
async def test_what_is_no_registry_s_answer_is_never_taken_for_one(
    answer: web.Response, error: type[Exception]
) -> None:
    async with answering(answer) as there:
        asked = HttpSchemaRegistry(RegistryAddress(there.url, "hub", SECRET))
        for question in (asked.ids, lambda: asked.name(5)):
            with pytest.raises(error) as caught:
                await question()
            assert SECRET not in str(caught.value)
        await asked.close()
    assert {BasicAuth.decode(one.headers["Authorization"]) for one in there.seen} == {
        BasicAuth("hub", SECRET)
    }
    # Where nobody listens any more.
    gone = HttpSchemaRegistry(RegistryAddress(there.url))
    with pytest.raises(Unavailable):
        await gone.name(5)
    await gone.close()


async def test_a_registry_is_believed_by_who_signed_its_certificate(tmp_path: Path) -> None:
    signer = authority(tmp_path / "ca")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*signer.sign("registry"))
    async with answering(said(200, {"schema": text("journal.v1")}), context) as there:
        believing = HttpSchemaRegistry(RegistryAddress(there.url, ca=signer.file))
        assert await believing.name(5) == "journal.v1"
        await believing.close()
        other = HttpSchemaRegistry(RegistryAddress(there.url))
        with pytest.raises(SettingsError, match="certificate"):
            await other.name(5)
        await other.close()


@pytest.mark.parametrize(
    "address",
    [
        ("registry:8081",),
        ("ftp://registry",),
        ("http://registry:port",),
        (f"http://hub:{SECRET}@registry",),
        ("http://registry?a=1",),
        ("http://registry", "hub"),
        ("http://registry", None, SECRET),
        ("http://registry", None, None, Path("ca.pem")),
    ],
    ids=str,
)
def test_an_address_that_cannot_be_one_is_refused_without_quoting_it(address: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        RegistryAddress(*address)
    assert SECRET not in str(caught.value)
