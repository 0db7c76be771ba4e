"""What every test may ask for: a fresh database. And the strict mode, in which a skipped test has failed.

Business of this file: one PostgreSQL for the whole run (embedded, or the one HUB_TEST_DATABASE_URL
names), a migrated template in it, and a copy of the template for each test that asks. Not its business:
fixtures of one room; those stand beside their tests.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from hub.adapters.postgres.embedded import EmbeddedPostgres

Result = TypeVar("Result")

# On a machine that has everything (make system), a skip means that nobody looked.
STRICT = os.environ.get("HUB_TEST_STRICT") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if STRICT and report.skipped:
        _refuse(report)
    return report


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    report.outcome = "failed"
    report.longrepr = f"HUB_TEST_STRICT=1: nothing may be skipped here. {reason}"


def apart(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run to its end in a loop and thread of its own, whatever loop the test has."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A server on which databases can be made: its address, as somebody who may."""
    given = os.environ.get("HUB_TEST_DATABASE_URL")
    if given:
        yield given
        return
    # Not below pytest's own folders: those are 0700, and the account that runs the server must get through.
    folder = Path(tempfile.mkdtemp(prefix="hub-tests-", dir=quickest()))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "database")
    try:
        yield apart(server.start)
    finally:
        apart(server.stop)
        shutil.rmtree(folder, ignore_errors=True)


def quickest() -> str:
    """Where a server of the tests keeps its data."""
    # A database is some three hundred files: made in memory, a fresh one takes a tenth of the time. Only
    # with room for the server's log of changes, and where programs may lie, should they be copied there.
    memory = "/dev/shm"
    if not os.path.isdir(memory) or not os.access(memory, os.W_OK):
        return "/tmp"
    room = os.statvfs(memory)
    return "/tmp" if room.f_flag & os.ST_NOEXEC or room.f_bavail * room.f_frsize < 4 << 30 else memory


class Databases:
    """Copies of a migrated database on one server: each empty, and gone at the end of its test."""

    def __init__(self, dsn: str, template: str) -> None:
        self._dsn = dsn
        self._template = template
        self._made: list[str] = []

    def make(self) -> str:
        """Its address."""
        self._made.append(f"hub_test_{secrets.token_hex(6)}")
        _order(self._dsn, f"CREATE DATABASE {self._made[-1]} TEMPLATE {self._template} STRATEGY FILE_COPY")
        return _elsewhere(self._dsn, self._made[-1])

    def drop(self) -> None:
        for name in self._made:
            drop_database(self._dsn, name)


@contextmanager
def migrated(dsn: str) -> Iterator[str]:
    """The name of a migrated database on this server that nobody is connected to."""
    # Here, not above: a test of the server alone does not need the tables.
    from hub.adapters.postgres.migrations import migrate

    name = f"hub_template_{secrets.token_hex(4)}"
    _order(dsn, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    try:
        apart(lambda: migrate(_elsewhere(dsn, name)))
        yield name
    finally:
        drop_database(dsn, name)


@pytest.fixture(scope="session")
def database_template(postgres_dsn: str) -> Iterator[str]:
    with migrated(postgres_dsn) as name:
        yield name


@pytest.fixture
def fresh_database(postgres_dsn: str, database_template: str) -> Iterator[Callable[[], str]]:
    """Makes databases of this test's own: migrated, empty, gone afterwards; their addresses."""
    made = Databases(postgres_dsn, database_template)
    yield made.make
    made.drop()


@pytest.fixture
def database(fresh_database: Callable[[], str]) -> str:
    """The address of a database of this test's own."""
    return fresh_database()


def drop_database(dsn: str, name: str) -> None:
    """Whoever of ours is still connected to it."""
    # Not WITH (FORCE): that would also end the server's own vacuum, which takes more rights than a hub has.
    _order(
        dsn,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND usename = user",
    )
    _order(dsn, f"DROP DATABASE {name}")


def _elsewhere(dsn: str, database: str) -> str:
    return urlsplit(dsn)._replace(path=f"/{database}").geturl()


def _order(dsn: str, statement: str) -> None:
    async def given() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    apart(given)
