"""What must be true of every log: order, takeover, and groups that move only over what is done."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.domain.errors import LeaseLost, SettingsError, Unavailable
from hub.ports.log import Entry, Log, LogReader, Record, Topic, places
from tests.conformance.log_suite import (
    GROUP,
    RIGS,
    TOPIC,
    Feature,
    LogRig,
    PostgresRig,
    StoppingRig,
    assert_in_order,
    by_partition,
    every_log,
    every_log_with,
    nothing_comes,
    numbers,
    read,
    read_and_do,
    record,
    records,
)
from tests.kafka.rig import KafkaRig


@pytest_asyncio.fixture
async def postgres_rig(
    fresh_dsn: str, database: Database, fresh_database: Callable[[], str]
) -> AsyncIterator[LogRig]:
    rig = PostgresRig(fresh_dsn, database, fresh_database)
    yield rig
    await rig.close()


@pytest_asyncio.fixture
async def kafka_rig(kafka: str) -> AsyncIterator[LogRig]:
    rig = KafkaRig(kafka)
    yield rig
    await rig.close()


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> LogRig:
    found: LogRig = request.getfixturevalue(RIGS[request.param].fixture)
    return found


@pytest.fixture
def log(rig: LogRig) -> Log:
    return rig.log()


# --- order --------------------------------------------------------------------------------------------


@every_log
async def test_a_record_is_read_as_it_was_appended(log: Log) -> None:
    written = [
        Record(b"", "essai.v1", b""),
        Record(bytes(range(256)), "essai.v2", bytes(range(256)) * 40),
    ]
    await log.append(TOPIC, written)
    await log.append(TOPIC, [])
    async with log.reader(TOPIC, GROUP) as reader:
        found = await read(reader, 2)
    assert sorted((entry.record for entry in found), key=lambda one: one.schema) == written


@every_log
async def test_records_of_one_key_are_read_in_the_order_in_which_they_were_appended(log: Log) -> None:
    keys = [f"clef-{number % 7}" for number in range(210)]
    for first in range(0, 210, 30):
        await log.append(TOPIC, [record(number, keys[number]) for number in range(first, first + 30)])
    found: list[Entry] = []
    async with log.reader(TOPIC, GROUP) as reader:
        while len(found) < 210:
            found += await read_and_do(reader, min(37, 210 - len(found)))
    assert_in_order(found)
    for key in set(keys):
        of_key = [number for number in numbers(found) if keys[number] == key]
        assert of_key == sorted(of_key)
        assert len({entry.position.partition for entry in found if entry.record.key == key.encode()}) == 1
    assert len(by_partition(found)) > 1


@every_log
async def test_what_many_append_at_once_is_read_once_and_none_is_passed_by(rig: LogRig) -> None:
    async def append(appender: int) -> None:
        log = rig.log()
        for batch in range(25):
            first = appender * 1000 + batch * 20
            key = f"appender-{appender}"
            mixed = [record(number, key if number % 2 else None) for number in range(first, first + 20)]
            await log.append(TOPIC, mixed)

    found: list[Entry] = []
    async with rig.log().reader(TOPIC, GROUP) as reader:
        appending = [asyncio.create_task(append(appender)) for appender in range(8)]
        while len(found) < 4000:
            page = await reader.read(150, 20)
            found += page
            await reader.done(places(page))
        await asyncio.gather(*appending)
        await nothing_comes(reader, 0.2)
    assert len(set(numbers(found))) == 4000
    assert_in_order(found)
    for appender in range(8):
        odd = [number for number in numbers(found) if number % 2 and number // 1000 == appender]
        assert odd == sorted(odd)


@every_log_with(Feature.LATE_COMMIT)
async def test_a_record_with_an_earlier_position_that_commits_later_is_not_passed_by(
    rig: StoppingRig,
) -> None:
    async with rig.log(1).reader(TOPIC, GROUP) as reader, rig.stopping(b"1") as stopped:
        await nothing_comes(reader, 0)
        earlier = asyncio.create_task(rig.log(1).append(TOPIC, [record(0), record(1)]))
        await stopped.reached()
        later = asyncio.create_task(rig.log(1).append(TOPIC, [record(2)]))
        passed = list(await reader.read(10, 1))
        await reader.done(places(passed))
        await stopped.let_go()
        await asyncio.gather(earlier, later)
        found = passed + await read_and_do(reader, 3 - len(passed))
        await nothing_comes(reader, 0)
    assert_in_order(found)
    assert numbers(found) == [0, 1, 2]


@every_log_with(Feature.LATE_COMMIT)
async def test_an_append_that_hangs_does_not_keep_those_to_other_partitions_waiting(rig: StoppingRig) -> None:
    async with rig.log().reader(TOPIC, GROUP) as reader, rig.stopping(b"0") as stopped:
        hanging = asyncio.create_task(rig.log().append(TOPIC, [record(0, "key-a")]))
        await stopped.reached()
        others = [asyncio.create_task(rig.log().append(TOPIC, [one])) for one in records(40, first=1)]
        passed = await read_and_do(reader, 10)
        await stopped.let_go()
        await asyncio.gather(hanging, *others)
        found = passed + await read_and_do(reader, 31)
    assert sorted(numbers(found)) == list(range(41))


@every_log_with(Feature.WHOLE_APPEND)
async def test_an_append_that_is_cut_off_leaves_nothing_and_may_be_repeated(rig: StoppingRig) -> None:
    log = rig.log()
    async with log.reader(TOPIC, GROUP) as reader:
        async with rig.stopping(b"30") as stopped:
            appending = asyncio.create_task(log.append(TOPIC, records(60)))
            await stopped.reached()
            await stopped.kill()
            with pytest.raises(Unavailable):
                await appending
        await nothing_comes(reader, 0.2)
        assert await log.backlog(TOPIC) == {GROUP: 0}
        await log.append(TOPIC, records(60))
        found = await read_and_do(reader, 60)
    assert sorted(numbers(found)) == list(range(60))
    assert_in_order(found)


# --- reading ------------------------------------------------------------------------------------------


@every_log
async def test_a_reader_is_not_given_twice_what_it_has_not_done_yet(log: Log) -> None:
    await log.append(TOPIC, records(50))
    async with log.reader(TOPIC, GROUP) as reader:
        found = await read(reader, 50)
        await nothing_comes(reader)
        await log.append(TOPIC, records(5, first=50))
        found += await read(reader, 5)
    assert sorted(numbers(found)) == list(range(55))


@every_log
async def test_a_read_gives_no_more_than_its_limit_and_as_much_as_it_can(log: Log) -> None:
    await log.append(TOPIC, [record(number, "one key") for number in range(100)])
    async with log.reader(TOPIC, GROUP) as reader:
        first = await read(reader, 1)
        assert len(await reader.read(60, 0)) == 60
        assert len(await reader.read(60, 0)) == 39
        assert numbers(first) == [0]


@every_log
async def test_a_read_without_records_waits_that_long_and_is_empty(log: Log) -> None:
    clock = asyncio.get_running_loop().time
    async with log.reader(TOPIC, GROUP) as reader:
        begun = clock()
        assert await reader.read(10, 0.8) == []
        assert 0.75 < clock() - begun < 5
        begun = clock()
        assert await reader.read(10, 0) == []
        assert clock() - begun < 0.5


@every_log
async def test_an_append_wakes_a_reader_that_waits(log: Log) -> None:
    clock = asyncio.get_running_loop().time
    delays = []
    async with log.reader(TOPIC, GROUP) as reader:
        for number in range(6):
            reading = asyncio.create_task(reader.read(10, 20))
            await asyncio.sleep(0.05 * number)
            await log.append(TOPIC, [record(number)])
            begun = clock()
            assert numbers(await reading) == [number]
            delays.append(clock() - begun)
    # One that only looked by itself would be late nearly each time.
    assert sorted(delays)[2] < 0.1


@every_log
async def test_what_is_done_can_be_said_while_a_read_waits(log: Log) -> None:
    await log.append(TOPIC, records(3))
    async with log.reader(TOPIC, GROUP) as reader:
        entries = await read(reader, 3)
        waiting = asyncio.create_task(reader.read(10, 30))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(reader.done(places(entries)), 5)
        assert await log.backlog(TOPIC) == {GROUP: 0}
        assert not waiting.done()
        await log.append(TOPIC, [record(3)])
        assert numbers(await waiting) == [3]


@every_log
@pytest.mark.parametrize("seed", range(3))
async def test_reads_and_dones_that_are_cancelled_at_any_moment_lose_nothing(log: Log, seed: int) -> None:
    dice = random.Random(seed)
    await log.append(TOPIC, records(300))
    seen: set[int] = set()

    async def work(reader: LogReader) -> None:
        """Reads and does; a reader whose done was cut off says it again, or goes."""
        while len(seen) < 300 or (await log.backlog(TOPIC))[GROUP]:
            try:
                entries = await asyncio.wait_for(reader.read(7, 0.05), dice.uniform(0, 0.012))
            except asyncio.TimeoutError:
                continue
            seen.update(numbers(entries))
            try:
                await asyncio.wait_for(reader.done(places(entries)), dice.uniform(0, 0.012))
            except asyncio.TimeoutError:
                await reader.done(places(entries))

    async with asyncio.timeout(60):
        while (await log.backlog(TOPIC)).get(GROUP, 300):
            async with log.reader(TOPIC, GROUP) as reader:
                try:
                    await work(reader)
                except LeaseLost:
                    continue
    assert seen == set(range(300))


@every_log
async def test_two_groups_read_each_all_at_their_own_pace(log: Log) -> None:
    await log.append(TOPIC, records(40))
    async with log.reader(TOPIC, "fast") as fast, log.reader(TOPIC, "slow") as slow:
        assert sorted(numbers(await read_and_do(fast, 40))) == list(range(40))
        assert len(await read_and_do(slow, 10)) == 10
        assert await log.backlog(TOPIC) == {"fast": 0, "slow": 30}


@every_log
async def test_topics_know_nothing_of_each_other(log: Log) -> None:
    async with log.reader(TOPIC, GROUP) as reader, log.reader(Topic.ROUTINGS, GROUP) as other:
        await log.append(TOPIC, records(5))
        await log.append(Topic.ROUTINGS, records(3, first=100))
        assert sorted(numbers(await read_and_do(reader, 5))) == [0, 1, 2, 3, 4]
        assert sorted(numbers(await read(other, 3))) == [100, 101, 102]
        assert await log.backlog(TOPIC) == {GROUP: 0}
        assert await log.backlog(Topic.ROUTINGS) == {GROUP: 3}


# --- what is done -------------------------------------------------------------------------------------


@every_log
async def test_done_out_of_order_moves_the_group_only_over_what_is_contiguous(rig: LogRig) -> None:
    log = rig.log(1)
    await log.append(TOPIC, records(10))
    async with log.reader(TOPIC, GROUP) as reader:
        entries = await read(reader, 10)
        await reader.done(places(entries[5:8]))
        assert await log.backlog(TOPIC) == {GROUP: 10}
        await reader.done(places(entries[0:2]))
        assert await log.backlog(TOPIC) == {GROUP: 8}
    async with log.reader(TOPIC, GROUP) as reader:
        assert numbers(await read(reader, 8)) == list(range(2, 10))


@every_log
async def test_what_was_done_out_of_order_counts_as_soon_as_the_gap_is_closed(rig: LogRig) -> None:
    log = rig.log(1)
    await log.append(TOPIC, records(10))
    async with log.reader(TOPIC, GROUP) as reader:
        entries = await read(reader, 10)
        for several in (entries[7:9], entries[3:7], entries[1:3], entries[1:3]):
            await reader.done(places(several))
        assert await log.backlog(TOPIC) == {GROUP: 10}
        await reader.done(places(entries[:1]))
        assert await log.backlog(TOPIC) == {GROUP: 1}
        await reader.done(places(entries[2:3]))
        assert await log.backlog(TOPIC) == {GROUP: 1}
        await reader.done(places(entries))
        assert await log.backlog(TOPIC) == {GROUP: 0}


@every_log
@pytest.mark.parametrize("seed", range(3))
async def test_in_whatever_order_things_are_done_nothing_undone_is_lost(rig: LogRig, seed: int) -> None:
    dice = random.Random(seed)
    log = rig.log(3)
    await log.append(TOPIC, records(120))
    async with log.reader(TOPIC, GROUP) as reader:
        entries = await read(reader, 120)
        said = dice.sample(entries, 90)
        for first in range(0, 90, 9):
            await reader.done(places(said[first : first + 9]))
    left = set(range(120))
    for several in by_partition(entries).values():
        for entry in several:
            if entry not in said:
                break
            left.discard(int(entry.record.value))
    async with log.reader(TOPIC, GROUP) as reader:
        assert set(numbers(await read(reader, len(left)))) == left
        await nothing_comes(reader, 0.2)


@every_log
async def test_a_reader_that_closes_leaves_what_it_has_not_done_to_the_next(log: Log) -> None:
    await log.append(TOPIC, records(30))
    async with log.reader(TOPIC, GROUP) as reader:
        done = numbers(await read_and_do(reader, 12))
        await read(reader, 10)
    async with log.reader(TOPIC, GROUP) as reader:
        left = numbers(await read(reader, 18))
    assert sorted(done + left) == list(range(30))


# --- who holds what -----------------------------------------------------------------------------------


@every_log
async def test_what_a_reader_whose_connection_died_had_not_done_is_read_again_by_another(
    rig: LogRig,
) -> None:
    log = rig.log()
    await log.append(TOPIC, records(40))
    async with log.reader(TOPIC, GROUP) as reader, log.reader(TOPIC, GROUP) as other:
        done = numbers(await read_and_do(reader, 5))
        held = await read(reader, 5)
        await rig.cut(reader)
        taken = await read_and_do(other, 35)
        assert sorted(done + numbers(taken)) == list(range(40))
        assert set(numbers(held)) <= set(numbers(taken))
        with pytest.raises(LeaseLost):
            await reader.read(10, 0)


@every_log
async def test_a_reader_whose_connection_died_learns_it_while_it_waits(rig: LogRig) -> None:
    async with rig.log().reader(TOPIC, GROUP) as reader:
        waiting = asyncio.create_task(reader.read(10, 60))
        await asyncio.sleep(0.2)
        await rig.cut(reader)
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(waiting, 10)


@every_log
async def test_a_reader_that_lost_its_partitions_cannot_move_the_group(rig: LogRig) -> None:
    log = rig.log()
    await log.append(TOPIC, records(20))
    async with log.reader(TOPIC, GROUP) as reader:
        entries = await read(reader, 20)
        await reader.done(places(by_partition(entries)[0][:1]))
        await rig.cut(reader)
        with pytest.raises(LeaseLost):
            await reader.done(places(entries))
        async with log.reader(TOPIC, GROUP) as other:
            again = await read(other, 19)
            with pytest.raises(LeaseLost):
                await reader.done(places(entries))
            assert await log.backlog(TOPIC) == {GROUP: 19}
            await other.done(places(again))
    assert await log.backlog(TOPIC) == {GROUP: 0}


@every_log
async def test_a_reader_cannot_say_done_what_another_was_handed(log: Log) -> None:
    await log.append(TOPIC, records(60))
    async with log.reader(TOPIC, GROUP) as reader, log.reader(TOPIC, GROUP) as other:
        first, second = await handed_to([reader, other], 60)
        assert set(by_partition(first)).isdisjoint(by_partition(second))
        assert first
        assert second
        with pytest.raises(LeaseLost):
            await reader.done(places([*first, *second]))
        assert await log.backlog(TOPIC) == {GROUP: len(second)}
        await other.done(places(second))
        assert await log.backlog(TOPIC) == {GROUP: 0}


async def handed_to(readers: Sequence[LogReader], count: int) -> list[list[Entry]]:
    """What each of several readers is handed of this many records, when all read at once."""
    found: list[list[Entry]] = [[] for _ in readers]
    async with asyncio.timeout(20):
        while sum(map(len, found)) < count:
            pages = await asyncio.gather(*(reader.read(100, 0.2) for reader in readers))
            for several, page in zip(found, pages, strict=True):
                several += page
    return found


CHILD = """
import asyncio, sys
from tests.conformance.log_suite import GROUP, RIGS, TOPIC, numbers, read, read_and_do

async def main():
    log = await RIGS[sys.argv[1]].elsewhere(*sys.argv[2:])
    async with log.reader(TOPIC, GROUP) as reader:
        print("done", *numbers(await read_and_do(reader, 8)), flush=True)
        print("held", *numbers(await read(reader, 8)), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@every_log
async def test_what_a_killed_process_had_not_done_is_read_again_by_another(rig: LogRig) -> None:
    log = rig.log()
    await log.append(TOPIC, records(30))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, *rig.address(), stdout=PIPE)
    assert process.stdout is not None
    said = [(await process.stdout.readline()).decode().split() for _ in range(2)]
    done, held = ({int(word) for word in words[1:]} for words in said)
    async with log.reader(TOPIC, GROUP) as reader:
        await nothing_comes(reader)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        left = numbers(await read_and_do(reader, 22))
    assert sorted([*done, *left]) == list(range(30))
    assert len(held) == 8
    assert held <= set(left)


@every_log
async def test_the_partitions_of_a_group_are_shared_and_each_record_is_handed_to_one(rig: LogRig) -> None:
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(rig.log().reader(TOPIC, GROUP)) for _ in range(2)]
        log = rig.log()
        found = await work_together(readers, log, 12)
    assert sorted(numbers([*found[0], *found[1]])) == list(range(12 * 40))
    # At the end, when each has its own.
    last = [
        {entry.position.partition for entry in several if int(entry.record.value) >= 10 * 40}
        for several in found
    ]
    assert [len(partitions) for partitions in last] == [2, 2]
    assert last[0].isdisjoint(last[1])


@every_log
async def test_a_newcomer_gets_its_share_while_the_first_works_and_gives_it_back_when_it_goes(
    log: Log,
) -> None:
    async with log.reader(TOPIC, GROUP) as first:
        assert len(by_partition((await work_together([first], log, 2))[0])) == 4
        async with log.reader(TOPIC, GROUP) as second:
            found = await work_together([first, second], log, 10)
            assert len(by_partition(found[1])) == 2
        await work_together([first], log, 4)
        last = await work_together([first], log, 1)
        assert len(by_partition(last[0])) == 4
    assert await log.backlog(TOPIC) == {GROUP: 0}


async def work_together(readers: Sequence[LogReader], log: Log, rounds: int) -> list[list[Entry]]:
    """Every 0.4 seconds 40 records; what each reader was handed (and has done) until all is done."""
    found: list[list[Entry]] = [[] for _ in readers]
    ended = asyncio.Event()

    async def work(reader: LogReader, into: list[Entry]) -> None:
        while not ended.is_set():
            entries = await reader.read(15, 0.1)
            into += entries
            await reader.done(places(entries))

    working = [asyncio.create_task(work(one, into)) for one, into in zip(readers, found, strict=True)]
    for turn in range(rounds):
        await log.append(TOPIC, records(40, first=turn * 40))
        await asyncio.sleep(0.4)
    await until_all_is_done(log)
    ended.set()
    await asyncio.gather(*working)
    return found


async def until_all_is_done(log: Log) -> None:
    for _ in range(400):
        if not (await log.backlog(TOPIC))[GROUP]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("some records were not done")


@every_log
async def test_a_partition_goes_to_a_newcomer_only_when_all_that_was_handed_of_it_is_done(log: Log) -> None:
    await log.append(TOPIC, records(20))
    async with log.reader(TOPIC, GROUP) as first:
        held = await read(first, 20)
        async with log.reader(TOPIC, GROUP) as second:
            for _ in range(3):
                await nothing_comes(first, 0.3)
                await nothing_comes(second, 0.3)
            await first.done(places(held))
            await log.append(TOPIC, records(20, first=20))
            shares = await handed_to([first, second], 20)
            assert sorted(numbers([*shares[0], *shares[1]])) == list(range(20, 40))
            await first.done(places(shares[0]))
            await second.done(places(shares[1]))
    assert await log.backlog(TOPIC) == {GROUP: 0}


@every_log
async def test_a_reader_that_always_has_a_page_in_hand_gives_a_newcomer_its_share(rig: LogRig) -> None:
    log = rig.log(2)
    await log.append(TOPIC, records(20))
    async with log.reader(TOPIC, GROUP) as first:
        in_hand = list(await first.read(100, 10))
        assert len(by_partition(in_hand)) == 2
        async with log.reader(TOPIC, GROUP) as second:
            for turn in range(1, 40):
                await log.append(TOPIC, records(20, first=turn * 20))
                page = list(await first.read(100, 0.1))
                await first.done(places(in_hand))
                in_hand = page
                if await second.read(100, 0.1):
                    return
    raise AssertionError("the newcomer was given nothing")


@every_log
async def test_a_reader_too_many_has_nothing_until_another_dies(rig: LogRig) -> None:
    log = rig.log(1)
    async with log.reader(TOPIC, GROUP) as reader:
        await nothing_comes(reader, 0)
        async with log.reader(TOPIC, GROUP) as spare:
            await log.append(TOPIC, records(10))
            shares = await handed_to([reader, spare], 10)
            assert sorted(map(len, shares)) == [0, 10]
            working, resting = (reader, spare) if shares[0] else (spare, reader)
            await rig.cut(working)
            assert numbers(await read_and_do(resting, 10)) == list(range(10))


# --- groups -------------------------------------------------------------------------------------------


@every_log
async def test_a_new_group_begins_at_the_earliest_record_there_is(log: Log) -> None:
    async with log.reader(TOPIC, "first") as reader:
        await log.append(TOPIC, records(30))
        done = numbers(await read_and_do(reader, 18))
        assert await log.trim(TOPIC) == 18
        async with log.reader(TOPIC, "second") as other:
            found = await read(other, 12)
            assert sorted(done + numbers(found)) == list(range(30))
        await read_and_do(reader, 12)
    assert await log.trim(TOPIC) == 0
    await log.remove_group(TOPIC, "second")
    assert await log.trim(TOPIC) == 12
    async with log.reader(TOPIC, "third") as reader:
        await log.append(TOPIC, [record(30)])
        assert numbers(await read(reader, 1)) == [30]


@every_log
async def test_a_group_that_is_known_goes_on_where_it_was(log: Log) -> None:
    async with log.reader(TOPIC, GROUP) as reader:
        await log.append(TOPIC, records(10))
        await read_and_do(reader, 10)
    await log.append(TOPIC, records(5, first=10))
    async with log.reader(TOPIC, GROUP) as reader:
        assert sorted(numbers(await read(reader, 5))) == list(range(10, 15))


@every_log
async def test_trim_never_takes_what_one_group_has_not_done(log: Log) -> None:
    async with log.reader(TOPIC, "fast") as fast, log.reader(TOPIC, "slow") as slow:
        await log.append(TOPIC, records(50))
        await read_and_do(fast, 50)
        assert await log.trim(TOPIC) == 0
        done = numbers(await read_and_do(slow, 20))
        assert await log.trim(TOPIC) == 20
        assert await log.trim(TOPIC) == 0
        assert sorted(done + numbers(await read_and_do(slow, 30))) == list(range(50))
        assert await log.trim(TOPIC) == 30


@every_log
async def test_trim_leaves_what_was_read_and_is_not_done(log: Log) -> None:
    await log.append(TOPIC, records(20))
    async with log.reader(TOPIC, GROUP) as reader:
        await read(reader, 20)
        assert await log.trim(TOPIC) == 0
    async with log.reader(TOPIC, GROUP) as reader:
        assert sorted(numbers(await read(reader, 20))) == list(range(20))


@every_log
async def test_without_a_group_nothing_is_trimmed(log: Log) -> None:
    await log.append(TOPIC, records(10))
    assert await log.backlog(TOPIC) == {}
    assert await log.trim(TOPIC) == 0
    async with log.reader(TOPIC, GROUP) as reader:
        assert len(await read(reader, 10)) == 10


@every_log
async def test_a_group_that_is_removed_holds_nothing_back(log: Log) -> None:
    async with log.reader(TOPIC, "stays") as stays:
        async with log.reader(TOPIC, "goes") as goes:
            await log.append(TOPIC, records(10))
            await read_and_do(goes, 1)
        await read_and_do(stays, 10)
        await log.remove_group(TOPIC, "goes")
        assert await log.backlog(TOPIC) == {"stays": 0}
        assert await log.trim(TOPIC) == 10
    await log.remove_group(TOPIC, "never was")


@every_log
async def test_the_living_readers_of_a_group_that_is_removed_lose_what_they_hold(log: Log) -> None:
    await log.append(TOPIC, records(10))
    async with log.reader(TOPIC, GROUP) as reader:
        entries = await read(reader, 5)
        waiting = asyncio.create_task(read_on(reader))
        await log.remove_group(TOPIC, GROUP)
        with pytest.raises(LeaseLost):
            await reader.done(places(entries))
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(waiting, 10)
        with pytest.raises(LeaseLost):
            await reader.read(10, 0)
    assert await log.backlog(TOPIC) == {}


async def read_on(reader: LogReader) -> None:
    while True:
        await reader.read(10, 30)


@every_log
async def test_a_group_that_came_again_is_not_moved_by_a_reader_of_the_one_that_was_removed(
    log: Log,
) -> None:
    await log.append(TOPIC, records(10))
    async with log.reader(TOPIC, GROUP) as old:
        entries = await read(old, 10)
        await log.remove_group(TOPIC, GROUP)
        async with log.reader(TOPIC, GROUP) as new:
            assert await log.backlog(TOPIC) == {GROUP: 10}
            with pytest.raises(LeaseLost):
                await old.done(places(entries))
            assert await log.backlog(TOPIC) == {GROUP: 10}
            assert sorted(numbers(await read_and_do(new, 10))) == list(range(10))
        with pytest.raises(LeaseLost):
            await old.read(10, 0)


@every_log
async def test_groups_that_come_and_go_while_others_append_and_trim_miss_nothing_left(rig: LogRig) -> None:
    """A group is never given a beginning that trim then takes away."""
    log = rig.log()
    ended = asyncio.Event()

    async def keep_trimming() -> None:
        while not ended.is_set():
            await rig.log().trim(TOPIC)

    async def stay() -> list[int]:
        found: list[int] = []
        async with rig.log().reader(TOPIC, "stays") as reader:
            while len(found) < 2000:
                entries = await reader.read(90, 20)
                await reader.done(places(entries))
                found += numbers(entries)
        return found

    async def come_and_go(name: str) -> None:
        while not ended.is_set():
            async with rig.log().reader(TOPIC, name) as reader:
                assert_in_order(await reader.read(500, 0.05))
            await rig.log().remove_group(TOPIC, name)

    staying = asyncio.create_task(stay())
    others = [asyncio.create_task(work) for work in (keep_trimming(), come_and_go("a"), come_and_go("b"))]
    for first in range(0, 2000, 40):
        await log.append(TOPIC, records(40, first=first))
    found = await asyncio.wait_for(staying, 60)
    ended.set()
    await asyncio.gather(*others)
    assert sorted(found) == list(range(2000))


# --- its life -----------------------------------------------------------------------------------------


@every_log
async def test_its_incarnation_is_the_same_for_everybody_whatever_is_done_with_the_log(rig: LogRig) -> None:
    log = rig.log()
    told = await log.incarnation(TOPIC)
    assert told
    await log.append(TOPIC, records(10))
    async with log.reader(TOPIC, GROUP) as reader:
        await read_and_do(reader, 10)
        assert await rig.log().incarnation(TOPIC) == told
    await log.trim(TOPIC)
    await log.remove_group(TOPIC, GROUP)
    assert await rig.log().incarnation(TOPIC) == told


@every_log
async def test_a_log_that_was_lost_has_another_incarnation_and_nothing_of_the_former(rig: LogRig) -> None:
    log = rig.log()
    await log.append(TOPIC, records(40))
    async with log.reader(TOPIC, GROUP) as reader:
        await read_and_do(reader, 30)
    told = await log.incarnation(TOPIC)
    await rig.lose()
    log = rig.log()
    assert await log.incarnation(TOPIC) != told
    await log.append(TOPIC, records(40, first=100))
    assert await log.backlog(TOPIC) == {}
    async with log.reader(TOPIC, GROUP) as reader:
        assert sorted(numbers(await read_and_do(reader, 40))) == list(range(100, 140))


# --- settings -----------------------------------------------------------------------------------------


@every_log_with(Feature.FIXED_PARTITIONS)
async def test_another_number_of_partitions_than_the_topic_has_is_refused(rig: LogRig) -> None:
    await rig.log(4).append(TOPIC, records(1))
    with pytest.raises(SettingsError, match=r"4 partitions.*say 5"):
        await rig.log(5).append(TOPIC, records(1))
    with pytest.raises(SettingsError):
        async with rig.log(3).reader(TOPIC, GROUP):
            pass
    await rig.log(5).append(Topic.ROUTINGS, records(1))
    with pytest.raises(SettingsError):
        rig.log(0)


@every_log_with(Feature.FIXED_PARTITIONS)
async def test_of_two_first_appends_with_different_numbers_one_is_refused(rig: LogRig) -> None:
    answers = await asyncio.gather(
        *(rig.log(count).append(TOPIC, records(20)) for count in (2, 5)), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["NoneType", "SettingsError"]
    winner = 2 if answers[0] is None else 5
    async with rig.log(winner).reader(TOPIC, GROUP) as reader:
        found = await read(reader, 20)
    assert max(by_partition(found)) == winner - 1
