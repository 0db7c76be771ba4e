"""What the log's conformance suite stands on: records, ways to read them all, and a rig for each adapter.

Business of this file: what a test may do to a log beside its port. An adapter joins by a fixture that gives
its rig, and a line in `RIGS` with the features it declares.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import pytest

from hub.adapters.postgres.database import Connection, Database, OwnConnection
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.log_reader import PostgresLogReader
from hub.ports.log import Entry, Log, LogReader, Record, Topic, places
from tests.kafka import rig as kafka

TOPIC = Topic.SUBMISSIONS
GROUP = "readers"


class Feature(Enum):
    WHOLE_APPEND = auto()
    """An append is all or nothing."""
    LATE_COMMIT = auto()
    """An append can be stopped between taking its offsets and being readable."""
    FIXED_PARTITIONS = auto()
    """The number of partitions is a setting of the adapter's own, and a changed one is refused."""


class LogRig(Protocol):
    """One log, as several hubs see it, and what can happen to it."""

    def log(self, partitions: int = 4) -> Log:
        """The log as one more hub sees it."""
        ...

    def address(self) -> list[str]:
        """What another process needs to open the same log: see `Joined.elsewhere`."""
        ...

    async def cut(self, reader: LogReader) -> None:
        """This reader's connection is dead, and the log has noticed."""
        ...

    async def lose(self) -> None:
        """All of the log is gone for ever; nobody reads it. What `log` gives afterwards begins anew."""
        ...


class StoppingRig(LogRig, Protocol):
    """Of an adapter with LATE_COMMIT or WHOLE_APPEND."""

    def stopping(self, value: bytes) -> AbstractAsyncContextManager[Stopped]:
        """Whoever appends a record with this value is stopped in the middle of its append."""
        ...


class Stopped(Protocol):
    async def reached(self) -> None:
        """Somebody is stopped."""
        ...

    async def kill(self) -> None:
        """Its connection is dead, and the log has noticed."""
        ...

    async def let_go(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Joined:
    """An adapter of the log: the fixture that gives its rig, how another process opens a rig's log by its
    address, and what it declares."""

    fixture: str
    elsewhere: Callable[..., Awaitable[Log]]
    features: frozenset[Feature]


async def _postgres_elsewhere(dsn: str) -> Log:
    return PostgresLog(await Database.open(dsn))


RIGS = {
    "postgres": Joined("postgres_rig", _postgres_elsewhere, frozenset(Feature)),
    # An append is one batch for each partition, and each is readable as soon as it is acknowledged.
    "kafka": Joined("kafka_rig", kafka.elsewhere, frozenset({Feature.FIXED_PARTITIONS})),
}

every_log = pytest.mark.parametrize("rig", sorted(RIGS), indirect=True)


def every_log_with(feature: Feature) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "rig", sorted(name for name, joined in RIGS.items() if feature in joined.features), indirect=True
    )


# --- records ------------------------------------------------------------------------------------------


def record(number: int, key: str | None = None) -> Record:
    """The `number`-th record; without a key, one of its own."""
    return Record((key or f"key-{number}").encode(), "essai.v1", str(number).encode())


def records(count: int, first: int = 0) -> list[Record]:
    return [record(number) for number in range(first, first + count)]


def numbers(entries: Iterable[Entry]) -> list[int]:
    return [int(entry.record.value) for entry in entries]


async def read(reader: LogReader, count: int, *, patience: float = 20) -> list[Entry]:
    """Exactly this many further records, done none of them; fails when they do not come."""
    found: list[Entry] = []
    deadline = asyncio.get_running_loop().time() + patience
    while len(found) < count:
        assert asyncio.get_running_loop().time() < deadline, f"{len(found)} of {count} records came"
        found += await reader.read(count - len(found), 0.2)
    return found


async def read_and_do(reader: LogReader, count: int) -> list[Entry]:
    entries = await read(reader, count)
    await reader.done(places(entries))
    return entries


async def nothing_comes(reader: LogReader, seconds: float = 1.2) -> None:
    assert numbers(await reader.read(100, seconds)) == []


def by_partition(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.position.partition].append(entry)
    return dict(found)


def assert_in_order(entries: Sequence[Entry]) -> None:
    """Within each partition, one offset after the other."""
    for several in by_partition(entries).values():
        offsets = [entry.position.offset for entry in several]
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


# --- PostgreSQL ---------------------------------------------------------------------------------------


class PostgresRig:
    """`fresh` makes another migrated database."""

    def __init__(self, dsn: str, database: Database, fresh: Callable[[], str]) -> None:
        self._dsn = dsn
        self._database = database
        self._fresh = fresh
        self._later: list[Database] = []

    def log(self, partitions: int = 4) -> Log:
        return PostgresLog(self._database, partitions)

    def address(self) -> list[str]:
        return ["postgres", self._dsn]

    async def cut(self, reader: LogReader) -> None:
        assert isinstance(reader, PostgresLogReader)
        await end(self._database, reader.backend)

    async def lose(self) -> None:
        self._dsn = self._fresh()
        self._database = await Database.open(self._dsn)
        self._later.append(self._database)

        async def another_store(connection: Connection) -> None:
            # One that is made has an id of its own; this is a copy, with that of what it was copied from.
            await connection.execute("UPDATE store SET id = gen_random_uuid()")

        await self._database.run(another_store)

    async def close(self) -> None:
        for database in self._later:
            await database.close()

    @asynccontextmanager
    async def stopping(self, value: bytes) -> AsyncIterator[Stopped]:
        async def work(connection: Connection) -> None:
            await connection.execute(
                "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS"
                f" 'BEGIN PERFORM pg_advisory_xact_lock_shared({_STOP}); RETURN NEW; END'"
            )
            await connection.execute(
                "CREATE TRIGGER stop BEFORE INSERT ON log_record FOR EACH ROW"
                f" WHEN (NEW.value = '\\x{value.hex()}') EXECUTE FUNCTION stop()"
            )

        await self._database.run(work)
        async with self._database.alone() as connection:
            await connection.execute("SELECT pg_advisory_lock($1)", _STOP)
            yield _StoppedInPostgres(self._database, connection)


_STOP = 78


class _StoppedInPostgres:
    def __init__(self, database: Database, connection: OwnConnection) -> None:
        self._database = database
        self._connection = connection

    async def reached(self) -> None:
        await self._backend()

    async def kill(self) -> None:
        await end(self._database, await self._backend())

    async def let_go(self) -> None:
        await self._connection.execute("SELECT pg_advisory_unlock($1)", _STOP)

    async def _backend(self) -> int:
        for _ in range(1000):
            found = await self._connection.fetchval(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                _STOP,
            )
            if found is not None:
                return int(found)
            await asyncio.sleep(0.01)
        raise AssertionError("nobody was stopped")


async def end(database: Database, backend: int) -> None:
    """End this process of the server, and wait until it is gone."""

    async def gone(connection: Connection) -> bool:
        return not await connection.fetchval(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1", backend
        )

    for _ in range(1000):
        if await database.run(gone):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the server process did not end")
