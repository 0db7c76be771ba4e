"""What the store's part of dispatch must hold: leases, claims, conclusions, and lanes that never forget."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.replays import PostgresReplays
from hub.domain.circuit import UNKNOWN, Standing
from hub.domain.delivery import Attempt, Conclusion
from hub.domain.errors import LeaseLost, Unavailable
from hub.domain.lifecycle import MOVES, State
from hub.domain.partner import Endpoint
from hub.domain.replays import ReplayOrder, Selection
from tests.conformance.motion import (
    MINUTE,
    NOW,
    assert_nothing_is_forgotten,
    attempts,
    conclude,
    delivered,
    journal,
    lane_due_in,
    lease_one,
    plant,
    refused,
    standing,
    take,
    waiting,
)
from tests.conformance.samples import (
    Obstacle,
    WatchedDatabase,
    execute,
    partner,
    rows,
    submission,
    subscriber,
)

HOUR = timedelta(hours=1)


# --- leasing ------------------------------------------------------------------------------------------


async def test_a_leased_lane_says_where_it_leads_and_keeps_its_secrets_sealed(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    kept = partner(1, "sftp", host="sftp.example")
    await PostgresPartners(database).keep([(kept, b"sealed", b"wrapped")])
    [lane] = await lanes.lease("anne", 10, MINUTE)
    assert (lane.subscriber, lane.endpoint) == (subscriber(1), kept.endpoint)
    assert (lane.sealed_secrets, lane.wrapped_key) == (b"sealed", b"wrapped")
    assert "sealed'" not in repr(lane)
    assert "wrapped'" not in repr(lane)


async def test_a_lane_of_a_channel_its_partner_has_left_leads_to_the_partner_s_endpoint_of_today(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1], channel="sftp")
    kept = partner(1, "webhook", url="https://mairie.example")
    await PostgresPartners(database).keep([(kept, b"sealed", b"wrapped")])
    [lane] = await lanes.lease("anne", 10, MINUTE)
    assert (lane.endpoint, lane.sealed_secrets) == (kept.endpoint, b"sealed")


async def test_what_went_out_by_another_channel_than_planned_tells_that_channel(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1], channel="sftp")
    await PostgresPartners(database).keep([(partner(1, "webhook"), None, None)])
    await take(lanes, "anne")
    assert [row["channel"] for row in await rows(database, "SELECT channel FROM delivery")] == ["webhook"]


async def test_a_mailbox_s_lane_stays_one_and_is_handed_neither_settings_nor_secrets_of_another_channel(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1], mailbox=True)
    kept = partner(1, "webhook", url="https://mairie.example")
    await PostgresPartners(database).keep([(kept, b"sealed", b"wrapped")])
    [lane] = await lanes.lease("anne", 10, MINUTE)
    assert (lane.endpoint, lane.sealed_secrets, lane.wrapped_key) == (Endpoint("mailbox", {}), None, None)
    await lanes.claim("anne", lane.id, 10)
    assert [row["channel"] for row in await rows(database, "SELECT channel FROM delivery")] == ["mailbox"]


async def test_a_mailbox_s_lane_has_the_settings_of_a_partner_that_is_served_by_mailbox(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1], channel="mailbox")
    kept = partner(1, "mailbox", kept_for="90 jours")
    await PostgresPartners(database).keep([(kept, None, None)])
    [lane] = await lanes.lease("anne", 10, MINUTE)
    assert lane.endpoint == kept.endpoint


async def test_a_lane_that_is_held_is_leased_to_nobody_else(database: Database, lanes: PostgresLanes) -> None:
    await plant(database, [1])
    assert len(await lanes.lease("anne", 10, MINUTE)) == 1
    assert await lanes.lease("basile", 10, MINUTE) == []
    assert await lanes.lease("anne", 10, MINUTE) == []


async def test_workers_that_lease_at_once_share_the_lanes(database: Database, lanes: PostgresLanes) -> None:
    await plant(database, [1], to=range(1, 41))
    shares = await asyncio.gather(*(lanes.lease(f"worker-{n}", 10, MINUTE) for n in range(8)))
    leased = [lane.id for share in shares for lane in share]
    assert len(leased) == len(set(leased))
    rest = await lanes.lease("last", 100, MINUTE)
    assert len(leased) + len(rest) == 40


async def test_a_lease_takes_no_more_lanes_than_asked_and_those_that_wait_longest(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1], to=[1])
    await plant(database, [2], to=[2])
    await plant(database, [3], to=[3])
    leased = await lanes.lease("anne", 2, MINUTE)
    assert [lane.subscriber for lane in leased] == [subscriber(1), subscriber(2)]


async def test_a_lane_whose_rows_are_due_later_is_not_leased(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, HOUR)])
    assert await lanes.lease("anne", 10, MINUTE) == []


async def test_the_lane_of_a_worker_that_died_is_due_again_when_its_lease_ends(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane = await lease_one(lanes, "anne", length=NOW)
    assert await lease_one(lanes, "basile") == lane


# --- claiming -----------------------------------------------------------------------------------------


async def test_a_claim_carries_all_its_parcel_is_made_of(database: Database, lanes: PostgresLanes) -> None:
    [name] = await plant(database, [1])
    told = submission(1)
    _, [claim] = await take(lanes, "anne")
    assert claim.attempt == Attempt(name, 1, 1)
    assert (claim.subscriber, claim.sequence, claim.revision) == (subscriber(1), 1, 1)
    assert (claim.submission, claim.sender, claim.external_id) == (told.id, told.sender, told.external_id)
    assert claim.procedure == told.procedure
    assert (claim.sealed, claim.wrapped_key) == (told.sealed, told.wrapped_key)
    assert claim.attachments == told.attachments


async def test_a_claim_carries_no_file_its_delivery_was_not_given(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    await execute(database, "UPDATE delivery SET attachments = '{2}'")
    _, [claim] = await take(lanes, "anne")
    assert claim.attachments == submission(1).attachments[1:]


async def test_a_submission_that_was_purged_is_claimed_with_an_empty_key(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    await execute(database, "DELETE FROM submission_key")
    _, [claim] = await take(lanes, "anne")
    assert claim.wrapped_key == b""


async def test_a_worker_that_does_not_hold_the_lane_claims_nothing(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane = await lease_one(lanes, "anne")
    for nobody in (lane, lane + 1000):
        with pytest.raises(LeaseLost):
            await lanes.claim("basile", nobody, 10)
    assert (await standing(database, name)).state is State.PLANNED


async def test_rows_are_claimed_in_the_order_of_their_numbers_page_by_page(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, range(25))
    await execute(database, "UPDATE delivery SET due_at = (SELECT min(due_at) FROM delivery)")
    lane = await lease_one(lanes, "anne")
    pages = [await lanes.claim("anne", lane, 10) for _ in range(4)]
    assert [[claim.sequence for claim in page] for page in pages] == [
        list(range(1, 11)),
        list(range(11, 21)),
        list(range(21, 26)),
        [],
    ]


async def test_a_row_in_flight_is_not_claimed_again_in_the_same_lease(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane, _ = await take(lanes, "anne")
    assert await lanes.claim("anne", lane, 10) == ()


async def test_rows_in_flight_of_a_lane_that_was_given_back_are_tried_again(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane, _ = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [])
    _, [claim] = await take(lanes, "anne")
    assert claim.attempt == Attempt(name, 1, 2)


async def test_a_row_whose_worker_died_is_tried_again_and_the_lost_attempt_is_counted(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    await take(lanes, "anne", lease=NOW)
    _, [claim] = await take(lanes, "basile")
    assert claim.attempt == Attempt(name, 1, 2)
    assert await attempts(database, name) == [(1, 1, "lost", True), (1, 2, None, False)]


# --- renewing -----------------------------------------------------------------------------------------


async def test_renewing_lengthens_the_lease_and_with_it_the_holds(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane, _ = await take(lanes, "anne", lease=NOW)
    assert await lanes.renew("anne", [lane], HOUR) == {lane}
    assert (await lanes.next_due() or 0) > 3590
    assert await lanes.lease("basile", 10, MINUTE) == []


async def test_renewing_never_shortens_what_is_held(database: Database, lanes: PostgresLanes) -> None:
    await plant(database, [1])
    lane, _ = await take(lanes, "anne", lease=HOUR)
    await lanes.renew("anne", [lane], MINUTE)
    assert (await lanes.next_due() or 0) > 3590


async def test_renewing_tells_which_lanes_are_still_held(database: Database, lanes: PostgresLanes) -> None:
    await plant(database, [1], to=[1, 2, 3])
    taken, given_back, kept = [lane.id for lane in await lanes.lease("anne", 10, NOW)]
    await conclude(lanes, "anne", taken, [])
    [stolen] = await lanes.lease("basile", 1, MINUTE)
    assert stolen.id == taken
    await conclude(lanes, "anne", given_back, [])
    assert await lanes.renew("anne", [taken, given_back, kept, 4711], MINUTE) == {kept}


# --- concluding ---------------------------------------------------------------------------------------


async def test_what_is_delivered_rests_and_its_lane_sleeps(database: Database, lanes: PostgresLanes) -> None:
    [name] = await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    assert await conclude(lanes, "anne", lane, [delivered(claim.attempt, "/depot/7")]) == []
    stands = await standing(database, name)
    assert (stands.state, stands.cause, stands.due_in) == (State.DELIVERED, None, None)
    assert await lane_due_in(database, lane) is None
    assert await lanes.next_due() is None
    assert await attempts(database, name) == [(1, 1, "delivered", True)]
    assert (await rows(database, "SELECT receipt FROM journal WHERE sending = 1"))[0]["receipt"] == "/depot/7"
    assert await journal(database, "delivery.delivered") == [(name, "hub", "")]


async def test_what_waited_for_an_endpoint_that_serves_again_goes_at_once_but_not_what_is_put_off_then(
    database: Database, lanes: PostgresLanes
) -> None:
    first, *others = await plant(database, [1, 2, 3, 4])
    lane, claims = await take(lanes, "anne")
    ill = Standing(1, 1)
    await conclude(lanes, "anne", lane, [waiting(one.attempt, HOUR) for one in claims], standing=ill)
    await execute(
        database,
        f"UPDATE delivery SET due_at = clock_timestamp() WHERE id = '{first}'",
        "UPDATE lane SET due_at = clock_timestamp()",
    )
    _, [probe] = await take(lanes, "anne")
    assert probe.attempt.delivery == first
    before = await rows(database, "SELECT id, xmin::text FROM delivery WHERE id <> $1 ORDER BY id", first)
    await conclude(lanes, "anne", lane, [delivered(probe.attempt)])
    # Not one row was written for it.
    after = await rows(database, "SELECT id, xmin::text FROM delivery WHERE id <> $1 ORDER BY id", first)
    assert list(map(tuple, after)) == list(map(tuple, before))
    assert await lane_due_in(database, lane) == pytest.approx(0, abs=5)
    [again] = await lanes.lease("anne", 10, MINUTE)
    [one, other] = await lanes.claim("anne", again.id, 2)
    assert {one.attempt.delivery, other.attempt.delivery} < set(others)
    put_off = waiting(one.attempt, MINUTE)
    await conclude(lanes, "anne", lane, [put_off, delivered(other.attempt)])
    _, [last] = await take(lanes, "anne")
    assert {one.attempt.delivery, other.attempt.delivery, last.attempt.delivery} == set(others)
    await conclude(lanes, "anne", lane, [delivered(last.attempt)])
    assert await lane_due_in(database, lane) == pytest.approx(60, abs=5)


async def test_an_endpoint_that_fails_anew_hurries_nothing(database: Database, lanes: PostgresLanes) -> None:
    await plant(database, [1, 2, 3])
    lane, claims = await take(lanes, "anne")
    await conclude(
        lanes, "anne", lane, [waiting(one.attempt, HOUR) for one in claims], standing=Standing(1, 1)
    )
    for found, due_in in ((UNKNOWN, 0), (Standing(1, 1), 3600)):
        await execute(database, "UPDATE lane SET due_at = clock_timestamp()")
        [leased] = await lanes.lease("anne", 10, MINUTE)
        claims = await lanes.claim("anne", leased.id, 1)
        await conclude(lanes, "anne", lane, [waiting(one.attempt, HOUR) for one in claims], standing=found)
        assert await lane_due_in(database, lane) == pytest.approx(due_in, abs=5)


async def test_what_waits_is_due_after_its_wait_and_its_lane_with_it(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, HOUR, "sftp.timeout")])
    stands = await standing(database, name)
    assert (stands.state, stands.cause) == (State.WAITING, "sftp.timeout")
    assert stands.due_in is not None
    assert 3590 < stands.due_in <= 3600
    lane_due = await lane_due_in(database, lane)
    assert lane_due is not None
    assert 3590 < lane_due <= 3600
    assert await attempts(database, name) == [(1, 1, "deferred", True)]
    assert await journal(database, "delivery.waiting") == [(name, "hub", "sftp.timeout")]


async def test_what_is_parked_rests_with_its_cause(database: Database, lanes: PostgresLanes) -> None:
    [name] = await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [refused(claim.attempt, "sftp.denied")])
    stands = await standing(database, name)
    assert (stands.state, stands.cause, stands.due_in) == (State.PARKED, "sftp.denied", None)
    assert await journal(database, "delivery.parked") == [(name, "hub", "sftp.denied")]


async def test_attempts_count_on_until_the_partner_takes_it(database: Database, lanes: PostgresLanes) -> None:
    [name] = await plant(database, [1])
    for number in (1, 2, 3):
        lane, [claim] = await take(lanes, "anne")
        assert claim.attempt == Attempt(name, 1, number)
        await conclude(lanes, "anne", lane, [waiting(claim.attempt, NOW)])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)])
    outcomes = [outcome for _, _, outcome, _ in await attempts(database, name)]
    assert outcomes == ["deferred", "deferred", "deferred", "delivered"]
    assert (await standing(database, name)).cause is None


async def test_no_conclusions_just_give_the_lane_back(database: Database, lanes: PostgresLanes) -> None:
    await plant(database, [1])
    lane = await lease_one(lanes, "anne")
    await conclude(lanes, "anne", lane, [])
    assert await lease_one(lanes, "basile") == lane


async def test_one_row_s_illegal_move_fails_no_other_s(database: Database, lanes: PostgresLanes) -> None:
    first, second, third = await plant(database, [1, 2, 3])
    lane, claims = await take(lanes, "anne")
    await PostgresMailboxes(database).acknowledge(subscriber(1), [second])
    stranger = Attempt(uuid4(), 1, 1)
    news = [delivered(claim.attempt) for claim in claims]
    assert await conclude(lanes, "anne", lane, [*news, delivered(stranger)]) == [second, stranger.delivery]
    states = [(await standing(database, name)).state for name in (first, second, third)]
    assert states == [State.DELIVERED, State.ACKNOWLEDGED, State.DELIVERED]


async def test_news_of_a_delivery_in_another_lane_is_refused(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1], to=[1, 2])
    first, second = await lanes.lease("anne", 10, MINUTE)
    [claim] = await lanes.claim("anne", first.id, 10)
    name = claim.attempt.delivery
    assert await conclude(lanes, "anne", second.id, [delivered(claim.attempt)]) == [name]
    assert (await standing(database, name)).state is State.IN_FLIGHT


async def test_a_conclusion_told_twice_changes_nothing_the_second_time(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, HOUR)])
    before = await rows(database, "SELECT state, changed_at FROM delivery")
    assert await conclude(lanes, "anne", lane, [waiting(claim.attempt, HOUR)]) == [name]
    assert await rows(database, "SELECT state, changed_at FROM delivery") == before
    assert len(await journal(database, "delivery.waiting")) == 1


async def test_a_conclusion_whose_connection_dies_is_written_by_telling_it_again(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    async with Obstacle.before(database, "delivery") as obstacle:
        telling = asyncio.create_task(conclude(lanes, "anne", lane, [delivered(claim.attempt)]))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await telling
        assert (await standing(database, name)).state is State.IN_FLIGHT
        await obstacle.remove()
        assert await conclude(lanes, "anne", lane, [delivered(claim.attempt)]) == []
    assert (await standing(database, name)).state is State.DELIVERED


async def test_a_lane_is_offered_first_to_who_may_have_its_connection_still(database: Database) -> None:
    lanes = PostgresLanes(database, kept=timedelta(seconds=30))
    await plant(database, range(2))
    lane, [claim, _] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)])
    assert await lanes.lease("basile", 10, MINUTE) == []
    [kept] = await lanes.lease("anne", 10, NOW)
    assert kept.id == lane
    # Whoever kept it does not come: it has waited long enough for the others.
    await execute(database, "UPDATE lane SET due_at = clock_timestamp() - interval '1 s'")
    assert await lease_one(lanes, "basile") == lane


async def test_what_is_taken_is_leased_and_claimed_at_once_as_its_endpoint_stands(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, range(30), to=[1, 2, 3])
    await execute(
        database,
        f"UPDATE lane SET at_once = 16 WHERE subscriber = '{subscriber(2)}'",
        f"UPDATE lane SET failures = 2 WHERE subscriber = '{subscriber(3)}'",
    )
    taken = await lanes.take("anne", 10, 10, 20, MINUTE)
    counts = {one.lane.subscriber: len(one.claims or ()) for one in taken}
    assert counts == {subscriber(1): UNKNOWN.at_once, subscriber(2): 16, subscriber(3): 1}
    assert await lanes.take("basile", 10, 10, 20, MINUTE) == []


async def test_lanes_that_fail_and_those_that_do_not_are_taken_apart(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1], to=range(1, 7))
    await execute(database, f"UPDATE lane SET failures = 1 WHERE subscriber < '{subscriber(4)}'")
    taken = await lanes.take("anne", 1, 2, 20, MINUTE)
    assert sorted(one.lane.standing.fails for one in taken) == [False, True, True]
    assert len(await lanes.take("anne", 10, 0, 20, MINUTE)) == 2


async def test_what_is_to_be_withdrawn_is_not_tried_again(database: Database, lanes: PostgresLanes) -> None:
    failed, lost, arrived = await plant(database, range(3))
    lane, claims = await take(lanes, "anne", lease=NOW)
    await execute(database, "UPDATE delivery SET withdrawing = 'a newer decision'")
    by_name = {claim.attempt.delivery: claim.attempt for claim in claims}
    await conclude(lanes, "anne", lane, [waiting(by_name[failed]), delivered(by_name[arrived])])
    assert await take(lanes, "basile") == (lane, ())
    assert [(await standing(database, name)).state for name in (failed, lost, arrived)] == [
        State.WITHDRAWN,
        State.WITHDRAWN,
        State.DELIVERED,
    ]
    assert (await standing(database, lost)).cause == "hub.perhaps_received"
    assert sorted(detail for _, _, detail in await journal(database, "delivery.withdrawn")) == [
        "a newer decision",
        "a newer decision; hub.perhaps_received",
    ]


# --- two workers that both believe they hold the lane -------------------------------------------------


async def _two_believe(lanes: PostgresLanes) -> tuple[int, Attempt, Attempt]:
    """Anne seemed dead: the lane, her attempt, and Basile's, which is in flight."""
    lane, [slow] = await take(lanes, "anne", lease=NOW)
    _, [fresh] = await take(lanes, "basile")
    return lane, slow.attempt, fresh.attempt


async def test_stale_bad_news_is_refused(database: Database, lanes: PostgresLanes) -> None:
    [name] = await plant(database, [1])
    lane, slow, _ = await _two_believe(lanes)
    for news in (waiting(slow), refused(slow)):
        assert await conclude(lanes, "anne", lane, [news]) == [name]
    stands = await standing(database, name)
    assert (stands.state, stands.attempt, stands.cause) == (State.IN_FLIGHT, 2, None)
    assert await attempts(database, name) == [(1, 1, "lost", True), (1, 2, None, False)]


async def test_late_good_news_is_welcome_and_wins_over_the_attempt_in_flight(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane, slow, fresh = await _two_believe(lanes)
    assert await conclude(lanes, "anne", lane, [delivered(slow)]) == []
    assert (await standing(database, name)).state is State.DELIVERED
    assert await conclude(lanes, "basile", lane, [waiting(fresh)]) == [name]
    stands = await standing(database, name)
    assert (stands.state, stands.due_in) == (State.DELIVERED, None)
    assert await attempts(database, name) == [(1, 1, "delivered", True), (1, 2, "deferred", True)]


@pytest.mark.parametrize("rests_in", [State.WAITING, State.PARKED])
async def test_good_news_after_the_other_s_bad_news_is_welcome(
    database: Database, lanes: PostgresLanes, rests_in: State
) -> None:
    [name] = await plant(database, [1])
    lane, slow, fresh = await _two_believe(lanes)
    await conclude(lanes, "basile", lane, [waiting(fresh) if rests_in is State.WAITING else refused(fresh)])
    assert await conclude(lanes, "anne", lane, [delivered(slow)]) == []
    stands = await standing(database, name)
    assert (stands.state, stands.cause, stands.due_in) == (State.DELIVERED, None, None)
    [(_, _, detail)] = await journal(database, "delivery.delivered")
    assert detail == f"late, was {rests_in}"


async def test_bad_and_good_news_told_at_once_end_delivered_in_either_order(
    database: Database, lanes: PostgresLanes
) -> None:
    first, second = await plant(database, [1, 2])
    lane, slow = await take(lanes, "anne", lease=NOW)
    _, fresh = await take(lanes, "basile")
    answer = await conclude(
        lanes,
        "basile",
        lane,
        [
            waiting(fresh[0].attempt),
            delivered(slow[0].attempt),
            delivered(slow[1].attempt),
            waiting(fresh[1].attempt),
        ],
    )
    assert answer == [second]
    for name in (first, second):
        stands = await standing(database, name)
        assert (stands.state, stands.cause, stands.due_in) == (State.DELIVERED, None, None)


async def test_who_lost_the_lane_leaves_the_other_s_lease_alone(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1, 2])
    lane, slow = await take(lanes, "anne", lease=NOW)
    _, fresh = await take(lanes, "basile", lease=HOUR)
    await conclude(lanes, "anne", lane, [delivered(slow[0].attempt)])
    assert await lanes.renew("basile", [lane], HOUR) == {lane}
    assert await lanes.lease("anne", 10, MINUTE) == []
    assert await conclude(lanes, "basile", lane, [delivered(claim.attempt) for claim in fresh]) == [
        slow[0].attempt.delivery
    ]
    assert await lane_due_in(database, lane) is None


async def test_an_attempt_that_never_was_is_no_news(database: Database, lanes: PostgresLanes) -> None:
    [name] = await plant(database, [1])
    lane, _ = await take(lanes, "anne")
    for invented in (Attempt(name, 1, 2), Attempt(name, 2, 1), Attempt(name, 0, 1)):
        assert await conclude(lanes, "anne", lane, [delivered(invented)]) == [name]
    assert (await standing(database, name)).state is State.IN_FLIGHT


# --- what must not be lost ----------------------------------------------------------------------------


async def test_a_registration_between_the_claim_and_the_conclusion_wakes_the_lane(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await plant(database, [2])
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)])
    assert await lease_one(lanes, "anne") == lane


async def test_a_conclusion_waits_for_a_registration_under_way_and_counts_its_rows(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    async with Obstacle.before(database, "delivery") as obstacle:
        registering = asyncio.create_task(plant(database, [2]))
        await obstacle.reached()
        concluding = asyncio.create_task(conclude(lanes, "anne", lane, [delivered(claim.attempt)]))
        await asyncio.sleep(0.2)
        assert not concluding.done()
        await obstacle.remove()
        await asyncio.gather(registering, concluding)
    assert await lease_one(lanes, "anne") == lane


async def test_a_registration_waits_for_a_conclusion_under_way_and_wakes_the_lane_after_it(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    async with Obstacle.before(database, "delivery") as obstacle:
        concluding = asyncio.create_task(conclude(lanes, "anne", lane, [delivered(claim.attempt)]))
        await obstacle.reached()
        registering = asyncio.create_task(plant(database, [2]))
        await asyncio.sleep(0.2)
        assert not registering.done()
        await obstacle.remove()
        await asyncio.gather(registering, concluding)
    assert await lease_one(lanes, "anne") == lane


async def test_rows_left_beyond_a_page_keep_the_lane_due(database: Database, lanes: PostgresLanes) -> None:
    await plant(database, range(3))
    lane = await lease_one(lanes, "anne")
    page = await lanes.claim("anne", lane, 2)
    await conclude(lanes, "anne", lane, [delivered(claim.attempt) for claim in page])
    assert await lanes.next_due() == 0
    _, rest = await take(lanes, "anne")
    assert [claim.sequence for claim in rest] == [3]


# --- waiting ------------------------------------------------------------------------------------------


async def test_the_next_due_time_is_none_while_all_sleep_and_zero_when_a_lane_is_due(
    database: Database, lanes: PostgresLanes
) -> None:
    assert await lanes.next_due() is None
    await plant(database, [1])
    assert await lanes.next_due() == 0


async def test_a_held_lane_that_got_new_rows_is_next_due_when_its_lease_ends(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    await take(lanes, "anne", lease=MINUTE)
    await plant(database, [2])
    seconds = await lanes.next_due()
    assert seconds is not None
    assert 50 < seconds <= 60


async def test_who_waits_is_woken_by_a_registration_and_by_a_page_that_leaves_rows(
    database: Database, lanes: PostgresLanes
) -> None:
    await lanes.wait(0.5)
    started = time.monotonic()
    waiting_for_it = asyncio.create_task(lanes.wait(20))
    await asyncio.sleep(0.1)
    await plant(database, range(2))
    await waiting_for_it
    lane = await lease_one(lanes, "anne")
    [claim] = await lanes.claim("anne", lane, 1)
    waiting_for_it = asyncio.create_task(lanes.wait(20))
    await asyncio.sleep(0.1)
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)])
    await waiting_for_it
    assert time.monotonic() - started < 10


async def test_who_waits_in_vain_waits_as_long_as_said(lanes: PostgresLanes) -> None:
    # The first wait may end at once: nobody listened before it.
    await lanes.wait(5)
    started = time.monotonic()
    await lanes.wait(0.2)
    assert 0.15 < time.monotonic() - started < 5


# --- anything, in any order ---------------------------------------------------------------------------


class _Storm:
    """Two workers that die and come back, a partner, an operator and a registrar, all at once."""

    def __init__(self, database: Database, lanes: PostgresLanes, seed: int) -> None:
        self._database = database
        self._lanes = lanes
        self._dice = random.Random(seed)
        self._mailboxes = PostgresMailboxes(database)
        self._replays = PostgresReplays(database)
        self._names: list[UUID] = []
        self._unheard: list[tuple[str, int, Attempt]] = []

    async def blow(self) -> None:
        await self._register(range(10))
        await asyncio.gather(
            self._work("anne"), self._work("basile"), self._acknowledge(), self._replay(), self._arrive()
        )

    async def calm(self) -> None:
        """Whatever is left is attempted until it rests."""
        await execute(
            self._database,
            "UPDATE lane SET lease_until = lease_until - interval '2 hours', due_at = due_at - interval '2 hours'",
            "UPDATE delivery SET due_at = due_at - interval '2 hours'",
        )
        while await self._replays.send_again(100):
            pass
        for _ in range(100):
            leased = await self._lanes.lease("calm", 100, MINUTE)
            for lane in leased:
                claims = await self._lanes.claim("calm", lane.id, 100)
                await conclude(self._lanes, "calm", lane.id, [delivered(claim.attempt) for claim in claims])
            if not leased:
                return
        raise AssertionError("lanes do not come to rest")

    async def _register(self, numbers: range) -> None:
        self._names.extend(await plant(self._database, numbers, to=[1, 2, 3]))

    async def _work(self, worker: str) -> None:
        for _ in range(25):
            length = self._dice.choice([NOW, MINUTE])
            for lane in await self._lanes.lease(worker, self._dice.randint(1, 3), length):
                await self._serve(worker, lane.id)
            if self._unheard and self._dice.random() < 0.5:
                late_worker, lane_id, attempt = self._unheard.pop(self._dice.randrange(len(self._unheard)))
                await conclude(self._lanes, late_worker, lane_id, [self._news(attempt)])

    async def _serve(self, worker: str, lane: int) -> None:
        try:
            claims = await self._lanes.claim(worker, lane, self._dice.randint(1, 8))
        except LeaseLost:
            return
        if self._dice.random() < 0.3:
            await self._lanes.renew(worker, [lane], self._dice.choice([NOW, timedelta(seconds=1)]))
        heard = [claim.attempt for claim in claims if self._dice.random() < 0.7]
        self._unheard.extend((worker, lane, claim.attempt) for claim in claims if claim.attempt not in heard)
        if self._dice.random() < 0.8:
            await conclude(self._lanes, worker, lane, [self._news(attempt) for attempt in heard])

    def _news(self, attempt: Attempt) -> Conclusion:
        return self._dice.choice([delivered(attempt), refused(attempt), waiting(attempt, NOW)])

    async def _acknowledge(self) -> None:
        for _ in range(15):
            some = self._dice.sample(self._names, min(4, len(self._names)))
            await self._mailboxes.acknowledge(subscriber(self._dice.randint(1, 3)), some)
            await asyncio.sleep(0.01)

    async def _replay(self) -> None:
        for _ in range(10):
            state = self._dice.choice([State.PARKED, State.DELIVERED, State.ACKNOWLEDGED])
            await self._replays.begin(uuid4(), ReplayOrder(Selection(state=state), "jeanne", "essai"))
            await self._replays.send_again(self._dice.randint(1, 10))
            await asyncio.sleep(0.01)

    async def _arrive(self) -> None:
        for page in range(5):
            await asyncio.sleep(0.03)
            await self._register(range(10 + page * 3, 13 + page * 3))


_WATCH_MOVES = (
    "CREATE TABLE seen_move (source text, target text, sending integer, attempt integer, was_sending integer,"
    " was_attempt integer)",
    "CREATE FUNCTION see_move() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN"
    " INSERT INTO seen_move VALUES (old.state, new.state, new.sending, new.attempt, old.sending, old.attempt);"
    " RETURN NULL; END'",
    "CREATE TRIGGER see_move AFTER UPDATE OF state ON delivery FOR EACH ROW EXECUTE FUNCTION see_move()",
)


@pytest_asyncio.fixture
async def watched(fresh_dsn: str) -> AsyncIterator[WatchedDatabase]:
    database = await WatchedDatabase.watch(fresh_dsn)
    yield database
    await database.close()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_in_whatever_order_no_move_is_illegal_and_nothing_is_forgotten(
    watched: WatchedDatabase, seed: int
) -> None:
    database = watched
    await execute(database, *_WATCH_MOVES)
    storm = _Storm(database, PostgresLanes(database), seed)
    await storm.blow()
    await assert_nothing_is_forgotten(database)
    await storm.calm()
    await assert_nothing_is_forgotten(database)
    again = (State.IN_FLIGHT, State.IN_FLIGHT)
    for move in await rows(database, "SELECT * FROM seen_move"):
        made = (State(move["source"]), State(move["target"]))
        assert made in MOVES or made == again
        assert (move["sending"], move["attempt"]) >= (move["was_sending"], move["was_attempt"])
    restless = await rows(database, "SELECT id FROM delivery WHERE due_at IS NOT NULL")
    assert restless == []
    [orders] = await rows(
        database,
        "SELECT count(*) FILTER (WHERE matched <> sent + skipped OR finished_at IS NULL) AS wrong FROM replay",
    )
    assert orders["wrong"] == 0
    assert await database.deadlocks() == 0


async def test_a_lane_that_rests_is_due_when_it_has_rested_whatever_comes_new(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, timedelta(seconds=5))], timedelta(seconds=20))
    await plant(database, [2])
    rests = await lane_due_in(database, lane)
    assert rests is not None
    assert 18 < rests <= 20


async def test_a_lane_without_rows_sleeps_whatever_rest_it_was_given(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)], timedelta(seconds=20))
    assert await lane_due_in(database, lane) is None
