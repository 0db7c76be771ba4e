"""What every store must hold of a partner's numbers: each is told once, in order, and none before all smaller ones."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.numbers import PostgresNumbers
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.domain.lifecycle import State
from hub.ports.lanes import Page
from hub.ports.numbers import Number
from tests.conformance.motion import MINUTE, plant
from tests.conformance.samples import execute, partner, routed, submissions, subscriber
from tests.conformance.test_store_successions import succeed

Result = TypeVar("Result")


class Broken(Exception):
    """Its transaction is rolled back."""


class Fickle(Database):
    """Commits late, or not at all."""

    dice: random.Random

    async def run(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        async def late(connection: Connection) -> Result:
            result = await work(connection)
            await asyncio.sleep(self.dice.random() * 0.02)
            if self.dice.random() < 0.4:
                raise Broken
            return result

        return await super().run(late)


async def all_of(database: Database, number: int, limit: int = 500) -> list[Number]:
    return list(await PostgresNumbers(database).since(subscriber(number), 0, limit))


@pytest.mark.parametrize("seed", range(2))
async def test_whoever_asks_for_what_came_since_misses_no_number_and_meets_none_twice(
    fresh_dsn: str, seed: int
) -> None:
    database = await Fickle.open(fresh_dsn)
    assert isinstance(database, Fickle)
    database.dice = random.Random(seed)
    reading = await Database.open(fresh_dsn)
    await PostgresIntake(reading).accept(submissions(40))
    written = asyncio.Event()

    async def write(numbers: range) -> None:
        for number in numbers:
            while True:
                try:
                    await PostgresRegistry(database).register([routed(number, [1, 2])])
                    break
                except Broken:
                    continue

    async def read() -> list[int]:
        found: list[int] = []
        limit = database.dice.choice([1, 3, 50])
        while True:
            ended = written.is_set()
            page = await PostgresNumbers(reading).since(subscriber(1), len(found), limit)
            found += [one.number for one in page]
            assert found == list(range(1, len(found) + 1))
            if ended and not page:
                return found
            await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    await asyncio.gather(write(range(20)), write(range(20, 40)))
    written.set()
    assert await reader == list(range(1, 41))
    await database.close()
    await reading.close()


async def test_numbers_tell_what_moved_and_to_whom_and_what_was_withdrawn_expired_or_taken(
    database: Database,
) -> None:
    gone, old, taken, waits = await plant(database, [1, 2, 3, 4])
    [ready] = await plant(database, [5], to=[2], channel="webhook")
    await execute(
        database,
        f"UPDATE delivery SET state = 'withdrawn', due_at = NULL WHERE id = '{gone}'",
        f"UPDATE delivery SET state = 'expired', due_at = NULL WHERE id = '{old}'",
        f"UPDATE delivery SET state = 'acknowledged', due_at = NULL WHERE id = '{taken}'",
    )
    await PostgresPartners(database).keep([(partner(2, "webhook"), None, None)])
    await succeed(database, {1: 2})
    lanes = PostgresLanes(database)
    for leased in await lanes.take("anne", 10, 10, 10, MINUTE):
        if leased.claims is None:
            await lanes.claim("anne", leased.lane.id, 10)
        await lanes.conclude("anne", [Page(leased.lane.id)])
    await lanes.close()
    assert [(one.number, one.delivery, one.state, one.moved_to) for one in await all_of(database, 1)] == [
        (1, gone, State.WITHDRAWN, None),
        (2, old, State.EXPIRED, None),
        (3, taken, State.ACKNOWLEDGED, None),
        (4, waits, None, subscriber(2)),
    ]
    found = await all_of(database, 2)
    assert [(one.number, one.delivery) for one in found] == [(1, ready), (2, waits)]
    assert [one.number for one in await PostgresNumbers(database).since(subscriber(1), 2, 1)] == [3]
    assert await all_of(database, 3) == []
