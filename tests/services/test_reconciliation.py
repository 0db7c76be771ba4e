"""The ledger is compared by itself, what is recent often and the whole now and then, and what differs is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest_asyncio
from structlog.testing import capture_logs

from hub.adapters.postgres import migrations
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.views import PostgresViews
from hub.domain.decisions import SetAside
from hub.services.reconciliation import ENTIRE, RECENT, ReconciliationRoom
from tests.conformance.motion import park, plant
from tests.conformance.samples import decided, delivery, execute, routed, rows, sizes


@pytest_asyncio.fixture
async def opened(database: str) -> AsyncIterator[Database]:
    opened = await Database.open(database)
    yield opened
    await opened.close()


async def test_checks_come_when_they_are_due_and_what_they_find_is_a_metric_and_a_line(
    opened: Database,
) -> None:
    ledger = PostgresLedger(opened)
    room = ReconciliationRoom(ledger, timedelta(hours=1), timedelta(days=1))
    await plant(opened, range(3))
    now = datetime.now(UTC)
    with capture_logs() as lines:
        assert list(await room.check(now)) == []
        first = await ledger.noted()
        assert set(first) == {RECENT, ENTIRE}
        await room.check(now + timedelta(minutes=30))
        assert await ledger.noted() == first
    assert lines == []
    await execute(opened, f"DELETE FROM delivery WHERE id = '{delivery(1, 1)}'")
    with capture_logs() as lines:
        found = await room.check(now + timedelta(hours=2))
    assert any(str(delivery(1, 1)) in sentence for sentence in found)
    [line] = lines
    assert (line["event"], line["check"], line["differences"]) == ("ledger.differs", RECENT, len(found))
    assert str(delivery(1, 1)) in " ".join(line["first"])
    gauges = await PostgresViews(opened).counts()
    assert (gauges["ledger_differences.recent"], gauges["ledger_differences.whole"]) == (len(found), 0)
    # What was received long ago is looked at with the whole.
    await execute(
        opened,
        "UPDATE ledger_slip SET hour = ARRAY(SELECT old - 200 FROM unnest(hour) AS old)",
        "UPDATE delivery SET hour = hour - 200",
        "UPDATE decision SET hour = hour - 200",
        "UPDATE submission SET received_at = received_at - interval '200 hours'",
    )
    assert list(await room.check(now + timedelta(hours=4))) == []
    assert await room.check(now + timedelta(hours=25))
    gauges = await PostgresViews(opened).counts()
    assert gauges["ledger_differences.whole"] == gauges["ledger_differences.recent"] > 0


async def test_what_transactions_counted_is_added_up_and_no_slip_remains(opened: Database) -> None:
    room = ReconciliationRoom(PostgresLedger(opened))
    await plant(opened, range(5), to=[1, 2])
    before, _ = await room.read()
    assert await room.fold() > 0
    assert await room.fold() == 0
    assert (await sizes(opened, "ledger_slip"))["ledger_slip"] == 0
    after, differences = await room.read()
    assert (after, list(differences)) == (before, [])
    totals = {
        (row["kind"], row["side"]): row["number"]
        for row in await rows(opened, "SELECT kind, side, number FROM ledger_total WHERE number <> 0")
    }
    assert totals == {
        ("", "accepted"): 5,
        ("", "routed"): 5,
        ("submission", "named"): 10,
        ("submission", "planned"): 10,
    }


async def test_an_older_store_is_counted_as_it_stands_when_the_ledger_is_made(opened: Database) -> None:
    await plant(opened, range(4), to=[1, 2])
    await park(opened)
    again = [routed(0, [1, 2, 3], decision=2), decided(1, SetAside("word"), decision=2)]
    await PostgresRegistry(opened).register(again)
    room = ReconciliationRoom(PostgresLedger(opened))
    before = await room.read()
    assert before[1] == []
    written = files(migrations).joinpath("0011_ledger.sql").read_text("utf-8")
    _, found, counting = written.partition("-- What is there is counted as it stands.\n")
    assert found
    await execute(opened, "TRUNCATE ledger, ledger_slip, ledger_total", counting)
    assert await room.read() == before
    assert await room.fold() > 0
    assert await room.read() == before
