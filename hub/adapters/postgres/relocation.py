"""The whole store carried to another database, in one transaction there.

Business of this file: what lies in the other database before, every table streamed over in binary form, and
that both sides tell the same before it is committed. Not its business: attachments, and who may start which
side when (`hub.assembly.relocation`).

Rows keep what they hold, but for the numbers of transactions, which mean nothing on another server: of the
journal they only say what was carried to the log already, and so much is kept of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

import asyncpg

from hub.adapters.postgres.database import OwnConnection, connect, served
from hub.adapters.postgres.ledger import read_accounts
from hub.adapters.postgres.migrations import migrate
from hub.domain.errors import SettingsError, Unavailable
from hub.ports.accounts import Accounts

# What a journey left in the store's own log goes with it, or is carried anew by another log.
LOG = frozenset({"log_partition", "log_record", "log_group"})
_MIGRATIONS = "migration"

# Both smaller than any that a server gives, so that what comes later comes after them.
_CARRIED, _NOT_CARRIED = "'1'::xid8", "'2'::xid8"
TRANSLATED: Mapping[tuple[str, str], str] = {
    ("journal", "written_by"): f"""
        CASE WHEN EXISTS (
            SELECT FROM journal_carried AS last WHERE (journal.written_by, journal.id) > (last.written_by, last.id)
        ) THEN {_NOT_CARRIED} ELSE {_CARRIED} END
    """,
    ("journal_carried", "written_by"): _CARRIED,
    ("journal_carried", "id"): "9223372036854775807",
}
"""What is read for a column in place of itself."""

_LOCK_WAIT = "10s"
_AHEAD = 16
"""Pieces of a table that are read before they are written."""


class Standing(Enum):
    """What lies in a database, as a store is about to be brought there."""

    EMPTY = auto()
    """Nothing, or a store that was made and never used."""
    SAME = auto()
    """The same store."""
    OTHER = auto()
    """Another store, or tables of somebody else."""


@dataclass(frozen=True, slots=True)
class Found:
    standing: Standing
    at: datetime
    """By that server's clock."""
    took: timedelta
    """How long the answer took."""


@dataclass(frozen=True, slots=True)
class Copied:
    """`accounts`: the same on both sides."""

    rows: int
    accounts: Accounts


async def look(dsn: str, store: str) -> Found:
    """What lies there; changes nothing. Raises SettingsError where no store can be made, Unavailable."""
    async with _connected(dsn) as connection:
        if connection.get_server_version().major < 15:
            raise SettingsError("the database server is older than PostgreSQL 15")
        if await connection.fetchval("SHOW server_encoding") != "UTF8":
            raise SettingsError("the database's encoding is not UTF8")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        row = await connection.fetchrow(_MAY_MAKE)
        took = timedelta(seconds=loop.time() - begun)
        assert row is not None
        if not row["may"]:
            raise SettingsError("the database's user may not make tables there")
        return Found(await _standing(connection, store), row["at"], took)


async def count_named(connection: OwnConnection, locations: Sequence[str]) -> int:
    """How many of these files submissions name."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM stored_file WHERE location = ANY($1::text[])", list(locations)
    )
    return found


@asynccontextmanager
async def held_still(dsn: str) -> AsyncIterator[OwnConnection]:
    """A transaction in which nobody else changes a table of this store, until its server is stopped or this
    ends. Raises SettingsError when somebody does not let go of one, Unavailable."""
    async with _connected(dsn) as connection:
        tables = await _tables(connection)
        # It is never ended: who waits for these locks is not to write behind the back of what was read.
        await connection.transaction(isolation="repeatable_read").start()
        # Before anything is read: the snapshot is that of after the locks.
        await _lock(connection, tables, "SHARE")
        yield connection


async def copy_store(here: OwnConnection, dsn: str, store: str, *, with_log: bool) -> Copied:
    """All that `here` (held still) holds, to the empty database at `dsn`: all of it, or nothing. Raises
    SettingsError when that one is not empty or somebody works there, Unavailable (then it may be there)."""
    await migrate(dsn)
    async with _connected(dsn) as there, there.transaction():
        await there.execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        tables = await _tables(there)
        await _lock(there, tables, "ACCESS EXCLUSIVE")
        if await _standing(there, store) is not Standing.EMPTY:
            raise SettingsError("the database there is not empty any more")
        tables = [table for table in tables if table != _MIGRATIONS]
        await there.execute(f"TRUNCATE {_listed(tables)}")
        await _switch_triggers(there, tables, "DISABLE")
        rows = 0
        for table in tables:
            if with_log or table not in LOG:
                rows += await _copy(here, there, table)
        await _go_on_counting(here, there)
        await _switch_triggers(there, tables, "ENABLE")
        # What comes next plans by it, the accounts below first.
        await there.execute("ANALYZE")
        return Copied(rows, await _compared(here, there))


async def accounts(connection: OwnConnection) -> Accounts:
    """The two equations, within the caller's transaction."""
    return await read_accounts(connection)


# --- what lies there ----------------------------------------------------------------------------------

_MAY_MAKE = """
    SELECT has_schema_privilege(current_schema(), 'CREATE') AS may, clock_timestamp() AS at
    WHERE current_schema() IS NOT NULL
    UNION ALL SELECT false, clock_timestamp() WHERE current_schema() IS NULL
"""


async def _standing(connection: OwnConnection, store: str) -> Standing:
    tables = await _tables(connection)
    if not tables:
        return Standing.EMPTY
    if not {_MIGRATIONS, "store"} <= set(tables):
        return Standing.OTHER
    if str(await connection.fetchval("SELECT id FROM store")) == store:
        return Standing.SAME
    used = await _used(connection, tables)
    return Standing.OTHER if used else Standing.EMPTY


async def _used(connection: OwnConnection, tables: Collection[str]) -> bool:
    """Whether a table has a row that its making did not bring: those stand in tables of a single row."""
    single = {row["relname"] for row in await connection.fetch(_OF_A_SINGLE_ROW)}
    asked = [table for table in tables if table not in single and table != _MIGRATIONS]
    return any([await connection.fetchval(f'SELECT EXISTS (SELECT FROM "{table}")') for table in asked])


async def _tables(connection: OwnConnection) -> list[str]:
    return [row["relname"] for row in await connection.fetch(_TABLES)]


_TABLES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' ORDER BY relname
"""

_OF_A_SINGLE_ROW = """
    SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND attname = 'single'
"""

# --- from here to there -------------------------------------------------------------------------------


async def _copy(here: OwnConnection, there: OwnConnection, table: str) -> int:
    """How many rows it has. Streamed: what is read waits until it is written."""
    columns = [row["attname"] for row in await there.fetch(_COLUMNS, table)]
    read = ", ".join(TRANSLATED.get((table, column), f'"{column}"') for column in columns)
    handed: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)

    async def pieces() -> AsyncIterator[bytes]:
        while (piece := await handed.get()) is not None:
            yield piece

    async def read_all() -> str:
        with served():
            told = await here.copy_from_query(
                f'SELECT {read} FROM "{table}"', output=handed.put, format="binary"
            )
        await handed.put(None)
        return told

    async def write_all() -> str:
        with served():
            # Frozen: it is seen by nobody before the commit, and need not be written again by a vacuum.
            return await there.copy_to_table(
                table, source=pieces(), columns=columns, format="binary", freeze=True
            )

    try:
        async with asyncio.TaskGroup() as tasks:
            reading, writing = tasks.create_task(read_all()), tasks.create_task(write_all())
    except ExceptionGroup as errors:
        first = errors.exceptions[0]
        if isinstance(first, asyncpg.InternalClientError):
            # What the library says of a connection whose end it did not notice yet.
            raise Unavailable(f"the database does not serve ({type(first).__name__})") from None
        raise first from None
    if reading.result() != writing.result():
        raise Unavailable(f"of {table}, not as many rows arrived as were sent")
    return int(writing.result().rpartition(" ")[2])


_COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = quote_ident($1)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    ORDER BY attnum
"""


async def _go_on_counting(here: OwnConnection, there: OwnConnection) -> None:
    """Numbers that are given one after the other go on where they are."""
    for row in await here.fetch(_SEQUENCES):
        name = row["name"]
        last = await here.fetchrow(f"SELECT last_value, is_called FROM {name}")
        assert last is not None
        await there.execute(
            "SELECT setval($1::text::regclass, $2, $3)", name, last["last_value"], last["is_called"]
        )


_SEQUENCES = """
    SELECT quote_ident(relname) AS name FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'S' ORDER BY relname
"""


async def _compared(here: OwnConnection, there: OwnConnection) -> Accounts:
    told, arrived = await read_accounts(here), await read_accounts(there)
    if told != arrived:
        raise Unavailable("the accounts of what arrived are not those of what was sent; nothing was changed")
    return told


async def _switch_triggers(there: OwnConnection, tables: Sequence[str], word: str) -> None:
    """What triggers do was done when these rows were written."""
    for table in tables:
        await there.execute(f'ALTER TABLE "{table}" {word} TRIGGER USER')


async def _lock(connection: OwnConnection, tables: Sequence[str], mode: str) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
    await connection.execute(f"LOCK TABLE {_listed(tables)} IN {mode} MODE")


def _listed(tables: Sequence[str]) -> str:
    return ", ".join(f'"{table}"' for table in tables)


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[OwnConnection]:
    connection = await connect(dsn)
    try:
        with _faults():
            yield connection
    finally:
        connection.terminate()


@contextmanager
def _faults() -> Iterator[None]:
    """Raises SettingsError where the server lets this user not do it, or somebody else is at work there."""
    try:
        with served():
            yield
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        raise SettingsError("somebody works on a database that is to be relocated: stop every hub") from None
    except asyncpg.InsufficientPrivilegeError:
        raise SettingsError(
            "the database's user may not do what relocating takes: it must own the database"
        ) from None
