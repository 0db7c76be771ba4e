"""What every store must hold when a partner is succeeded: what runs follows, under the same names and without
a gap in anybody's numbers, and nobody reads what is not its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from hub.adapters.postgres import succession
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.replays import PostgresReplays
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.adapters.postgres.slips import count_moved
from hub.adapters.postgres.views import PostgresViews
from hub.domain.errors import LeaseLost, Unavailable
from hub.domain.ledger import Term
from hub.domain.lifecycle import State
from hub.domain.mailbox import Drawer
from hub.domain.replays import ReplayOrder, Selection
from hub.ports.lanes import Claim
from hub.ports.rule_books import Change, Item, ItemKind
from tests.conformance.motion import (
    MINUTE,
    NOW,
    assert_sound,
    attempts,
    conclude,
    delivered,
    journal,
    lane_due_in,
    park,
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
    numbers_by_partner,
    partner,
    routed,
    rows,
    stopped_by_a_lock,
    submission,
    subscriber,
)

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def lanes(database: Database, lanes: PostgresLanes) -> AsyncIterator[PostgresLanes]:
    yield lanes
    await assert_sound(database)


async def read(database: Database, query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await rows(database, query)]


async def succeed(
    database: Database, successors: Mapping[int, int], since: date | None = None, lead: timedelta = NOW
) -> None:
    """A new edition in which these are succeeded by those."""
    told = {"since": None if since is None else since.isoformat()}
    await _publish(
        database,
        Change(
            tuple(
                Item(
                    ItemKind.SUCCESSION,
                    str(subscriber(former)),
                    json.dumps(told | {"subscriber": str(subscriber(successor))}).encode(),
                )
                for former, successor in successors.items()
            )
        ),
        lead,
    )


async def succeed_no_more(database: Database, former: int) -> None:
    change = Change(dropped=((ItemKind.SUCCESSION, str(subscriber(former))),))
    await _publish(database, change, NOW)


async def _publish(database: Database, change: Change, lead: timedelta) -> None:
    rule_books = PostgresRuleBooks(database)
    newest = next((edition.number for edition in await rule_books.editions(1)), 0)
    await rule_books.publish(change, newest, lead, "agent", "essai")


async def two_hours_pass(database: Database) -> None:
    """For editions and lanes."""
    await execute(
        database,
        "UPDATE rule_book SET effective_from = effective_from - interval '2 hours' WHERE number > 1",
        "UPDATE lane SET due_at = due_at - interval '2 hours', moves_at = moves_at - interval '2 hours'",
    )


async def declare(database: Database, number: int, channel: str = "webhook") -> None:
    await PostgresPartners(database).keep([(partner(number, channel), None, None)])


async def whereabouts(database: Database, names: Sequence[UUID]) -> list[tuple[int, str, int]]:
    """Of each: the partner that has it (by its short number), the channel, and its number there."""
    found = await rows(
        database,
        "SELECT subscriber, channel, sequence FROM delivery JOIN lane USING (subscriber, channel)"
        " WHERE lane.id = lane AND delivery.id = ANY($1::uuid[]) ORDER BY array_position($1::uuid[], delivery.id)",
        list(names),
    )
    return [(int(row["subscriber"][:14]), row["channel"], row["sequence"]) for row in found]


async def serve(lanes: PostgresLanes, worker: str = "anne") -> list[Claim]:
    """Lease all that is due, claim a page of each, give the lanes back; what was claimed is delivered."""
    claimed: list[Claim] = []
    for lane in await lanes.lease(worker, 100, MINUTE):
        claims = await lanes.claim(worker, lane.id, 100)
        await conclude(lanes, worker, lane.id, [delivered(claim.attempt) for claim in claims])
        claimed.extend(claims)
    return claimed


async def lane_of(database: Database, number: int, channel: str) -> int:
    [row] = await rows(
        database,
        "SELECT id FROM lane WHERE (subscriber, channel) = ($1, $2)",
        str(subscriber(number)),
        channel,
    )
    return int(row["id"])


# --- who stands for whom ------------------------------------------------------------------------------


async def successor_of(database: Database, number: int) -> int:
    [row] = await rows(database, "SELECT successor_in_force($1) AS successor", str(subscriber(number)))
    return int(row["successor"][:14])


async def test_who_is_succeeded_by_nobody_stands_for_itself(database: Database) -> None:
    await succeed(database, {5: 6})
    assert await successor_of(database, 1) == 1


async def test_a_chain_of_successions_is_followed_to_its_end(database: Database) -> None:
    await succeed(database, {1: 2, 2: 3, 4: 3})
    assert [await successor_of(database, number) for number in (1, 2, 3, 4)] == [3, 3, 3, 3]


async def test_a_succession_is_in_force_as_long_as_its_editions(database: Database) -> None:
    await succeed(database, {1: 2})
    await succeed(database, {1: 3}, lead=HOUR)
    assert await successor_of(database, 1) == 2
    await two_hours_pass(database)
    assert await successor_of(database, 1) == 3
    await succeed_no_more(database, 1)
    assert await successor_of(database, 1) == 1


async def test_a_succession_begins_at_midnight_in_paris(database: Database) -> None:
    await succeed(database, {1: 2}, date(2999, 7, 1))
    await succeed(database, {3: 2}, date(2026, 1, 1))
    assert [await successor_of(database, number) for number in (1, 3)] == [1, 2]
    [row] = await rows(database, "SELECT begins FROM succession WHERE former = $1", str(subscriber(1)))
    assert row["begins"] == datetime(2999, 6, 30, 22, tzinfo=UTC)


async def test_a_circle_that_came_into_the_rule_book_moves_nothing(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await plant(database, [1])
    await succeed(database, {1: 2, 2: 3, 3: 2})
    assert [await successor_of(database, number) for number in (1, 2, 3)] == [1, 2, 3]
    assert [claim.attempt.delivery for claim in await serve(lanes)] == names


# --- registering --------------------------------------------------------------------------------------


async def test_what_is_registered_for_who_is_succeeded_goes_to_the_successor_under_its_own_name(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare(database, 2)
    await succeed(database, {1: 2})
    [mine] = await plant(database, [1], to=[2], channel="webhook")
    [name] = await plant(database, [2], to=[1])
    assert await whereabouts(database, [mine, name]) == [(2, "webhook", 1), (2, "webhook", 2)]
    assert await read(database, "SELECT named FROM delivery ORDER BY sequence") == [
        (None,),
        (str(subscriber(1)),),
    ]
    assert await journal(database, "delivery.planned") == [
        (mine, "hub", f"{subscriber(2)}, by decision 1 of rule book 7"),
        (name, "hub", f"{subscriber(1)}, succeeded by {subscriber(2)}, by decision 1 of rule book 7"),
    ]
    assert [claim.sequence for claim in await serve(lanes)] == [1, 2]


async def test_a_submission_for_two_of_whom_one_succeeds_the_other_gives_one_two_deliveries(
    database: Database, lanes: PostgresLanes
) -> None:
    await succeed(database, {1: 2})
    names = await plant(database, [1], to=[1, 2])
    assert sorted(await whereabouts(database, names)) == [(2, "sftp", 1), (2, "sftp", 2)]
    assert len(await serve(lanes)) == 2


async def test_what_is_for_a_mailbox_goes_to_the_successor_s_mailbox(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare(database, 2)
    await succeed(database, {1: 2})
    names = await plant(database, [1], mailbox=True)
    assert await whereabouts(database, names) == [(2, "mailbox", 1)]
    assert [lane.endpoint.channel for lane in await lanes.lease("anne", 10, MINUTE)] == ["mailbox"]


# --- moving -------------------------------------------------------------------------------------------


async def test_what_a_lane_holds_follows_the_successor_under_its_next_numbers_and_is_sent_there(
    database: Database, lanes: PostgresLanes
) -> None:
    [mine] = await plant(database, [9], to=[2], channel="webhook")
    names = await plant(database, [1, 2])
    await serve(lanes)
    names = await plant(database, [3, 4])
    await succeed(database, {1: 2})
    former = await lane_of(database, 1, "sftp")
    assert await serve(lanes) == []
    assert await lane_due_in(database, former) is None
    assert await whereabouts(database, names) == [(2, "webhook", 2), (2, "webhook", 3)]
    claims = await serve(lanes)
    assert [(claim.subscriber, claim.sequence) for claim in claims] == [
        (subscriber(2), 2),
        (subscriber(2), 3),
    ]
    assert {claim.attempt.delivery for claim in claims} == set(names)
    assert await whereabouts(database, [mine]) == [(2, "webhook", 1)]


async def test_the_numbers_that_moved_away_are_kept_and_the_journal_tells_both(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    await succeed(database, {1: 2})
    await serve(lanes)
    [kept] = await rows(database, "SELECT subscriber, sequence, delivery, moved_at FROM moved")
    assert (kept["subscriber"], kept["sequence"], kept["delivery"]) == (str(subscriber(1)), 1, name)
    detail = f"from {subscriber(1)}, number 1, to {subscriber(2)}, number 1"
    assert await journal(database, "delivery.moved") == [(name, "hub", detail)]
    [row] = await rows(database, "SELECT named FROM delivery")
    assert row["named"] == str(subscriber(1))


async def test_who_is_succeeded_by_somebody_undeclared_is_followed_into_a_mailbox(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await plant(database, [1])
    await succeed(database, {1: 2})
    await serve(lanes)
    assert await whereabouts(database, names) == [(2, "mailbox", 1)]


async def test_what_waits_for_a_former_endpoint_is_due_at_once_at_the_successor_s(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, HOUR)], rest=HOUR)
    await succeed(database, {1: 2})
    assert await serve(lanes) == []
    [again] = await serve(lanes)
    assert (again.subscriber, again.attempt.number) == (subscriber(2), 2)
    assert (claim.named, again.named) == (None, subscriber(1)), "it says for whom it was planned"
    assert await attempts(database, name) == [(1, 1, "deferred", True), (1, 2, "delivered", True)]


async def test_a_chain_is_followed_in_one_move_and_a_later_link_in_another(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await plant(database, [1], to=[1]) + await plant(database, [2], to=[2])
    await succeed(database, {1: 2, 2: 3})
    await serve(lanes)
    assert sorted(await whereabouts(database, names)) == [(3, "mailbox", 1), (3, "mailbox", 2)]
    await declare(database, 4)
    await succeed(database, {3: 4})
    await serve(lanes)
    # No rule wanted them in a mailbox: the third had nothing else.
    assert sorted(await whereabouts(database, names)) == [(4, "webhook", 1), (4, "webhook", 2)]
    assert {row["named"] for row in await rows(database, "SELECT named FROM delivery")} == {
        str(subscriber(1)),
        str(subscriber(2)),
    }


async def test_two_partners_that_one_succeeds_move_into_it_at_once_without_a_gap(fresh_dsn: str) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    lanes = PostgresLanes(database)
    await plant(database, range(40), to=[1, 2, 4])
    await succeed(database, {1: 3, 2: 3, 4: 3})
    leased = await lanes.lease("anne", 10, MINUTE)
    await asyncio.gather(*(lanes.claim("anne", lane.id, 10) for lane in leased))
    assert await read(database, "SELECT DISTINCT subscriber FROM delivery") == [(str(subscriber(3)),)]
    assert (await numbers_by_partner(database))[str(subscriber(3))] == list(range(1, 121))
    for lane in leased:
        await conclude(lanes, "anne", lane.id, [])
    assert len(await serve(lanes)) == 100
    await assert_sound(database)
    assert await database.deadlocks() == 0


async def test_a_succession_that_begins_later_moves_nothing_before_and_wakes_the_lane_then(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, timedelta(days=3))])
    await succeed(database, {7: 8})
    await succeed(database, {1: 2}, lead=HOUR)
    assert await serve(lanes) == []
    due_in = await lane_due_in(database, lane)
    assert due_in is not None
    assert 3500 < due_in <= 3600
    await two_hours_pass(database)
    await serve(lanes)
    assert await whereabouts(database, [name]) == [(2, "mailbox", 1)]


async def test_a_lane_that_is_served_before_its_succession_begins_still_wakes_for_it(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    await succeed(database, {7: 8})
    await succeed(database, {1: 2}, lead=HOUR)
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, timedelta(days=3))], rest=timedelta(days=3))
    due_in = await lane_due_in(database, lane)
    assert due_in is not None
    assert 3500 < due_in <= 3600


async def test_a_succession_that_was_withdrawn_before_it_began_moves_nothing_and_wakes_nobody(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    await succeed(database, {1: 2}, date(2999, 1, 1))
    await succeed_no_more(database, 1)
    assert [claim.attempt.delivery for claim in await serve(lanes)] == [name]
    assert await lanes.next_due() is None


async def test_an_attempt_in_flight_ends_where_it_is_and_its_failure_moves_on_at_once(
    database: Database, lanes: PostgresLanes
) -> None:
    good, bad = await plant(database, [1, 2])
    lane, claims = await take(lanes, "anne")
    await succeed(database, {1: 2})
    news = {claim.attempt.delivery: claim.attempt for claim in claims}
    assert await conclude(lanes, "anne", lane, [delivered(news[good]), waiting(news[bad], HOUR)], HOUR) == []
    assert (await whereabouts(database, [good]))[0][:2] == (1, "sftp")
    assert (await standing(database, good)).state is State.DELIVERED
    assert await serve(lanes) == []
    assert await whereabouts(database, [bad]) == [(2, "mailbox", 1)]
    assert [claim.attempt.number for claim in await serve(lanes)] == [2]


async def test_what_a_lost_worker_had_in_flight_moves_with_the_rest_and_is_counted(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    await take(lanes, "anne", lease=NOW)
    await succeed(database, {1: 2})
    assert await serve(lanes, "basile") == []
    assert await whereabouts(database, [name]) == [(2, "mailbox", 1)]
    assert [claim.attempt.number for claim in await serve(lanes, "basile")] == [2]
    assert await attempts(database, name) == [(1, 1, "lost", True), (1, 2, "delivered", True)]


async def test_a_hold_that_ended_moves_and_good_news_of_the_former_partner_is_only_its_attempt_s(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    former, [slow] = await take(lanes, "anne", lease=NOW)
    await succeed(database, {1: 2})
    assert await serve(lanes, "basile") == []
    assert await whereabouts(database, [name]) == [(2, "mailbox", 1)]
    assert await conclude(lanes, "anne", former, [delivered(slow.attempt, "/depot/1")]) == [name]
    [again] = await serve(lanes)
    assert (again.subscriber, again.attempt.number) == (subscriber(2), 2)
    assert await attempts(database, name) == [(1, 1, "delivered", True), (1, 2, "delivered", True)]


@pytest.mark.parametrize("channel", ["webhook", "mailbox"])
async def test_what_is_parked_follows_parked_and_its_new_partner_finds_it_and_is_sent_it_again(
    database: Database, lanes: PostgresLanes, channel: str
) -> None:
    await declare(database, 2, channel)
    [name] = await plant(database, [1])
    await park(database)
    await succeed(database, {1: 2})
    assert await serve(lanes) == []
    there = await standing(database, name)
    assert (there.state, there.sending) == (State.PARKED, 1)
    assert await lying(database, 1) == []
    assert await lying(database, 2) == [(name, 1)]
    [told] = await rows(database, "SELECT channel, cause, lane FROM delivery")
    assert tuple(told) == ("sftp", "sftp.denied", await lane_of(database, 2, channel))
    while await lanes.next_due() == 0:
        assert await serve(lanes) == []
    replays = PostgresReplays(database)
    await replays.begin(uuid4(), ReplayOrder(Selection(subscriber=subscriber(2)), "jeanne", ""))
    assert await replays.send_again(10) == 1
    [claim] = await serve(lanes)
    assert (claim.attempt.delivery, claim.attempt.sending, claim.subscriber) == (name, 2, subscriber(2))


async def test_what_is_refused_after_its_partner_was_succeeded_is_parked_at_the_successor_s(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane, [claim] = await take(lanes, "anne")
    await succeed(database, {1: 2})
    await conclude(lanes, "anne", lane, [refused(claim.attempt)])
    assert await serve(lanes) == []
    assert (await standing(database, name)).state is State.PARKED
    assert await lying(database, 2) == [(name, 1)]


async def test_a_notice_that_is_parked_follows_nobody_and_wakes_nobody(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    await park(database)
    await execute(
        database,
        "UPDATE delivery SET sequence = -1, channel = 'notice'",
        "UPDATE lane SET channel = 'notice'",
    )
    await succeed(database, {1: 2})
    assert await lanes.next_due() != 0
    assert await serve(lanes) == []
    assert await rows(database, "SELECT FROM moved") == []
    await execute(database, "UPDATE delivery SET sequence = 1")


async def test_a_worker_that_does_not_hold_the_lane_moves_nothing(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    await succeed(database, {1: 2})
    [lane] = await lanes.lease("anne", 10, MINUTE)
    with pytest.raises(LeaseLost):
        await lanes.claim("basile", lane.id, 10)
    with pytest.raises(LeaseLost):
        await succession.follow_successor(database, "basile", lane.id)
    assert await whereabouts(database, [name]) == [(1, "sftp", 1)]


async def test_a_lane_of_several_pages_moves_whole_and_keeps_its_order(
    database: Database, lanes: PostgresLanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "_PAGE", 3)
    await plant(database, range(8))
    before = await rows(database, "SELECT id FROM delivery ORDER BY sequence")
    await succeed(database, {1: 2})
    await serve(lanes)
    assert await rows(database, "SELECT id FROM delivery ORDER BY sequence") == before
    assert [claim.attempt.delivery for claim in await serve(lanes)] == [row["id"] for row in before]


async def test_what_moved_at_once_leaves_in_the_order_of_its_numbers(
    database: Database, lanes: PostgresLanes, fresh_dsn: str
) -> None:
    await plant(database, range(200))
    await succeed(database, {1: 2})
    # As it joins large pages: their rows are then written in the order in which they lie.
    name = urlsplit(fresh_dsn).path[1:]
    await execute(database, f"ALTER DATABASE {name} SET enable_nestloop = off")
    joining = await Database.open(fresh_dsn)
    await serve(PostgresLanes(joining))
    await joining.close()
    assert [claim.sequence for claim in await serve(lanes)] == list(range(1, 101))


# --- in the middle ------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["moved", "journal"])
async def test_a_move_whose_connection_dies_in_the_middle_leaves_all_where_it_was(
    database: Database, lanes: PostgresLanes, table: str
) -> None:
    names = await plant(database, range(4))
    before = await whereabouts(database, names)
    await succeed(database, {1: 2})
    [lane] = await lanes.lease("anne", 10, NOW)
    async with Obstacle.before(database, table) as obstacle:
        moving = asyncio.create_task(lanes.claim("anne", lane.id, 10))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await moving
        assert await whereabouts(database, names) == before
        assert await read(database, "SELECT sequence FROM partner WHERE sequence > 0") == [(4,)]
        await obstacle.remove()
        assert await serve(lanes, "basile") == []
    assert len(await serve(lanes)) == 4


async def test_what_was_killed_between_two_pages_goes_on_with_the_second(
    database: Database, lanes: PostgresLanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "_PAGE", 2)
    await plant(database, range(6))
    await succeed(database, {1: 2})
    [lane] = await lanes.lease("anne", 10, NOW)
    await execute(
        database,
        "CREATE FUNCTION third() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN"
        " IF (SELECT count(*) FROM moved) > 2 THEN RAISE SQLSTATE ''57014''; END IF; RETURN NULL; END'",
        "CREATE TRIGGER third AFTER INSERT ON moved FOR EACH STATEMENT EXECUTE FUNCTION third()",
    )
    with pytest.raises(Unavailable):
        await lanes.claim("anne", lane.id, 10)
    assert len(await rows(database, "SELECT FROM moved")) == 2
    await execute(database, "DROP TRIGGER third ON moved")
    await serve(lanes, "basile")
    assert len(await rows(database, "SELECT FROM moved")) == 6


async def test_what_its_partner_acknowledges_while_the_lane_moves_stays_and_leaves_no_gap(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await plant(database, range(4))
    await succeed(database, {1: 2})
    [lane] = await lanes.lease("anne", 10, MINUTE)
    async with database.alone() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "UPDATE delivery SET state = 'acknowledged', due_at = NULL WHERE id = $1", names[1]
        )
        await count_moved(other, [names[1]], Term.PLANNED, Term.ACKNOWLEDGED)
        moving = asyncio.create_task(lanes.claim("anne", lane.id, 10))
        await asyncio.sleep(0.2)
        assert not moving.done()
        await transaction.commit()
        await moving
    await conclude(lanes, "anne", lane.id, [])
    assert len(await rows(database, "SELECT FROM moved")) == 3
    assert (await whereabouts(database, [names[1]]))[0][0] == 1


async def test_what_is_registered_into_a_lane_that_is_moving_follows_too(
    database: Database, lanes: PostgresLanes
) -> None:
    await succeed(database, {7: 8})
    [early] = await plant(database, [1])
    await succeed(database, {1: 2}, lead=HOUR)
    await PostgresIntake(database).accept([submission(2)])
    lane = await lane_of(database, 1, "sftp")
    async with database.alone() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM lane WHERE id = $1 FOR UPDATE", lane)
        # It has asked where to before the succession begins, and writes after it.
        registering = asyncio.create_task(PostgresRegistry(database).register([routed(2, [1])]))
        await asyncio.sleep(0.2)
        await execute(
            database,
            "UPDATE rule_book SET effective_from = effective_from - interval '2 hours' WHERE number > 1",
        )
        await other.execute("UPDATE lane SET moves_at = moves_at - interval '2 hours'")
        await transaction.commit()
        served, _ = await asyncio.gather(serve(lanes), registering)
    assert served == []
    while await lanes.next_due() == 0:
        await serve(lanes)
    found = await rows(database, "SELECT subscriber, state, id FROM delivery")
    assert {(row["subscriber"], row["state"]) for row in found} == {(str(subscriber(2)), "delivered")}
    assert early in {row["id"] for row in found}


async def test_a_move_waits_for_the_first_of_both_lanes_before_it_takes_the_second(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [9], to=[2])
    await plant(database, [1], to=[1])
    await serve(lanes)
    await plant(database, [2], to=[1])
    successor, former = await lane_of(database, 2, "sftp"), await lane_of(database, 1, "sftp")
    assert successor < former
    await succeed(database, {1: 2})
    [leased] = await lanes.lease("anne", 10, MINUTE)
    async with database.alone() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM lane WHERE id = $1 FOR UPDATE", successor)
        moving = asyncio.create_task(lanes.claim("anne", leased.id, 10))
        await asyncio.sleep(0.2)
        # As a registration for both would.
        await other.execute("SELECT FROM lane WHERE id = $1 FOR UPDATE NOWAIT", former)
        assert not moving.done()
        await transaction.commit()
        await moving
    await conclude(lanes, "anne", leased.id, [])
    assert len(await serve(lanes)) == 1


async def test_what_is_registered_into_another_lane_of_the_successor_while_a_lane_moves_gets_numbers_after_it(
    fresh_dsn: str,
) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    lanes = PostgresLanes(database)
    names = await plant(database, [1, 2])
    await declare(database, 2)
    await succeed(database, {1: 2})
    await PostgresIntake(database).accept([submission(3)])
    [lane] = await lanes.lease("anne", 10, MINUTE)
    async with Obstacle.before(database, "moved") as obstacle:
        moving = asyncio.create_task(lanes.claim("anne", lane.id, 10))
        await obstacle.reached()
        registering = asyncio.create_task(PostgresRegistry(database).register([routed(3, [2], mailbox=True)]))
        await stopped_by_a_lock(database, "transactionid")
        await obstacle.remove()
        await asyncio.gather(moving, registering)
    await conclude(lanes, "anne", lane.id, [])
    assert await whereabouts(database, names) == [(2, "webhook", 1), (2, "webhook", 2)]
    assert await read(database, "SELECT channel FROM delivery WHERE sequence = 3") == [("mailbox",)]
    await assert_sound(database)
    assert await database.deadlocks() == 0


async def test_a_lane_is_taken_over_by_nobody_while_a_page_of_it_moves(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    await succeed(database, {1: 2})
    [lane] = await lanes.lease("anne", 10, NOW)
    async with Obstacle.before(database, "moved") as obstacle:
        moving = asyncio.create_task(lanes.claim("anne", lane.id, 10))
        await obstacle.reached()
        assert await lanes.lease("basile", 10, MINUTE) == []
        await obstacle.remove()
        await moving
    await conclude(lanes, "anne", lane.id, [])
    assert len(await serve(lanes, "basile")) == 1


async def test_while_lanes_move_and_are_served_and_filled_nothing_is_lost_and_nobody_deadlocks(
    fresh_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "_PAGE", 4)
    database = await WatchedDatabase.watch(fresh_dsn)
    lanes = PostgresLanes(database)
    # The lanes of successors come before and after those whom they succeed.
    await plant(database, [1000], to=[5, 1, 2, 3, 4, 6])
    await succeed(database, {7: 8})

    async def register(first: int) -> None:
        for page in range(first, first + 30, 6):
            for mailbox in (False, True):
                some = range(page + 3 * mailbox, page + 3 * mailbox + 3)
                await plant(database, some, to=[1, 2, 3, 4, 5, 6], mailbox=mailbox)

    async def work(worker: str) -> None:
        for turn in range(25):
            for lane in await lanes.lease(worker, 4, MINUTE):
                claims = await lanes.claim(worker, lane.id, 5)
                news = [
                    waiting(claim.attempt, NOW) if place % 3 == turn % 3 else delivered(claim.attempt)
                    for place, claim in enumerate(claims)
                ]
                await conclude(lanes, worker, lane.id, news)
            await asyncio.sleep(0.005)

    async def merge() -> None:
        for successors in ({1: 5, 2: 5}, {6: 3}, {5: 6}, {4: 3}):
            await asyncio.sleep(0.1)
            await succeed(database, successors)

    await asyncio.gather(register(0), register(30), work("anne"), work("basile"), work("claire"), merge())
    await plant(database, [2000], to=[1, 2, 3, 4, 5, 6])
    while await lanes.next_due() == 0:
        await serve(lanes, "last")
    await assert_sound(database)
    assert (
        await rows(database, "SELECT DISTINCT state, subscriber FROM delivery WHERE state <> 'delivered'")
        == []
    )
    assert len(await rows(database, "SELECT FROM delivery")) == 6 * 62
    last = await read(
        database,
        "SELECT DISTINCT subscriber FROM (SELECT * FROM delivery ORDER BY created_at DESC LIMIT 6) AS last",
    )
    assert last == [(str(subscriber(3)),)]
    assert await database.deadlocks() == 0


# --- the mailbox --------------------------------------------------------------------------------------


async def lying(database: Database, number: int) -> list[tuple[UUID, int]]:
    page = await PostgresMailboxes(database).look(subscriber(number), Drawer.OPEN, None, 100)
    return [(entry.delivery, entry.sequence) for entry in page.entries]


async def test_what_lies_in_a_mailbox_follows_under_the_successor_s_numbers(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [9], to=[2], channel="mailbox")
    fetched, first = await plant(database, [1, 2], channel="mailbox")
    await serve(lanes)
    await PostgresMailboxes(database).acknowledge(subscriber(1), [fetched])
    await succeed(database, {1: 2})
    assert await serve(lanes) == []
    assert (await standing(database, first)).state is State.DELIVERED
    assert await journal(database, "delivery.sent_again") == []
    assert await whereabouts(database, [fetched, first]) == [(1, "mailbox", 1), (2, "mailbox", 2)]
    assert await lying(database, 1) == []
    assert (first, 2) in await lying(database, 2)
    assert await PostgresMailboxes(database).acknowledge(subscriber(2), [first]) == [first]
    while await lanes.next_due() == 0:
        assert await serve(lanes) == []


async def test_what_lay_in_a_mailbox_is_sent_again_to_a_successor_that_is_served_otherwise(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare(database, 2)
    fetched, first = await plant(database, [1, 2], channel="mailbox")
    await serve(lanes)
    await PostgresMailboxes(database).acknowledge(subscriber(1), [fetched])
    [waits] = await plant(database, [3], channel="mailbox")
    await succeed(database, {1: 2})
    assert await serve(lanes) == []
    assert await whereabouts(database, [fetched, first, waits]) == [
        (1, "mailbox", 1),
        (2, "webhook", 1),
        (2, "webhook", 2),
    ]
    again = await standing(database, first)
    assert (again.state, again.sending, again.attempt) == (State.PLANNED, 2, 0)
    assert await journal(database, "delivery.sent_again") == [
        (first, "hub", f"it lay in the mailbox of {subscriber(1)}")
    ]
    assert await lying(database, 2) == [(first, 1), (waits, 2)]
    assert [(one.subscriber, one.attempt.sending) for one in await serve(lanes)] == [
        (subscriber(2), 2),
        (subscriber(2), 1),
    ]
    assert await attempts(database, first) == [(1, 1, "delivered", True), (2, 1, "delivered", True)]
    while await lanes.next_due() == 0:
        assert await serve(lanes) == []


async def test_of_one_mailbox_only_what_its_rule_wants_there_goes_to_the_successor_s_mailbox(
    database: Database, lanes: PostgresLanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "_PAGE", 2)
    await declare(database, 2)
    names: dict[tuple[bool, bool], list[UUID]] = {}
    for lies in (True, False):
        for number in range(3):
            for mailbox in (True, False):
                each = number + (100 if lies else 200) + (10 if mailbox else 0)
                planted = await plant(database, [each], channel="mailbox", mailbox=mailbox)
                names.setdefault((lies, mailbox), []).extend(planted)
        if lies:
            await serve(lanes)
    await succeed(database, {1: 2})
    assert await serve(lanes) == []
    assert len(await rows(database, "SELECT FROM moved")) == 12
    for (lies, mailbox), those in names.items():
        found = await whereabouts(database, those)
        assert [place[:2] for place in found] == [(2, "mailbox" if mailbox else "webhook")] * 3
        assert [number for *_, number in found] == sorted(number for *_, number in found)
        states = {(await standing(database, name)).state for name in those}
        assert states == {State.DELIVERED if lies and mailbox else State.PLANNED}
    claimed = [claim.attempt.delivery for claim in await serve(lanes)]
    assert sorted(claimed) == sorted(names[True, False] + names[False, False] + names[False, True])


async def test_no_lane_is_made_for_what_is_not_there(database: Database, lanes: PostgresLanes) -> None:
    await declare(database, 2)
    await plant(database, [1], channel="mailbox")
    await succeed(database, {1: 2})
    await serve(lanes)
    assert await read(database, "SELECT subscriber, channel FROM lane ORDER BY id") == [
        (str(subscriber(1)), "mailbox"),
        (str(subscriber(2)), "webhook"),
    ]


async def test_a_mailbox_whose_succession_begins_later_follows_then(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1], channel="mailbox")
    await serve(lanes)
    assert await lanes.next_due() is None
    await succeed(database, {7: 8})
    await succeed(database, {1: 2}, lead=HOUR)
    assert await lying(database, 1) == [(name, 1)]
    await two_hours_pass(database)
    await serve(lanes)
    assert await lying(database, 2) == [(name, 1)]


async def test_what_comes_into_a_mailbox_just_when_its_partner_is_succeeded_follows(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1], channel="mailbox")
    lane, [claim] = await take(lanes, "anne")
    await succeed(database, {1: 2})
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)])
    await serve(lanes)
    assert await lying(database, 2) == [(name, 1)]
    await serve(lanes)
    assert await lanes.next_due() is None


async def test_from_the_instant_of_its_succession_a_partner_reads_and_acknowledges_nothing(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1], channel="mailbox")
    [parked] = await plant(database, [2], channel="mailbox")
    lane, claims = await take(lanes, "anne")
    news = {claim.attempt.delivery: claim.attempt for claim in claims}
    await conclude(lanes, "anne", lane, [delivered(news[name]), refused(news[parked])])
    await succeed(database, {1: 2})
    views, mailboxes = PostgresViews(database), PostgresMailboxes(database)
    assert await lying(database, 1) == []
    assert await mailboxes.acknowledge(subscriber(1), [name, parked]) == []
    for mine in (name, parked):
        item = await views.parcel(mine)
        assert item is not None
        assert item.claim.subscriber == subscriber(2)
    assert await mailboxes.acknowledge(subscriber(2), [name]) == [name]
    assert await mailboxes.acknowledge(subscriber(3), [parked]) == []
    assert await journal(database, "delivery.acknowledged") == [
        (name, f"partner:{subscriber(2)}", "was delivered")
    ]


async def test_who_is_succeeded_is_told_what_was_its_own_and_nobody_else_is(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1], channel="mailbox")
    views = PostgresViews(database)

    async def told() -> list[int]:
        return [number for number in (1, 2, 3, 4) if await views.moved_away(subscriber(number), name)]

    assert await told() == []
    await succeed(database, {1: 2})
    assert await told() == [1]
    await serve(lanes)
    assert await told() == [1]
    await succeed(database, {2: 3})
    assert await told() == [1, 2]
    await serve(lanes)
    assert await told() == [1, 2]
    # It comes back to who had it first.
    await succeed_no_more(database, 1)
    await succeed_no_more(database, 2)
    await succeed(database, {3: 1})
    assert await told() == [2, 3]
    assert await views.moved_away(subscriber(1), uuid4()) is False


async def test_what_was_handed_over_on_another_channel_stays_where_it_arrived(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    await serve(lanes)
    await succeed(database, {1: 2})
    await serve(lanes)
    assert await whereabouts(database, [name]) == [(1, "sftp", 1)]
    assert await lying(database, 2) == []


async def test_a_lane_that_is_made_while_an_edition_wakes_lanes_waits_for_its_end(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    await PostgresIntake(database).accept([submission(2)])
    async with Obstacle.before(database, "lane") as obstacle:
        publishing = asyncio.create_task(succeed(database, {1: 2}))
        await obstacle.reached()
        making = asyncio.create_task(PostgresRegistry(database).register([routed(2, [1], mailbox=True)]))
        await asyncio.sleep(0.2)
        [row] = await rows(
            database, "SELECT count(*) AS lanes FROM pg_locks WHERE NOT granted AND objid = 4812003"
        )
        assert row["lanes"] == 1
        assert not making.done()
        await obstacle.remove()
        await asyncio.gather(publishing, making)
    while await lanes.next_due() == 0:
        await serve(lanes)
    assert await read(database, "SELECT DISTINCT subscriber FROM delivery") == [(str(subscriber(2)),)]


async def test_an_edition_waits_for_the_first_of_the_lanes_it_wakes_before_it_takes_the_second(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1], to=[2])
    await plant(database, [2], to=[1])
    first, second = await lane_of(database, 2, "sftp"), await lane_of(database, 1, "sftp")
    assert first < second
    # Neither by where they lie nor by their partners does the first come first.
    await execute(database, f"UPDATE lane SET due_at = due_at WHERE id = {first}")
    async with database.alone() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM lane WHERE id = $1 FOR UPDATE", first)
        publishing = asyncio.create_task(succeed(database, {1: 3, 2: 3}))
        await stopped_by_a_lock(database, "transactionid")
        # As a registration for both would.
        await other.execute("SELECT FROM lane WHERE id = $1 FOR UPDATE NOWAIT", second)
        assert not publishing.done()
        await transaction.commit()
        await publishing
    while await lanes.next_due() == 0:
        await serve(lanes)
    assert await read(database, "SELECT DISTINCT subscriber FROM delivery") == [(str(subscriber(3)),)]
