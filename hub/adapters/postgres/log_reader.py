"""Reading the embedded log: who of a group holds which partitions, what it was handed, and how far it came.

Business of this file: one reader of one group. A reader has a connection of its own and holds a partition by
an advisory lock of that session, on which it also reads and says what is done: when the connection dies, the
server frees the partitions and nothing can move the group in this reader's name.

Readers of a group count each other by a lock they share, and each holds at most its fair share. While it
reads, it looks every `LOOK` seconds: it claims what is free, up to its share, and gives back what is above
it, as soon as all it was handed of that partition is done. So a newcomer gets its share within two looks
and the page the others work on, and what a dead reader held goes to the others at their next look. A reader
that is open and does not read keeps what it has.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import OwnConnection, served
from hub.domain.errors import LeaseLost, Unavailable
from hub.domain.watermark import Watermark
from hub.ports.log import Entry, Position, Record, Topic

LOOK = 0.5
"""Seconds between two looks of a reader at what there is to read and to hold."""

_LOST = "the connection of this reader is lost, and with it its partitions"
_REMOVED = "the group of this reader was removed"
_NOT_HELD = "this reader does not hold a partition of what it says is done"


class PostgresLogReader:
    """Implements `hub.ports.log.LogReader` on a connection that is its own. `lives` names each partition's
    row of the group. Once the connection is lost or the group removed, the reader is at its end: `read` and
    `done` raise LeaseLost. `backend` is the server's process for the connection."""

    def __init__(
        self, connection: OwnConnection, topic: Topic, group: str, lives: Mapping[int, UUID]
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._group = group
        self._lives = lives
        self._held: dict[int, _Held] = {}
        self._turn = asyncio.Lock()
        self._rung = asyncio.Event()
        self._look_at = float("-inf")
        self._reads = 0
        self.backend: int = connection.get_server_pid()

    async def open(self) -> None:
        """Before the first read: be counted, and listen for appends."""
        # What is done and not yet on the disk when the power fails is read again, which is harmless.
        await self._connection.execute("SET synchronous_commit = off")
        await self._connection.execute("SELECT pg_advisory_lock_shared($1)", self._key("readers"))
        await self._connection.add_listener(channel(self._topic), lambda *_: self._rung.set())

    async def read(self, limit: int, wait: float) -> Sequence[Entry]:
        clock = asyncio.get_running_loop().time
        until = clock() + wait
        while True:
            # Before the look: what is appended after it rings again.
            self._rung.clear()
            entries = await self._look_and_read(limit)
            left = until - clock()
            if entries or left <= 0:
                return entries
            with suppress(asyncio.TimeoutError):
                async with asyncio.timeout(min(left, LOOK)):
                    await self._rung.wait()

    async def done(self, positions: Sequence[Position]) -> None:
        if not positions:
            return
        async with self._turn:
            with self._holding():
                strangers = self._mark(positions)
                await self._move({partition for partition, _ in positions})
        if strangers:
            raise LeaseLost(_NOT_HELD)

    async def _look_and_read(self, limit: int) -> list[Entry]:
        async with self._turn:
            with self._holding():
                now = asyncio.get_running_loop().time()
                if now >= self._look_at:
                    await self._look()
                    self._look_at = now + LOOK
                return await self._read(limit)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        if self._connection.is_closed():
            raise LeaseLost(_LOST)
        try:
            with served():
                yield
        except Unavailable as error:
            self._connection.terminate()
            raise LeaseLost(_LOST) from error

    # What it reads, and what is done.

    async def _read(self, limit: int) -> list[Entry]:
        ranges = self._ranges(limit, await self._ends())
        if not ranges:
            return []
        partitions, firsts, ends = zip(*ranges, strict=True)
        rows = await self._connection.fetch(_RECORDS, self._topic, partitions, firsts, ends, limit)
        for row in rows:
            self._held[row["partition"]].mark.hand_out(row["offset"])
        return [_entry(row) for row in rows]

    async def _ends(self) -> dict[int, int]:
        """The offset that each partition's next record will have."""
        rows = await self._connection.fetch(_STANDING, self._topic, self._group)
        if {row["partition"]: row["life"] for row in rows} != self._lives:
            raise self._removed()
        return {row["partition"]: row["next_offset"] for row in rows}

    def _ranges(self, limit: int, ends: Mapping[int, int]) -> list[tuple[int, int, int]]:
        """What to read now: (partition, from, to). Each time another partition comes first, so that one
        with much to read keeps none waiting for long."""
        staying = [held for held in self._held.values() if not held.leaving]
        self._reads += 1
        turn = self._reads % max(len(staying), 1)
        ranges = []
        for held in staying[turn:] + staying[:turn]:
            first = held.mark.next_offset
            count = min(limit, ends[held.partition] - first)
            if count > 0:
                ranges.append((held.partition, first, first + count))
                limit -= count
        return ranges

    def _mark(self, positions: Sequence[Position]) -> bool:
        """Note what is done; whether some of it was never handed out by this reader."""
        strangers = False
        for partition, offset in positions:
            held = self._held.get(partition)
            if held is None or not held.mark.mark(offset):
                strangers = True
        return strangers

    async def _move(self, partitions: set[int]) -> None:
        """Move the group over what is done without a gap."""
        several = [held for name, held in self._held.items() if name in partitions]
        reached = [held.mark.reached() for held in several]
        rows = await self._connection.fetch(
            _MOVE,
            self._topic,
            self._group,
            [held.partition for held in several],
            reached,
            [self._lives[held.partition] for held in several],
        )
        if len(rows) < len(several):
            raise self._removed()
        for held, offset in zip(several, reached, strict=True):
            held.mark.settle(offset)

    def _removed(self) -> LeaseLost:
        # Its locks must go too: a group that comes again under this name has other readers.
        self._connection.terminate()
        return LeaseLost(_REMOVED)

    # What it holds.

    async def _look(self) -> None:
        try:
            share, first = await self._share()
            await self._give_back(share)
            await self._claim(share, first)
        except BaseException:
            # Cut off in the middle, nobody knows which locks this session has: none is the safe answer.
            self._connection.terminate()
            raise

    async def _share(self) -> tuple[int, int]:
        """How many partitions this reader may hold, and where to begin looking for them."""
        row = await self._connection.fetchrow(_READERS, self._key("readers"))
        assert row is not None
        share, rest = divmod(len(self._lives), row["readers"])
        return share + (row["before"] < rest), row["before"] * len(self._lives) // row["readers"]

    async def _give_back(self, share: int) -> None:
        # Those it is busy with stay: the others can go at once.
        kept = sorted(self._held.values(), key=lambda held: (not held.mark.handed, held.partition))
        for place, held in enumerate(kept):
            held.leaving = place >= share
            if held.leaving and not held.mark.handed:
                await self._connection.execute(
                    "SELECT pg_advisory_unlock($1)", self._partition_key(held.partition)
                )
                del self._held[held.partition]

    async def _claim(self, share: int, first: int) -> None:
        for step in range(len(self._lives)):
            partition = (first + step) % len(self._lives)
            if len(self._held) >= share:
                return
            if partition not in self._held and await self._lock(partition):
                # After the lock: what the one before has moved is seen.
                done = await self._connection.fetchval(_DONE, self._topic, self._group, partition)
                if done is None:
                    raise self._removed()
                self._held[partition] = _Held(partition, Watermark(done))

    async def _lock(self, partition: int) -> bool:
        key = self._partition_key(partition)
        locked: bool = await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", key)
        return locked

    def _partition_key(self, partition: int) -> int:
        return self._key("partition", str(partition))

    def _key(self, *words: str) -> int:
        return lock_key(self._topic, self._group, *words)


@dataclass(slots=True)
class _Held:
    """A partition this reader holds."""

    partition: int
    mark: Watermark
    leaving: bool = False


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(Position(row["partition"], row["offset"]), Record(row["key"], row["schema"], row["value"]))


_STANDING = """
    SELECT partition, next_offset, life FROM log_group JOIN log_partition USING (topic, partition)
    WHERE topic = $1 AND name = $2
"""

# Laterally and with a limit, so that it walks the index whatever the statistics say.
_RECORDS = """
    SELECT record.* FROM unnest($2::integer[], $3::bigint[], $4::bigint[]) AS range (partition, first, until)
    CROSS JOIN LATERAL (
        SELECT partition, "offset", key, schema, value FROM log_record
        WHERE topic = $1 AND log_record.partition = range.partition
          AND "offset" >= range.first AND "offset" < range.until
        ORDER BY "offset"
        LIMIT $5
    ) AS record
    ORDER BY record.partition, record."offset"
"""

_DONE = "SELECT done FROM log_group WHERE topic = $1 AND name = $2 AND partition = $3"

# The rows are taken in the order in which the group's removal takes them. The life tells a group that was
# removed and came again: its partitions may be held by this session still.
_MOVE = """
    WITH said AS MATERIALIZED (
        SELECT * FROM unnest($3::integer[], $4::bigint[], $5::uuid[]) AS said (partition, done, life)
    ), taken AS MATERIALIZED (
        SELECT log_group.partition FROM log_group JOIN said USING (partition, life)
        WHERE topic = $1 AND name = $2
        ORDER BY log_group.partition
        FOR UPDATE OF log_group
    )
    UPDATE log_group SET done = said.done FROM said JOIN taken USING (partition)
    WHERE log_group.topic = $1 AND log_group.name = $2 AND log_group.partition = said.partition
    RETURNING log_group.partition
"""

# A lock of 64 bits is shown in two halves. Its holders are counted in one order, the same for all of them.
_READERS = """
    SELECT count(DISTINCT pid) AS readers, count(DISTINCT pid) FILTER (WHERE pid < pg_backend_pid()) AS before
    FROM pg_locks
    WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid::bigint = ($1::bigint >> 32) & 4294967295 AND objid::bigint = $1::bigint & 4294967295
"""


def lock_key(*words: str) -> int:
    """A number of 64 bits for an advisory lock; the words keep it apart from everybody else's."""
    digest = hashlib.blake2b("\0".join(("log", *words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def channel(topic: Topic) -> str:
    """Where an append to this topic is notified."""
    return f"log_{topic}"
