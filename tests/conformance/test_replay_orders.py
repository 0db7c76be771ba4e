"""Replays as an operation on a real store: what is chosen, who approves, at which pace, in turns, and through the
death of whoever carries them out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.replays import PostgresReplays
from hub.domain.decisions import SetAside, Unroutable
from hub.domain.errors import IllegalMove, Invalid, Unavailable
from hub.domain.lifecycle import State
from hub.domain.replays import (
    Chosen,
    ReplayOrder,
    ReplayRules,
    ReplayState,
    ReplayVerb,
    Selection,
    SubmissionSelection,
    SubmissionState,
)
from hub.ports.replays import Replay
from tests.conformance.motion import (
    NOW,
    conclude,
    delivered,
    journal,
    park,
    plant,
    standing,
    take,
    waiting,
)
from tests.conformance.samples import (
    Obstacle,
    decided,
    execute,
    routed,
    rows,
    sizes,
    submission,
    submissions,
    subscriber,
)


def ordered(selection: Chosen | None = None, **more: Any) -> ReplayOrder:
    return ReplayOrder(selection or Selection(), "jeanne", "le serveur est revenu", **more)


async def told(replays: PostgresReplays, id: UUID) -> Replay:
    found = await replays.replay(id)
    assert found is not None
    return found


# --- what is chosen -----------------------------------------------------------------------------------


async def test_deliveries_are_chosen_by_vendor_and_by_periods_and_a_look_at_them_changes_nothing(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, [1, 2], to=[1, 2])
    await park(database)
    await execute(
        database,
        f"UPDATE partner SET vendor = 'Logiciel d''essai' WHERE subscriber = '{subscriber(2)}'",
        "UPDATE delivery SET created_at = '2026-03-01T12:00Z', changed_at = '2026-03-02T12:00Z'"
        f" WHERE subscriber = '{subscriber(1)}'",
    )
    spring = datetime(2026, 3, 1, 12, tzinfo=UTC)

    async def count(**fields: Any) -> int:
        chosen = Selection(**fields)
        before = await sizes(database, "replay", "replay_item", "journal")
        seen = await replays.preview(chosen)
        assert await sizes(database, "replay", "replay_item", "journal") == before
        begun = await replays.begin(uuid4(), ordered(chosen))
        assert (begun.matched, begun.bytes) == (seen.matched, seen.bytes)
        assert len(seen.examples) == seen.matched
        return seen.matched

    assert await count(vendor="Logiciel d'essai") == 2
    assert await count(vendor="Logiciel d'essai", subscriber=subscriber(1)) == 0
    assert await count(created_since=spring, created_until=spring + timedelta(seconds=1)) == 2
    assert await count(created_until=spring) == 0
    assert await count(created_since=spring + timedelta(seconds=1)) == 2
    assert await count(changed_since=spring, changed_until=spring + timedelta(days=2)) == 2
    assert await count(changed_since=spring, changed_until=spring + timedelta(days=1)) == 0


async def test_a_look_tells_how_many_bytes_of_files_and_at_most_ten_examples(
    database: Database, replays: PostgresReplays
) -> None:
    names = await plant(database, range(12))
    await park(database)
    seen = await replays.preview(Selection(cause="sftp.denied", channel="sftp"))
    assert (seen.matched, seen.bytes, len(seen.examples)) == (12, 12 * 30, 10)
    assert set(seen.examples) < set(names)
    assert (await replays.preview(Selection(channel="mail"))).examples == ()


async def test_a_notice_to_a_partner_is_never_chosen(database: Database, replays: PostgresReplays) -> None:
    await plant(database, [1, 2])
    await park(database)
    await execute(database, f"UPDATE delivery SET kind = 'notice' WHERE submission = '{submission(1).id}'")
    assert (await replays.preview(Selection())).matched == 1


async def test_submissions_are_chosen_by_what_their_newest_decision_came_to(
    database: Database, replays: PostgresReplays
) -> None:
    await PostgresIntake(database).accept(submissions(5))
    registry = PostgresRegistry(database)
    await registry.register(
        [
            decided(0, Unroutable(("mairie: nobody",))),
            decided(1, SetAside("unknown_place")),
            routed(2, [1]),
            decided(3, Unroutable(())),
            routed(3, [1], decision=2),
        ]
    )

    async def found(**fields: Any) -> set[UUID]:
        seen = await replays.preview(SubmissionSelection(**fields))
        assert (len(seen.examples), seen.bytes) == (seen.matched, seen.matched * 30)
        return set(seen.examples)

    def names(*numbers: int) -> set[UUID]:
        return {submission(number).id for number in numbers}

    assert await found(state=SubmissionState.UNROUTABLE) == names(0)
    assert await found(state=SubmissionState.SET_ASIDE) == names(1)
    assert await found(state=SubmissionState.SET_ASIDE, cause="unknown_place") == names(1)
    assert await found(state=SubmissionState.SET_ASIDE, cause="autre") == set()
    assert await found(state=SubmissionState.ROUTED) == names(2, 3)
    assert await found(submissions=tuple(names(0, 2, 4))) == names(0, 2)
    assert await found(procedure="EtatCivil") == names(0, 1, 2, 3)
    assert await found(procedure="Autre") == set()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert await found(received_until=tomorrow, state=SubmissionState.ROUTED) == names(2, 3)
    assert await found(received_since=tomorrow) == set()


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (ordered(Selection(state=State.IN_FLIGHT)), "/state"),
        (ordered(Selection(state=State.PLANNED)), "/state"),
        (ordered(rate=0.0), "/rate"),
        (ordered(SubmissionSelection(), rules=ReplayRules.TODAY), "/of"),
        (ordered(SubmissionSelection(procedure="EtatCivil")), "/rules"),
        (ordered(SubmissionSelection(cause="x"), rules=ReplayRules.TODAY), "/cause"),
        (
            ordered(
                Selection(
                    created_since=datetime(2026, 3, 2, tzinfo=UTC),
                    created_until=datetime(2026, 3, 1, tzinfo=UTC),
                )
            ),
            "/created_until",
        ),
    ],
    ids=["in-flight", "planned", "rate", "everything", "rules", "cause", "period"],
)
async def test_an_order_with_a_flaw_in_it_names_the_field_and_begins_nothing(
    replays: PostgresReplays, order: ReplayOrder, field: str
) -> None:
    name = uuid4()
    with pytest.raises(Invalid) as refusal:
        await replays.begin(name, order)
    assert [flaw.field for flaw in refusal.value.flaws] == [field]
    assert await replays.replay(name) is None


# --- approval, pause, cancel --------------------------------------------------------------------------


async def test_a_large_one_waits_until_another_operator_than_its_author_approves_it(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(3))
    await park(database)
    begun = await replays.begin(uuid4(), ordered(), approval=2)
    assert begun.state is ReplayState.AWAITING_APPROVAL
    assert await replays.send_again(10) == 0
    for operator in ("jeanne", "Jeanne"):
        with pytest.raises(IllegalMove, match="another operator"):
            await replays.turn(begun.id, ReplayVerb.APPROVE, operator)
    for verb in (ReplayVerb.PAUSE, ReplayVerb.RESUME):
        with pytest.raises(IllegalMove):
            await replays.turn(begun.id, verb, "paul")
    assert await told(replays, begun.id) == begun
    approved = await replays.turn(begun.id, ReplayVerb.APPROVE, "paul")
    assert approved is not None
    assert (approved.state, approved.approved_by) == (ReplayState.RUNNING, "paul")
    assert await replays.send_again(10) == 3
    with pytest.raises(IllegalMove):
        await replays.turn(begun.id, ReplayVerb.APPROVE, "marie")
    finished = await told(replays, begun.id)
    assert (finished.state, finished.sent, finished.pending) == (ReplayState.FINISHED, 3, 0)
    assert [(actor, detail) for _, actor, detail in await journal(database, "replay.approved")] == [
        ("operator:paul", f"replay {begun.id}")
    ]


async def test_one_that_is_small_enough_begins_at_once(database: Database, replays: PostgresReplays) -> None:
    await plant(database, range(2))
    await park(database)
    assert (await replays.begin(uuid4(), ordered(), approval=2)).state is ReplayState.RUNNING


async def test_a_paused_one_plans_nothing_and_goes_on_where_it_was_after_a_restart(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(5))
    await park(database)
    begun = await replays.begin(uuid4(), ordered())
    assert await replays.send_again(2) == 2
    paused = await replays.turn(begun.id, ReplayVerb.PAUSE, "paul")
    assert paused is not None
    assert (paused.state, paused.sent, paused.pending) == (ReplayState.PAUSED, 2, 3)
    again = PostgresReplays(database)
    assert await again.send_again(10) == 0
    await again.turn(begun.id, ReplayVerb.RESUME, "paul")
    assert await again.send_again(10) == 3
    assert (await told(again, begun.id)).state is ReplayState.FINISHED


async def test_a_cancelled_one_ends_where_it_is_and_what_was_sent_stays_so(
    database: Database, replays: PostgresReplays
) -> None:
    names = await plant(database, range(5))
    await park(database)
    begun = await replays.begin(uuid4(), ordered())
    await replays.send_again(2)
    cancelled = await replays.turn(begun.id, ReplayVerb.CANCEL, "paul")
    assert cancelled is not None
    assert (cancelled.state, cancelled.sent, cancelled.finished_at is None) == (
        ReplayState.CANCELLED,
        2,
        False,
    )
    for verb in ReplayVerb:
        with pytest.raises(IllegalMove):
            await replays.turn(begun.id, verb, "paul")
    assert await replays.send_again(10) == 0
    states = [(await standing(database, name)).state for name in names]
    assert sorted(states) == [State.PARKED] * 3 + [State.PLANNED] * 2
    assert await replays.turn(uuid4(), ReplayVerb.CANCEL, "paul") is None


async def test_a_pause_that_meets_a_page_under_way_waits_for_it_and_no_page_follows(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(4))
    await park(database)
    begun = await replays.begin(uuid4(), ordered())
    async with Obstacle.before(database, "replay_item") as obstacle:
        sending = asyncio.create_task(replays.send_again(2))
        await obstacle.reached()
        pausing = asyncio.create_task(replays.turn(begun.id, ReplayVerb.PAUSE, "paul"))
        await asyncio.sleep(0.1)
        assert not pausing.done()
        await obstacle.remove()
        paused = await pausing
    assert paused is not None
    assert (await sending, paused.sent, paused.state) == (2, 2, ReplayState.PAUSED)
    assert await replays.send_again(2) == 0


# --- pace and turns -----------------------------------------------------------------------------------


async def _pass_time(database: Database, seconds: float) -> None:
    await execute(database, f"UPDATE replay SET treated_at = treated_at - interval '{seconds} seconds'")


async def test_one_with_a_rate_sends_what_the_time_has_earned_also_after_a_restart(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(30))
    await park(database)
    begun = await replays.begin(uuid4(), ordered(rate=5.0))
    assert await replays.send_again(100) == 1
    assert await PostgresReplays(database).send_again(100) == 0
    await _pass_time(database, 0.62)
    assert await PostgresReplays(database).send_again(100) == 3
    # Who was away for an hour does not make up for it: a second's worth.
    await _pass_time(database, 3600)
    assert await PostgresReplays(database).send_again(100) == 5
    assert await PostgresReplays(database).send_again(100) == 0
    assert (await told(replays, begun.id)).sent == 9


async def test_one_that_is_slower_than_one_a_second_sends_too(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(3))
    await park(database)
    await replays.begin(uuid4(), ordered(rate=0.1))
    assert [await replays.send_again(100), await replays.send_again(100)] == [1, 0]
    await _pass_time(database, 9)
    assert await replays.send_again(100) == 0
    await _pass_time(database, 1.1)
    assert await replays.send_again(100) == 1


async def test_running_ones_take_turns_and_a_slow_one_keeps_none_waiting(
    database: Database, replays: PostgresReplays
) -> None:
    for partner in (1, 2, 3):
        await plant(database, range(partner * 10, partner * 10 + 6), to=[partner])
    await park(database)
    slow, one, other = [
        await replays.begin(uuid4(), ordered(Selection(subscriber=subscriber(partner)), rate=rate))
        for partner, rate in ((1, 0.001), (2, None), (3, None))
    ]
    sent: list[list[int]] = []
    for _ in range(5):
        await replays.send_again(2)
        sent.append([(await told(replays, order.id)).sent for order in (slow, one, other)])
    assert sent == [[1, 0, 0], [1, 2, 0], [1, 2, 2], [1, 4, 2], [1, 4, 4]]


# --- no double sending --------------------------------------------------------------------------------


async def test_what_waits_for_its_next_try_is_sent_once_and_the_try_is_part_of_the_new_sending(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [1])
    lanes = PostgresLanes(database)
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt)])
    await execute(database, "UPDATE lane SET rests_until = NULL")
    begun = await replays.begin(uuid4(), ordered(Selection(state=State.WAITING)))
    assert await replays.send_again(10) == 1
    stands = await standing(database, name)
    assert (stands.state, stands.sending, stands.attempt) == (State.PLANNED, 2, 0)
    lane, claims = await take(lanes, "basile")
    assert [one.attempt.sending for one in claims] == [2]
    # Late good news of the sending before is none of this one.
    assert await conclude(lanes, "anne", lane, [delivered(claim.attempt)]) == [name]
    assert await conclude(lanes, "basile", lane, [delivered(claims[0].attempt)]) == []
    assert await lanes.next_due() is None
    assert (await told(replays, begun.id)).sent == 1


async def test_what_is_being_tried_when_its_turn_comes_is_left_to_that_try(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [1])
    lanes = PostgresLanes(database)
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, NOW)])
    begun = await replays.begin(uuid4(), ordered(Selection(state=State.WAITING)))
    await execute(database, "UPDATE lane SET rests_until = NULL, due_at = clock_timestamp()")
    lane, [claim] = await take(lanes, "anne")
    assert await replays.send_again(10) == 1
    assert (await standing(database, name)).state is State.IN_FLIGHT
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)])
    finished = await told(replays, begun.id)
    assert (finished.sent, finished.skipped) == (0, 1)
    assert (await standing(database, name)).sending == 1


async def test_what_is_sent_again_leaves_by_the_channel_of_today(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [1], channel="sftp")
    await park(database)
    await execute(database, "UPDATE partner SET channel = 'webhook'")
    await replays.begin(uuid4(), ordered())
    await replays.send_again(10)
    [row] = await rows(
        database,
        "SELECT lane.channel, delivery.channel AS shown FROM delivery JOIN lane ON lane.id = lane"
        " WHERE delivery.id = $1",
        name,
    )
    assert (row["channel"], row["shown"]) == ("webhook", "webhook")


# --- what breaks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["lane", "delivery", "journal", "replay_item", "replay"])
async def test_whoever_dies_at_any_write_of_a_page_leaves_nothing_lost_and_nothing_doubled(
    database: Database, replays: PostgresReplays, table: str
) -> None:
    names = await plant(database, range(6), to=[1, 2])
    await park(database)
    begun = await replays.begin(uuid4(), ordered())
    assert await replays.send_again(4) == 4
    if table == "lane":
        await execute(database, "UPDATE lane SET due_at = clock_timestamp() + interval '1 day'")
    async with Obstacle.before(database, table) as obstacle:
        sending = asyncio.create_task(replays.send_again(4))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await sending
    if table == "lane":
        await execute(database, "UPDATE lane SET due_at = due_at - interval '2 days'")
    assert (await told(replays, begun.id)).sent == 4
    again = PostgresReplays(database)
    while await again.send_again(4):
        pass
    finished = await told(again, begun.id)
    assert (finished.sent, finished.skipped, finished.state) == (12, 0, ReplayState.FINISHED)
    assert {(await standing(database, name)).sending for name in names} == {2}


async def test_whoever_dies_while_items_are_fixed_leaves_no_order(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(3))
    await park(database)
    name = uuid4()
    async with Obstacle.before(database, "replay_item") as obstacle:
        beginning = asyncio.create_task(replays.begin(name, ordered()))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await beginning
    assert await replays.replay(name) is None
    assert await sizes(database, "replay", "replay_item") == {"replay": 0, "replay_item": 0}
    assert (await replays.begin(name, ordered())).matched == 3


async def test_every_field_of_an_order_is_kept_and_shown_as_it_was_given(
    database: Database, replays: PostgresReplays
) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    orders: Sequence[ReplayOrder] = (
        ordered(
            Selection(
                (UUID(int=7),),
                UUID(int=8),
                subscriber(1),
                "Logiciel",
                "mail",
                "EtatCivil",
                "mail.bounced",
                State.DELIVERED,
                at,
                at + timedelta(1),
                at,
                at + timedelta(1),
            ),
            rate=2.5,
            rules=ReplayRules.TODAY,
        ),
        ordered(
            SubmissionSelection(
                (UUID(int=7),), "EtatCivil", SubmissionState.SET_ASIDE, "unknown_place", at, at + timedelta(1)
            ),
            rules=ReplayRules.TODAY,
        ),
    )
    for order in orders:
        begun = await replays.begin(uuid4(), order)
        assert (begun.order, begun.state) == (order, ReplayState.FINISHED)
        assert (await replays.newest(1))[0] == replace(begun)
