"""Apache Kafka as the log: the log's port over topics, groups and offsets of a cluster.

Business of this file: which partition a key belongs to, introducing a group before it reads, and forgetting
what all groups have done. Appending is in `appender`, reading in `log_reader`, what Kafka keeps of groups in
`groups`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Generic, TypeVar

from hub.adapters.kafka.appender import Appender
from hub.adapters.kafka.brokers import EARLIEST, LATEST, Brokers
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.framing import Framing
from hub.adapters.kafka.groups import NOBODY, Groups, NotAMember, kafka_name
from hub.adapters.kafka.log_reader import KafkaLogReader
from hub.adapters.kafka.pace import Pace, Place
from hub.adapters.kafka.topics import KafkaTopic, Topics, settle
from hub.domain.errors import Unavailable
from hub.ports.log import LogReader, Record, Topic

Name = TypeVar("Name", bound=str)


class KafkaRecords(Generic[Name]):
    """The verbs of `hub.ports.log.Log`, over topics by any names. A topic that is missing is made at its first
    use; one with another number of partitions than the table says is refused with SettingsError. An append that
    fails may have happened in part. Every verb raises Unavailable after `pace.patience` seconds without an
    answer."""

    def __init__(
        self,
        cluster: KafkaCluster,
        topic: Callable[[Name], KafkaTopic],
        pace: Pace | None = None,
        framing: Framing | None = None,
    ) -> None:
        self._cluster = cluster
        self._framing = framing or Framing()
        self._topic = topic
        self._pace = pace or Pace()
        self._brokers = Brokers(cluster, self._pace.patience)
        self._groups = Groups(self._brokers)
        self._appender = Appender(cluster, self._pace.patience, self._framing)
        self._settled: set[Name] = set()

    async def close(self) -> None:
        """What was appended and not yet acknowledged has a few seconds more."""
        await self._appender.close()
        await self._brokers.close()

    async def append(self, topic: Name, records: Sequence[Record]) -> None:
        if not records:
            return
        there = await self._settle(topic)
        placed: dict[int, list[Record]] = defaultdict(list)
        for record in records:
            placed[partition_of(record.key, there.partitions)].append(record)
        try:
            await self._appender.append(there.name, placed)
        except Unavailable:
            # Perhaps because it is gone: then it is made anew at its next use.
            self._settled.discard(topic)
            raise

    @asynccontextmanager
    async def reader(self, topic: Name, group: str) -> AsyncIterator[LogReader]:
        self._settled.discard(topic)
        there = await self._settle(topic)
        place = Place(there.name, kafka_name(there.name, group), await self.incarnation(topic))
        await self._introduce(place)
        reader = KafkaLogReader(self._cluster, self._brokers, self._groups, place, self._pace, self._framing)
        try:
            await reader.open()
            yield reader
        finally:
            await reader.close()

    async def remove_group(self, topic: Name, group: str) -> None:
        await self._groups.remove(kafka_name(self._topic(topic).name, group), self._pace.patience)

    async def trim(self, topic: Name) -> int:
        there = self._topic(topic)
        standing = await self._standing(there)
        if not standing:
            return 0
        for group in there.required:
            standing.setdefault(group, {})
        earliest = await self._brokers.offsets(there.name, EARLIEST)
        before = {
            partition: min(done.get(partition, beginning) for done in standing.values())
            for partition, beginning in earliest.items()
        }
        before = {one: until for one, until in before.items() if until > earliest[one]}
        if not before:
            return 0
        left = await self._brokers.delete_records(there.name, before)
        return sum(beginning - earliest[partition] for partition, beginning in left.items())

    async def backlog(self, topic: Name) -> dict[str, int]:
        there = self._topic(topic)
        standing = await self._standing(there)
        if not standing:
            return {}
        earliest = await self._brokers.offsets(there.name, EARLIEST)
        latest = await self._brokers.offsets(there.name, LATEST)
        return {
            group: sum(
                end - max(done.get(partition, 0), earliest[partition]) for partition, end in latest.items()
            )
            for group, done in standing.items()
        }

    async def done_before(self, topic: Name, group: str, at: datetime) -> bool:
        """Whether the group has done all that came before this instant, by the records' times; so it has where
        there is no topic."""
        there = self._topic(topic)
        look = await self._brokers.look(there.name)
        if look is None:
            return True
        since = await self._brokers.offsets(there.name, int(at.timestamp() * 1000))
        latest = await self._brokers.offsets(there.name, LATEST)
        earliest = await self._brokers.offsets(there.name, EARLIEST)
        done = await self._groups.committed(kafka_name(there.name, group), there.name, look.incarnation)
        return all(
            max(done.get(one, 0), earliest[one]) >= (end if since.get(one, -1) < 0 else since[one])
            for one, end in latest.items()
        )

    async def incarnation(self, topic: Name) -> str:
        look = await self._brokers.look((await self._settle(topic)).name)
        if look is None:
            self._settled.discard(topic)
            raise Unavailable("the topic is just gone")
        return look.incarnation

    async def _settle(self, topic: Name) -> KafkaTopic:
        there = self._topic(topic)
        if topic not in self._settled:
            await settle(self._brokers, there)
            self._settled.add(topic)
        return there

    async def _standing(self, there: KafkaTopic) -> dict[str, Mapping[int, int]]:
        """How far each group that is known in this life of the topic has come, in each partition of which
        that is known."""
        look = await self._brokers.look(there.name)
        if look is None:
            return {}
        names = await self._groups.of(there.name)
        latest = await self._brokers.offsets(there.name, LATEST)
        told = await asyncio.gather(
            *(
                self._groups.committed(
                    kafka_name(there.name, name), there.name, look.incarnation, name in there.strangers
                )
                for name in names
            )
        )
        found = {
            # What lies beyond the end was said of records that the cluster has lost.
            name: {one: offset for one, offset in done.items() if offset <= latest.get(one, -1)}
            for name, done in zip(names, told, strict=True)
        }
        return {name: done for name, done in found.items() if done}

    async def _introduce(self, place: Place) -> None:
        """Make the group known from the earliest records on, so that from now on nothing is trimmed that it
        has not done."""
        known = await self._groups.committed(place.group, place.topic, place.incarnation)
        earliest = await self._brokers.offsets(place.topic, EARLIEST)
        missing = {one: offset for one, offset in earliest.items() if one not in known}
        if missing:
            # Refused where it has members: then one of them has introduced it, or will.
            with suppress(NotAMember):
                await self._groups.commit(place.group, place.topic, place.incarnation, missing, NOBODY)


class KafkaLog(KafkaRecords[Topic]):
    """Implements `hub.ports.log.Log`."""

    def __init__(
        self,
        cluster: KafkaCluster,
        topics: Topics,
        pace: Pace | None = None,
        framing: Framing | None = None,
    ) -> None:
        super().__init__(cluster, topics.__getitem__, pace, framing)


def partition_of(key: bytes, partitions: int) -> int:
    """As producers on librdkafka choose it (`consistent`), so that others that append agree. What Kafka's own
    choose by, murmur2, costs as much in Python as everything else that is done for a record."""
    return zlib.crc32(key) % partitions
