"""What must be true of the embedded log beside its port: polling as the truth, trimming in parts, no deadlock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hub.adapters.postgres import log as log_module
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.log_reader import PostgresLogReader
from hub.domain.errors import LeaseLost
from hub.ports.log import Record, Topic, places
from tests.conformance.samples import WatchedDatabase

TOPIC = Topic.SUBMISSIONS
GROUP = "readers"


@pytest_asyncio.fixture
async def opened(database: str) -> AsyncIterator[WatchedDatabase]:
    opened = await WatchedDatabase.watch(database)
    yield opened
    await opened.close()


def records(count: int) -> list[Record]:
    return [Record(str(number).encode(), "essai.v1", b"facts") for number in range(count)]


async def test_what_nobody_notified_is_read_all_the_same(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PostgresLog(opened)
    async with log.reader(TOPIC, GROUP) as reader:
        assert not await reader.read(10, 0)
        monkeypatch.setattr(log_module, "channel", lambda topic: "elsewhere")
        waiting = asyncio.create_task(reader.read(10, 30))
        await asyncio.sleep(0.1)
        await log.append(TOPIC, records(3))
        async with asyncio.timeout(10):
            assert await waiting


async def test_trim_takes_much_in_parts_and_all_of_it(
    opened: WatchedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_TRIMMED_AT_ONCE", 7)
    log = PostgresLog(opened, 2)
    await log.append(TOPIC, records(100))
    async with log.reader(TOPIC, GROUP) as reader:
        await reader.done(places(await reader.read(100, 5)))
    opened.statements.clear()
    assert await log.trim(TOPIC) == 100
    assert len(opened.statements) > 100 / (2 * 7)
    assert await left(opened) == 0


async def left(database: Database) -> int:
    async def work(connection: Connection) -> int:
        found: int = await connection.fetchval("SELECT count(*) FROM log_record")
        return found

    return await database.run(work)


async def test_appends_to_many_partitions_at_once_never_deadlock(opened: WatchedDatabase) -> None:
    log = PostgresLog(opened, 8)

    async def append(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(25):
            await log.append(TOPIC, dice.sample(records(200), 30))

    await asyncio.gather(*(append(seed) for seed in range(8)))
    assert await left(opened) == 8 * 25 * 30
    assert await opened.deadlocks() == 0


async def test_a_reader_leaves_no_lock_and_no_connection_behind(opened: Database) -> None:
    async def locks(connection: Connection) -> int:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return found

    log = PostgresLog(opened)
    for _ in range(3):
        async with log.reader(TOPIC, GROUP) as reader:
            await reader.read(10, 0)
            assert await opened.run(locks) == 5
        async with asyncio.timeout(10):
            while await opened.run(locks):
                await asyncio.sleep(0.01)


async def test_a_look_that_was_cut_off_leaves_no_lock_of_which_nobody_knows(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PostgresLog(opened)
    await log.append(TOPIC, records(40))
    async with log.reader(TOPIC, GROUP) as reader, log.reader(TOPIC, GROUP) as other:
        assert isinstance(reader, PostgresLogReader)
        lock = reader._lock

        async def lock_and_be_cut_off(partition: int) -> bool:
            await lock(partition)
            raise asyncio.CancelledError

        monkeypatch.setattr(reader, "_lock", lock_and_be_cut_off)
        with pytest.raises(asyncio.CancelledError):
            await reader.read(10, 0)
        monkeypatch.undo()
        with pytest.raises(LeaseLost):
            await reader.read(10, 0)
        count = 0
        async with asyncio.timeout(10):
            while count < 40:
                count += len(await other.read(100, 0.2))
