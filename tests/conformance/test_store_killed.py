"""What must be true of the store when a process of the hub is killed at any moment: all of a batch, or nothing."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process

import pytest

from hub.adapters.postgres.database import Database
from hub.domain.submission import Accepted
from hub.ports.accounts import Ledger
from hub.ports.intake import Intake
from hub.ports.registry import Registered, Registry
from hub.services.reconciliation import differences
from tests.conformance.samples import Obstacle, numbers_by_partner, routed, rows, sizes, submission

BATCH = 40

# Accepts and registers batch after batch, and says after each what the store answered for.
CHILD = f"""
import asyncio, sys
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.registry import PostgresRegistry
from tests.conformance.samples import routed, submission

async def main():
    database = await Database.open(sys.argv[1])
    intake, registry = PostgresIntake(database), PostgresRegistry(database)
    for first in range(0, 100_000, {BATCH}):
        names = range(first, first + {BATCH})
        await intake.accept([submission(name) for name in names])
        print("accepted", first, flush=True)
        await registry.register([routed(name, [1, 2 + name % 5]) for name in names])
        print("registered", first, flush=True)

asyncio.run(main())
"""


async def child(dsn: str) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, dsn, stdout=PIPE)


async def kill(process: Process) -> list[tuple[str, int]]:
    """What it had still said when it was killed."""
    process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    said = (await process.stdout.read()).decode().splitlines(keepends=True)
    await process.wait()
    return [told(line) for line in said if line.endswith("\n")]


def told(line: str) -> tuple[str, int]:
    what, first = line.split()
    return what, int(first)


async def nobody_else(database: Database) -> None:
    """Wait until the server has noticed that the child is gone."""
    for _ in range(500):
        [row] = await rows(
            database,
            "SELECT count(*) AS count FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'",
        )
        if not row["count"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("somebody is still at work")


@pytest.mark.parametrize("seed", range(4))
async def test_a_process_killed_at_any_moment_leaves_whole_batches_and_all_it_answered_for(
    fresh_dsn: str, database: Database, intake: Intake, registry: Registry, ledger: Ledger, seed: int
) -> None:
    process = await child(fresh_dsn)
    assert process.stdout is not None
    said = [told((await process.stdout.readline()).decode()) for _ in range(2)]
    await asyncio.sleep(random.Random(seed).uniform(0.05, 0.5))
    said += await kill(process)
    await nobody_else(database)

    accepted = {row["id"] for row in await rows(database, "SELECT id FROM submission")}
    decided = {row["submission"] for row in await rows(database, "SELECT submission FROM decision")}
    counts = await sizes(database, "submission_key", "stored_file", "tray", "decision", "delivery", "stray")
    begun = range(0, said[-1][1] + 2 * BATCH, BATCH)
    for first in begun:
        names = {submission(name).id for name in range(first, first + BATCH)}
        assert len(names & accepted) in ({BATCH} if ("accepted", first) in said else {0, BATCH})
        assert len(names & decided) in ({BATCH} if ("registered", first) in said else {0, BATCH})
    assert counts == {
        "submission_key": len(accepted),
        "stored_file": 2 * len(accepted),
        "tray": len(accepted),
        "decision": len(decided),
        "delivery": 2 * len(decided),
        "stray": 0,
    }

    # The last of them may have been accepted without a word.
    everything = range(begun[0], begun[-1] + BATCH)
    answers = await intake.accept([submission(name) for name in everything])
    assert sum(isinstance(one, Accepted) and not one.fresh for one in answers) == len(accepted)
    again = await registry.register([routed(name, [1, 2 + name % 5]) for name in everything])
    assert again.decisions == len(everything) - len(decided)
    for numbers in (await numbers_by_partner(database)).values():
        assert numbers == list(range(1, len(numbers) + 1))
    accounts = await ledger.accounts()
    assert differences(accounts) == []
    assert sum(one.named for one in accounts.deliveries) == 2 * len(everything)


@pytest.mark.parametrize("table", ["journal", "tray", "delivery"])
async def test_a_process_killed_in_the_middle_of_a_batch_leaves_nothing_of_it(
    fresh_dsn: str, database: Database, intake: Intake, registry: Registry, table: str
) -> None:
    async with Obstacle.before(database, table) as obstacle:
        process = await child(fresh_dsn)
        backend = await obstacle.reached()
        await kill(process)
        await obstacle.remove()
        await obstacle.gone(backend)
    wholly = BATCH if table == "delivery" else 0
    assert await sizes(database, "submission", "tray", "decision", "delivery") == {
        "submission": wholly,
        "tray": wholly,
        "decision": 0,
        "delivery": 0,
    }
    answers = await intake.accept([submission(name) for name in range(BATCH)])
    assert sum(isinstance(one, Accepted) and one.fresh for one in answers) == BATCH - wholly
    decisions = [routed(name, [1, 2]) for name in range(BATCH)]
    assert await registry.register(decisions) == Registered(BATCH, 2 * BATCH, 0)
