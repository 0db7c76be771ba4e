"""What must be true of the journey's topics: made as the table says, never changed, and told where they differ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]

from hub.adapters.kafka.topics import KafkaTopic, check, create, table
from hub.domain.errors import SettingsError
from hub.ports.log import Topic
from tests.kafka.rig import KafkaRig


def wanted(rig: KafkaRig, partitions: int = 4) -> list[KafkaTopic]:
    return list(rig.topics(partitions).values())


@pytest_asyncio.fixture
async def rig(kafka: str) -> AsyncIterator[KafkaRig]:
    rig = KafkaRig(kafka)
    yield rig
    await rig.close()


async def test_what_is_missing_is_told_and_made_and_then_nothing_differs(rig: KafkaRig) -> None:
    topics = wanted(rig, 3)
    names = [rig.name(topic) for topic in Topic]
    assert await check(rig.brokers, topics) == [f"the topic {name} is not there" for name in names]
    assert await create(rig.brokers, topics) == names
    assert await check(rig.brokers, topics) == []
    assert await create(rig.brokers, topics) == []


async def test_two_that_make_them_at_once_come_to_the_same(rig: KafkaRig) -> None:
    await asyncio.gather(*(create(rig.brokers, wanted(rig)) for _ in range(4)))
    assert await check(rig.brokers, wanted(rig)) == []


async def test_a_sentence_says_what_differs_and_nothing_is_changed(rig: KafkaRig) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=rig.cluster.bootstrap)
    await admin.start()
    name = rig.name(Topic.SUBMISSIONS)
    configs = {"retention.ms": "604800000", "cleanup.policy": "delete", "max.message.bytes": "1048576"}
    try:
        await admin.create_topics([NewTopic(name, 4, 1, topic_configs=configs)])
    finally:
        await admin.close()
    await create(rig.brokers, wanted(rig))
    told = [f"the topic {name} has retention.ms=604800000 and needs -1"]
    assert await check(rig.brokers, wanted(rig)) == told
    copied = table(rig.prefix, 4, 3, {})[Topic.SUBMISSIONS]
    assert await check(rig.brokers, [copied]) == [
        f"the topic {name} has 1 copies and the settings say 3",
        *told,
        f"the topic {name} has min.insync.replicas=1 and needs 2",
    ]


async def test_another_number_of_partitions_is_refused_with_the_way_out(rig: KafkaRig) -> None:
    await create(rig.brokers, wanted(rig, 4))
    for look in (check, create):
        with pytest.raises(SettingsError, match=r"4 partitions.*say 8.*another prefix"):
            await look(rig.brokers, wanted(rig, 8))


async def test_more_copies_than_brokers_cannot_be_made(kafka: str) -> None:
    rig = KafkaRig(kafka, replicas=7)
    try:
        with pytest.raises(SettingsError, match="more copies"):
            await create(rig.brokers, wanted(rig))
    finally:
        await rig.close()


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_no_topic_forgets_by_age_or_size_and_one_broker_away_stops_no_append(
    replicas: int, in_sync: str
) -> None:
    for topic in table("hub.", 64, replicas, {}).values():
        assert topic.configs == {
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "min.insync.replicas": in_sync,
            "max.message.bytes": "1048576",
        }


def test_the_table_names_each_topic_and_refuses_what_kafka_would() -> None:
    topics = table("hub.", 64, 3, {Topic.ROUTINGS: ["registration"]})
    assert {topic: one.name for topic, one in topics.items()} == {topic: f"hub.{topic}" for topic in Topic}
    assert topics[Topic.ROUTINGS].required == {"registration"}
    assert topics[Topic.SUBMISSIONS].required == frozenset()
    for prefix, partitions, replicas in (
        ("a:b.", 1, 1),
        ("é.", 1, 1),
        ("x" * 250, 1, 1),
        ("", 0, 1),
        ("", 1, 0),
    ):
        with pytest.raises(SettingsError):
            table(prefix, partitions, replicas, {})
