"""Groups of readers, as Kafka keeps them: how far each has done a topic, who is in it, and its end.

Business of this file: offsets with the topic's incarnation beside them, so that one from another life of the
topic is not believed; who may commit; removing a group with its living members. Who reads what is decided
between Kafka and the readers (`log_reader`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import errors as kafka  # type: ignore[import-untyped]
from aiokafka.protocol.admin import (  # type: ignore[import-untyped]
    DeleteGroupsRequest,
    DescribeGroupsRequest,
    ListGroupsRequest,
)
from aiokafka.protocol.commit import (  # type: ignore[import-untyped]
    OffsetCommitRequest,
    OffsetFetchRequest,
)

from hub.adapters.kafka.brokers import Brokers, expect
from hub.adapters.kafka.protocol import LeaveGroupRequest
from hub.domain.errors import Unavailable

_SEPARATOR = ":"
_KEPT_AS_LONG_AS_KAFKA_DOES = -1


@dataclass(frozen=True, slots=True)
class Member:
    """Who a reader is for its group, since the last time that partitions were shared out."""

    generation: int
    name: str


NOBODY = Member(-1, "")
"""May commit for a group that has no member."""


class NotAMember(Exception):
    """Kafka does not take this commit. `final`: it does not know the member; else it may be one whose
    generation is over, because the partitions are being shared out anew."""

    def __init__(self, final: bool) -> None:
        super().__init__()
        self.final = final


_UNKNOWN = kafka.UnknownMemberIdError.errno
_NOT_A_MEMBER = {_UNKNOWN, kafka.IllegalGenerationError.errno, kafka.RebalanceInProgressError.errno}
_NO_SUCH_GROUP = kafka.GroupIdNotFound.errno
_NOT_EMPTY = kafka.NonEmptyGroup.errno
_ELSEWHERE = {
    kafka.NotCoordinatorForGroupError.errno,
    kafka.GroupCoordinatorNotAvailableError.errno,
}


def kafka_name(topic: str, group: str) -> str:
    """A group reads one topic; for Kafka, a group may read many. No topic's name has this sign."""
    return f"{topic}{_SEPARATOR}{group}"


class Groups:
    """Groups by their names for Kafka. Every verb raises Unavailable or SettingsError when brokers do not
    answer."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers

    async def of(self, topic: str) -> list[str]:
        """The groups of this topic that Kafka knows, by their own names; some may have no offset."""

        async def question() -> list[str]:
            found: set[str] = set()
            for node in self._brokers.all():
                answer = await self._brokers.ask(ListGroupsRequest(), node)
                expect(answer.error_code)
                found |= {name for name, *_ in answer.groups}
            beginning = kafka_name(topic, "")
            return sorted(name.removeprefix(beginning) for name in found if name.startswith(beginning))

        return await self._brokers.until_answered(question)

    async def committed(
        self, name: str, topic: str, incarnation: str, stranger: bool = False
    ) -> dict[int, int]:
        """For each partition, the first offset the group has not done; none that was said of another life
        of the topic. A `stranger` says of none, and is believed: Kafka itself forgets the offsets of a topic
        that is deleted."""
        believed = {incarnation, ""} if stranger else {incarnation}

        async def question() -> dict[int, int]:
            answer = await self._ask(name, OffsetFetchRequest(name, None))
            self._expect(name, answer.error_code)
            found = {}
            for told, partitions in answer.topics:
                for partition, offset, metadata, error in partitions:
                    self._expect(name, error)
                    if told == topic and metadata in believed and offset >= 0:
                        found[partition] = offset
            return found

        return await self._brokers.until_answered(question)

    async def commit(
        self, name: str, topic: str, incarnation: str, offsets: Mapping[int, int], member: Member
    ) -> None:
        """Raises NotAMember, and then no partition's offset has moved."""
        request = OffsetCommitRequest(
            name,
            member.generation,
            member.name,
            _KEPT_AS_LONG_AS_KAFKA_DOES,
            [(topic, [(partition, offset, incarnation) for partition, offset in offsets.items()])],
        )

        async def question() -> None:
            answer = await self._ask(name, request)
            for _, partitions in answer.topics:
                for _, error in partitions:
                    if error in _NOT_A_MEMBER:
                        raise NotAMember(final=error == _UNKNOWN)
                    self._expect(name, error)

        await self._brokers.until_answered(question)

    async def leave(self, name: str, members: Sequence[str], patience: float | None = None) -> None:
        """These leave at once, wherever they live; who is none is left alone."""

        async def question() -> None:
            answer = await self._ask(name, LeaveGroupRequest(name, list(members)))
            if answer.error_code not in _NOT_A_MEMBER:
                self._expect(name, answer.error_code)

        await self._brokers.until_answered(question, patience)

    async def remove(self, name: str, patience: float) -> None:
        """With its offsets; its living members lose what they hold. Raises Unavailable if others always
        came in their place."""
        until = asyncio.get_running_loop().time() + patience
        while not await self._delete(name):
            if asyncio.get_running_loop().time() >= until:
                raise Unavailable("the group always had a reader")
            members = await self._members(name)
            if members:
                await self.leave(name, members)

    async def _delete(self, name: str) -> bool:
        async def question() -> bool:
            answer = await self._ask(name, DeleteGroupsRequest([name]))
            ((_, error),) = answer.results
            if error not in (_NO_SUCH_GROUP, _NOT_EMPTY):
                self._expect(name, error)
            return bool(error != _NOT_EMPTY)

        return await self._brokers.until_answered(question)

    async def _members(self, name: str) -> list[str]:
        async def question() -> list[str]:
            answer = await self._ask(name, DescribeGroupsRequest([name]))
            ((error, _, _, _, _, members, *_),) = answer.groups
            if error == _NO_SUCH_GROUP:
                return []
            self._expect(name, error)
            return [member for member, *_ in members]

        return await self._brokers.until_answered(question)

    async def _ask(self, name: str, request: Any) -> Any:
        return await self._brokers.ask_coordinator(name, request)

    def _expect(self, name: str, code: int) -> None:
        if code in _ELSEWHERE:
            self._brokers.forget_coordinator(name)
        expect(code)
