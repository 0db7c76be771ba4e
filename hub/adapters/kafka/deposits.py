"""Senders' own topics in Kafka: one that a sender writes and intake reads, one for what is refused.

Business of this file: their names and what they must be like; the verbs of the port over them. Who may write
where is in `rights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.framing import Framing, Headers
from hub.adapters.kafka.log import KafkaRecords
from hub.adapters.kafka.pace import Pace
from hub.adapters.kafka.rights import Right, reads, writes
from hub.adapters.kafka.topics import KafkaTopic
from hub.domain.deposit import may_have_a_topic
from hub.domain.errors import SettingsError
from hub.ports.log import LogReader, Record
from hub.ports.schemas import SchemaRegistry

REFUSALS_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Shape:
    """Of all senders' topics. `group`: who reads the deposits."""

    prefix: str
    partitions: int
    replicas: int
    group: str

    def deposits(self, sender: str) -> KafkaTopic:
        return KafkaTopic(
            f"{self.prefix}deposits.{sender}",
            self.partitions,
            self.replicas,
            frozenset({self.group}),
            foreign=True,
        )

    def refused(self, sender: str) -> KafkaTopic:
        name = f"{self.deposits(sender).name}.refused"
        return KafkaTopic(name, 1, self.replicas, frozenset(), kept=REFUSALS_KEPT)


def deposit_topics(shape: Shape, senders: Iterable[str]) -> list[KafkaTopic]:
    """Raises SettingsError."""
    found = []
    for sender in senders:
        if not may_have_a_topic(sender):
            raise SettingsError(
                "a sender that deposits has a name of letters, digits, _ and - alone, for its topic has that name"
            )
        found += [shape.deposits(sender), shape.refused(sender)]
    return found


def rights_of(shape: Shape, sender: str) -> list[Right]:
    """What this sender needs, under the name that Kafka has for it: writing the one topic, reading the other."""
    principal = principal_of(sender)
    written, refused = shape.deposits(sender).name, shape.refused(sender).name
    return [writes(principal, written), *reads(principal, refused)]


def principal_of(sender: str) -> str:
    return f"User:{sender}"


class KafkaDeposits:
    """Implements `hub.ports.deposits.Deposits`. Raises SettingsError for a sender that cannot have a topic."""

    def __init__(
        self,
        cluster: KafkaCluster,
        shape: Shape,
        senders: Iterable[str],
        pace: Pace | None = None,
        registry: SchemaRegistry | None = None,
    ) -> None:
        self.senders = frozenset(senders)
        self._group = shape.group
        deposit_topics(shape, self.senders)
        framing = _Unbelieving(registry)
        self._deposits: KafkaRecords[str] = KafkaRecords(cluster, shape.deposits, pace, framing)
        self._refused: KafkaRecords[str] = KafkaRecords(cluster, shape.refused, pace, framing)

    async def close(self) -> None:
        await self._deposits.close()
        await self._refused.close()

    def reader(self, sender: str) -> AbstractAsyncContextManager[LogReader]:
        return self._deposits.reader(sender, self._group)

    async def refuse(self, sender: str, refusals: Sequence[Record]) -> None:
        await self._refused.append(sender, refusals)

    async def trim(self, sender: str) -> int:
        return await self._deposits.trim(sender)

    async def read_before(self, sender: str, at: datetime) -> bool:
        if not may_have_a_topic(sender):
            return True
        return await self._deposits.done_before(sender, self._group, at)


class _Unbelieving(Framing):
    """What a sender writes may say anything of itself, and stops nobody."""

    def undress(self, key: bytes | None, value: bytes | None, headers: Headers) -> Record:
        try:
            return super().undress(key, value, headers)
        except SettingsError:
            return Record(key or b"", "", value or b"")
