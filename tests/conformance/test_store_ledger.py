"""What is kept of the ledger is the same on every server, and by the domain's own arithmetic."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.ledger import PostgresLedger
from hub.domain.ledger import term, wrapped
from hub.domain.lifecycle import State
from hub.services.reconciliation import differences
from tests.conformance.motion import park, plant
from tests.conformance.samples import delivery, execute, rows

# As the oldest and the newest server gave them when the ledger was made.
HASHES = [
    ("6f1d3c0e-2a5b-5c7d-9e8f-1a2b3c4d5e6f", 495_000, "21640445300011-64445", -5645905306551473336),
    ("00000000-0000-4000-8000-000000000001", 0, "", -3115069898421449702),
]


async def test_hashes_sums_and_terms_are_the_same_on_every_server_and_in_the_domain(
    database: Database,
) -> None:
    for name, hour, partner, hash in HASHES:
        [row] = await rows(database, "SELECT ledger_hash($1, $2, $3) AS hash", UUID(name), hour, partner)
        assert row["hash"] == hash
    for sum in (0, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 5 * 2**66 + 7, -5 * 2**66 - 7):
        [row] = await rows(database, "SELECT wrapped($1::numeric) AS sum", Decimal(sum))
        assert row["sum"] == wrapped(sum), sum
    for state in State:
        for attempt in (0, 1, 2):
            [row] = await rows(database, "SELECT term($1, $2) AS term", state.value, attempt)
            assert row["term"] == term(state, attempt), (state, attempt)


@pytest.mark.parametrize("folded", [False, True])
async def test_what_was_parked_and_then_moved_behind_the_hubs_back_is_named(
    database: Database, folded: bool
) -> None:
    await plant(database, range(3), to=[1, 2])
    await park(database)
    ledger = PostgresLedger(database)
    if folded:
        assert await ledger.fold(100) > 0
    assert differences(await ledger.accounts()) == []
    await execute(database, f"UPDATE delivery SET state = 'returned' WHERE id = '{delivery(1, 2)}'")
    [told] = differences(await ledger.accounts())
    assert f"delivery {delivery(1, 2)} is returned, and parked by the ledger" in told
