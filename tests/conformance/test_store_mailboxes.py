"""What the mailbox's part of the store must hold: a partner acknowledges its own, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.domain.lifecycle import MOVES, State
from tests.conformance.motion import (
    MINUTE,
    assert_nothing_is_forgotten,
    attempts,
    conclude,
    delivered,
    journal,
    plant,
    standing,
    take,
    waiting,
)
from tests.conformance.samples import execute, rows, subscriber


@pytest_asyncio.fixture
async def mailboxes(database: Database) -> AsyncIterator[PostgresMailboxes]:
    yield PostgresMailboxes(database)
    await assert_nothing_is_forgotten(database)


async def test_a_partner_acknowledges_what_lies_in_its_mailbox(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    first, second = await plant(database, [1, 2])
    assert await mailboxes.acknowledge(subscriber(1), [second, first]) == [second, first]
    for name in (first, second):
        stands = await standing(database, name)
        assert (stands.state, stands.due_in) == (State.ACKNOWLEDGED, None)
    lines = await journal(database, "delivery.acknowledged")
    assert sorted(lines) == sorted(
        (name, f"partner:{subscriber(1)}", "was planned") for name in (first, second)
    )


async def test_acknowledging_again_says_the_same_and_writes_nothing(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    [name] = await plant(database, [1])
    await mailboxes.acknowledge(subscriber(1), [name])
    before = await rows(database, "SELECT changed_at FROM delivery")
    assert await mailboxes.acknowledge(subscriber(1), [name, name]) == [name]
    assert await rows(database, "SELECT changed_at FROM delivery") == before
    assert len(await journal(database, "delivery.acknowledged")) == 1


async def test_a_partner_acknowledges_nothing_of_another_s(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    first, second = await plant(database, [1], to=[1, 2])
    assert await mailboxes.acknowledge(subscriber(2), [first, second, uuid4()]) == [second]
    assert (await standing(database, first)).state is State.PLANNED


@pytest.mark.parametrize("state", list(State))
async def test_the_table_of_states_says_what_can_be_acknowledged(
    database: Database, mailboxes: PostgresMailboxes, state: State
) -> None:
    [name] = await plant(database, [1])
    if state not in (State.PLANNED, State.IN_FLIGHT, State.WAITING):
        await execute(database, "UPDATE delivery SET due_at = NULL, state = 'parked', cause = 'sftp.denied'")
    await execute(database, f"UPDATE delivery SET state = '{state}'")
    may = (state, State.ACKNOWLEDGED) in MOVES or state is State.ACKNOWLEDGED
    assert await mailboxes.acknowledge(subscriber(1), [name]) == ([name] if may else [])
    assert (await standing(database, name)).state is (State.ACKNOWLEDGED if may else state)


async def test_late_news_of_what_was_acknowledged_in_flight_is_refused_and_its_attempt_ends(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    first, second = await plant(database, [1, 2])
    lanes = PostgresLanes(database)
    lane, claims = await take(lanes, "anne")
    await mailboxes.acknowledge(subscriber(1), [first, second])
    news = [delivered(claims[0].attempt), waiting(claims[1].attempt)]
    assert await conclude(lanes, "anne", lane, news) == [first, second]
    assert (await standing(database, first)).state is State.ACKNOWLEDGED
    assert (await standing(database, second)).state is State.ACKNOWLEDGED
    assert await attempts(database, first) == [(1, 1, "delivered", True)]
    assert await lanes.next_due() is None


async def test_a_lane_whose_rows_were_all_acknowledged_wakes_once_and_then_sleeps(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    [name] = await plant(database, [1])
    await mailboxes.acknowledge(subscriber(1), [name])
    lanes = PostgresLanes(database)
    lane, claims = await take(lanes, "anne")
    assert not claims
    await conclude(lanes, "anne", lane, [])
    assert await lanes.next_due() is None


async def test_one_who_acknowledges_while_a_worker_claims_is_never_overtaken(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    names = await plant(database, range(60))
    lanes = PostgresLanes(database)

    async def dispatch() -> None:
        while leased := await lanes.lease("anne", 1, MINUTE):
            claims = await lanes.claim("anne", leased[0].id, 7)
            await conclude(lanes, "anne", leased[0].id, [delivered(claim.attempt) for claim in claims])

    async def fetch() -> None:
        for place in range(len(names) - 1, -1, -5):
            page = names[max(0, place - 4) : place + 1]
            assert await mailboxes.acknowledge(subscriber(1), page) == page

    await asyncio.gather(dispatch(), fetch())
    assert {(await standing(database, name)).state for name in names} == {State.ACKNOWLEDGED}
