"""Routing at national scale, on a real broker: ours, a bare copy, a plain Faust agent, and Bento.

Every contender is a process of its own beside the broker's, reads the same 400,000 submissions (as the hub's records,
in shares as `matching` has them) and writes as many records of as many bytes; the contenders take turns, five times.
What ours wrote is read again: every submission has one decision. A ratio is that of two medians, and the first turn
of each counts like the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]

from benchmarks import peer, stored
from benchmarks.procedures import NOW
from benchmarks.register import register
from benchmarks.routers import BATCH, PAGE, PARTITIONS, Order, territory
from benchmarks.rows import Row, at_least, at_most, measured, run
from benchmarks.traffic import mix
from hub.adapters.kafka.brokers import Brokers as Asking
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.framing import Framing
from hub.adapters.kafka.log import partition_of
from hub.adapters.kafka.topics import KafkaTopic, create
from hub.domain.matching import decide
from hub.domain.rule_book import Snapshot
from hub.ports.log import Record
from hub.wire import write_decision, write_submission
from tests.kafka.broker import Brokers, one_of_its_own

SOURCE = "submissions"
VALUES, REGISTER = "values.pickle", "register.json"
"""What contenders are given: decisions to write, for those who do not decide; a register, for who does."""
JAVA = ("java", "-Xmx1g", "-Xshare:auto")
OURS, FLOOR, AGENT, BENTO = "ours", "floor", "agent", "bento"
SAID = {
    OURS: "routing",
    FLOOR: "bare aiokafka copy (floor)",
    AGENT: "plain Faust agent",
    BENTO: "Bento 1.20.0",
}


def measure(short: bool) -> list[Row]:
    return asyncio.run(_measure(*((40_000, 2) if short else (400_000, 5))))


# --- the turns ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn took: records written per second, and CPU seconds per million, its own and the broker's."""

    rate: float
    cpu: float
    broker: float
    peak: float


async def _measure(count: int, turns: int) -> list[Row]:
    with started() as broker, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        traffic = Traffic.drawn(count, Path(folder))
        await broker.fill(traffic.records())
        names = [FLOOR, OURS, AGENT, *([BENTO] if peer.binary() else [])]
        stands = {name: stack.enter_context(standing(name, broker, Path(folder))) for name in names}
        found: dict[str, list[Turn]] = defaultdict(list)
        for turn in range(turns):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                # What takes minutes and is a tenth of the others takes one turn in full.
                order = Order(SOURCE, f"{name}-{turn}", count if name != AGENT else count // 10)
                found[name].append(await broker.timed([stands[name]], order))
                if name == OURS:
                    await broker.check(order.target, traffic.ids())
                await broker.drop(order.target)
        second = stack.enter_context(standing(OURS, broker, Path(folder)))
        # The second has seen nothing yet: what counts is the second time.
        for target in ("pair-0", "pair-1"):
            both = await broker.timed([stands[OURS], second], Order(SOURCE, target, count, shared=True))
            await broker.check(target, traffic.ids())
        return [*_rows(found), *_pair(found, both)]


def _rows(found: Mapping[str, Sequence[Turn]]) -> Iterator[Row]:
    rates = {name: statistics.median(turn.rate for turn in turns) for name, turns in found.items()}
    for name, turns in found.items():
        spread = f"{min(turn.rate for turn in turns):,.0f}–{max(turn.rate for turn in turns):,.0f}"
        yield replace(measured(SAID[name], rates[name], "records/s"), note=spread)
        yield measured(f"{SAID[name]}, CPU", statistics.median(t.cpu for t in turns), "s per million")
        yield measured(
            f"{SAID[name]}, CPU of the broker", statistics.median(t.broker for t in turns), "s per million"
        )
    yield at_least("routing / floor", rates[OURS] / rates[FLOOR], "ratio", 0.8)
    yield at_least("routing / plain Faust agent", rates[OURS] / rates[AGENT], "ratio", 10)
    if BENTO in rates:
        yield at_least("routing / Bento", rates[OURS] / rates[BENTO], "ratio", 1)
    else:
        yield Row("routing / Bento", None, "ratio", 1, None, "not measured: `make peers` builds it")
    yield at_most("one router, memory at most", max(turn.peak for turn in found[OURS]), "MB", 300)


def _pair(found: Mapping[str, Sequence[Turn]], both: Turn) -> Iterator[Row]:
    alone = found[OURS]
    yield measured("two routers", both.rate, "records/s")
    yield at_most(
        "two routers, CPU / that of one",
        both.cpu / statistics.median(turn.cpu for turn in alone),
        "ratio",
        1.15,
    )
    wall = both.rate / statistics.median(turn.rate for turn in alone)
    name = "two routers / one"
    yield at_least(name, wall, "ratio", 1.6) if (os.cpu_count() or 1) >= 4 else measured(name, wall, "ratio")
    if BENTO in found:
        # It uses every core there is.
        rate = both.rate / statistics.median(turn.rate for turn in found[BENTO])
        yield measured("two routers / Bento", rate, "ratio")


# --- what they read -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Traffic:
    """Submissions as records."""

    drawn_records: Sequence[Record]

    @classmethod
    def drawn(cls, count: int, folder: Path) -> Traffic:
        """What contenders are given lies in `folder`."""
        national = register(territory())
        snapshot = Snapshot(1, NOW, national.book())
        drawn = mix(national, count, book=snapshot.book)
        values = [write_decision(decide(one, snapshot)).value for one in drawn[:50_000]]
        (folder / VALUES).write_bytes(pickle.dumps(values))
        stored.write(national, folder / REGISTER)
        return cls([write_submission(one) for one in drawn])

    def ids(self, times: int = 1) -> frozenset[bytes]:
        return frozenset(record.key for record in self.records(times))

    def records(self, times: int = 1) -> Iterator[Record]:
        """The same again and again, each time with ids of its own: what matching asks does not say them."""
        for time_ in range(times):
            for record in self.drawn_records:
                yield record if not time_ else record._replace(key=_another(record.key, time_))


def _another(key: bytes, time_: int) -> bytes:
    return UUID(int=UUID(bytes=key).int ^ time_).bytes


# --- who does it --------------------------------------------------------------------------------------


class Stand:
    """A contender's process, which answers each line with a line."""

    def __init__(self, words: Sequence[str]) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self.hear()

    def say(self, words: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"a contender ended before its time:\n{self._log.read()[-4000:]}")
        told: dict[str, float] = json.loads(line)
        return told

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def standing(name: str, broker: Broker, folder: Path) -> Iterator[Stand]:
    file = folder / (REGISTER if name == OURS else VALUES)
    module = "benchmarks.peer" if name == BENTO else "benchmarks.routers"
    stand = Stand([sys.executable, "-m", module, name, broker.bootstrap, str(file)])
    try:
        yield stand
    finally:
        stand.end()


class Broker:
    """The one broker, and what is asked of it before and after a turn."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self.bootstrap = brokers.bootstrap
        self._cluster = KafkaCluster(brokers.bootstrap)

    async def timed(self, stands: Sequence[Stand], order: Order) -> Turn:
        await self._make(order.target)
        for stand in stands:
            stand.say(asdict(order))
        for stand in stands:
            stand.hear()
        if len(stands) > 1:
            await asyncio.sleep(_SHARING)
        started = self._cpu()
        for stand in stands:
            stand.say("go")
        told = [stand.hear() for stand in stands]
        used = self._cpu() - started
        seconds, million = max(one["seconds"] for one in told), order.count / 1e6
        return Turn(
            order.count / seconds,
            sum(one["cpu"] for one in told) / million,
            used / million,
            max(one["peak"] for one in told),
        )

    async def fill(self, records: Iterator[Record]) -> None:
        await self._make(SOURCE)
        framing, answers = Framing(), list[Any]()
        batches: dict[int, Any] = {}
        async with AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True, max_batch_size=BATCH
        ) as producer:
            for record in records:
                one = partition_of(record.key, PARTITIONS)
                value, headers = framing.dress(record)
                batch = batches.get(one)
                if (
                    batch is None
                    or batch.append(timestamp=None, key=record.key, value=value, headers=headers) is None
                ):
                    if batch is not None:
                        answers.append(await producer.send_batch(batch, SOURCE, partition=one))
                    batches[one] = producer.create_batch()
                    batches[one].append(timestamp=None, key=record.key, value=value, headers=headers)
            for one, batch in batches.items():
                answers.append(await producer.send_batch(batch, SOURCE, partition=one))
            await asyncio.gather(*answers)

    async def check(self, topic: str, ids: frozenset[bytes]) -> None:
        """Every submission stands there, once."""
        found: set[bytes] = set()
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            places = [TopicPartition(topic, one) for one in range(PARTITIONS)]
            consumer.assign(places)
            count = sum((await consumer.end_offsets(places)).values())
            await consumer.seek_to_beginning()
            read = 0
            while read < count:
                for records in (await consumer.getmany(timeout_ms=1000, max_records=PAGE)).values():
                    read += len(records)
                    found.update(record.key for record in records)
        finally:
            await consumer.stop()
        if count != len(ids) or found != ids:
            raise RuntimeError(f"{len(ids):,} submissions, {count:,} decisions, of {len(found):,}")

    async def drop(self, topic: str) -> None:
        from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]

        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.delete_topics([topic])
        finally:
            await admin.close()

    def disk(self) -> int:
        """Bytes of its data."""
        return sum(path.stat().st_size for path in self._brokers.folder.rglob("*.log"))

    async def _make(self, topic: str) -> None:
        asking = Asking(self._cluster)
        try:
            await create(asking, [KafkaTopic(topic, PARTITIONS, 1, frozenset())])
        finally:
            await asking.close()

    def _cpu(self) -> float:
        return peer.cpu_of(self.process)

    @property
    def process(self) -> int:
        (process,) = self._brokers.processes
        return process


_SHARING = 6.0
"""Seconds in which two that came one after the other have shared the partitions."""


@contextmanager
def started() -> Iterator[Broker]:
    with one_of_its_own("file.delete.delay.ms=1000", JAVA) as brokers:
        yield Broker(brokers)


if __name__ == "__main__":
    run("routing", measure)
