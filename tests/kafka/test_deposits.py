"""What must be true of senders' own topics: checked as a post is, accepted before they are said to be read, and whose
a deposit is says the topic alone."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import fastavro
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.errors import MessageSizeTooLargeError  # type: ignore[import-untyped]
from aiokafka.record.default_records import (  # type: ignore[import-untyped]
    _DefaultRecordBatchBuilderPy as DefaultRecordBatchBuilder,
)

from hub.adapters.kafka.brokers import Brokers
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.deposits import KafkaDeposits, Shape, deposit_topics
from hub.adapters.kafka.pace import Pace
from hub.adapters.kafka.topics import check, create
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.uploads import PostgresUploads
from hub.domain.errors import Unavailable
from hub.entrypoints import workers
from hub.ports.log import LogReader
from hub.services.deposits import GROUP, DepositRoom, Wire
from hub.services.sweep import SweepRoom, UploadSweep
from hub.wire import external_id_of, read_deposit, write_refusal
from schemas.avro import schema
from tests.conformance.samples import execute
from tests.kafka.rig import PACE
from tests.services.http_world import OTHER_SENDER, SENDER, World, attachment, offer, open_world
from tests.services.room_world import Killed

SCHEMA = [("schema", b"deposit.v1")]
PARTITION = 0
"""That of the key `k`, of two."""


def deposit(files: Sequence[bytes] = (), external_id: str = "dossier-1", **more: Any) -> dict[str, Any]:
    """As it would be posted, with the bytes of its files in it."""
    told = offer(files, external_id)
    for described, content in zip(told["attachments"], files, strict=True):
        described["content"] = content
    return {**told, **more}


def encoded(told: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema("deposit.v1"), told)
    return out.getvalue()


class Site:
    """A form site, and the brokers and the hub beside it."""

    def __init__(self, bootstrap: str, world: World) -> None:
        self.world = world
        self.cluster = KafkaCluster(bootstrap)
        self.shape = Shape(f"d{secrets.token_hex(4)}.", 2, 1, GROUP)
        self.brokers = Brokers(self.cluster)
        self.deposits = KafkaDeposits(self.cluster, self.shape, [SENDER, OTHER_SENDER], PACE)
        self.producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2 << 20)

    @property
    def uploads(self) -> PostgresUploads:
        return PostgresUploads(self.world.database)

    @property
    def room(self) -> DepositRoom:
        rooms = self.world.rooms
        wire = Wire(read_deposit, external_id_of, write_refusal)
        return DepositRoom(
            self.deposits, rooms.intake, self.uploads, rooms.tokens, rooms.attachments, wire, reserve=0
        )

    async def write(
        self, *values: bytes | dict[str, Any] | None, sender: str = SENDER, headers: Any = SCHEMA
    ) -> None:
        name = self.shape.deposits(sender).name
        for value in values:
            raw = encoded(value) if isinstance(value, dict) else value
            await self.producer.send_and_wait(name, raw, key=b"k", headers=headers)

    async def read(self, count: int, sender: str = SENDER) -> None:
        """Until intake has read so many."""
        async with asyncio.timeout(30), self.deposits.reader(sender) as reader:
            while count > 0:
                count -= await self.page(reader, sender)
        assert count == 0

    async def page(self, reader: LogReader, sender: str = SENDER) -> int:
        granted = await self.room.granted(sender)
        assert granted is not None
        return await self.room.run_once(sender, granted, reader, 1)

    async def refusals(self, sender: str = SENDER) -> list[dict[str, Any]]:
        name = self.shape.refused(sender).name
        consumer = AIOKafkaConsumer(
            name, bootstrap_servers=self.cluster.bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            found: list[Any] = []
            (end,) = (await consumer.end_offsets(consumer.assignment())).values()
            while len(found) < end:
                record = await consumer.getone()
                assert record.headers == (("schema", b"refusal.v1"),)
                found.append(fastavro.schemaless_reader(io.BytesIO(record.value), schema("refusal.v1"), None))
            return found
        finally:
            await consumer.stop()

    async def rules(self) -> list[tuple[str | None, str, set[tuple[str, str]]]]:
        """Of each refusal: whose, which problem, and its flaws."""
        return [
            (
                told["external_id"],
                told["problem"],
                {(flaw["field"], flaw["rule"]) for flaw in told["flaws"]},
            )
            for told in await self.refusals()
        ]

    async def accepted(self) -> list[tuple[str, str]]:
        """Sender and external id of each submission."""

        async def work(connection: Any) -> list[tuple[str, str]]:
            rows = await connection.fetch("SELECT sender, external_id FROM submission ORDER BY 1, 2")
            return [(row["sender"], row["external_id"]) for row in rows]

        return await self.world.database.run(work)

    async def upload(self, *files: bytes, who: str = SENDER) -> UUID:
        form = aiohttp.FormData()
        for content in files:
            form.add_field("file", content, filename="f", content_type="application/pdf")
        answer = await self.world.call("POST", "/v1/uploads", who, data=form)
        assert answer.status == 201, answer.body
        assert [file["sha256"] for file in answer.json["files"]] == [
            hashlib.sha256(content).hexdigest() for content in files
        ]
        return UUID(answer.json["id"])


@pytest_asyncio.fixture
async def site(kafka: str, database: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_world(database, tmp_path) as world, opened(kafka, world) as made:
        yield made


@asynccontextmanager
async def opened(bootstrap: str, world: World) -> AsyncIterator[Site]:
    made = Site(bootstrap, world)
    topics = deposit_topics(made.shape, [SENDER, OTHER_SENDER])
    assert len(await create(made.brokers, topics)) == 4
    assert await check(made.brokers, topics) == []
    await made.producer.start()
    try:
        yield made
    finally:
        await made.producer.stop()
        await made.deposits.close()
        await made.brokers.close()


async def test_a_deposit_is_accepted_as_if_it_had_been_posted_and_goes_its_way(site: Site) -> None:
    files = [b"%PDF un acte", b""]
    told = deposit(files, "A-1", content=json.dumps({"nom": "é"}))
    told["facts"]["commune"] = {"type": "commune", "code": "74042"}
    await site.write(told, told)
    await site.read(2)
    posted = offer(
        files, "A-1", content={"nom": "é"}, facts={"commune": {"type": "commune", "code": "74042"}}
    )
    answer = await site.world.post_parts(posted, files)
    assert answer.status == 202, answer.body
    assert await site.accepted() == [(SENDER, "A-1")]
    assert await site.refusals() == []
    await site.world.route()
    found = await site.world.rooms.views.submission(UUID(answer.json["id"]))
    assert found is not None
    assert len(found.deliveries) == 2


async def test_whose_a_deposit_is_says_the_topic_and_no_header_nor_field(site: Site) -> None:
    forged = [*SCHEMA, ("sender", OTHER_SENDER.encode()), ("submission", uuid4().bytes), ("__TypeId__", None)]
    await site.write(deposit([b"a"], "F-1"), headers=forged)
    await site.write(deposit([b"a"], "F-2", sender=OTHER_SENDER))
    await site.write(deposit([b"a"], "F-3", sender=SENDER))
    await site.read(3)
    assert await site.accepted() == [(SENDER, "F-1"), (SENDER, "F-3")]
    assert await site.rules() == [("F-2", "forbidden", {("/sender", "another_sender")})]
    assert len(site.world.files()) == 2


async def test_what_a_post_would_be_refused_for_is_refused_with_the_same_words(site: Site) -> None:
    content = b"un acte"
    wrong = deposit([content], "W-2")
    wrong["attachments"][0]["sha256"] = "0" * 64
    long = deposit([content], "W-3")
    long["attachments"][0]["size"] = 3
    await site.write(
        deposit([], "W-1", facts={"commune": "00000", "rien": "x"}),
        wrong,
        long,
        deposit([], "W-4", procedure="AUTRE"),
        deposit([], "W-5", procedure="INCONNUE"),
        deposit([], "pas un nom"),
        deposit([], "W-6", content="[1"),
        deposit([], "W-7", content="[1]"),
        deposit([], "W-8", attachments=[attachment(b"x")]),
        deposit([b"premier"], "W-9"),
        deposit([b"second"], "W-9"),
        deposit([b"x" * 900_001], "W-10"),
        deposit([], "W-11"),
        deposit([b"x" * 900_000], "W-12"),
    )
    await site.read(14)
    posted = await site.world.post(offer((), "W-1", facts={"commune": "00000", "rien": "x"}))
    assert await site.rules() == [
        ("W-1", "invalid", posted.rules),
        ("W-2", "invalid", {("/attachments/0/sha256", "digest_mismatch")}),
        ("W-3", "invalid", {("/attachments/0/size", "oversized")}),
        ("W-4", "forbidden", {("/procedure", "not_granted")}),
        ("W-5", "invalid", {("/procedure", "unknown_procedure")}),
        (None, "invalid", {("/external_id", "string_pattern_mismatch")}),
        ("W-6", "invalid", {("/content", "json")}),
        ("W-7", "invalid", {("/content", "dict_type")}),
        ("W-8", "invalid", {("/attachments/0", "missing_file")}),
        ("W-10", "too_large", {("", "too_large")}),
        ("W-9", "conflict", {("/external_id", "used_before")}),
    ]
    assert await site.accepted() == [(SENDER, name) for name in ("W-11", "W-12", "W-9")]
    assert len(site.world.files()) == 2


async def test_bytes_that_are_no_deposit_are_refused_by_their_place_and_the_topic_goes_on(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    good = encoded(deposit([b"Secrete"], "P-1"))
    await site.write(
        b"", None, b"\xff" * 64, good[:-1], good + b"\0", b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"
    )
    await site.write(good, headers=[])
    await site.write(good, headers=[("schema", b"submission.v1")])
    await site.write(b"\0\0\0\0\1" + good, headers=[("schema", b"registry")])
    await site.write(good, headers=[("schema", None)])
    await site.write(good)
    await site.read(11)
    refusals = await site.refusals()
    assert [told["offset"] for told in refusals] == list(range(10))
    assert {told["problem"] for told in refusals} == {"invalid"}
    assert {flaw["rule"] for told in refusals for flaw in told["flaws"]} == {"avro", "schema"}
    assert await site.accepted() == [(SENDER, "P-1")]
    assert "Secrete" not in caplog.text + repr(refusals)


class Latin(str):
    """A header's name as a client may write it that does not care for UTF-8."""

    def encode(self, *_: object) -> bytes:
        return str.encode(self, "latin-1")


async def test_a_header_whose_name_nobody_can_read_stops_no_other_deposit(site: Site) -> None:
    """With all that follows it in its batch: no client can read those."""
    await site.write(deposit([], "H-1"))
    batch = site.producer.create_batch()
    batch._builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
    for name, header in (("H-2", "x"), ("H-3", Latin("é")), ("H-4", "x")):
        batch.append(
            key=b"k", value=encoded(deposit([], name)), timestamp=None, headers=[*SCHEMA, (header, b"")]
        )
    await (await site.producer.send_batch(batch, site.shape.deposits(SENDER).name, partition=PARTITION))
    await site.write(deposit([], "H-5"))
    await site.read(5)
    assert await site.accepted() == [(SENDER, name) for name in ("H-1", "H-2", "H-5")]
    assert [(told["partition"], told["offset"]) for told in await site.refusals()] == [
        (PARTITION, 2),
        (PARTITION, 3),
    ]


async def test_what_is_small_only_while_it_is_compressed_is_not_taken_by_the_broker(site: Site) -> None:
    bomb = encoded(deposit([b"0" * 4_000_000], "B-1"))
    assert len(gzip.compress(bomb)) < 20_000
    producer = AIOKafkaProducer(
        bootstrap_servers=site.cluster.bootstrap, compression_type="gzip", max_request_size=1 << 23
    )
    await producer.start()
    try:
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(site.shape.deposits(SENDER).name, bomb, headers=SCHEMA)
    finally:
        await producer.stop()


async def test_killed_between_accepting_and_saying_so_a_deposit_is_read_again_and_is_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await site.upload(b"un grand fichier")
    large = offer([b"un grand fichier"], "K-2")
    large["attachments"][0]["uploaded"] = 1
    await site.write(deposit([b"a"], "K-1"), {**large, "upload": upload}, deposit([], "K-1"))

    async def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(site.deposits, "refuse", dies)
        with pytest.raises(Killed):
            await site.read(3)
    before = await site.accepted()
    files = sorted(site.world.files())
    assert before == [(SENDER, "K-1"), (SENDER, "K-2")]
    # What may be posted is another meanwhile: what was accepted is accepted.
    await execute(site.world.database, "UPDATE token SET procedures = '{AUTRE}' WHERE kind = 'sender'")
    await site.read(3)
    assert await site.accepted() == before
    assert sorted(site.world.files()) == files
    assert [told["problem"] for told in await site.refusals()] == ["forbidden"]
    # And nothing is left to trim, nor to read.
    assert await site.deposits.trim(SENDER) == 3
    assert await site.deposits.read_before(SENDER, datetime.now(UTC))


async def test_when_something_is_away_nothing_of_a_page_is_kept_and_all_of_it_is_read_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.write(*(deposit([b"a", b"b"], f"V-{n}") for n in range(3)))
    put, left = site.world.rooms.attachments.put, iter(range(4))

    async def away(chunks: Any, key: Any) -> Any:
        if next(left, None) is None:
            raise Unavailable
        return await put(chunks, key)

    with monkeypatch.context() as patched:
        patched.setattr(site.world.rooms.intake._attachments, "put", away)
        with pytest.raises(Unavailable):
            await site.read(3)
    assert (await site.accepted(), site.world.files()) == ([], [])
    await site.read(3)
    assert len(await site.accepted()) == 3
    assert await site.refusals() == []


class Numbers:
    """A schema registry that knows two numbers."""

    async def ids(self) -> Mapping[str, int]:
        return {"deposit.v1": 7, "refusal.v1": 8}

    async def name(self, id: int) -> str | None:
        return {7: "deposit.v1", 8: "refusal.v1"}.get(id)


async def test_with_a_schema_registry_a_deposit_may_name_its_schema_by_a_number(site: Site) -> None:
    site.deposits = KafkaDeposits(site.cluster, site.shape, [SENDER], PACE, Numbers())
    value = encoded(deposit([], "N-1"))
    await site.write(b"\0\0\0\0\7" + value, b"\0\0\0\0\7" + value, headers=[])
    await site.write(b"\0\0\0\0\7" + encoded(deposit([], "N-2")), headers=[("schema", b"registry")])
    await site.write(deposit([], "N-3"))
    await site.write(b"\0\0\0\0\x2a" + value, b"\0\0\0\0\x08" + value, headers=[])
    await site.read(6)
    assert await site.accepted() == [(SENDER, name) for name in ("N-1", "N-2", "N-3")]
    name = site.shape.refused(SENDER).name
    async with AIOKafkaConsumer(
        name, bootstrap_servers=site.cluster.bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        told = [await consumer.getone() for _ in range(2)]
    assert {(one.value[:5], one.headers) for one in told} == {(b"\0\0\0\0\x08", (("schema", b"registry"),))}


async def test_killed_before_its_row_is_written_an_upload_is_nothing_but_files_for_the_sweep(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(PostgresUploads, "keep", dies)
    room = site.world.rooms.uploads
    loading = room.begin(SENDER)
    await room.store_file(loading, _once(b"perdu"))
    with pytest.raises(Killed):
        await room.keep(loading)
    assert len(site.world.files()) == 1
    sweep = SweepRoom(site.world.rooms.attachments, PostgresIntake(site.world.database), timedelta(0))
    assert await sweep.run_once() == 1
    assert site.world.files() == []


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_deposit_takes_over_the_files_of_its_upload_once(site: Site) -> None:
    files = [b"premier" * 1000, b"second" * 1000]
    upload = await site.upload(*files)
    lost = await site.upload(b"de trop")
    foreign = await site.upload(b"autre", who=SENDER)
    stored = sorted(site.world.files())

    def taking(
        name: str, contents: Sequence[bytes], *places: int | None, of: UUID = upload
    ) -> dict[str, Any]:
        told: dict[str, Any] = {**offer(contents, name), "upload": of}
        for described, place in zip(told["attachments"], places, strict=True):
            described["uploaded"] = place
        return told

    mixed = taking("U-1", [files[1], b"inline", files[0]], 2, None, 1)
    mixed["attachments"][1]["content"] = b"inline"
    await site.write(
        taking("X-1", [files[0]], 3),
        taking("X-2", [files[0]], 2),
        taking("X-3", [b"x" * len(files[0])], 1),
        taking("X-4", [files[0], files[0]], 1, 1),
        taking("X-5", [files[0]], 1, of=uuid4()),
        {**taking("X-6", [files[0]], 1), "upload": None},
        mixed,
        taking("X-7", [files[0]], 1),
    )
    await site.write(taking("X-8", [b"autre"], 1, of=foreign), sender=OTHER_SENDER)
    await site.read(8)
    await site.read(1, OTHER_SENDER)
    assert [(name, flaws) for name, _, flaws in await site.rules()] == [
        ("X-1", {("/attachments/0/uploaded", "unknown_file")}),
        ("X-2", {("/attachments/0/size", "another_size")}),
        ("X-3", {("/attachments/0/sha256", "digest_mismatch")}),
        ("X-4", {("/attachments/1/uploaded", "used_twice")}),
        ("X-5", {("/upload", "unknown_upload")}),
        ("X-6", {("/upload", "missing")}),
        ("X-7", {("/upload", "unknown_upload")}),
    ]
    assert [told["external_id"] for told in await site.refusals(OTHER_SENDER)] == ["X-8"]
    assert await site.accepted() == [(SENDER, "U-1")]
    assert len(site.world.files()) == len(stored) + 1
    assert await _in_the_mailbox_after_routing(site) == [files[1], b"inline", files[0]]
    assert await site.uploads.find(SENDER, lost) is not None


async def _in_the_mailbox_after_routing(site: Site) -> list[bytes]:
    """The files of the ministry's one parcel."""
    await site.world.route()
    listed = await site.world.call("GET", "/v1/mailbox", "ministry")
    [parcel] = listed.json["items"]
    found = []
    for file in parcel["files"][1:]:
        link = file["link"].replace("https://hub.example", site.world.url)
        found.append((await site.world.call("GET", link, None)).body)
    return found


async def test_an_upload_is_forgotten_when_no_unread_deposit_may_name_it_any_more(site: Site) -> None:
    """Its rows go first; its files then go as any that nobody names."""
    named, young, old = [await site.upload(content) for content in (b"nomme", b"jeune", b"ancien")]
    told = {**offer([b"nomme"], "S-1"), "upload": named}
    told["attachments"][0]["uploaded"] = 1
    await site.write(told)
    files = SweepRoom(site.world.rooms.attachments, PostgresIntake(site.world.database), timedelta(0))
    # The deposit came within the ten days of both, as if that was long ago.
    await aged(site, "9 days 23 hours 30 minutes", named, old)
    uploads = UploadSweep(site.uploads, site.deposits, behind=-timedelta(hours=1))
    assert (await uploads.run_once(), await files.run_once()) == (0, 0)
    await site.read(1)
    assert await site.accepted() == [(SENDER, "S-1")]
    assert (await uploads.run_once(), await files.run_once()) == (1, 1)
    assert await _in_the_mailbox_after_routing(site) == [b"nomme"]
    assert await site.uploads.find(SENDER, young) is not None
    # A sender's topic that cannot be asked keeps its uploads; one that is not there names none.
    await aged(site, "11 days", young)
    away = KafkaDeposits(KafkaCluster("127.0.0.1:1"), site.shape, [SENDER], Pace(patience=0.5))
    assert await UploadSweep(site.uploads, away).run_once() == 0
    await away.close()
    never = KafkaDeposits(site.cluster, replace(site.shape, prefix="never."), [], PACE)
    assert await UploadSweep(site.uploads, never).run_once() == 1
    await never.close()


async def aged(site: Site, age: str, *uploads: UUID) -> None:
    for one in uploads:
        update = f"UPDATE upload SET created_at = now() - interval '{age}' WHERE id = '{one}'"
        await execute(site.world.database, update)


async def test_a_sender_without_a_valid_token_or_with_a_full_disk_behind_it_waits(site: Site) -> None:
    await execute(site.world.database, "UPDATE token SET revoked_at = now() WHERE kind = 'sender'")
    await site.write(deposit([b"a"], "T-1"))
    assert await site.room.granted(SENDER) is None
    stopping = asyncio.Event()
    taking = asyncio.create_task(workers.take_deposits(site.room, site.deposits, SENDER, stopping))
    await asyncio.sleep(1)
    assert await site.accepted() == []
    stopping.set()
    await taking
    assert not await site.deposits.read_before(SENDER, datetime.now(UTC) + timedelta(seconds=5))
    await execute(site.world.database, "UPDATE token SET revoked_at = NULL")
    await site.read(1)
    assert await site.accepted() == [(SENDER, "T-1")]


async def test_only_a_sender_with_a_topic_may_upload_and_nothing_of_a_bad_upload_remains(site: Site) -> None:
    world = site.world
    form = aiohttp.FormData()
    form.add_field("file", b"x", filename="f")
    assert (await world.call("POST", "/v1/uploads", OTHER_SENDER, data=form)).rules == {("", "no_topic")}
    for name, count, rule in (("autre", 1, "unknown_part"), ("file", 501, "too_long")):
        form = aiohttp.FormData()
        for _ in range(count):
            form.add_field(name, b"x", filename="f")
        answer = await world.call("POST", "/v1/uploads", data=form)
        assert answer.rules == {("", rule)}, answer.body
    empty = b"--b--\r\n"
    answer = await world.call(
        "POST", "/v1/uploads", data=empty, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.rules == {("", "no_file")}
    assert (await world.call("POST", "/v1/uploads", data=b"{}")).status == 415
    assert world.files() == []
