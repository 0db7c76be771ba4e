"""One PostgreSQL database: its pool, its transactions, its notifications.

Business of this file: a transaction that is run again when the database breaks it in favour of another, a
server that is away and shows as Unavailable, and waiting for a notification. It holds no statement of any
room.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pydantic_core

from hub.domain.errors import SettingsError, Unavailable

# In quotes: only the type stubs of asyncpg know that these take a parameter.
Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"
OwnConnection: TypeAlias = "asyncpg.Connection[Any]"
Result = TypeVar("Result")

_RUNS = 8
_LEAVING = 5.0
"""Seconds that a connection has to end whose work was cancelled."""
_BROKEN_FOR_OTHERS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    # A newer hub has just changed the tables: what asyncpg had prepared is forgotten by now.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)
_AWAY = (
    OSError,  # every way of not reaching it, the time limits among them
    asyncpg.InterfaceError,  # what one is told of a connection that broke a moment ago
    asyncpg.InternalClientError,  # the same, of one that the server ended while it rested
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # stopped, starting, killed by an operator
    asyncpg.InsufficientResourcesError,  # no disk, no memory, no connection left
    asyncpg.ReadOnlySQLTransactionError,  # a standby that is not yet promoted
)
FORBIDDEN = "not_wrapped_under_"
"""How constraints begin that keep a forgotten key of the hub from coming back (see `wrapped_keys`)."""

_CLOSED_TO_US = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    ValueError,  # an address that cannot be read
)


class KeyForgotten(Unavailable):
    """What was to be kept is wrapped under a key of the hub that was forgotten: this process needs the newest."""


class Database:
    """A pool of connections to one database. Use `await Database.open(dsn)`."""

    def __init__(self, dsn: str, pool: asyncpg.Pool[Any]) -> None:
        self._dsn = dsn
        self._pool = pool
        self._leaving: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, dsn: str, size: int = 12) -> Database:
        """Raises Unavailable when nobody answers, SettingsError when the address is wrong or refused."""
        with reached(dsn):
            pool = await asyncpg.create_pool(
                dsn, min_size=1, max_size=size, init=_prepare, reset=_as_it_is, timeout=10, command_timeout=60
            )
        return cls(dsn, pool)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(10):
                await self._pool.close()
        except asyncio.TimeoutError:
            self._pool.terminate()

    async def run(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """`work` in one transaction, durable when this returns. It may be called more than once: the
        database sometimes breaks a deadlock by sending one of two away. Raises Unavailable, also when the
        answer to the commit was lost: the transaction may have happened; whoever is cancelled is so at once, however
        silent the database is, and may have been too late."""

        async def in_transaction(connection: Connection) -> Result:
            transaction = connection.transaction()
            await transaction.start()
            try:
                found = await work(connection)
            except Exception:
                await transaction.rollback()
                raise
            await transaction.commit()
            return found

        return await self.once(in_transaction)

    async def once(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """The same for `work` that is a single statement: it is a transaction by itself, and beginning and
        committing one around it would be two more round trips."""
        for run in range(1, _RUNS + 1):
            try:
                with served():
                    return await self._lent(work)
            except _BROKEN_FOR_OTHERS as error:
                if run == _RUNS:
                    raise Unavailable("the database preferred others each time") from error
                await asyncio.sleep(0.01 * run)
        raise AssertionError("unreachable")

    async def _lent(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        connection = await self._pool.acquire()
        try:
            found = await work(connection)
        except asyncio.CancelledError:
            # Asking the server to stop and to undo what it did takes as long as it is silent, and what comes of that
            # would stand in the place of the cancellation. With the connection, its transaction ends.
            leaving = asyncio.create_task(_leave(connection))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            raise
        except BaseException:
            await self._pool.release(connection)
            raise
        await self._pool.release(connection)
        return found

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[OwnConnection]:
        """A connection of one's own, outside the pool: for locks that live as long as it does. Needs the
        server itself or a pooler that keeps sessions apart. Raises Unavailable, also when the connection
        is lost before this ends."""
        connection = await connect(self._dsn, command_timeout=60)
        try:
            await connection.execute(_NOTICE_A_DEAD_CLIENT)
            yield connection
        except _AWAY as error:
            # Here anything may be done, also what fails without the database having a part in it.
            if isinstance(error, OSError) and not connection.is_closed():
                raise
            raise _away(error) from error
        finally:
            connection.terminate()


async def _leave(connection: Connection) -> None:
    """In the middle of whatever it does: the server is asked to stop that, if it still answers."""
    with suppress(Exception):
        # The library ends it hard when it cannot be ended well.
        await connection.close(timeout=_LEAVING)


# Otherwise the server holds the locks of a machine that lost its power for two hours.
_NOTICE_A_DEAD_CLIENT = (
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)


async def connect(dsn: str, command_timeout: float | None = None) -> OwnConnection:
    """A single connection. Raises Unavailable when nobody answers, SettingsError when the address is wrong
    or refused."""
    with reached(dsn):
        connection = await asyncpg.connect(dsn, timeout=10, command_timeout=command_timeout)
        try:
            await _prepare(connection)
        except BaseException:
            connection.terminate()
            raise
    return connection


async def _as_it_is(connection: object) -> None:
    """What a pooled connection is given back with: its transaction has ended, and nothing that outlives a
    transaction (settings, listening, session locks) is ever begun on it. Asking the server to undo it all
    the same would be a round trip for each transaction."""


async def _prepare(connection: OwnConnection) -> None:
    await connection.set_type_codec("jsonb", encoder=to_json, decoder=from_json, schema="pg_catalog")


def to_json(value: object) -> str:
    """As the standard library writes it, in a quarter of its time."""
    return pydantic_core.to_json(value, inf_nan_mode="constants").decode()


def from_json(text: str) -> Any:
    return pydantic_core.from_json(text)


@contextmanager
def reached(dsn: str) -> Iterator[None]:
    """While connecting: what is wrong with the address or with TLS shows as SettingsError, a server that is
    away as Unavailable."""
    try:
        _look_at_files(dsn)
        with served():
            try:
                yield
            except OSError as error:
                if (sentence := _against_tls(error)) is not None:
                    raise SettingsError(sentence) from None
                raise
    except _CLOSED_TO_US as error:
        # Without the cause: its text may quote the address, which holds a password.
        raise SettingsError(f"the database address is wrong or refused ({type(error).__name__})") from None


def _look_at_files(dsn: str) -> None:
    """The library says of a certificate that is not there what it says of a server that is not there."""
    told = parse_qs(urlsplit(dsn).query)
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        for path in told.get(name, ()):
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise SettingsError(f"{name} of the database address: {path}: {error.strerror}") from None


def _against_tls(error: OSError) -> str | None:
    """What is wrong between this hub and a server that is there; None: it is another fault."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"the database's certificate does not fit the address: {error.verify_message}"
        case ssl.SSLEOFError() | ssl.SSLSyscallError() | ssl.SSLZeroReturnError():
            return None
        case ssl.SSLError():
            return (
                "TLS with the database is not possible: a certificate or key of its address is none, or the"
                " server wants another one"
            )
        case ConnectionError() if "rejected SSL upgrade" in str(error):
            return "the database's address asks for TLS (sslmode), and its server has none"
        case _:
            return None


@contextmanager
def served() -> Iterator[None]:
    """A server that is away, or whose connection is lost, shows as Unavailable; so does a key that this process still
    wraps under, and others have forgotten: the next one is wrapped under another."""
    try:
        yield
    except asyncpg.ClientConfigurationError:
        raise
    except asyncpg.CheckViolationError as error:
        if error.constraint_name is None or not error.constraint_name.startswith(FORBIDDEN):
            raise
        raise KeyForgotten from None
    except _AWAY as error:
        raise _away(error) from error


def _away(error: BaseException) -> Unavailable:
    return Unavailable(f"the database does not serve ({type(error).__name__})")


class Bell:
    """Wakes whoever waits when the database notifies a channel. Only a hurry: those who wait also look
    by themselves after their time, so a lost notification costs a moment and nothing else."""

    def __init__(self, database: Database, channel: str) -> None:
        self._database = database
        self._channel = channel
        self._rung = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def wait(self, seconds: float) -> None:
        """Until it rings, or this long. At once if it rang since somebody last waited, or may have."""
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except asyncio.TimeoutError:
            return
        finally:
            self._rung.clear()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        try:
            async with self._database.alone() as connection:
                gone = asyncio.Event()
                connection.add_termination_listener(lambda _: gone.set())
                await connection.add_listener(self._channel, lambda *_: self._rung.set())
                # What was rung between the last look and now was heard by nobody.
                self._rung.set()
                await gone.wait()
        except (Unavailable, SettingsError):
            # Whoever waits next tries again; whoever looks learns it from what it asks.
            return
