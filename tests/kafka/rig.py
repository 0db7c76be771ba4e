"""Kafka as the log of a test: topics of its own on a broker that others use too, and what can happen to them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress

from aiokafka.protocol.admin import DeleteTopicsRequest  # type: ignore[import-untyped]
from aiokafka.protocol.coordination import FindCoordinatorRequest  # type: ignore[import-untyped]

from hub.adapters.kafka.brokers import Brokers
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.groups import Groups, kafka_name
from hub.adapters.kafka.log import KafkaLog
from hub.adapters.kafka.log_reader import KafkaLogReader
from hub.adapters.kafka.pace import Pace
from hub.adapters.kafka.topics import Topics, table
from hub.domain.errors import HubError
from hub.ports.log import LogReader, Topic

PACE = Pace(session=3, grace=5, look=1)


class KafkaRig:
    """`required`: see the table of topics."""

    def __init__(
        self,
        bootstrap: str,
        *,
        replicas: int = 1,
        pace: Pace = PACE,
        required: Mapping[Topic, Collection[str]] | None = None,
    ) -> None:
        self.cluster = KafkaCluster(bootstrap)
        self.prefix = f"t{secrets.token_hex(5)}."
        self.brokers = Brokers(self.cluster)
        self.groups = Groups(self.brokers)
        self._replicas = replicas
        self._pace = pace
        self._required = required or {}
        self._logs: list[KafkaLog] = []

    def topics(self, partitions: int = 4) -> Topics:
        return table(self.prefix, partitions, self._replicas, self._required)

    def log(self, partitions: int = 4) -> KafkaLog:
        self._logs.append(KafkaLog(self.cluster, self.topics(partitions), self._pace))
        return self._logs[-1]

    def name(self, topic: Topic) -> str:
        return self.prefix + topic.value

    def address(self) -> list[str]:
        return ["kafka", self.cluster.bootstrap, self.prefix]

    async def cut(self, reader: LogReader) -> None:
        """As when it was silent for the time of its session, and with its sockets broken."""
        assert isinstance(reader, KafkaLogReader)
        while reader.member is None:
            await asyncio.sleep(0.01)
        await self.groups.leave(reader._place.group, [reader.member])
        for connection in list(reader._consumer._client._conns.values()):
            connection._writer.transport.abort()

    async def remove(self, *topics: Topic) -> None:
        """Gone, or made anew by somebody at work."""
        before = [(await self.brokers.look(self.name(topic))) for topic in topics]
        await self._delete(*(self.name(topic) for topic in topics))
        for topic, look in zip(topics, before, strict=True):
            while look is not None and (now := await self.brokers.look(self.name(topic))) is not None:
                if now.incarnation != look.incarnation:
                    break
                await asyncio.sleep(0.02)

    async def waiting(self, topic: Topic, group: str, count: int) -> None:
        """So many records are there that the group has not done."""
        log = self.log()
        async with asyncio.timeout(30):
            while (await log.backlog(topic)).get(group) != count:
                await asyncio.sleep(0.1)

    async def keeper(self, topic: Topic, group: str) -> int:
        """The broker that keeps the group, and shares the partitions out."""
        request = FindCoordinatorRequest(kafka_name(self.name(topic), group), 0)
        answer = await self.brokers.until_answered(lambda: self.brokers.ask(request))
        return int(answer.coordinator_id)

    async def forgotten(self, topic: Topic, group: str) -> None:
        """Kafka does not know how far the group was."""
        name, life = self.name(topic), await self.log().incarnation(topic)
        async with asyncio.timeout(150):
            while await self.groups.committed(kafka_name(name, group), name, life):
                await asyncio.sleep(0.5)

    async def lose(self) -> None:
        for topic in Topic:
            await self.delete(topic)

    async def delete(self, topic: Topic) -> None:
        await self._delete(self.name(topic))
        while await self.brokers.look(self.name(topic)) is not None:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        await asyncio.gather(*(log.close() for log in self._logs))
        with suppress(HubError):
            await self._delete(*(self.name(topic) for topic in Topic))
        await self.brokers.close()

    async def _delete(self, *names: str) -> None:
        await self.brokers.until_answered(
            lambda: self.brokers.ask_controller(DeleteTopicsRequest(list(names), 5000)), patience=2
        )


async def elsewhere(bootstrap: str, prefix: str) -> KafkaLog:
    """A rig's log, as another process opens it by the rig's address."""
    return KafkaLog(KafkaCluster(bootstrap), table(prefix, 4, 1, {}), PACE)
