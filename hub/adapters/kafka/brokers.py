"""Asking Kafka's brokers: which topics there are, from where to where their records go, deleting records.

Business of this file: one client for all that is not appending or reading; finding the broker that answers a
question (any, a partition's leader, the controller, a group's coordinator), and asking again until it does.
"""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import errors as kafka  # type: ignore[import-untyped]
from aiokafka.client import AIOKafkaClient, ConnectionGroup  # type: ignore[import-untyped]
from aiokafka.conn import create_conn  # type: ignore[import-untyped]
from aiokafka.protocol.admin import DeleteRecordsRequest  # type: ignore[import-untyped]
from aiokafka.protocol.coordination import FindCoordinatorRequest  # type: ignore[import-untyped]
from aiokafka.protocol.offset import OffsetRequest  # type: ignore[import-untyped]

from hub.adapters.kafka.cluster import REQUEST_TIME, KafkaCluster, is_refusal, refused, served
from hub.adapters.kafka.protocol import TopicsRequest
from hub.domain.errors import Unavailable

EARLIEST = -2
LATEST = -1
"""The first offset that is still there, and the one that the next record will have."""

_AGAIN_AFTER = 0.1

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Look:
    """A topic as it is now. `incarnation` changes when it is deleted and made anew."""

    incarnation: str
    leaders: Mapping[int, int]
    replicas: int


class Brokers:
    """Opened by the first question. `patience`: how many seconds a question is asked again before it is
    Unavailable. Every question may be asked twice without harm."""

    def __init__(self, cluster: KafkaCluster, patience: float = 30) -> None:
        self._cluster = cluster
        self._patience = patience
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._coordinators: dict[str, int] = {}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def until_answered(
        self, question: Callable[[], Awaitable[Result]], patience: float | None = None
    ) -> Result:
        """Ask again while brokers are away, moving or starting. Raises Unavailable, SettingsError."""
        try:
            async with asyncio.timeout(self._patience if patience is None else patience) as limit:
                with served():
                    while True:
                        try:
                            await self._open()
                            return await question()
                        except (kafka.KafkaError, OSError) as error:
                            if is_refusal(error) or not _passing(error):
                                raise
                        # By the library's own record of who leads what.
                        await self._refresh()
                        await asyncio.sleep(_AGAIN_AFTER)
        except TimeoutError:
            assert limit.expired()
            raise Unavailable("the log's brokers did not answer in time") from None

    async def reach(self) -> None:
        """Some broker answers and takes this hub. Raises Unavailable, SettingsError."""

        async def nothing() -> None:
            pass

        await self.until_answered(nothing)

    async def ask(self, request: Any, node: int | None = None) -> Any:
        """Once; of any broker, if none is named."""
        if node is None:
            node = self._client.get_random_node()
        return await self._client.send(node, request)

    def all(self) -> list[int]:
        return [broker.nodeId for broker in self._client.cluster.brokers()]

    async def ask_controller(self, request: Any) -> Any:
        controller = self._client.cluster.controller
        return await self.ask(request, None if controller is None else controller.nodeId)

    async def ask_coordinator(self, group: str, request: Any) -> Any:
        """Who keeps this group. An answer that says another does must be given to `expect`."""
        if group not in self._coordinators:
            found = await self.ask(FindCoordinatorRequest(group, 0))
            expect(found.error_code)
            self._coordinators[group] = found.coordinator_id
        # What takes the coordinator long for one group would else hold up what is asked of the same broker.
        try:
            return await self._client.send(
                self._coordinators[group], request, group=ConnectionGroup.COORDINATION
            )
        except (kafka.KafkaError, OSError):
            self.forget_coordinator(group)
            raise

    def forget_coordinator(self, group: str) -> None:
        self._coordinators.pop(group, None)

    # Topics.

    async def look(self, name: str, patience: float | None = None) -> Look | None:
        """None if there is no such topic. Raises Unavailable, SettingsError."""
        return await self.until_answered(lambda: self._look(name), patience)

    async def _look(self, name: str) -> Look | None:
        answer = await self.ask(TopicsRequest(name))
        (topic,) = answer.topics
        error, _, topic_id, _, partitions, *_ = topic
        if error == kafka.UnknownTopicOrPartitionError.errno:
            return None
        expect(error)
        return Look(
            base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode(),
            {partition: leader for _, partition, leader, *_ in partitions},
            max((len(replicas) for _, _, _, _, replicas, *_ in partitions), default=0),
        )

    async def offsets(self, name: str, when: int) -> dict[int, int]:
        """Of each partition, the EARLIEST or LATEST. Raises Unavailable, SettingsError."""

        async def question() -> dict[int, int]:
            look = await self._look(name)
            found = {}
            for leader, partitions in _by_leader(look, ()).items():
                request = OffsetRequest(-1, 0, [(name, [(one, when) for one in partitions])])
                answer = await self.ask(request, leader)
                for _, told in answer.topics:
                    for partition, error, _, offset in told:
                        expect(error)
                        found[partition] = offset
            return found

        return await self.until_answered(question)

    async def delete_records(self, name: str, before: Mapping[int, int]) -> dict[int, int]:
        """Of each partition, what lies before this offset; where it begins afterwards."""

        async def question() -> dict[int, int]:
            look = await self._look(name)
            found = {}
            for leader, partitions in _by_leader(look, before).items():
                request = DeleteRecordsRequest(
                    [(name, [(one, before[one]) for one in partitions])], int(REQUEST_TIME * 1000)
                )
                answer = await self.ask(request, leader)
                for _, told, *_ in answer.topics:
                    for partition, beginning, error, *_ in told:
                        expect(error)
                        found[partition] = beginning
            return found

        return await self.until_answered(question)

    # The client.

    async def _open(self) -> None:
        if self._client is not None:
            return
        async with self._opening:
            if self._client is not None:
                return
            client = AIOKafkaClient(**self._cluster.arguments(), request_timeout_ms=int(REQUEST_TIME * 1000))
            try:
                await client.bootstrap()
            except BaseException as error:
                await client.close()
                if isinstance(error, kafka.KafkaConnectionError):
                    await _why_not(self._cluster)
                raise
            self._client = client

    async def _refresh(self) -> None:
        if self._client is not None:
            await self._client.force_metadata_update()


def expect(code: int) -> None:
    """Raise what an answer's code says, unless it says that all went well."""
    if code:
        raise kafka.for_code(code)()


def _passing(error: BaseException) -> bool:
    return not isinstance(error, kafka.KafkaError) or error.retriable or isinstance(error, _ALSO_PASSING)


# Another leader, another coordinator: aiokafka calls some of them final.
_ALSO_PASSING = (kafka.BrokerNotAvailableError, kafka.ReplicaNotAvailableError, kafka.KafkaTimeoutError)


def _by_leader(look: Look | None, wanted: Iterable[int]) -> dict[int, list[int]]:
    if look is None:
        raise kafka.UnknownTopicOrPartitionError
    found = defaultdict(list)
    for partition in wanted or look.leaders:
        leader = look.leaders.get(partition, -1)
        if leader == -1:
            raise kafka.LeaderNotAvailableError
        found[leader].append(partition)
    return found


async def _why_not(cluster: KafkaCluster) -> None:
    """The library says of every failure to begin only that there was one: raises it as SettingsError if some
    broker answers and the hub is refused, or refuses it."""
    said = {name: value for name, value in cluster.arguments().items() if name != "bootstrap_servers"}
    for address in cluster.addresses:
        host, _, port = address.rpartition(":")
        try:
            connection = await create_conn(host, int(port), request_timeout_ms=3000, **said)
        except (kafka.KafkaError, OSError) as error:
            if is_refusal(error):
                raise refused(error) from None
        else:
            await connection.close()
