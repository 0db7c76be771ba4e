"""Who copies or routes, each in a process of its own that lives through all runs: `python -m benchmarks.routers`.

Business of this file: one contender, told on its standard input what to do, a line of JSON for each run, and
answering with what it took. All of them read the same records and write as many, with the same acknowledgements,
batches and no waiting for more (linger 0), uncompressed. Time begins when the contender holds its partitions, and
ends when the last of what it wrote is acknowledged and what it read is said done.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import resource
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]

import routing_rules
from benchmarks import stored
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.log import KafkaLog
from hub.adapters.kafka.topics import LARGEST, KafkaTopic
from hub.adapters.rules.territory import load_territory
from hub.adapters.system.clock import SystemClock
from hub.assembly.roles import settle_memory
from hub.domain.rule_book import RuleBook
from hub.domain.territory import Territory
from hub.ports.log import Topic
from hub.ports.rule_books import Change, Confirmation
from hub.services.library import Library
from hub.services.routing import RoutingRoom
from hub.services.shelf import Shelf
from hub.telemetry import logs
from hub.wire import DecisionWriter, SubmissionReader, write_unreadable

PARTITIONS = 16
BATCH = 256 * 1024
PAGE = 500
"""Of what a bare copy and the router read at once, the number with which both are fastest here."""
AHEAD = 4


@dataclass(frozen=True, slots=True)
class Order:
    """Read `count` records of one topic, and write as many into another. `shared`: with others of the same kind,
    until there is nothing left."""

    source: str
    target: str
    count: int
    shared: bool = False


class Stopwatch:
    """Wall time, and CPU time of this process, in seconds: from `begin` to the last `lap`."""

    def __init__(self) -> None:
        self._begun = self._lap = (0.0, 0.0)

    async def joined(self) -> None:
        """It holds its partitions, and begins when it is told to."""
        print(json.dumps({"joined": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        self.begin()

    def begin(self) -> None:
        self._begun = self._lap = _now()

    def lap(self) -> None:
        self._lap = _now()

    def told(self) -> dict[str, float]:
        return {
            "seconds": self._lap[0] - self._begun[0],
            "cpu": self._lap[1] - self._begun[1],
            "peak": peak_of(os.getpid()),
        }


def peak_of(process: int) -> float:
    """MB of memory at most, so far. What `getrusage` says begins with what the parent had."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(told["VmHWM"].split()[0]) / 1024


def _now() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


# --- the floor: a bare copy ---------------------------------------------------------------------------


async def floor(bootstrap: str, values: Sequence[bytes], order: Order, watch: Stopwatch) -> None:
    """What aiokafka takes to read and to write: in batches, several on their way at once, nothing decided."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=LARGEST,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, acks="all", max_batch_size=BATCH
    )
    await producer.start()
    await consumer.start()
    try:
        places = [TopicPartition(order.source, one) for one in range(PARTITIONS)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        await watch.joined()
        await _copy(consumer, producer, values, order)
        watch.lap()
    finally:
        await consumer.stop()
        await producer.stop()


async def _copy(consumer: Any, producer: Any, values: Sequence[bytes], order: Order) -> None:
    headers = [("schema", b"decision.v3")]
    under_way: deque[list[Any]] = deque()
    done, count = 0, len(values)
    while done < order.count:
        answers = []
        for place, records in (await consumer.getmany(timeout_ms=1000, max_records=PAGE)).items():
            batch = producer.create_batch()
            for record in records:
                value = values[done % count]
                done += 1
                if batch.append(timestamp=None, key=record.key, value=value, headers=headers) is None:
                    answers.append(await producer.send_batch(batch, order.target, partition=place.partition))
                    batch = producer.create_batch()
                    batch.append(timestamp=None, key=record.key, value=value, headers=headers)
            answers.append(await producer.send_batch(batch, order.target, partition=place.partition))
        under_way.append(answers)
        while len(under_way) >= AHEAD:
            for answer in under_way.popleft():
                await answer
    for answers in under_way:
        for answer in answers:
            await answer


# --- a plain Faust agent ------------------------------------------------------------------------------


async def agent(bootstrap: str, values: Sequence[bytes], order: Order, watch: Stopwatch) -> None:
    """As the library's own guide shows it: one record after the other, and each sent on its way."""
    import faust

    app = faust.App(
        f"agent-{order.target}",
        broker=f"kafka://{bootstrap}",
        web_enabled=False,
        store="memory://",
        autodiscover=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=PARTITIONS,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        producer_acks=-1,
        producer_linger=0,
        producer_max_batch_size=BATCH,
    )
    raw: dict[str, Any] = {
        "key_serializer": "raw",
        "value_serializer": "raw",
        "key_type": bytes,
        "value_type": bytes,
    }
    source, target = app.topic(order.source, **raw), app.topic(order.target, **raw)
    ended = asyncio.Event()
    answers: list[Any] = []

    async def carry(stream: Any) -> None:
        async for event in stream.events():
            if not answers:
                # It tells nobody when it holds its partitions.
                await watch.joined()
            value = values[len(answers) % len(values)]
            answers.append(await target.send(key=event.key, value=value, headers={"schema": b"decision.v3"}))
            if len(answers) == order.count:
                ended.set()

    app.agent(source, name="carry")(carry)
    app.finalize()
    async with app:
        await ended.wait()
        await asyncio.gather(*answers)
        watch.lap()


# --- ours ---------------------------------------------------------------------------------------------


class Editions:
    """One rule book, in force ever since."""

    async def confirm(self, known: int) -> Confirmation:
        editions = () if known else ((1, datetime.min.replace(tzinfo=UTC)),)
        return Confirmation(editions, datetime.max.replace(tzinfo=UTC))

    async def changes(self, base: int, number: int) -> Change:
        return Change(())


@dataclass(slots=True)
class Ours:
    """The routing room over the log of a cluster, as `hub run routing` has it."""

    bootstrap: str
    book: RuleBook

    async def __call__(self, order: Order, watch: Stopwatch) -> None:
        cluster = KafkaCluster(self.bootstrap)
        names = {Topic.SUBMISSIONS: order.source, Topic.ROUTINGS: order.target}
        topics = {
            topic: KafkaTopic(names.get(topic, topic.value), PARTITIONS, 1, frozenset()) for topic in Topic
        }
        journey = KafkaLog(cluster, topics)
        library = Library(Editions(), lambda base, change: self.book)  # type: ignore[arg-type]
        shelf = Shelf(journey, write_unreadable, SystemClock())
        read, writer = SubmissionReader().read, DecisionWriter()
        room = RoutingRoom(journey, library, read, writer, shelf, page=PAGE, ahead=AHEAD)
        try:
            async with journey.reader(Topic.SUBMISSIONS, order.target) as reader:
                await watch.joined()
                left = order.count
                while left > 0:
                    if done := await room.run_once(reader, 2):
                        watch.lap()
                        left -= done
                    elif order.shared:
                        break
        finally:
            await journey.close()


def territory() -> Territory:
    """The nation's, as the hub has it."""
    return load_territory(Path(routing_rules.__path__[0]) / "territory" / "2026.tsv.gz")


# --- the process --------------------------------------------------------------------------------------


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("contender", choices=["floor", "agent", "ours"])
    arguments.add_argument("bootstrap")
    arguments.add_argument(
        "file", type=Path, help="a stored register; else a pickled list of what is written"
    )
    chosen = arguments.parse_args()
    values: list[bytes] = []
    ours = None
    if chosen.contender == "ours":
        ours = Ours(chosen.bootstrap, stored.read(chosen.file, territory()))
    else:
        values = pickle.loads(chosen.file.read_bytes())  # noqa: S301
    logs.configure("json")
    settle_memory()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order, watch = Order(**json.loads(line)), Stopwatch()
        if ours is not None:
            asyncio.run(ours(order, watch))
        else:
            contender = floor if chosen.contender == "floor" else agent
            asyncio.run(contender(chosen.bootstrap, values, order, watch))
        print(json.dumps(watch.told()), flush=True)


if __name__ == "__main__":
    main()
