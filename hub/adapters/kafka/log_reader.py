"""Reading from Kafka: what this member of a group was handed, how far it came, and giving partitions up.

Business of this file: one reader of one group. Kafka shares the partitions out among the members and tells each
when they are shared out anew. Then this reader hands out nothing more, waits (no longer than `Pace.grace`)
until all it handed out is said done and the group is moved, and joins the others. A partition that it gets
again without a break it goes on with, also with what is not done yet; any other it reads from where the group
stands.

A reader is one member for its whole life. When Kafka no longer knows it (it was silent for too long, its
group was removed) the reader is at its end, and does not join again by itself: nothing it has in hand could be
told from what another does by then. Commits name the membership under which the records were handed out;
the library's own would go on under none.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka import errors as kafka
from aiokafka.abc import ConsumerRebalanceListener  # type: ignore[import-untyped]

from hub.adapters.kafka.brokers import EARLIEST, Brokers
from hub.adapters.kafka.cluster import KafkaCluster, is_refusal, refused, served
from hub.adapters.kafka.framing import Framing, Unlearned
from hub.adapters.kafka.groups import Groups, Member, NotAMember
from hub.adapters.kafka.pace import Pace, Place
from hub.adapters.kafka.poison import POISON, past_poison
from hub.adapters.kafka.topics import LARGEST
from hub.domain.errors import HubError, LeaseLost, SettingsError, Unavailable
from hub.domain.watermark import Watermark
from hub.ports.log import Entry, Position

_LEFT = "Kafka no longer counts this reader among its group"
_NOT_HELD = "this reader does not hold a partition of what it says is done"
_OTHER_LIFE = "the topic of this reader was deleted, and perhaps made anew"

_UNLIMITED = 2**31 - 1
_MOST_FETCHED = 8 << 20
"""Bytes that a broker sends at once, for all partitions together: enough for speed, and bounded memory."""
_LAST_CHANCE = 5.0


class KafkaLogReader:
    """Implements `hub.ports.log.LogReader`. `member` is its name in the group, once it has one."""

    def __init__(
        self,
        cluster: KafkaCluster,
        brokers: Brokers,
        groups: Groups,
        place: Place,
        pace: Pace,
        framing: Framing,
    ) -> None:
        self._consumer = _consumer(cluster, place, pace)
        self._brokers = brokers
        self._groups = groups
        self._place = place
        self._pace = pace
        self._framing = framing
        self._member: Member | None = None
        self._assigned: frozenset[int] = frozenset()
        self._held: dict[int, Watermark] = {}
        self._end: str | None = None
        self._closing = False
        self._committing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._reading: set[asyncio.Timeout] = set()
        self._look_at = float("-inf")

    @property
    def member(self) -> str | None:
        return None if self._member is None else self._member.name

    async def open(self) -> None:
        """Join the group. Returns when this reader has its share, or the others take their time."""
        with served():
            await self._consumer.start()
        self._consumer.subscribe([self._place.topic], listener=_Listener(self))
        await self._until(lambda: self._member is not None, min(self._pace.session / 3, _LAST_CHANCE))

    async def close(self) -> None:
        self._closing = True
        self._ring()
        stopping = asyncio.create_task(self._consumer.stop())
        await asyncio.wait({stopping}, timeout=self._pace.heartbeat)
        coordinator = self._consumer._coordinator
        if not stopping.done() and coordinator is not None:
            # It is joining, and the others take their time: as if it had never come.
            with suppress(HubError):
                await self._groups.leave(self._place.group, [coordinator.member_id], patience=1)
            await asyncio.wait({stopping}, timeout=_LAST_CHANCE)
        if not stopping.done():
            await self._consumer._client.close()
            await asyncio.wait({stopping}, timeout=_LAST_CHANCE)
            stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)

    # Reading.

    async def read(self, limit: int, wait: float) -> Sequence[Entry]:
        clock = asyncio.get_running_loop().time
        until = clock() + wait
        while True:
            self._go_on()
            await self._look()
            await self._begin()
            entries = await self._undressed(await self._fetch(limit, until))
            if entries:
                return entries
            if clock() >= until:
                self._go_on()
                return []

    async def _fetch(self, limit: int, until: float) -> Mapping[Any, Sequence[Any]]:
        """Until there is something, or the time is over, or what this reader holds changes. Cut off at any
        moment it loses nothing: the library gives records without waiting for anything in between."""
        ready = [TopicPartition(self._place.topic, one) for one in self._held if one in self._assigned]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(until) as turn:
                self._reading.add(turn)
                try:
                    # What went wrong while it has nothing to read is told nowhere else.
                    self._consumer._coordinator.check_errors()
                    if not ready:
                        await asyncio.sleep(min(self._pace.heartbeat, 1))
                        return {}
                    return await self._page(ready, limit, max(until - loop.time(), 0))
                except (kafka.KafkaError, kafka.ConsumerStoppedError) as error:
                    raise self._failed(error) from error
                finally:
                    self._reading.discard(turn)
        except TimeoutError:
            return {}

    async def _page(self, ready: Sequence[Any], limit: int, seconds: float) -> Mapping[Any, Sequence[Any]]:
        try:
            found: Mapping[Any, Sequence[Any]] = await self._consumer.getmany(
                *ready, timeout_ms=int(seconds * 1000), max_records=limit
            )
        except POISON:
            mine = [one for one in ready if one.partition in self._held.keys() & self._assigned]
            return await past_poison(
                self._consumer, {one: self._held[one.partition].next_offset for one in mine}
            )
        return found

    async def _undressed(self, page: Mapping[Any, Sequence[Any]]) -> list[Entry]:
        """Handed out; none of it, if something had to be asked first. Raises Unavailable, SettingsError."""
        try:
            return self._hand_out({where: self._entries(records) for where, records in page.items()})
        except (Unlearned, SettingsError) as error:
            # Read again, by whoever holds the partitions then: meanwhile they may be shared out anew.
            for where in page:
                self._hold(where.partition, self._held[where.partition])
            if isinstance(error, SettingsError):
                raise
        await self._framing.learn(record.value for records in page.values() for record in records)
        return []

    def _entries(self, records: Sequence[Any]) -> list[Entry]:
        undress = self._framing.undress
        return [
            _new(
                Entry,
                (_new(Position, (one.partition, one.offset)), undress(one.key, one.value, one.headers)),
            )
            for one in records
        ]

    def _hand_out(self, page: Mapping[Any, Sequence[Entry]]) -> list[Entry]:
        found: list[Entry] = []
        for where, entries in page.items():
            first = entries[0].position.offset
            if first < self._held[where.partition].next_offset:
                # The cluster lost what the group had come to, and begins again at its earliest.
                self._held[where.partition] = Watermark(first)
            self._held[where.partition].hand_out(*[position.offset for position, _ in entries])
            found += entries
        return found

    async def _look(self) -> None:
        """The library knows topics by their names alone, and would go on in another one of the same name."""
        now = asyncio.get_running_loop().time()
        if now < self._look_at:
            return
        with suppress(Unavailable):
            look = await self._brokers.look(self._place.topic, patience=1)
            if look is None or look.incarnation != self._place.incarnation:
                raise self._ended(_OTHER_LIFE)
        self._look_at = now + self._pace.look

    async def _begin(self) -> None:
        """What was shared out to this reader is read from where the group stands."""
        fresh = self._assigned - self._held.keys()
        if not fresh:
            return
        place, member = self._place, self._member
        done = await self._groups.committed(place.group, place.topic, place.incarnation)
        if missing := fresh - done.keys():
            earliest = await self._brokers.offsets(place.topic, EARLIEST)
            unknown = {partition: earliest[partition] for partition in missing if partition in earliest}
            if not await self._commit(unknown):
                return
            done |= unknown
        # Shared out anew meanwhile: then it is looked at again.
        if self._member is member and self._end is None:
            for partition in fresh & done.keys() - self._held.keys():
                self._hold(partition, Watermark(done[partition]))

    def _hold(self, partition: int, mark: Watermark) -> None:
        self._consumer.seek(TopicPartition(self._place.topic, partition), mark.next_offset)
        self._held[partition] = mark

    # What is done.

    async def done(self, positions: Sequence[Position]) -> None:
        if not positions:
            return
        async with self._committing:
            self._go_on()
            finished: dict[int, list[int]] = defaultdict(list)
            for partition, offset in positions:
                finished[partition].append(offset)
            marks = {}
            strangers = False
            for partition, offsets in finished.items():
                mark = self._held.get(partition)
                if mark is not None:
                    marks[partition] = mark
                strangers |= mark is None or not mark.mark(*offsets)
            if not await self._move(marks) or strangers:
                raise LeaseLost(_NOT_HELD)

    async def _move(self, marks: Mapping[int, Watermark]) -> bool:
        """Move the group over what is done without a gap. Also where nothing moves: it tells whether this
        reader still may. False if some of these partitions went to others first."""
        while mine := {one: mark for one, mark in marks.items() if self._held.get(one) is mark}:
            reached = {partition: mark.reached() for partition, mark in mine.items()}
            if await self._commit(reached):
                for partition, mark in mine.items():
                    mark.settle(reached[partition])
                self._ring()
                break
        return len(mine) == len(marks)

    async def _commit(self, offsets: Mapping[int, int]) -> bool:
        """False if partitions were shared out anew: what of them is still this reader's is known now.
        Raises LeaseLost, Unavailable."""
        place, member = self._place, self._member
        assert member is not None
        try:
            await self._groups.commit(place.group, place.topic, place.incarnation, offsets, member)
        except NotAMember as error:
            if error.final and self._member is member:
                raise self._ended(_LEFT) from error
            await self._until(lambda: self._member is not member, self._pace.rebalance)
            if self._member is member:
                raise self._ended(_LEFT) from error
            return False
        return True

    # What Kafka says.

    async def on_revoked(self) -> None:
        if self._is_another():
            self._ended(_LEFT)
            return
        self._assigned = frozenset()
        self._wake()
        await self._until(lambda: not any(mark.handed for mark in self._held.values()), self._pace.grace)

    def on_assigned(self, partitions: Collection[int]) -> None:
        if self._is_another():
            self._ended(_LEFT)
            return
        before, kept = self._member, self._held
        self._member = Member(self._consumer._coordinator.generation, self._consumer._coordinator.member_id)
        self._held = {}
        self._assigned = frozenset(partitions)
        # Between two generations nobody else can have had it.
        if before is not None and self._member.generation == before.generation + 1:
            for partition in self._assigned & kept.keys():
                self._hold(partition, kept[partition])
        self._look_at = float("-inf")
        self._wake()
        self._ring()

    def _is_another(self) -> bool:
        """Kafka has forgotten this member, and the library is about to join as a new one."""
        name: str = self._consumer._coordinator.member_id
        return self._member is not None and name != self._member.name

    async def _until(self, true: Callable[[], bool], seconds: float) -> None:
        """No longer than this, and not beyond the end."""
        with suppress(asyncio.TimeoutError):
            async with asyncio.timeout(seconds):
                while not (true() or self._closing or self._end):
                    await self._changed.wait()

    def _ring(self) -> None:
        self._changed.set()
        self._changed.clear()

    def _wake(self) -> None:
        """Whoever reads looks anew at what this reader holds."""
        now = asyncio.get_running_loop().time()
        for turn in self._reading:
            if not turn.expired():
                turn.reschedule(now)

    # Its end.

    def _go_on(self) -> None:
        if self._end is not None:
            raise LeaseLost(self._end)

    def _failed(self, error: Exception) -> HubError:
        if is_refusal(error):
            return refused(error)
        if isinstance(error, kafka.CorruptRecordException):
            return Unavailable("a record of the log is damaged")
        return self._ended(f"reading from Kafka ended ({type(error).__name__})")

    def _ended(self, why: str) -> LeaseLost:
        """For good: the library must not join the group again in this reader's name."""
        if self._end is None:
            self._end = why
            self._assigned = frozenset()
            self._held = {}
            self._wake()
            self._ring()
            if not self._closing:
                self._consumer.unsubscribe()
        return LeaseLost(self._end)


_new = tuple.__new__
"""A named tuple's own constructor costs three times as much."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, reader: KafkaLogReader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: object) -> None:
        await self._reader.on_revoked()

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._reader.on_assigned([one.partition for one in assigned])


def _consumer(cluster: KafkaCluster, place: Place, pace: Pace) -> Any:
    return AIOKafkaConsumer(
        **cluster.arguments(),
        group_id=place.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=LARGEST,
        fetch_max_bytes=_MOST_FETCHED,
        session_timeout_ms=int(pace.session * 1000),
        heartbeat_interval_ms=int(pace.heartbeat * 1000),
        rebalance_timeout_ms=int(pace.rebalance * 1000),
        # Joining is answered when the others have given up what they hold.
        request_timeout_ms=int((pace.rebalance + pace.session) * 1000),
        # A reader keeps what it has while its page is worked on, however long that takes.
        max_poll_interval_ms=_UNLIMITED,
    )
