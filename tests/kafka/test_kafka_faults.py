"""What must be true of Kafka as the log when brokers hang, die and come back, and readers come and go."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from hub.adapters.kafka.groups import kafka_name
from hub.adapters.kafka.log import KafkaLog
from hub.adapters.kafka.pace import Pace
from hub.adapters.kafka.protocol import TopicsRequest
from hub.domain.errors import LeaseLost, Unavailable
from hub.ports.log import Entry, LogReader, places
from tests.conformance.log_suite import GROUP, TOPIC, numbers, read, read_and_do, record, records
from tests.kafka.broker import Brokers, one_of_its_own
from tests.kafka.rig import PACE, KafkaRig


@pytest.fixture(scope="module")
def broker() -> Iterator[Brokers]:
    """One that may be paused and killed: nobody else uses it."""
    with one_of_its_own() as found:
        yield found


@pytest_asyncio.fixture
async def rig(broker: Brokers) -> AsyncIterator[KafkaRig]:
    rig = KafkaRig(broker.bootstrap)
    yield rig
    await rig.close()


class Worker:
    """Reads and does as the hub's workers do: after a fault it opens another reader."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log
        self.done: set[int] = set()
        self.faults: list[str] = []

    async def work(self) -> None:
        while True:
            try:
                async with self._log.reader(TOPIC, GROUP) as reader:
                    while True:
                        entries = await reader.read(200, 0.5)
                        await reader.done(places(entries))
                        self.done.update(numbers(entries))
            except (LeaseLost, Unavailable) as error:
                self.faults.append(type(error).__name__)
                await asyncio.sleep(0.1)

    async def until(self, count: int, patience: float = 60) -> None:
        async with asyncio.timeout(patience):
            while len(self.done) < count:
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def working(log: KafkaLog) -> AsyncIterator[Worker]:
    worker = Worker(log)
    task = asyncio.create_task(worker.work())
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def append_all(log: KafkaLog, first: int, last: int) -> None:
    """One after the other, and again what was not acknowledged, as a tray's letters are carried."""
    for number in range(first, last):
        while True:
            try:
                await log.append(TOPIC, [record(number)])
                break
            except Unavailable:
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("seconds", [12, pytest.param(20, marks=pytest.mark.slow)])
async def test_when_a_broker_hangs_appending_and_reading_go_on_afterwards(
    broker: Brokers, rig: KafkaRig, seconds: int
) -> None:
    """Longer than a request is waited for."""
    async with working(rig.log()) as worker:
        appending = asyncio.create_task(append_all(rig.log(), 0, 300))
        await worker.until(100)
        broker.pause()
        await asyncio.sleep(seconds)
        assert not appending.done()
        broker.resume()
        await worker.until(300)
        await appending
    assert worker.done == set(range(300))


async def test_when_a_broker_is_killed_and_restarted_nothing_that_was_acknowledged_is_lost(
    broker: Brokers, rig: KafkaRig
) -> None:
    log = rig.log()
    await log.append(TOPIC, records(2000))
    incarnation = await log.incarnation(TOPIC)
    async with working(rig.log()) as worker:
        appending = asyncio.create_task(append_all(log, 2000, 2200))
        await worker.until(2050)
        broker.kill()
        broker.restart()
        await asyncio.to_thread(broker.wait)
        await worker.until(2200)
        await appending
    assert worker.done == set(range(2200))
    assert await log.incarnation(TOPIC) == incarnation
    assert await log.backlog(TOPIC) == {GROUP: 0}
    assert await log.trim(TOPIC) >= 2200


async def test_an_append_that_nobody_acknowledges_ends_in_time_and_the_next_one_succeeds(
    broker: Brokers,
) -> None:
    rig = KafkaRig(broker.bootstrap, pace=Pace(session=3, grace=5, look=1, patience=2))
    clock = asyncio.get_running_loop().time
    try:
        log = rig.log()
        await log.append(TOPIC, records(10))
        broker.pause()
        begun = clock()
        with pytest.raises(Unavailable):
            await log.append(TOPIC, records(10, first=10))
        assert 1.5 < clock() - begun < 6
        begun = clock()
        await log.close()
        assert clock() - begun < 6
        broker.resume()
        await rig.log().append(TOPIC, records(10, first=20))
        async with rig.log().reader(TOPIC, GROUP) as reader:
            found: set[int] = set()
            while not found >= {*range(10), *range(20, 30)}:
                found |= set(numbers(await read_and_do(reader, 1)))
        assert found <= set(range(30))
    finally:
        broker.resume()
        await rig.close()


async def test_a_reader_closes_in_time_while_its_broker_hangs(broker: Brokers, rig: KafkaRig) -> None:
    log = rig.log()
    await log.append(TOPIC, records(10))
    clock = asyncio.get_running_loop().time
    try:
        async with log.reader(TOPIC, GROUP) as reader:
            await read(reader, 10)
            broker.pause()
            begun = clock()
        assert clock() - begun < 15
    finally:
        broker.resume()
    async with log.reader(TOPIC, GROUP) as reader:
        assert sorted(numbers(await read(reader, 10))) == list(range(10))


@pytest.mark.slow
async def test_with_three_brokers_each_may_die_in_turn_and_nothing_stops() -> None:
    """One of them is killed under a whole cluster in `tests/journeys/test_cluster_secured.py`."""
    brokers = Brokers(3)
    try:
        brokers.start()
        rig = KafkaRig(brokers.bootstrap, replicas=3)
        log = rig.log(6)
        await log.append(TOPIC, records(600))
        incarnation = await log.incarnation(TOPIC)
        count = 600
        async with working(rig.log(6)) as worker:
            for turn in range(3):
                appending = asyncio.create_task(append_all(log, count, count + 100))
                await worker.until(count)
                number = (await rig.keeper(TOPIC, GROUP) + turn - 1) % 3 + 1
                brokers.kill(number)
                count += 100
                await worker.until(count)
                await appending
                brokers.restart(number)
                await asyncio.to_thread(brokers.wait)
                await in_step(rig)
        assert worker.done == set(range(count))
        assert await log.incarnation(TOPIC) == incarnation
        assert await log.backlog(TOPIC) == {GROUP: 0}
        await rig.close()
    finally:
        brokers.end()


async def in_step(rig: KafkaRig) -> None:
    """Each copy of each partition, of the groups' offsets too, is as far as its leader."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                told = await rig.brokers.until_answered(
                    lambda: rig.brokers.ask(TopicsRequest(rig.name(TOPIC), "__consumer_offsets"))
                )
                partitions = [one for topic in told.topics for one in topic[4]]
                if partitions and all(len(one[5]) == len(one[4]) for one in partitions):
                    return
            await asyncio.sleep(0.2)


# --- readers that come and go ---------------------------------------------------------------------------

CHILD = """
import asyncio, random, sys
from hub.domain.errors import LeaseLost
from hub.ports.log import places
from tests.conformance.log_suite import GROUP, TOPIC
from tests.kafka.rig import elsewhere

async def main():
    log = await elsewhere(*sys.argv[1:])
    while True:
        try:
            async with log.reader(TOPIC, GROUP) as reader:
                while True:
                    for entry in await reader.read(40, 0.2):
                        print("handed", int(entry.record.value), flush=True)
                        if random.random() < 0.8:
                            where = entry.position
                            print("done", int(entry.record.value), where.partition, where.offset, flush=True)
                            await reader.done(places([entry]))
        except LeaseLost:
            pass

asyncio.run(main())
"""


class Witness:
    """What was handed to anybody, and said done by anybody, each noted before it is said."""

    def __init__(self, rig: KafkaRig) -> None:
        self._rig = rig
        self.handed: set[int] = set()
        self.said: set[tuple[int, int]] = set()
        self.readers = 0

    def note(self, entries: list[Entry]) -> None:
        self.said |= {(entry.position.partition, entry.position.offset) for entry in entries}

    async def listen(self, child: Process) -> None:
        assert child.stdout is not None
        while line := (await child.stdout.readline()).split():
            word, *told = line
            if word == b"handed":
                self.handed.add(int(told[0]))
            else:
                self.said.add((int(told[1]), int(told[2])))

    async def watch(self, incarnation: str) -> None:
        """The group never stands above what somebody has not said done."""
        topic = self._rig.name(TOPIC)
        while True:
            done = await self._rig.groups.committed(kafka_name(topic, GROUP), topic, incarnation)
            # What a child said before it moved the group is on its way.
            await asyncio.sleep(0.2)
            for partition, reached in done.items():
                assert {(partition, offset) for offset in range(reached)} <= self.said

    async def come_and_go(self, log: KafkaLog, dice: random.Random) -> None:
        """One reader after the other, each for a while; it says things done late, in any order, not all."""
        while True:
            self.readers += 1
            with contextlib.suppress(LeaseLost):
                async with log.reader(TOPIC, GROUP) as reader:
                    await self._work(reader, dice)

    async def _work(self, reader: LogReader, dice: random.Random) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + dice.uniform(0.5, 4)
        in_hand: list[Entry] = []
        while clock() < until:
            page = list(await reader.read(dice.randint(1, 60), 0.1))
            self.handed.update(numbers(page))
            in_hand += page
            dice.shuffle(in_hand)
            said, in_hand = in_hand[: len(in_hand) * 2 // 3 + 1], in_hand[len(in_hand) * 2 // 3 + 1 :]
            self.note(said)
            await reader.done(places(said))


async def test_while_readers_come_go_and_are_killed_each_record_is_handed_out_and_none_undone_is_passed(
    kafka: str,
) -> None:
    rig = KafkaRig(kafka)
    witness = Witness(rig)
    log = rig.log()
    assert PACE.session == 3
    incarnation = await log.incarnation(TOPIC)
    command = (sys.executable, "-c", CHILD, kafka, rig.prefix)
    try:
        children = [await asyncio.create_subprocess_exec(*command, stdout=PIPE) for _ in range(2)]
        tasks = [
            *(asyncio.create_task(witness.listen(child)) for child in children),
            *(asyncio.create_task(witness.come_and_go(rig.log(), random.Random(seed))) for seed in range(2)),
            asyncio.create_task(witness.watch(incarnation)),
        ]
        for first in range(0, 3000, 50):
            await log.append(TOPIC, records(50, first=first))
            await asyncio.sleep(0.2)
            if first in (1000, 2000):
                children.pop().send_signal(signal.SIGKILL)
            for task in tasks[2:]:
                assert not task.done(), task
        for task in tasks[2:]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [one for one in ended if isinstance(one, AssertionError)]
        async with log.reader(TOPIC, GROUP) as reader:
            async with asyncio.timeout(30):
                while (await log.backlog(TOPIC))[GROUP]:
                    page = list(await reader.read(500, 0.5))
                    witness.handed.update(numbers(page))
                    witness.note(page)
                    await reader.done(places(page))
        assert witness.handed == set(range(3000))
        assert witness.readers > 4
    finally:
        await rig.close()
