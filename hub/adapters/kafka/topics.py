"""The journey's topics in Kafka, in one table: their names, partitions, copies, configurations, groups.

Business of this file: what they must be like, what differs, and making those that are missing. It never
changes a topic that is there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from aiokafka import errors as kafka  # type: ignore[import-untyped]
from aiokafka.protocol.admin import (  # type: ignore[import-untyped]
    CreateTopicsRequest,
    DescribeConfigsRequest,
)

from hub.adapters.kafka.brokers import Brokers, Look, expect
from hub.adapters.kafka.cluster import REQUEST_TIME
from hub.domain.errors import SettingsError, Unavailable
from hub.ports.log import Topic

LARGEST = 1 << 20
"""Bytes of the largest batch of records that a topic takes."""

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_TOPIC = 2
_MADE_ELSEWHERE = {kafka.TopicAlreadyExistsError.errno}


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """`required`: the groups without which nothing may be forgotten, also while Kafka does not know them.
    `strangers`: those of them that do not read as this hub's readers do, and say nothing of the life of the
    topic where they say how far they are. `table`: only the last record of a key counts. `foreign`: others write
    to it. `kept`: records go when they are that old, whoever has read them."""

    name: str
    partitions: int
    replicas: int
    required: frozenset[str]
    strangers: frozenset[str] = frozenset()
    table: bool = False
    foreign: bool = False
    kept: timedelta | None = None

    @property
    def configs(self) -> Mapping[str, str]:
        return MappingProxyType(
            {
                "cleanup.policy": "compact" if self.table else "delete",
                # What is not done is never old enough to go; trimming takes what is.
                "retention.ms": "-1" if self.kept is None else str(int(self.kept.total_seconds()) * 1000),
                "retention.bytes": "-1",
                # With two copies, one broker that is away would stop every append.
                "min.insync.replicas": "2" if self.replicas >= 3 else "1",
                "max.message.bytes": str(LARGEST),
                **(_OF_OTHERS if self.foreign else {}),
            }
        )


# When a record came says the broker's clock, not its writer. And what is small only while it is compressed is
# refused by the broker: whoever reads it would have to hold what it comes to.
_OF_OTHERS = {"message.timestamp.type": "LogAppendTime", "compression.type": "uncompressed"}


Topics = Mapping[Topic, KafkaTopic]


def table(
    prefix: str,
    partitions: int,
    replicas: int,
    required: Mapping[Topic, Collection[str]],
    strangers: Collection[str] = (),
) -> Topics:
    """All topics of the journey; `prefix` keeps this hub's apart from others of the cluster. Raises
    SettingsError."""
    if partitions < 1 or replicas < 1:
        raise SettingsError("a log needs at least one partition and one copy")
    found = {
        topic: KafkaTopic(
            prefix + topic.value,
            partitions,
            replicas,
            frozenset(required.get(topic, ())),
            frozenset(strangers),
        )
        for topic in Topic
    }
    if not all(_NAME.fullmatch(one.name) for one in found.values()):
        raise SettingsError("the prefix of the log's topics has a sign that Kafka does not allow")
    return MappingProxyType(found)


def flows(prefix: str, partitions: int, replicas: int) -> KafkaTopic:
    """Beside the journey: where the stream router keeps its table of flows, by the journal's partitions."""
    return KafkaTopic(f"{prefix}flows", partitions, replicas, frozenset(), table=True)


async def check(brokers: Brokers, topics: Iterable[KafkaTopic]) -> list[str]:
    """A sentence for each difference between these and what is there. Raises Unavailable,
    SettingsError (also where the number of partitions is another one)."""
    said: list[str] = []
    for wanted in topics:
        look = await brokers.look(wanted.name)
        if look is None:
            said.append(f"the topic {wanted.name} is not there")
            continue
        refuse_other_partitions(wanted, look)
        if look.replicas != wanted.replicas:
            said.append(
                f"the topic {wanted.name} has {look.replicas} copies and the settings say {wanted.replicas}"
            )
        there = await _configs(brokers, wanted.name)
        said += [
            f"the topic {wanted.name} has {name}={there.get(name, 'nothing')} and needs {value}"
            for name, value in wanted.configs.items()
            if there.get(name) != value
        ]
    return said


async def create(brokers: Brokers, topics: Iterable[KafkaTopic]) -> list[str]:
    """Make those that are missing, ready to be used; their names. Raises Unavailable, SettingsError."""
    return [wanted.name for wanted in topics if await settle(brokers, wanted)]


async def settle(brokers: Brokers, wanted: KafkaTopic) -> bool:
    """This one is there with its partitions, each with a leader; whether it was made now."""
    look = await brokers.look(wanted.name)
    made = look is None
    if made:
        await _make(brokers, wanted)
    until = asyncio.get_running_loop().time() + REQUEST_TIME
    while look is None or -1 in look.leaders.values():
        if asyncio.get_running_loop().time() >= until:
            raise Unavailable(f"the topic {wanted.name} has partitions that no broker leads")
        await asyncio.sleep(0.05)
        look = await brokers.look(wanted.name)
    refuse_other_partitions(wanted, look)
    return made


def refuse_other_partitions(wanted: KafkaTopic, look: Look) -> None:
    """Records of one key would lie in two partitions, and overtake each other."""
    if len(look.leaders) != wanted.partitions:
        raise SettingsError(
            f"the topic {wanted.name} has {len(look.leaders)} partitions and the settings say"
            f" {wanted.partitions}: the number of an existing topic cannot change. For another one, let"
            " the hub finish what is in its log, then give the log's topics another prefix"
        )


async def _make(brokers: Brokers, wanted: KafkaTopic) -> None:
    request = CreateTopicsRequest(
        [(wanted.name, wanted.partitions, wanted.replicas, [], list(wanted.configs.items()))],
        int(REQUEST_TIME * 1000),
        False,
    )

    async def question() -> None:
        answer = await brokers.ask_controller(request)
        for _, error, *_ in answer.topic_errors:
            if error in _NOT_POSSIBLE:
                raise SettingsError(f"the topic {wanted.name} cannot be made: {_NOT_POSSIBLE[error]}")
            if error not in _MADE_ELSEWHERE:
                expect(error)

    await brokers.until_answered(question)


_NOT_POSSIBLE = {
    kafka.InvalidReplicationFactorError.errno: "more copies are asked for than there are brokers",
    kafka.InvalidTopicError.errno: "Kafka does not allow its name",
    kafka.PolicyViolationError.errno: "a policy of the cluster is against it",
    kafka.InvalidConfigurationError.errno: "the cluster does not take its configuration",
    kafka.TopicAuthorizationFailedError.errno: "this hub may not; make it with the cluster's own tools",
    kafka.ClusterAuthorizationFailedError.errno: "this hub may not; make it with the cluster's own tools",
}


async def _configs(brokers: Brokers, name: str) -> dict[str, str]:
    async def question() -> dict[str, str]:
        answer = await brokers.ask(DescribeConfigsRequest([(_TOPIC, name, None)]))
        ((error, _, _, _, entries),) = answer.resources
        expect(error)
        return {key: value for key, value, *_ in entries}

    return await brokers.until_answered(question)
