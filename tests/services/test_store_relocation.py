"""A whole store carried to another database: everything or nothing, and nothing that means something only here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
import pytest_asyncio

from hub.adapters.postgres import relocation
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.journal import PostgresJournal
from hub.adapters.postgres.ledger import read_accounts
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.migrations import store_id
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.relocation import Standing, copy_store, held_still, look
from hub.adapters.postgres.tray import PostgresTray
from hub.domain.decisions import Unroutable
from hub.domain.errors import SettingsError, Unavailable
from hub.ports.log import Record, Topic
from tests.conformance.samples import decided, execute, routed, rows, sizes, submission, submissions

SEEN = 3


@pytest_asyncio.fixture
async def there(fresh_database: Callable[[], str]) -> str:
    """Made and never used. Copies of one template are all one store; this is another."""
    dsn = fresh_database()
    async with at(dsn) as opened:
        await execute(opened, "UPDATE store SET id = gen_random_uuid()")
    return dsn


@pytest_asyncio.fixture
async def here(fresh_database: Callable[[], str]) -> AsyncIterator[Database]:
    """Six accepted; one routed to two partners, one to nobody; some news carried; a record in the log."""
    opened = await Database.open(fresh_database())
    await PostgresIntake(opened).accept(submissions(6))
    journal = PostgresJournal(opened)
    await journal.news(1)
    await PostgresRegistry(opened).register([routed(0, (1, 2)), decided(1, Unroutable(()))])
    for place, _ in await journal.news(1):
        await journal.carried(place)
    await PostgresLog(opened).append(Topic.SUBMISSIONS, [Record(b"k", "essai.v1", b"facts")])
    yield opened
    await opened.close()


@asynccontextmanager
async def at(dsn: str) -> AsyncIterator[Database]:
    opened = await Database.open(dsn)
    yield opened
    await opened.close()


async def carry(here: Database, there: str, *, with_log: bool = True) -> relocation.Copied:
    async with held_still(here._dsn) as held:
        return await copy_store(held, there, await store_id(here), with_log=with_log)


async def whole(database: Database) -> dict[str, list[str]]:
    """Every row of every table, but for when migrations were applied."""
    tables = [row["relname"] for row in await rows(database, relocation._TABLES)]
    return {
        table: [row[0] for row in await rows(database, f"SELECT t::text FROM {table} AS t ORDER BY 1")]
        for table in tables
        if table != "migration"
    }


async def test_every_row_arrives_as_it_was(here: Database, there: str) -> None:
    await execute(here, "TRUNCATE journal, journal_carried")
    told = await carry(here, there)
    async with at(there) as arrived:
        found = await whole(arrived)
        assert found == await whole(here)
        assert told.rows == sum(len(lines) for lines in found.values()) > 20
        assert await store_id(arrived) == await store_id(here)


async def test_what_comes_next_gets_the_next_numbers_and_triggers_act(here: Database, there: str) -> None:
    await carry(here, there)
    async with at(there) as arrived:
        before = await rows(arrived, "SELECT max(position) AS last FROM tray")
        await PostgresIntake(arrived).accept([submission(10)])
        await PostgresRegistry(arrived).register([routed(10, (1, 3))])
        [last] = await rows(arrived, "SELECT max(position) AS last FROM tray")
        assert last["last"] == before[0]["last"] + 1
        assert await rows(arrived, "SELECT FROM pg_trigger WHERE NOT tgisinternal")
        assert not await rows(arrived, "SELECT FROM pg_trigger WHERE tgenabled <> 'O'")


async def test_news_that_were_carried_are_not_carried_again_and_the_others_are(
    here: Database, there: str
) -> None:
    await execute(here, "DELETE FROM journal_carried")
    journal = PostgresJournal(here)
    await execute(
        here,
        # Where it comes from, far more transactions were counted than where it goes.
        "UPDATE journal SET written_by = (pg_current_xact_id()::text::bigint + 1000000 + id)::text::xid8",
        "INSERT INTO journal_carried (written_by, id)"
        f" SELECT written_by, id FROM journal ORDER BY id OFFSET {SEEN - 1} LIMIT 1",
    )
    assert await journal.news(1) == []
    lines = [row["id"] for row in await rows(here, "SELECT id FROM journal ORDER BY id")]
    await carry(here, there)
    async with at(there) as arrived:
        journal = PostgresJournal(arrived)
        await PostgresRegistry(arrived).register([decided(2, Unroutable(()))])
        told = await journal.news(1000)
        assert [place[1] for place, _ in told][: len(lines) - SEEN] == lines[SEEN:]
        assert len(told) > len(lines) - SEEN
        await journal.carried(told[-1][0])
        assert await journal.news(1000) == []


async def test_every_column_that_holds_the_number_of_a_transaction_is_translated(here: Database) -> None:
    found = await rows(
        here,
        "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND attnum > 0"
        " AND atttypid IN ('xid8'::regtype, 'xid'::regtype, 'pg_snapshot'::regtype, 'pg_lsn'::regtype)",
    )
    assert {(row["relname"], row["attname"]) for row in found} <= set(relocation.TRANSLATED)


async def test_for_another_log_the_store_s_own_stays_and_what_is_undecided_gets_its_letter_again(
    here: Database, there: str
) -> None:
    await execute(here, "DELETE FROM tray", "UPDATE log_life SET life = 'the store itself'")
    await carry(here, there, with_log=False)
    async with at(there) as arrived:
        assert set((await sizes(arrived, *relocation.LOG)).values()) == {0}
        tray = PostgresTray(arrived)
        assert await tray.put_back("Kafka, in its first life") == 4
        await tray.close()


async def test_a_store_that_is_not_empty_or_is_worked_on_is_left_as_it_is(
    here: Database, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relocation, "_LOCK_WAIT", "100ms")
    store = await store_id(here)
    assert (await look(there, store)).standing is Standing.EMPTY
    async with at(there) as other:
        async with other.alone() as working, working.transaction():
            await working.execute("INSERT INTO partner (subscriber, name, channel) VALUES ('x', 'x', 'x')")
            with pytest.raises(SettingsError, match="somebody works"):
                await carry(here, there)
        assert (await look(there, store)).standing is Standing.OTHER
        before = await whole(other)
        with pytest.raises(SettingsError, match="not empty"):
            await carry(here, there)
        assert await whole(other) == before
        await execute(other, "DELETE FROM partner")
    await carry(here, there)
    assert (await look(there, store)).standing is Standing.SAME


async def test_tables_of_somebody_else_are_no_place_for_a_store(here: Database, empty_database: str) -> None:
    store = await store_id(here)
    assert (await look(empty_database, store)).standing is Standing.EMPTY
    async with at(empty_database) as other:
        await execute(other, "CREATE TABLE partner (name text)")
        assert (await look(empty_database, store)).standing is Standing.OTHER
        await execute(other, "DROP TABLE partner")
    await carry(here, empty_database)
    async with at(empty_database) as arrived:
        assert await whole(arrived) == {**await whole(here), **await translated(arrived)}


@pytest_asyncio.fixture
async def empty_database(there: str) -> str:
    """Not even a table."""
    async with at(there) as opened:
        await execute(opened, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return there


async def translated(arrived: Database) -> dict[str, list[str]]:
    found = await whole(arrived)
    return {table: found[table] for table, _ in relocation.TRANSLATED}


@pytest.mark.parametrize("broken", ["here", "there", "the end"])
async def test_what_breaks_on_the_way_leaves_nothing_there_and_is_begun_again(
    here: Database, there: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await store_id(here)
    with pytest.MonkeyPatch.context() as patch:
        _break(patch, broken)
        with pytest.raises(Unavailable):
            await carry(here, there)
    assert (await look(there, store)).standing is Standing.EMPTY
    await carry(here, there)
    assert (await look(there, store)).standing is Standing.SAME


def _break(patch: pytest.MonkeyPatch, where: str) -> None:
    """One of the two servers ends the connection at the table of submissions; or accounts differ at the end."""
    copy = relocation._copy

    async def broken(one: asyncpg.Connection, other: asyncpg.Connection, table: str) -> int:
        if table == "submission":
            killed, witness = (one, other) if where == "here" else (other, one)
            await witness.execute("SELECT pg_terminate_backend($1)", killed.get_server_pid())
        return await copy(one, other, table)

    if where == "the end":
        read = read_accounts
        told = iter([True, False])

        async def differing(connection: asyncpg.Connection) -> object:
            return (await read(connection)), next(told)

        patch.setattr(relocation, "read_accounts", differing)
    else:
        patch.setattr(relocation, "_copy", broken)


async def test_nobody_writes_here_while_it_is_carried(here: Database) -> None:
    async with held_still(here._dsn):
        writing = asyncio.create_task(PostgresIntake(here).accept([submission(20)]))
        done, _ = await asyncio.wait([writing], timeout=0.3)
        assert not done
    await writing
