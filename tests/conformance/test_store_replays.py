"""What the store's part of replay must hold: an order is fixed when given, carried out once, and survives."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.replays import PostgresReplays
from hub.domain.delivery import Attempt
from hub.domain.errors import Invalid, Unavailable
from hub.domain.lifecycle import IN_MOTION, MOVES, State
from hub.domain.replays import Chosen, ReplayOrder, Selection
from hub.ports.replays import Replay
from tests.conformance.motion import (
    NOW,
    assert_nothing_is_forgotten,
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
)
from tests.conformance.samples import Obstacle, execute, rows, submission, subscriber

PARKED = Selection()


def _ordered(selection: Chosen = PARKED, **more: Any) -> ReplayOrder:
    return ReplayOrder(selection, "jeanne", "le serveur est revenu", **more)


async def _order(replays: PostgresReplays, selection: Selection = PARKED) -> Replay:
    return await replays.begin(uuid4(), _ordered(selection))


async def _finish(replays: PostgresReplays, order: Replay, page: int = 100) -> Replay:
    while await replays.send_again(page):
        pass
    finished = await replays.replay(order.id)
    assert finished is not None
    return finished


# --- what is matched ----------------------------------------------------------------------------------


async def test_an_order_says_what_it_matched_and_who_gave_it(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(3))
    await park(database)
    order = await _order(replays)
    assert order.order == _ordered()
    assert (order.matched, order.sent, order.skipped, order.finished_at) == (3, 0, 0, None)
    assert await replays.replay(order.id) == order


async def test_every_field_of_a_selection_narrows_it(database: Database, replays: PostgresReplays) -> None:
    names = await plant(database, [1, 2], to=[1, 2])
    await park(database, "sftp.denied")
    await plant(database, [3], to=[3], channel="mail")
    await park(database, "mail.bounced")

    async def matched(selection: Selection) -> int:
        return (await _order(replays, selection)).matched

    assert await matched(PARKED) == 5
    assert await matched(Selection(deliveries=(names[0], names[3], uuid4()))) == 2
    assert await matched(Selection(deliveries=())) == 0
    assert await matched(Selection(submission=submission(1).id)) == 2
    assert await matched(Selection(subscriber=subscriber(3))) == 1
    assert await matched(Selection(channel="sftp")) == 4
    assert await matched(Selection(procedure="EtatCivil")) == 5
    assert await matched(Selection(procedure="Autre")) == 0
    assert await matched(Selection(cause="mail.bounced")) == 1
    assert await matched(Selection(cause="mail.bounced", channel="sftp")) == 0
    assert await matched(Selection(submission=submission(2).id, subscriber=subscriber(2))) == 1
    assert await matched(Selection(state=State.DELIVERED)) == 0


async def test_an_order_that_matches_nothing_is_finished_at_once(replays: PostgresReplays) -> None:
    order = await _order(replays)
    assert (order.matched, order.finished_at is None) == (0, False)
    assert await replays.send_again(10) == 0


async def test_the_same_name_again_finds_the_order_that_is_there(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(2))
    await park(database)
    order = await _order(replays)
    again = await replays.begin(order.id, ReplayOrder(Selection(channel="mail"), "paul", "autre chose"))
    assert again == order
    finished = await _finish(replays, order)
    assert await replays.begin(order.id, _ordered()) == finished
    assert await replays.send_again(10) == 0


async def test_two_who_give_one_order_at_once_give_one(database: Database, replays: PostgresReplays) -> None:
    await plant(database, range(5))
    await park(database)
    name = uuid4()
    given = await asyncio.gather(*(replays.begin(name, _ordered()) for _ in range(6)))
    assert [order.matched for order in given] == [5] * 6
    assert (await _finish(replays, given[0])).sent == 5


async def test_an_unknown_order_is_none(replays: PostgresReplays) -> None:
    assert await replays.replay(uuid4()) is None


@pytest.mark.parametrize("state", [state for state in State if (state, State.PLANNED) not in MOVES])
async def test_what_is_in_motion_cannot_be_ordered_again(replays: PostgresReplays, state: State) -> None:
    name = uuid4()
    with pytest.raises(Invalid) as refusal:
        await replays.begin(name, _ordered(Selection(state=state)))
    assert [flaw.field for flaw in refusal.value.flaws] == ["/state"]
    assert await replays.replay(name) is None


# --- what is sent -------------------------------------------------------------------------------------


async def test_what_is_sent_again_is_a_new_sending_and_its_lane_is_awake(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [1])
    await park(database)
    order = await _order(replays)
    assert await replays.send_again(10) == 1
    stands = await standing(database, name)
    assert (stands.state, stands.sending, stands.attempt, stands.cause) == (State.PLANNED, 2, 0, None)
    _lane, [claim] = await take(PostgresLanes(database), "anne")
    assert claim.attempt == Attempt(name, 2, 1)
    assert await journal(database, "delivery.sent_again") == [
        (name, "operator:jeanne", f"replay {order.id}, of sending 1")
    ]
    finished = await replays.replay(order.id)
    assert finished is not None
    assert finished.finished_at is not None
    assert (finished.matched, finished.sent, finished.skipped) == (1, 1, 0)


@pytest.mark.parametrize("state", [source for source, target in MOVES if target is State.PLANNED])
async def test_whatever_the_table_lets_be_planned_again_can_be_sent_again(
    database: Database, replays: PostgresReplays, state: State
) -> None:
    [name] = await plant(database, [1])
    due_at = "clock_timestamp() + interval '1 day'" if state in IN_MOTION else "NULL"
    await execute(database, f"UPDATE delivery SET due_at = {due_at}, state = '{state}'")
    order = await _order(replays, Selection(state=state))
    assert (await _finish(replays, order)).sent == 1
    stands = await standing(database, name)
    assert (stands.state, stands.sending) == (State.PLANNED, 2)
    assert stands.due_in is not None
    assert stands.due_in <= 0


async def test_a_page_sends_no_more_than_asked_and_the_last_one_finishes_the_order(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(25))
    await park(database)
    order = await _order(replays)
    treated = []
    for _ in range(4):
        treated.append(await replays.send_again(10))
        told = await replays.replay(order.id)
        assert told is not None
        assert (told.finished_at is not None) == (sum(treated) == 25)
    assert treated == [10, 10, 5, 0]


async def test_orders_are_carried_out_in_turn(database: Database, replays: PostgresReplays) -> None:
    await plant(database, [1], to=[1])
    await plant(database, [2], to=[2])
    await park(database)
    first = await _order(replays, Selection(subscriber=subscriber(2)))
    second = await _order(replays, Selection(subscriber=subscriber(1)))
    assert await replays.send_again(10) == 1
    told = [await replays.replay(order.id) for order in (first, second)]
    assert [order is not None and order.sent for order in told] == [1, 0]
    assert await replays.send_again(10) == 1


async def test_a_lane_that_sleeps_till_tomorrow_is_woken(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, [1])
    await park(database)
    await execute(database, "UPDATE lane SET due_at = clock_timestamp() + interval '1 day'")
    await _order(replays)
    await replays.send_again(10)
    [lane] = await rows(database, "SELECT id FROM lane")
    due_in = await lane_due_in(database, lane["id"])
    assert due_in is not None
    assert due_in <= 0


async def test_a_lane_under_conclusion_does_not_forget_what_is_sent_again(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, [1])
    await park(database)
    await plant(database, [2])
    lanes = PostgresLanes(database)
    lane, [claim] = await take(lanes, "anne")
    await _order(replays)
    async with Obstacle.before(database, "delivery") as obstacle:
        concluding = asyncio.create_task(conclude(lanes, "anne", lane, [delivered(claim.attempt)]))
        await obstacle.reached()
        sending = asyncio.create_task(replays.send_again(10))
        await asyncio.sleep(0.2)
        assert not sending.done()
        await obstacle.remove()
        await asyncio.gather(concluding, sending)
    _, claims = await take(lanes, "anne")
    assert [again.sequence for again in claims] == [1]


async def test_sending_again_wakes_whoever_waits(database: Database, replays: PostgresReplays) -> None:
    await plant(database, [1])
    await park(database)
    await _order(replays)
    lanes = PostgresLanes(database)
    await lanes.wait(0.5)
    waiting = asyncio.create_task(lanes.wait(30))
    await asyncio.sleep(0.1)
    await replays.send_again(10)
    await asyncio.wait_for(waiting, 5)
    await lanes.close()


# --- what has moved on --------------------------------------------------------------------------------


async def test_what_was_sent_again_by_another_order_is_skipped(
    database: Database, replays: PostgresReplays
) -> None:
    names = await plant(database, range(4))
    await park(database)
    first = await _order(replays)
    second = await _order(replays, Selection(deliveries=tuple(names[:3])))
    assert (await _finish(replays, first)).sent == 4
    await park(database)
    told = await _finish(replays, second)
    assert (told.matched, told.sent, told.skipped) == (3, 0, 3)
    assert {(await standing(database, name)).sending for name in names} == {2}


async def test_what_its_partner_took_from_the_mailbox_meanwhile_is_skipped(
    database: Database, replays: PostgresReplays
) -> None:
    first, second = await plant(database, [1, 2])
    await park(database)
    order = await _order(replays)
    await PostgresMailboxes(database).acknowledge(subscriber(1), [first])
    told = await _finish(replays, order)
    assert (told.matched, told.sent, told.skipped) == (2, 1, 1)
    assert (await standing(database, first)).state is State.ACKNOWLEDGED
    assert (await standing(database, second)).state is State.PLANNED


async def test_what_a_newer_decision_withdrew_meanwhile_is_not_disclosed_by_an_order(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [1])
    await park(database)
    order = await _order(replays)
    await execute(database, "UPDATE delivery SET state = 'withdrawn'")
    assert (await _finish(replays, order)).skipped == 1
    assert (await standing(database, name)).state is State.WITHDRAWN


async def test_good_news_of_an_older_sending_is_refused_after_a_replay(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [1])
    lanes = PostgresLanes(database)
    lane, [slow] = await take(lanes, "anne", lease=NOW)
    _, [fresh] = await take(lanes, "basile")
    await conclude(lanes, "basile", lane, [refused(fresh.attempt)])
    await _order(replays)
    await replays.send_again(10)
    assert await conclude(lanes, "anne", lane, [delivered(slow.attempt)]) == [name]
    stands = await standing(database, name)
    assert (stands.state, stands.sending) == (State.PLANNED, 2)
    assert await attempts(database, name) == [(1, 1, "delivered", True), (1, 2, "refused", True)]


async def test_good_news_of_an_older_sending_is_refused_while_the_new_one_is_in_flight(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [1])
    lanes = PostgresLanes(database)
    lane, [slow] = await take(lanes, "anne", lease=NOW)
    _, [fresh] = await take(lanes, "basile")
    await conclude(lanes, "basile", lane, [refused(fresh.attempt)])
    await _order(replays)
    await replays.send_again(10)
    _, [again] = await take(lanes, "basile")
    assert await conclude(lanes, "anne", lane, [delivered(slow.attempt)]) == [name]
    assert (await standing(database, name)).state is State.IN_FLIGHT
    assert await conclude(lanes, "basile", lane, [delivered(again.attempt)]) == []


# --- what breaks --------------------------------------------------------------------------------------


async def test_an_order_survives_the_death_of_whoever_carries_it_out(database: Database) -> None:
    names = await plant(database, range(6))
    await park(database)
    order = await _order(PostgresReplays(database))
    assert await PostgresReplays(database).send_again(2) == 2
    async with Obstacle.before(database, "journal") as obstacle:
        sending = asyncio.create_task(PostgresReplays(database).send_again(2))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await sending
    told = await _finish(PostgresReplays(database), order)
    assert (told.matched, told.sent, told.skipped) == (6, 6, 0)
    assert {(await standing(database, name)).sending for name in names} == {2}
    await assert_nothing_is_forgotten(database)


async def test_several_who_carry_out_orders_at_once_send_each_delivery_once(
    database: Database, replays: PostgresReplays
) -> None:
    names = await plant(database, range(20), to=[1, 2, 3])
    await park(database)
    orders = [await _order(replays, Selection(subscriber=subscriber(number))) for number in (1, 2, 3)] + [
        await _order(replays)
    ]

    async def carry() -> None:
        for _ in range(40):
            await replays.send_again(3)

    await asyncio.gather(*(carry() for _ in range(4)))
    told = [await _finish(replays, order) for order in orders]
    assert sum(order.sent for order in told) == 60
    assert all(order.matched == order.sent + order.skipped for order in told)
    assert {(await standing(database, name)).sending for name in names} == {2}
    sent = [delivery for delivery, _, _ in await journal(database, "delivery.sent_again")]
    assert sorted(sent) == sorted(names)


async def test_what_was_ordered_is_kept_as_it_was_said(database: Database, replays: PostgresReplays) -> None:
    name = UUID(int=7)
    full = replace(
        PARKED,
        deliveries=(name,),
        submission=name,
        subscriber=subscriber(1),
        channel="mail",
        procedure="EtatCivil",
        cause="mail.bounced",
    )
    await _order(replays, full)
    [row] = await rows(database, "SELECT selection FROM replay")
    assert row["selection"] == {
        "of": "deliveries",
        "state": "parked",
        "deliveries": [str(name)],
        "submission": str(name),
        "subscriber": str(subscriber(1)),
        "channel": "mail",
        "procedure": "EtatCivil",
        "cause": "mail.bounced",
    }
