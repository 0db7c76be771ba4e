"""One PostgreSQL database: its pool, its transactions, its notifications.

Business of this file: a transaction that is run again when the database breaks a deadlock, an absent
server that shows as Unavailable, and waiting for a notification. It holds no statement of any room.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg

from hub.domain.errors import Unavailable

# In quotes: only the type stubs of asyncpg know that these take a parameter.
Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"
Result = TypeVar("Result")

_RUNS = 8
_BROKEN_FOR_OTHERS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncio.TimeoutError,
)


class Database:
    """A pool of connections to one database. Use `await Database.open(dsn)`."""

    def __init__(self, dsn: str, pool: asyncpg.Pool[Any]) -> None:
        self._dsn = dsn
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str, size: int = 12) -> Database:
        """Raises Unavailable when nobody answers."""
        try:
            pool = await asyncpg.create_pool(
                dsn, min_size=1, max_size=size, init=_prepare, timeout=10, command_timeout=60
            )
        except _AWAY as error:
            raise Unavailable(f"the database does not answer ({type(error).__name__})") from error
        return cls(dsn, pool)

    async def close(self) -> None:
        try:
            await asyncio.wait_for(self._pool.close(), 10)
        except asyncio.TimeoutError:
            self._pool.terminate()

    async def run(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """`work` in one transaction, durable when this returns. It may be called more than once: the
        database sometimes breaks a deadlock by sending one of two away. Raises Unavailable."""
        for run in range(1, _RUNS + 1):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    return await work(connection)
            except _BROKEN_FOR_OTHERS:
                if run == _RUNS:
                    raise
                await asyncio.sleep(0.01 * run)
            except _AWAY as error:
                raise Unavailable(f"the database is away ({type(error).__name__})") from error
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """A connection of one's own, outside the pool: for locks that live as long as it does."""
        try:
            connection = await asyncpg.connect(self._dsn, timeout=10, command_timeout=60)
        except _AWAY as error:
            raise Unavailable(f"the database does not answer ({type(error).__name__})") from error
        try:
            await _prepare(connection)
            yield connection
        finally:
            connection.terminate()


class Bell:
    """Wakes whoever waits when the database notifies a channel. Only a hurry: those who wait also look
    by themselves after their time, so a lost notification costs a moment and nothing else."""

    def __init__(self, database: Database, channel: str) -> None:
        self._database = database
        self._channel = channel
        self._rung = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def wait(self, seconds: float) -> None:
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait_for(self._rung.wait(), max(seconds, 0))
        except asyncio.TimeoutError:
            return
        finally:
            self._rung.clear()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        async with self._database.alone() as connection:
            gone = asyncio.Event()
            connection.add_termination_listener(lambda _: gone.set())
            await connection.add_listener(self._channel, lambda *_: self._rung.set())
            await gone.wait()


async def _prepare(connection: asyncpg.Connection[Any]) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
