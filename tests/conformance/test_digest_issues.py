"""What every store must hold of digests: an issue's list is fixed before its first attempt, every further attempt
carries that list, and what changed in between makes another issue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.partners import PostgresPartners
from hub.domain.errors import LeaseLost
from hub.domain.identity import issue_id
from hub.domain.lifecycle import State
from hub.ports.lanes import IssueClaim
from tests.conformance.motion import (
    MINUTE,
    assert_sound,
    conclude,
    delivered,
    lease_one,
    plant,
    refused,
    standing,
    waiting,
)
from tests.conformance.samples import execute, partner, rows, subscriber

SLOT = datetime(2126, 4, 3, 6, tzinfo=UTC)
"""Later than whatever is planted here."""
NEXT = SLOT + timedelta(days=1)


@pytest_asyncio.fixture
async def lanes(database: Database) -> AsyncIterator[PostgresLanes]:
    await PostgresPartners(database).keep([(partner(1, "mail", frequency="daily"), None, None)])
    lanes = PostgresLanes(database)
    yield lanes
    await lanes.close()


async def put(database: Database, *numbers: int) -> list[UUID]:
    """Deliveries for the one partner, whose settings stay as they are."""
    return await plant(database, numbers, channel="mail", settings={"frequency": "daily"})


async def take_issue(
    lanes: PostgresLanes, worker: str = "anna", slot: datetime = SLOT
) -> tuple[int, IssueClaim]:
    lane = await lease_one(lanes, worker)
    found = await lanes.claim_issue(worker, lane, slot, 100)
    assert isinstance(found, IssueClaim)
    return lane, found


def listed(claim: IssueClaim) -> list[UUID]:
    return [one.attempt.delivery for one in claim.claims]


async def kill(database: Database) -> None:
    """Whoever holds a lane is not heard of any more."""
    await execute(
        database,
        "UPDATE lane SET lease_until = clock_timestamp() - interval '1 s', due_at = clock_timestamp()"
        " WHERE holder IS NOT NULL",
    )


async def fixed(database: Database) -> list[tuple[int, int, Sequence[UUID]]]:
    found = await rows(database, "SELECT number, attempt, deliveries FROM digest_issue ORDER BY slot, number")
    return [(row["number"], row["attempt"], row["deliveries"]) for row in found]


async def test_a_lane_of_digests_is_looked_at_before_its_rows_are_claimed(
    database: Database, lanes: PostgresLanes
) -> None:
    await put(database, 1, 2)
    [taken] = await lanes.take("anna", 10, 10, 20, MINUTE)
    assert taken.claims is None
    assert taken.lane.endpoint.settings["frequency"] == "daily"


async def test_an_issue_lists_what_was_due_when_its_slot_began_in_the_order_of_numbers(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await put(database, 3, 1, 2)
    _, claim = await take_issue(lanes)
    assert listed(claim) == names
    assert [one.sequence for one in claim.claims] == [1, 2, 3]
    assert claim.issue.id == issue_id(subscriber(1), SLOT, 1)
    assert (claim.issue.number, claim.issue.attempt, claim.issue.slot) == (1, 1, SLOT)
    assert await fixed(database) == [(1, 1, names)]
    await assert_sound(database)


async def test_what_came_after_the_slot_began_waits_for_the_next(
    database: Database, lanes: PostgresLanes
) -> None:
    await put(database, 1)
    lane = await lease_one(lanes, "anna")
    past = datetime.now(UTC) - timedelta(hours=1)
    assert await lanes.claim_issue("anna", lane, past, 100) is None
    await conclude(lanes, "anna", lane, [], timedelta(hours=5))
    await put(database, 2)
    assert await lanes.lease("anna", 10, MINUTE) == []
    await assert_sound(database)


async def test_a_further_attempt_has_the_list_of_the_first_whatever_came_meanwhile(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await put(database, 1, 2)
    lane, first = await take_issue(lanes)
    await put(database, 3)
    await conclude(lanes, "anna", lane, [waiting(one.attempt, timedelta(0)) for one in first.claims])
    lane, second = await take_issue(lanes, slot=NEXT)
    assert listed(second) == names
    assert second.issue.id == first.issue.id
    assert (second.issue.slot, second.issue.attempt) == (SLOT, 2)
    await conclude(lanes, "anna", lane, [delivered(one.attempt) for one in second.claims])
    _, third = await take_issue(lanes, slot=NEXT)
    assert [one.sequence for one in third.claims] == [3]
    assert third.issue.id == issue_id(subscriber(1), NEXT, 1)


async def test_a_worker_that_died_leaves_the_list_to_the_next(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await put(database, 1, 2)
    _, first = await take_issue(lanes)
    await put(database, 3)
    await kill(database)
    _, second = await take_issue(lanes, "berta", NEXT)
    assert second.issue.id == first.issue.id
    assert listed(second) == names
    assert [one.attempt.number for one in second.claims] == [2, 2]
    await assert_sound(database)


async def test_an_issue_that_waits_is_due_when_its_wait_is_over(
    database: Database, lanes: PostgresLanes
) -> None:
    await put(database, 1, 2)
    lane, claim = await take_issue(lanes)
    await conclude(lanes, "anna", lane, [waiting(one.attempt, MINUTE) for one in claim.claims])
    await put(database, 3)
    lane = await lease_one(lanes, "anna")
    found = await lanes.claim_issue("anna", lane, NEXT, 100)
    assert isinstance(found, timedelta)
    assert timedelta(seconds=50) < found <= MINUTE


async def test_what_was_withdrawn_between_two_attempts_makes_the_next_issue_without_it(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await put(database, 1, 2, 3)
    _, first = await take_issue(lanes)
    await execute(database, f"UPDATE delivery SET withdrawing = 'no longer named' WHERE id = '{names[1]}'")
    await kill(database)
    _, second = await take_issue(lanes, "berta", NEXT)
    assert listed(second) == [names[0], names[2]]
    assert second.issue.id == issue_id(subscriber(1), SLOT, 2) != first.issue.id
    assert (second.issue.number, second.issue.attempt) == (2, 2), "attempts count on"
    assert (await standing(database, names[1])).state is State.WITHDRAWN
    await assert_sound(database)


async def test_what_its_partner_fetched_meanwhile_makes_the_next_issue_without_it(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await put(database, 1, 2)
    lane, claim = await take_issue(lanes)
    await conclude(lanes, "anna", lane, [waiting(one.attempt, timedelta(0)) for one in claim.claims])
    await PostgresMailboxes(database).acknowledge(subscriber(1), [names[0]])
    _, second = await take_issue(lanes, slot=NEXT)
    assert listed(second) == [names[1]]
    assert second.issue.number == 2


async def test_what_was_sent_again_begins_anew_and_waits_for_the_next_slot(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await put(database, 1, 2)
    lane, claim = await take_issue(lanes)
    await conclude(
        lanes,
        "anna",
        lane,
        [refused(claim.claims[0].attempt), waiting(claim.claims[1].attempt, timedelta(0))],
    )
    await execute(
        database,
        "UPDATE delivery SET state = 'planned', sending = 2, attempt = 0, cause = NULL, due_at = clock_timestamp()"
        f" WHERE id = '{names[0]}'",
    )
    _, second = await take_issue(lanes, slot=NEXT)
    assert listed(second) == [names[1]]
    assert second.issue.slot == SLOT


async def test_an_issue_is_concluded_as_one(database: Database, lanes: PostgresLanes) -> None:
    names = await put(database, 1, 2, 3)
    lane, claim = await take_issue(lanes)
    assert not await conclude(lanes, "anna", lane, [delivered(one.attempt) for one in claim.claims])
    assert {(await standing(database, name)).state for name in names} == {State.DELIVERED}
    assert await lanes.lease("anna", 10, MINUTE) == []
    [row] = await rows(
        database, "SELECT count(DISTINCT written_by) AS n FROM journal WHERE outcome = 'delivered'"
    )
    assert row["n"] == 1


async def test_good_news_of_an_issue_s_lost_attempt_holds_for_all_of_it(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await put(database, 1, 2)
    lane, first = await take_issue(lanes)
    await kill(database)
    await take_issue(lanes, "berta", NEXT)
    assert not await conclude(lanes, "anna", lane, [delivered(one.attempt) for one in first.claims])
    assert {(await standing(database, name)).state for name in names} == {State.DELIVERED}


async def test_what_is_too_much_for_one_issue_goes_in_the_next_of_the_same_slot(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await put(database, 1, 2, 3)
    lane = await lease_one(lanes, "anna")
    first = await lanes.claim_issue("anna", lane, SLOT, 2)
    assert isinstance(first, IssueClaim)
    await conclude(lanes, "anna", lane, [delivered(one.attempt) for one in first.claims])
    _, second = await take_issue(lanes)
    assert (listed(first), listed(second)) == (names[:2], names[2:])
    assert (second.issue.slot, second.issue.number, second.issue.attempt) == (SLOT, 2, 1)


async def test_a_worker_s_clock_that_steps_back_gives_no_issue_an_older_slot(
    database: Database, lanes: PostgresLanes
) -> None:
    await put(database, 1)
    lane, first = await take_issue(lanes, slot=NEXT)
    await conclude(lanes, "anna", lane, [delivered(one.attempt) for one in first.claims])
    await put(database, 2)
    _, second = await take_issue(lanes, slot=SLOT)
    assert (second.issue.slot, second.issue.number) == (NEXT, 2)


async def test_whoever_lost_the_lane_gets_no_issue(database: Database, lanes: PostgresLanes) -> None:
    await put(database, 1)
    lane, _ = await take_issue(lanes)
    await kill(database)
    await lease_one(lanes, "berta")
    with pytest.raises(LeaseLost):
        await lanes.claim_issue("anna", lane, NEXT, 100)


async def test_a_partner_that_wants_unit_mails_again_is_not_kept_waiting(
    database: Database, lanes: PostgresLanes
) -> None:
    await put(database, 1)
    lane = await lease_one(lanes, "anna")
    await conclude(lanes, "anna", lane, [], timedelta(hours=20))
    await PostgresPartners(database).keep([(partner(1, "mail"), None, None)])
    [taken] = await lanes.take("anna", 10, 10, 20, MINUTE)
    assert taken.claims is not None
    assert len(taken.claims) == 1
