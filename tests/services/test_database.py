"""What must be true of the database under the rooms: its migrations, its transactions, its bell."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from hub.adapters.postgres import migrations
from hub.adapters.postgres.database import Bell, Connection, Database
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.adapters.postgres.migrations import migrate
from hub.domain.errors import LeaseLost, SettingsError, Unavailable
from tests.conftest import drop_database

PASSWORD = "motdepasse"


@pytest_asyncio.fixture
async def empty(postgres_dsn: str) -> AsyncIterator[str]:
    """The address of a database in which there is nothing."""
    name = f"hub_empty_{secrets.token_hex(6)}"
    await order(postgres_dsn, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    yield beside(postgres_dsn, name)
    drop_database(postgres_dsn, name)


@pytest_asyncio.fixture
async def opened(empty: str) -> AsyncIterator[Database]:
    """An opened Database with one table, `thing (id, count)`, and two rows in it."""
    await order(
        empty, "CREATE TABLE thing (id int PRIMARY KEY, count int); INSERT INTO thing VALUES (1, 0), (2, 0)"
    )
    database = await Database.open(empty)
    yield database
    await database.close()


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a server that is not there."""
    folder = tempfile.mkdtemp(prefix="hub-", dir="/tmp")
    yield f"postgresql://hub:{PASSWORD}@/hub?host={folder}"
    shutil.rmtree(folder)


async def order(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def beside(dsn: str, database: str) -> str:
    return urlsplit(dsn)._replace(path=f"/{database}").geturl()


# --- migrations ---------------------------------------------------------------------------------------


async def test_migrating_twice_is_harmless(empty: str) -> None:
    applied = await migrate(empty)
    assert applied == sorted(applied)
    assert applied[0] == "0001_journey.sql"
    assert await migrate(empty) == []


async def test_several_that_migrate_at_once_take_turns(empty: str) -> None:
    answers = await asyncio.gather(*(migrate(empty) for _ in range(5)))
    assert sorted(len(answer) > 0 for answer in answers) == [False, False, False, False, True]


async def test_a_migration_that_was_edited_after_it_was_applied_is_refused(database: str) -> None:
    await order(database, "UPDATE migration SET digest = 'other' WHERE name = '0001_journey.sql'")
    with pytest.raises(SettingsError, match=r"0001_journey\.sql was edited"):
        await migrate(database)


async def test_a_database_of_a_newer_hub_is_refused(database: str) -> None:
    await order(database, "INSERT INTO migration (name, digest) VALUES ('9999_later.sql', 'any')")
    with pytest.raises(SettingsError, match=r"9999_later\.sql"):
        await migrate(database)


async def test_a_migration_that_fails_leaves_nothing_of_itself_and_can_be_repeated(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"0001.sql": "CREATE TABLE one ()", "0002.sql": "CREATE TABLE two (); SELECT 1 / 0"}
    monkeypatch.setattr(migrations, "_published", lambda: steps)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty)
    steps["0002.sql"] = "CREATE TABLE two ()"
    assert await migrate(empty) == ["0002.sql"]


async def test_a_server_that_is_too_old_is_refused(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_OLDEST_SERVER", 1_000_000)
    with pytest.raises(SettingsError, match="older than PostgreSQL"):
        await migrate(empty)


async def test_migrating_where_nobody_answers_is_unavailable(nobody: str) -> None:
    with pytest.raises(Unavailable):
        await migrate(nobody)


# --- reaching the server ------------------------------------------------------------------------------


async def test_a_server_that_is_absent_is_unavailable(nobody: str, closed_port: int) -> None:
    for dsn in (nobody, f"postgresql://hub:{PASSWORD}@127.0.0.1:{closed_port}/hub"):
        with pytest.raises(Unavailable) as caught:
            await Database.open(dsn)
        assert PASSWORD not in str(caught.value)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine at which nobody listens, and nobody else will while the test lasts."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@pytest.mark.parametrize(
    "dsn",
    [
        f"mysql://hub:{PASSWORD}@localhost/hub",
        f"postgresql://hub:{PASSWORD}@localhost:port/hub",
        f"postgresql://hub:{PASSWORD}@localhost/hub?sslmode=perhaps",
    ],
)
async def test_an_address_that_makes_no_sense_is_a_fault_of_the_settings_and_not_shown(dsn: str) -> None:
    with pytest.raises(SettingsError) as caught:
        await Database.open(dsn)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_database_or_role_that_is_not_there_is_a_fault_of_the_settings(postgres_dsn: str) -> None:
    with pytest.raises(SettingsError):
        await Database.open(beside(postgres_dsn, "hub_never_made"))
    parts = urlsplit(postgres_dsn)
    host = parts.netloc.rpartition("@")[2]
    with pytest.raises(SettingsError):
        await migrate(parts._replace(netloc=f"hub_never_made:{PASSWORD}@{host}").geturl())


async def test_a_server_that_stops_is_unavailable_and_serves_again_when_it_is_back() -> None:
    folder = Path(tempfile.mkdtemp(prefix="hub-", dir="/tmp"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "database")
    try:
        database = await Database.open(await server.start())
        assert await database.run(one) == 1
        await server.stop()
        with pytest.raises(Unavailable):
            await database.run(one)
        with pytest.raises(Unavailable):
            async with database.alone():
                pass
        await server.start()
        assert await database.run(one) == 1
        await database.close()
    finally:
        await server.stop()
        shutil.rmtree(folder)


async def one(connection: Connection) -> int:
    found: int = await connection.fetchval("SELECT 1")
    return found


# --- transactions -------------------------------------------------------------------------------------


async def test_a_transaction_that_a_deadlock_broke_is_run_again(opened: Database) -> None:
    both_hold_one = asyncio.Barrier(2)
    calls = 0

    async def both(first: int, second: int) -> None:
        begun = False

        async def work(connection: Connection) -> None:
            nonlocal begun, calls
            calls += 1
            await connection.execute("UPDATE thing SET count = count + 1 WHERE id = $1", first)
            if not begun:
                begun = True
                await both_hold_one.wait()
            await connection.execute("UPDATE thing SET count = count + 1 WHERE id = $1", second)

        await opened.run(work)

    await asyncio.wait_for(asyncio.gather(both(1, 2), both(2, 1)), 30)
    assert calls > 2
    assert await counts(opened) == [2, 2]


async def counts(database: Database) -> list[int]:
    async def work(connection: Connection) -> list[int]:
        return [row["count"] for row in await connection.fetch("SELECT count FROM thing ORDER BY id")]

    return await database.run(work)


async def test_a_transaction_that_is_broken_each_time_is_unavailable(opened: Database) -> None:
    calls = 0

    async def work(connection: Connection) -> None:
        nonlocal calls
        calls += 1
        await connection.execute("UPDATE thing SET count = 7")
        raise asyncpg.DeadlockDetectedError

    with pytest.raises(Unavailable):
        await opened.run(work)
    assert 1 < calls < 100
    assert await counts(opened) == [0, 0]


async def test_a_table_that_a_newer_hub_changes_in_between_is_read_again(
    opened: Database, empty: str
) -> None:
    async def work(connection: Connection) -> int:
        return len(dict((await connection.fetch("SELECT * FROM thing"))[0]))

    assert await opened.run(work) == 2
    await order(empty, "ALTER TABLE thing ADD COLUMN colour text")
    assert await opened.run(work) == 3


@pytest.mark.parametrize("error", [LeaseLost, ValueError, asyncio.CancelledError])
async def test_what_goes_wrong_inside_undoes_the_transaction_and_comes_out_as_it_is(
    opened: Database, error: type[BaseException]
) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE thing SET count = 7")
        raise error

    with pytest.raises(error):
        await opened.run(work)
    assert await counts(opened) == [0, 0]


async def test_a_wrong_argument_is_not_taken_for_a_server_that_is_away(opened: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE thing SET count = $1", "seven")

    with pytest.raises(asyncpg.DataError):
        await opened.run(work)


END = "SELECT pg_terminate_backend(pg_backend_pid())"


async def test_a_connection_that_is_lost_in_the_middle_is_unavailable_and_the_next_works(
    opened: Database,
) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE thing SET count = 7")
        await connection.execute(END)

    with pytest.raises(Unavailable):
        await opened.run(work)
    assert await counts(opened) == [0, 0]


async def test_a_loss_that_the_work_itself_survives_is_unavailable_all_the_same(opened: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("UPDATE thing SET count = 7")
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(END)

    with pytest.raises(Unavailable):
        await opened.run(work)
    assert await counts(opened) == [0, 0]


# --- a connection of one's own ------------------------------------------------------------------------


async def test_a_lock_taken_alone_lives_as_long_as_the_connection(opened: Database) -> None:
    async with opened.alone() as connection:
        assert await connection.fetchval("SELECT pg_try_advisory_lock(5)")
        async with opened.alone() as other:
            assert not await other.fetchval("SELECT pg_try_advisory_lock(5)")
    async with opened.alone() as connection, asyncio.timeout(10):
        await connection.execute("SELECT pg_advisory_lock(5)")


async def test_a_lost_connection_of_ones_own_is_unavailable(opened: Database) -> None:
    async def noticed_at_once() -> None:
        async with opened.alone() as connection:
            await connection.execute(END)

    async def noticed_later() -> None:
        async with opened.alone() as connection:
            with suppress(asyncpg.PostgresError):
                await connection.execute(END)
            await connection.execute("SELECT 1")

    for lost in (noticed_at_once, noticed_later):
        with pytest.raises(Unavailable):
            await lost()


async def test_what_fails_beside_a_connection_of_ones_own_comes_out_as_it_is(opened: Database) -> None:
    for error in (FileNotFoundError, asyncio.TimeoutError, LeaseLost):
        with pytest.raises(error):
            async with opened.alone():
                raise error


# --- the bell -----------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def bell(opened: Database) -> AsyncIterator[Bell]:
    """It listens already, and has not rung."""
    bell = Bell(opened, "things")
    await asyncio.wait_for(bell.wait(20), 10)
    yield bell
    await bell.close()


async def ring(database: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("NOTIFY things")

    await database.run(work)


async def seconds_of(bell: Bell, longest: float = 20) -> float:
    clock = asyncio.get_running_loop().time
    begun = clock()
    await bell.wait(longest)
    return clock() - begun


async def test_a_bell_wakes_all_who_wait(opened: Database, bell: Bell) -> None:
    waiting = asyncio.gather(seconds_of(bell), seconds_of(bell))
    await asyncio.sleep(0.1)
    await ring(opened)
    assert max(await waiting) < 10


@pytest.mark.parametrize("steps", range(6))
async def test_who_is_cancelled_in_the_moment_a_bell_rings_is_cancelled(bell: Bell, steps: int) -> None:
    async def serve() -> None:
        while True:
            await bell.wait(20)

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0.05)
    bell._rung.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    serving.cancel()
    done, _ = await asyncio.wait([serving], timeout=2)
    assert done, "the cancellation was lost: nothing ends this task any more"


async def test_a_bell_that_nobody_rings_lets_wait_to_the_end(bell: Bell) -> None:
    assert await seconds_of(bell, 0.4) > 0.35
    assert await seconds_of(bell, 0) < 0.3


async def test_a_bell_that_rang_while_nobody_waited_wakes_the_next_at_once(
    opened: Database, bell: Bell
) -> None:
    await ring(opened)
    await asyncio.sleep(0.3)
    assert await seconds_of(bell) < 10
    assert await seconds_of(bell, 0.4) > 0.35


async def test_what_was_rung_before_anybody_listened_wakes_the_first_who_waits(opened: Database) -> None:
    bell = Bell(opened, "things")
    await ring(opened)
    assert await seconds_of(bell) < 10
    await bell.close()


async def test_a_bell_whose_connection_died_is_heard_again(opened: Database, bell: Bell) -> None:
    async def cut(connection: Connection) -> int:
        found: int = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        return found

    assert await opened.run(cut) == 1
    await asyncio.sleep(0.3)
    assert await seconds_of(bell) < 10
    waiting = asyncio.create_task(seconds_of(bell))
    await asyncio.sleep(0.1)
    await ring(opened)
    assert await waiting < 10


async def test_a_bell_of_a_server_that_is_away_only_lets_wait(
    opened: Database, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "_dsn", nobody)
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    bell = Bell(opened, "things")
    for _ in range(3):
        assert await seconds_of(bell, 0.2) > 0.15
    await bell.close()
    assert faults == []
