"""What must be true of Kafka as the log beside its port: foreign records, required groups, other lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord  # type: ignore[import-untyped]

from hub.adapters.kafka.groups import NOBODY, Member, kafka_name
from hub.adapters.kafka.log import partition_of
from hub.adapters.kafka.log_reader import KafkaLogReader
from hub.adapters.kafka.pace import Pace
from hub.adapters.kafka.topics import LARGEST
from hub.domain.errors import LeaseLost, SettingsError, Unavailable
from hub.ports.log import Log, LogReader, Record, places
from tests.conformance.log_suite import (
    GROUP,
    TOPIC,
    nothing_comes,
    numbers,
    read,
    read_and_do,
    record,
    records,
)
from tests.kafka.rig import KafkaRig


@pytest_asyncio.fixture
async def rig(kafka: str) -> AsyncIterator[KafkaRig]:
    rig = KafkaRig(kafka)
    yield rig
    await rig.close()


# --- where a record goes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "checksum"),
    [(b"123456789", 0xCBF43926), (b"", 0), (b"The quick brown fox jumps over the lazy dog", 0x414FA339)],
)
def test_a_key_has_the_partition_that_producers_on_librdkafka_give_it(key: bytes, checksum: int) -> None:
    """By the published check values of CRC-32."""
    assert partition_of(key, 7) == checksum % 7


async def test_a_reader_of_kafkas_own_finds_schema_and_key_of_each_record(rig: KafkaRig) -> None:
    await rig.log().append(TOPIC, records(20))
    consumer = AIOKafkaConsumer(
        rig.name(TOPIC), bootstrap_servers=rig.cluster.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(20):
            while len(found) < 20:
                for several in (await consumer.getmany(timeout_ms=500)).values():
                    found += several
    finally:
        await consumer.stop()
    assert {one.headers for one in found} == {(("schema", b"essai.v1"),)}
    assert sorted(one.key for one in found) == sorted(one.key for one in records(20))
    assert all(one.partition == partition_of(one.key, 4) for one in found)


# --- records of others, and large ones ----------------------------------------------------------------


async def test_records_without_schema_or_key_or_value_do_not_stop_a_reader(rig: KafkaRig) -> None:
    log = rig.log(1)
    await log.append(TOPIC, [record(0)])
    async with AIOKafkaProducer(bootstrap_servers=rig.cluster.bootstrap) as producer:
        name = rig.name(TOPIC)
        await producer.send_and_wait(name, b"no key, no schema")
        await producer.send_and_wait(name, None, key=b"no value")
        await producer.send_and_wait(name, b"", key=b"", headers=[("schema", b"\xff"), ("other", b"1")])
    await log.append(TOPIC, [record(1)])
    async with log.reader(TOPIC, GROUP) as reader:
        found = await read_and_do(reader, 5)
    assert [entry.record for entry in found[1:4]] == [
        Record(b"", "", b"no key, no schema"),
        Record(b"no value", "", b""),
        Record(b"", "\ufffd", b""),
    ]
    assert await log.backlog(TOPIC) == {GROUP: 0}


async def test_what_a_transaction_of_others_took_back_is_never_read_and_holds_nothing_up(
    rig: KafkaRig,
) -> None:
    log = rig.log(1)
    await log.append(TOPIC, [record(0)])
    async with AIOKafkaProducer(
        bootstrap_servers=rig.cluster.bootstrap, transactional_id=rig.prefix
    ) as producer:
        for kept in (False, True):
            await producer.begin_transaction()
            await producer.send_and_wait(rig.name(TOPIC), str(int(kept)).encode(), partition=0)
            await (producer.commit_transaction() if kept else producer.abort_transaction())
    await log.append(TOPIC, [record(2)])
    async with log.reader(TOPIC, GROUP) as reader:
        assert numbers(await read_and_do(reader, 3)) == [0, 1, 2]
    async with log.reader(TOPIC, GROUP) as reader:
        await nothing_comes(reader)


async def test_a_record_of_a_megabyte_passes_between_small_ones(rig: KafkaRig) -> None:
    log = rig.log(1)
    large = Record(b"large", "essai.v1", bytes(1_000_000))
    await log.append(TOPIC, [record(0), large, record(1), *records(5000, first=2)])
    async with log.reader(TOPIC, GROUP) as reader:
        found = await read_and_do(reader, 5003)
    assert found.pop(1).record == large
    assert numbers(found) == list(range(5002))


async def test_a_record_that_is_too_large_is_refused_before_anything_is_written(rig: KafkaRig) -> None:
    log = rig.log(1)
    with pytest.raises(SettingsError, match="larger"):
        await log.append(TOPIC, [record(0), Record(b"", "essai.v1", bytes(LARGEST))])
    await log.append(TOPIC, [record(1)])
    async with log.reader(TOPIC, GROUP) as reader:
        assert numbers(await read(reader, 1)) == [1]


# --- groups -------------------------------------------------------------------------------------------


async def test_a_group_whose_offsets_were_deleted_begins_at_the_earliest_record_left(rig: KafkaRig) -> None:
    log = rig.log()
    await log.append(TOPIC, records(30))
    async with log.reader(TOPIC, GROUP) as reader:
        done = numbers(await read_and_do(reader, 12))
    assert await log.trim(TOPIC) == 12
    await rig.groups.remove(kafka_name(rig.name(TOPIC), GROUP), patience=10)
    async with log.reader(TOPIC, GROUP) as reader:
        assert sorted(done + numbers(await read_and_do(reader, 18))) == list(range(30))


async def test_an_offset_without_an_incarnation_or_of_another_one_is_not_believed(rig: KafkaRig) -> None:
    log = rig.log(1)
    await log.append(TOPIC, records(10))
    topic = rig.name(TOPIC)
    for foreign in ("", "of another life"):
        group = kafka_name(topic, GROUP)
        await rig.groups.commit(group, topic, foreign, {0: 7}, NOBODY)
        assert await log.backlog(TOPIC) == {}
        assert await log.trim(TOPIC) == 0
        async with log.reader(TOPIC, GROUP) as reader:
            assert numbers(await read(reader, 10)) == list(range(10))
        await rig.groups.remove(group, patience=10)


async def test_an_offset_beyond_the_end_means_that_records_were_lost_and_all_that_is_left_is_read(
    rig: KafkaRig,
) -> None:
    log = rig.log(1)
    await log.append(TOPIC, records(10))
    topic = rig.name(TOPIC)
    incarnation = await log.incarnation(TOPIC)
    await rig.groups.commit(kafka_name(topic, GROUP), topic, incarnation, {0: 700}, NOBODY)
    assert await log.trim(TOPIC) == 0
    async with log.reader(TOPIC, GROUP) as reader:
        assert numbers(await read_and_do(reader, 10)) == list(range(10))
        await log.append(TOPIC, [record(10)])
        assert numbers(await read_and_do(reader, 1)) == [10]
    assert await log.backlog(TOPIC) == {GROUP: 0}


async def test_a_topic_that_is_not_there_yet_has_no_backlog_and_nothing_to_trim(rig: KafkaRig) -> None:
    async with asyncio.timeout(5):
        assert await rig.log().backlog(TOPIC) == {}
        assert await rig.log().trim(TOPIC) == 0


async def test_nothing_is_trimmed_before_every_required_group_has_done_it(kafka: str) -> None:
    rig = KafkaRig(kafka, required={TOPIC: {"routing"}})
    try:
        log = rig.log()
        await log.append(TOPIC, records(20))
        async with log.reader(TOPIC, GROUP) as reader:
            await read_and_do(reader, 20)
        assert await log.trim(TOPIC) == 0
        async with log.reader(TOPIC, "routing") as reader:
            await read_and_do(reader, 8)
        assert await log.trim(TOPIC) == 8
        await log.remove_group(TOPIC, "routing")
        assert await log.trim(TOPIC) == 0
        async with log.reader(TOPIC, "routing") as reader:
            assert len(await read_and_do(reader, 12)) == 12
        assert await log.trim(TOPIC) == 12
    finally:
        await rig.close()


@pytest.mark.parametrize("session", [0.2, 7200])
async def test_a_session_that_the_cluster_does_not_allow_is_told_as_a_matter_of_settings(
    kafka: str, session: float
) -> None:
    rig = KafkaRig(kafka, pace=Pace(session=session, grace=1))
    try:
        reading = open_and_read(rig.log())
        with pytest.raises(SettingsError, match="InvalidSessionTimeout"):
            await asyncio.wait_for(reading, 20)
    finally:
        await rig.close()


async def open_and_read(log: Log) -> None:
    async with asyncio.timeout(20), log.reader(TOPIC, GROUP) as reader:
        while True:
            await reader.read(10, 1)


async def test_a_reader_that_is_still_joining_goes_at_once(rig: KafkaRig) -> None:
    log = rig.log(1)
    await log.append(TOPIC, records(10))
    clock = asyncio.get_running_loop().time
    async with log.reader(TOPIC, GROUP) as reader:
        held = await read(reader, 10)
        async with log.reader(TOPIC, GROUP) as other:
            await nothing_comes(other, 0.2)
            begun = clock()
        assert clock() - begun < 2
        await reader.done(places(held))
        await log.append(TOPIC, [record(10)])
        assert numbers(await read_and_do(reader, 1)) == [10]


async def test_a_reader_that_takes_too_long_loses_only_what_another_gets(rig: KafkaRig) -> None:
    log = rig.log(2)
    await log.append(TOPIC, records(40))
    async with log.reader(TOPIC, GROUP) as slow:
        held = await read(slow, 40)
        async with log.reader(TOPIC, GROUP) as other:
            taken = await read(other, 1, patience=15)
            theirs = taken[0].position.partition
            kept = [entry for entry in held if entry.position.partition != theirs]
            lost = [entry for entry in held if entry.position.partition == theirs]
            taken += await read(other, len(lost) - 1)
            assert numbers(taken) == numbers(lost)
            await slow.done(places(kept))
            with pytest.raises(LeaseLost):
                await slow.done(places(lost))
            assert await log.backlog(TOPIC) == {GROUP: len(lost)}
            await nothing_comes(slow, 0.5)
            await other.done(places(taken))
    assert await log.backlog(TOPIC) == {GROUP: 0}


async def test_a_partition_that_another_may_have_had_meanwhile_is_read_from_where_the_group_stands(
    rig: KafkaRig,
) -> None:
    log = rig.log(1)
    await log.append(TOPIC, records(10))
    async with log.reader(TOPIC, GROUP) as reader:
        assert isinstance(reader, KafkaLogReader)
        held = await read(reader, 10)
        await reader.done(places(held[:3]))
        now = reader._consumer._coordinator.generation
        # As when partitions were shared out once since this reader last knew, and as when twice.
        for before, again in ((now - 1, []), (now - 2, list(range(3, 10)))):
            reader._member = Member(before, reader.member or "")
            reader.on_assigned([0])
            assert numbers(await read(reader, len(again))) == again
            await nothing_comes(reader, 0.5)


# --- other lives --------------------------------------------------------------------------------------


async def test_a_reader_of_a_topic_that_was_made_anew_is_at_its_end_and_the_next_misses_nothing(
    rig: KafkaRig,
) -> None:
    log = rig.log(1)
    await log.append(TOPIC, records(10))
    former = await log.incarnation(TOPIC)
    async with log.reader(TOPIC, GROUP) as reader:
        held = await read(reader, 5)
        await reader.done(places(held))
        await rig.delete(TOPIC)
        assert await rig.log(1).incarnation(TOPIC) != former
        # As many as before: by its offset alone, the group would have done five of them.
        await rig.log(1).append(TOPIC, records(10, first=100))
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(go_on(reader), 20)
    assert await log.incarnation(TOPIC) != former
    async with log.reader(TOPIC, GROUP) as reader:
        assert numbers(await read_and_do(reader, 10)) == list(range(100, 110))
    assert await log.backlog(TOPIC) == {GROUP: 0}


async def go_on(reader: LogReader) -> None:
    while True:
        await reader.done(places(await reader.read(100, 0.2)))


async def test_what_is_said_done_of_a_former_life_moves_nobody_in_the_present_one(rig: KafkaRig) -> None:
    log = rig.log(1)
    await log.append(TOPIC, records(10))
    topic = rig.name(TOPIC)
    former = await log.incarnation(TOPIC)
    await rig.delete(TOPIC)
    log = rig.log(1)
    await log.append(TOPIC, records(10, first=100))
    await rig.groups.commit(kafka_name(topic, GROUP), topic, former, {0: 10}, NOBODY)
    assert await log.trim(TOPIC) == 0
    async with log.reader(TOPIC, GROUP) as reader:
        assert numbers(await read(reader, 10)) == list(range(100, 110))


async def test_an_append_to_a_topic_that_is_gone_succeeds_when_it_is_said_again(rig: KafkaRig) -> None:
    log = rig.log(1)
    await log.append(TOPIC, records(10))
    await rig.delete(TOPIC)
    with pytest.raises(Unavailable):
        await log.append(TOPIC, [record(100)])
    await log.append(TOPIC, [record(101)])
    async with log.reader(TOPIC, GROUP) as reader:
        assert numbers(await read(reader, 1)) == [101]
