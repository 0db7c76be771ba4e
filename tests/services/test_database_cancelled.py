"""Work in the store that is cancelled: it ends as cancelled and at once, whatever the database does meanwhile, and what
it had begun is undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Connection, Database

SOON = 5.0
"""Seconds; the library would wait for a minute."""


class Cable:
    """The way to the database: it falls silent while `open` is not set, and can be cut."""

    def __init__(self, dsn: str) -> None:
        self._there = urlsplit(dsn)
        self.open = asyncio.Event()
        self.open.set()
        self._ends: list[asyncio.StreamWriter] = []

    async def lay(self) -> str:
        """The database's address by this way."""
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        account, _, _ = self._there.netloc.rpartition("@")
        return f"postgresql://{account}@127.0.0.1:{port}{self._there.path}?sslmode=disable"

    def cut(self) -> None:
        for one in self._ends:
            one.transport.abort()
        self._ends.clear()

    def remove(self) -> None:
        self._server.close()
        self.open.set()
        self.cut()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        [folder] = parse_qs(self._there.query).get("host", [""])
        there = (
            await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{self._there.port or 5432}")
            if folder
            else await asyncio.open_connection(self._there.hostname, self._there.port or 5432)
        )
        self._ends += [writer, there[1]]
        await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self.open.wait()
                target.write(data)
        except OSError:
            pass
        finally:
            target.close()


@pytest_asyncio.fixture
async def cable(database: str) -> AsyncIterator[Cable]:
    made = Cable(database)
    yield made
    made.remove()


@pytest_asyncio.fixture
async def store(cable: Cable) -> AsyncIterator[Database]:
    opened = await Database.open(await cable.lay(), 2)
    yield opened
    await opened.close()


async def asleep(store: Database, *, alone: bool) -> asyncio.Task[object]:
    """A task in the middle of a statement, of a transaction or by itself."""
    begun = asyncio.Event()

    async def work(connection: Connection) -> object:
        begun.set()
        return await connection.fetchval("SELECT pg_sleep(600)")

    task: asyncio.Task[object] = asyncio.create_task((store.once if alone else store.run)(work))
    await begun.wait()
    await asyncio.sleep(0.2)
    return task


@pytest.mark.parametrize("alone", [False, True], ids=["in-a-transaction", "one-statement"])
@pytest.mark.parametrize("happens", ["nothing", "silent", "cut"])
async def test_whoever_is_cancelled_is_so_at_once_and_the_next_is_served(
    cable: Cable, store: Database, happens: str, alone: bool
) -> None:
    tasks = [await asleep(store, alone=alone) for _ in range(2)]
    for task in tasks:
        if happens == "silent":
            cable.open.clear()
        task.cancel()
    if happens == "cut":
        cable.cut()
    done, _ = await asyncio.wait(tasks, timeout=SOON)
    assert [task in done and task.cancelled() for task in tasks] == [True, True]
    cable.open.set()
    async with asyncio.timeout(20):
        assert await store.run(lambda connection: connection.fetchval("SELECT 1")) == 1


async def test_what_was_begun_is_undone_and_its_locks_are_given_back(store: Database, database: str) -> None:
    other = await asyncpg.connect(database)
    await other.execute("CREATE TABLE thing (id int PRIMARY KEY); INSERT INTO thing VALUES (1)")
    locked = asyncio.Event()

    async def work(connection: Connection) -> None:
        await connection.execute("DELETE FROM thing")
        locked.set()
        await connection.execute("SELECT pg_sleep(600)")

    task: asyncio.Task[None] = asyncio.create_task(store.run(work))
    await locked.wait()
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])
    # The server was asked to stop: it would sleep for ten minutes, with the lock.
    await other.execute("SET lock_timeout = '20s'")
    assert await other.fetchval("SELECT count(*) FROM (SELECT FROM thing FOR UPDATE) AS there") == 1
    await other.close()


async def test_a_time_limit_around_the_store_is_kept(cable: Cable, store: Database) -> None:
    cable.open.clear()
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await store.run(lambda connection: connection.fetchval("SELECT 1"))
    assert asyncio.get_running_loop().time() - began < SOON
