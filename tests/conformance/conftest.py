"""What the conformance suites stand on: a fresh, migrated database for each test, and the rooms on it.

Business of this file: building adapters, and on which servers the store's suites run: the embedded one (or the
one HUB_TEST_DATABASE_URL names), and Debian's of the oldest supported version, over TLS. What adapters must hold
is said in the suites.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.replays import PostgresReplays
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.adapters.postgres.tray import PostgresTray
from hub.ports.accounts import Ledger
from hub.ports.intake import Intake
from hub.ports.outgoing import Tray
from hub.ports.partners import Partners
from hub.ports.registry import Registry
from hub.ports.rule_books import RuleBooks
from tests.conformance.motion import assert_nothing_is_forgotten
from tests.conftest import Databases, migrated, quickest
from tests.debian_postgres import serving
from tests.kafka.broker import shared


@pytest.fixture(scope="session")
def kafka() -> str:
    """Where a broker is found that all tests share: each keeps to topics of its own."""
    return shared()


SERVERS = ("embedded", "debian-tls")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    name = metafunc.module.__name__.rpartition(".")[2]
    if name.startswith("test_store_") and "fresh_dsn" in metafunc.fixturenames:
        metafunc.parametrize("fresh_dsn", SERVERS, indirect=True)


@pytest.fixture(scope="session")
def debian_tls() -> Iterator[tuple[str, str]]:
    """The server's address, as somebody who may make databases, and the name of a migrated one."""
    with serving(quickest(), tls=True) as server:
        dsn = server.address("somebody", "postgres")
        with migrated(dsn) as template:
            yield dsn, template


@pytest.fixture
def fresh_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a migrated database of this test's own, for those who open it themselves."""
    if getattr(request, "param", SERVERS[0]) == SERVERS[0]:
        fresh: Callable[[], str] = request.getfixturevalue("fresh_database")
        yield fresh()
        return
    made = Databases(*request.getfixturevalue("debian_tls"))
    yield made.make()
    made.drop()


@pytest_asyncio.fixture
async def database(fresh_dsn: str) -> AsyncIterator[Database]:
    """An opened Database on a migrated database of this test's own."""
    database = await Database.open(fresh_dsn)
    yield database
    await database.close()


@pytest.fixture
def intake(database: Database) -> Intake:
    return PostgresIntake(database)


@pytest_asyncio.fixture
async def tray(database: Database) -> AsyncIterator[Tray]:
    tray = PostgresTray(database)
    yield tray
    await tray.close()


@pytest_asyncio.fixture
async def lanes(database: Database) -> AsyncIterator[PostgresLanes]:
    """Whatever a test did with them, none may be forgotten."""
    lanes = PostgresLanes(database)
    yield lanes
    await lanes.close()
    await assert_nothing_is_forgotten(database)


@pytest_asyncio.fixture
async def replays(database: Database) -> AsyncIterator[PostgresReplays]:
    yield PostgresReplays(database)
    await assert_nothing_is_forgotten(database)


@pytest.fixture
def rule_books(database: Database) -> RuleBooks:
    return PostgresRuleBooks(database)


@pytest.fixture
def partners(database: Database) -> Partners:
    return PostgresPartners(database)


@pytest.fixture
def registry(database: Database) -> Registry:
    return PostgresRegistry(database)


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return PostgresLedger(database)
