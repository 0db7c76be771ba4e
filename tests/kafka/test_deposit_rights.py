"""What must be true of rights at brokers that ask for them: each sender writes into its own topic and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

from hub import assembly
from hub.adapters.kafka.brokers import Brokers as Asking
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.rights import give, reads, writes
from hub.domain.errors import SettingsError
from hub.settings import Settings
from tests.kafka.broker import Brokers

SENDERS = ("mairie-en-ligne", "autre_site")
PASSWORD = "unmistakable 2"
SITE, OTHER = SENDERS


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """Where a broker is found that asks everybody for a name, and each but the hub for rights."""
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in ("hub", *SENDERS))
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    listener = "listener.name.sasl_plaintext"
    brokers = Brokers(
        settings=f"""
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
{listener}.sasl.enabled.mechanisms=PLAIN
{listener}.plain.sasl.jaas.config={module} required {users};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:hub;User:ANONYMOUS
""",
        listeners=("SASL_PLAINTEXT",),
    )
    try:
        brokers.start()
        yield brokers.address("SASL_PLAINTEXT")
    finally:
        brokers.end()


def settings(bootstrap: str, user: str = "hub") -> Settings:
    return Settings.model_validate(
        {
            "kafka": bootstrap,
            "kafka_user": user,
            "kafka_password": PASSWORD,
            "kafka_mechanism": "PLAIN",
            "kafka_partitions": 1,
            "kafka_replicas": 1,
            "deposits": SENDERS,
            "deposits_partitions": 1,
        }
    )


@asynccontextmanager
async def client(kind: Any, bootstrap: str, user: str, *topics: str, **more: Any) -> AsyncIterator[Any]:
    made = kind(
        *topics,
        bootstrap_servers=bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_plain_username=user,
        sasl_plain_password=PASSWORD,
        **more,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_a_sender_writes_into_its_own_topic_and_nowhere_else(guarded: str) -> None:
    told = settings(guarded)
    assert "deposits.autre_site.refused" in await assembly.make_topics(told)
    given = await assembly.give_rights(told)
    assert f"User:{SITE} may write topic deposits.{SITE}" in given
    assert len(given) == 3 * len(SENDERS)
    assert await assembly.give_rights(told) == []
    assert await assembly.differing_topics(told) == []
    assert await assembly.excessive_rights(told) == []
    async with client(AIOKafkaProducer, guarded, SITE, enable_idempotence=True) as producer:
        await producer.send_and_wait(f"deposits.{SITE}", b"x")
        for topic in (
            f"deposits.{OTHER}",
            f"deposits.{SITE}.refused",
            "submissions",
            "routings",
            "journal",
            "set-aside",
        ):
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(topic, b"x")
    refused = f"deposits.{SITE}.refused"
    async with client(AIOKafkaProducer, guarded, "hub") as producer:
        await producer.send_and_wait(refused, b"refused")
    options = {"group_id": refused, "auto_offset_reset": "earliest"}
    async with client(AIOKafkaConsumer, guarded, SITE, refused, **options) as consumer:
        assert (await consumer.getone()).value == b"refused"
    for user, topic, group in ((OTHER, refused, f"deposits.{OTHER}.refused"), (SITE, refused, "another")):
        with pytest.raises((TopicAuthorizationFailedError, GroupAuthorizationFailedError)):
            async with client(AIOKafkaConsumer, guarded, user, topic, group_id=group) as consumer:
                await consumer.getone()


async def test_who_else_may_write_is_told_and_nothing_is_taken_from_anybody(guarded: str) -> None:
    told = settings(guarded)
    await assembly.make_topics(told)
    brokers = Asking(KafkaCluster(guarded, user="hub", password=PASSWORD, mechanism="PLAIN"))
    try:
        await give(brokers, [writes("User:intrus", f"deposits.{SITE}"), *reads("User:intrus", "submissions")])
        await give(brokers, [writes("User:*", "routings"), writes(f"User:{OTHER}", "submissions")])
    finally:
        await brokers.close()
    assert await assembly.excessive_rights(told) == [
        f"User:{OTHER} may write into submissions, and must not",
        "User:* may write into routings, and must not",
        f"User:intrus may write into deposits.{SITE}, and must not",
    ]


async def test_a_hub_that_may_give_no_rights_says_which_are_missing(guarded: str) -> None:
    told = settings(guarded, user=OTHER)
    with pytest.raises(SettingsError, match=r"own tools \(User:mairie-en-ligne may write topic deposits"):
        await assembly.give_rights(told)
    assert await assembly.excessive_rights(told) == []


async def test_where_brokers_ask_nobody_there_are_no_rights_to_give(kafka: str) -> None:
    told = Settings.model_validate({"kafka": kafka, "kafka_prefix": "norights.", "deposits": SENDERS})
    assert await assembly.give_rights(told) == []
    assert await assembly.excessive_rights(told) == []
