"""The log: ordered records that several groups of readers read at their own pace.

Business of this port: append, read, say what is done. It carries ids and routing facts only; it does not
know what they mean. A record is kept until every group of its topic has done it.

What an adapter must hold (its conformance suite checks it):
* a record becomes readable in the order of its partition: no reader ever passes by a record that commits
  later with an earlier position;
* records of one key stay in order; within a group each partition has one reader at a time, and the
  partitions of a reader that is gone go to another;
* `done` moves a group only over what is contiguously done: after a crash, everything not done is read
  again, by whoever reads then. A reader that lost a partition cannot move the group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol


class Topic(StrEnum):
    SUBMISSIONS = "submissions"
    ROUTINGS = "routings"
    JOURNAL = "journal"
    """What happened to submissions and deliveries, for who watches; keyed by partner, or by submission."""
    SET_ASIDE = "set-aside"
    """Where records lie that nobody could read, and why; never their bytes."""


# These pass by the million: tuples with names, a third of a dataclass's price.


class Record(NamedTuple):
    """`key` decides the partition (records of one key stay in order); `schema` names the Avro schema of
    `value`, for instance `submission.v1`. `brief` says in short what `value` says, for those who need not know
    all of it; an adapter may leave it out."""

    key: bytes
    schema: str
    value: bytes
    brief: bytes = b""


class Position(NamedTuple):
    partition: int
    offset: int


class Entry(NamedTuple):
    position: Position
    record: Record


def places(entries: Iterable[Entry]) -> list[Position]:
    """Where these lie: all of them that is needed once their records have been dealt with."""
    return [position for position, _ in entries]


class LogReader(Protocol):
    async def read(self, limit: int, wait: float) -> Sequence[Entry]:
        """Up to `limit` further records, in order within each partition; empty after `wait` seconds
        without any. Raises LeaseLost when this reader is at its end (its group was removed, or it lost
        what it holds for good): open another."""
        ...

    async def done(self, positions: Sequence[Position]) -> None:
        """What lies there need never be read again by this group. Raises LeaseLost if this reader no longer
        holds one of these partitions, in which case the group has not moved over any of that partition's."""
        ...


class Log(Protocol):
    async def append(self, topic: Topic, records: Sequence[Record]) -> None:
        """Durable when it returns: all of them, or (on error) perhaps some. Appending again is harmless
        to those who read, by the names the records carry."""
        ...

    def reader(self, topic: Topic, group: str) -> AbstractAsyncContextManager[LogReader]:
        """A reader of a group. A group unknown so far begins at the earliest record there is."""
        ...

    async def remove_group(self, topic: Topic, group: str) -> None:
        """This group no longer holds records back. Its living readers lose what they hold."""
        ...

    async def trim(self, topic: Topic) -> int:
        """Forget what every group has done; how many records went."""
        ...

    async def backlog(self, topic: Topic) -> dict[str, int]:
        """For each group, how many records it has not done yet."""
        ...

    async def incarnation(self, topic: Topic) -> str:
        """Which life of the topic this is: another word once it was deleted and made anew, or the whole log
        was lost; else always the same, for everybody. Who appended in another life must append again."""
        ...
