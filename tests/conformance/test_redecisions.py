"""Deciding anew on a real store, by the rules of today and by hand: numbered, whole, and told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.replays import PostgresReplays
from hub.domain.decisions import Recipient, Routed, SetAside, Unroutable, Verdict
from hub.domain.errors import Invalid, LeaseLost, Unavailable
from hub.domain.identity import ParcelKind, delivery_id
from hub.domain.lifecycle import State
from hub.domain.replays import (
    Chosen,
    ReplayOrder,
    ReplayRules,
    ReplayState,
    Selection,
    SubmissionSelection,
    SubmissionState,
)
from hub.ports.replays import Replay, RulesNow, TodaysRules
from tests.conformance.motion import (
    NOW,
    assert_sound,
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
    delivery,
    execute,
    partner,
    rows,
    submission,
    submissions,
    subscriber,
)
from tests.conformance.test_store_successions import succeed

SNAPSHOT = 9


@pytest_asyncio.fixture
async def replays(database: Database, replays: PostgresReplays) -> AsyncIterator[PostgresReplays]:
    yield replays
    await assert_sound(database)
    unnamed = await rows(
        database,
        "SELECT id FROM delivery WHERE NOT EXISTS (SELECT FROM decision, jsonb_array_elements(recipients) AS one"
        " WHERE (one ->> 'delivery')::uuid = delivery.id)",
    )
    assert not unnamed


def to(*partners: int, files: tuple[int, ...] = (1, 2)) -> Verdict:
    if not partners:
        return Unroutable(())
    return Routed(tuple(Recipient(subscriber(one), files, ()) for one in partners))


def rules(*verdicts: Verdict, by: Mapping[int, Verdict] | None = None) -> RulesNow:
    """The same for every submission, or one for each by its number."""
    named = {submission(number).id: verdict for number, verdict in (by or {}).items()}

    async def now() -> TodaysRules:
        return TodaysRules(SNAPSHOT, lambda facts: named.get(facts.submission) or verdicts[0])

    return now


async def anew(replays: PostgresReplays, today: RulesNow, chosen: Chosen | None = None) -> Replay:
    """Ordered, and carried out to the end."""
    order = ReplayOrder(
        chosen or SubmissionSelection(procedure="EtatCivil"), "jeanne", "plan corrigé", ReplayRules.TODAY
    )
    begun = await replays.begin(uuid4(), order)
    while await replays.send_again(2, today):
        pass
    found = await replays.replay(begun.id)
    assert found is not None
    assert (found.state, found.pending) == (ReplayState.FINISHED, 0)
    return found


async def states(database: Database) -> dict[UUID, State]:
    found = await rows(database, "SELECT id, state FROM delivery")
    return {row["id"]: State(row["state"]) for row in found}


async def declare(database: Database, *numbers: int, channel: str = "sftp") -> None:
    await PostgresPartners(database).keep([(partner(one, channel), None, None) for one in numbers])


def revision(number: int, to: int, revision: int) -> UUID:
    return delivery_id(submission(number).id, subscriber(to), ParcelKind.SUBMISSION, revision)


# --- by the rules of today ----------------------------------------------------------------------------


async def test_what_nobody_got_is_planned_for_whom_the_rules_of_today_name(
    database: Database, replays: PostgresReplays
) -> None:
    await PostgresIntake(database).accept(submissions(4))
    registry = PostgresRegistry(database)
    await registry.register(
        [decided(0, Unroutable(())), decided(1, SetAside("unknown_place")), decided(2, Unroutable(()))]
    )
    await declare(database, 1)
    today = rules(to(1), by={2: SetAside("quarantined:x")})
    found = await anew(replays, today, SubmissionSelection(state=SubmissionState.UNROUTABLE))
    assert (found.matched, found.planned, found.sent, found.skipped) == (2, 1, 0, 0)
    found = await anew(replays, today, SubmissionSelection(state=SubmissionState.SET_ASIDE))
    assert (found.matched, found.planned) == (2, 1)
    assert set(await states(database)) == {delivery(0, 1), delivery(1, 1)}
    told = await rows(
        database,
        "SELECT submission, number, snapshot, verdict, author, replay IS NOT NULL AS ordered FROM decision"
        " WHERE number > 1 ORDER BY array_position($1::uuid[], submission), number",
        [submission(number).id for number in range(4)],
    )
    assert [tuple(row)[1:] for row in told] == [
        (2, SNAPSHOT, "routed", "jeanne", True),
        (2, SNAPSHOT, "routed", "jeanne", True),
        (2, SNAPSHOT, "set_aside", "jeanne", True),
        (3, SNAPSHOT, "set_aside", "jeanne", True),
    ]
    [line] = await rows(
        database, "SELECT actor, detail FROM journal WHERE event = 'delivery.planned' LIMIT 1"
    )
    assert line["actor"] == "operator:jeanne"


async def test_each_delivery_goes_the_way_that_the_new_choice_means_for_it(
    database: Database, replays: PostgresReplays
) -> None:
    """One submission of each kind: sent again, another revision, withdrawn, disclosed."""
    same, other, gone = await plant(database, [0, 1, 2])
    await park(database)
    [had] = await plant(database, [3])
    lanes = PostgresLanes(database)
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)])
    await declare(database, 2)
    today = rules(by={0: to(1), 1: to(1, files=(2,)), 2: to(2), 3: to(2)})
    found = await anew(replays, today)
    assert (found.sent, found.revised, found.planned, found.withdrawn, found.disclosed) == (1, 1, 2, 2, 1)
    assert await states(database) == {
        same: State.PLANNED,
        other: State.WITHDRAWN,
        revision(1, 1, 2): State.PLANNED,
        gone: State.WITHDRAWN,
        delivery(2, 2): State.PLANNED,
        had: State.DELIVERED,
        delivery(3, 2): State.PLANNED,
    }
    assert (await standing(database, same)).sending == 2
    assert await journal(database, "delivery.sent_again") == [
        (same, "operator:jeanne", f"replay {found.id}, of sending 1")
    ]
    [told] = await replays.disclosures(found.id, None, 10)
    assert (told.delivery, told.subscriber, told.certain) == (had, subscriber(1), True)
    assert await replays.disclosures(found.id, had, 10) == []
    [row] = await rows(
        database, "SELECT attachments, size, revision FROM delivery WHERE id = $1", revision(1, 1, 2)
    )
    assert tuple(row) == ([2], 20, 2)
    assert {name for name, _, _ in await journal(database, "delivery.withdrawn")} == {other, gone}


async def test_of_chosen_deliveries_only_these_are_sent_again_though_all_are_decided(
    database: Database, replays: PostgresReplays
) -> None:
    first, second = await plant(database, [0], to=[1, 2])
    await park(database)
    found = await anew(replays, rules(to(1, 2)), Selection(subscriber=subscriber(1)))
    assert (found.sent, found.unchanged) == (1, 1)
    assert await states(database) == {first: State.PLANNED, second: State.PARKED}


async def test_what_moved_on_by_itself_is_not_decided_anew(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, [0, 1])
    await park(database)
    order = ReplayOrder(Selection(), "jeanne", "plan corrigé", ReplayRules.TODAY)
    begun = await replays.begin(uuid4(), order)
    await execute(database, f"UPDATE delivery SET state = 'acknowledged' WHERE id = '{delivery(0, 1)}'")
    while await replays.send_again(10, rules(to(2))):
        pass
    found = await replays.replay(begun.id)
    assert found is not None
    assert (found.skipped, found.planned, found.withdrawn) == (1, 1, 1)
    assert len(await rows(database, "SELECT FROM decision WHERE number > 1")) == 1
    await execute(database, f"UPDATE delivery SET state = 'parked' WHERE id = '{delivery(0, 1)}'")


async def test_without_a_rule_book_only_orders_by_the_rules_of_then_are_carried_out(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, [0], to=[1])
    await plant(database, [1], to=[2])
    await park(database)
    later = ReplayOrder(Selection(subscriber=subscriber(1)), "jeanne", "plan corrigé", ReplayRules.TODAY)
    await replays.begin(uuid4(), later)
    await replays.begin(uuid4(), ReplayOrder(Selection(subscriber=subscriber(2)), "jeanne", "réparé"))
    assert [await replays.send_again(10), await replays.send_again(10)] == [1, 0]
    assert [await replays.send_again(10, rules(to(1))), await replays.send_again(10, rules(to(1)))] == [1, 0]


async def test_what_is_sent_again_goes_by_the_way_that_the_rules_of_today_want(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [0])
    for mailbox, channel in ((True, "mailbox"), (False, "sftp")):
        await park(database)
        found = await anew(replays, rules(Routed((Recipient(subscriber(1), (1, 2), (), mailbox),))))
        assert found.sent == 1
        [row] = await rows(
            database,
            "SELECT lane.channel, delivery.channel AS shown, by_mailbox FROM delivery JOIN lane ON lane.id = lane"
            " WHERE delivery.id = $1",
            name,
        )
        assert tuple(row) == (channel, channel, mailbox)


# --- one in flight ------------------------------------------------------------------------------------


async def test_one_in_flight_is_withdrawn_when_its_attempt_fails(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [0])
    lanes = PostgresLanes(database)
    lane, [claim] = await take(lanes, "anne")
    found = await anew(replays, rules(to(2)))
    assert (await standing(database, name)).state is State.IN_FLIGHT
    assert (found.withdrawn, found.disclosed) == (1, 0)
    await conclude(lanes, "anne", lane, [waiting(claim.attempt)])
    assert (await standing(database, name)).state is State.WITHDRAWN
    assert await replays.disclosures(found.id, None, 10) == []


async def test_one_in_flight_that_arrives_after_all_is_told_as_disclosed(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [0])
    lanes = PostgresLanes(database)
    lane, [claim] = await take(lanes, "anne")
    found = await anew(replays, rules(to(2)))
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)])
    [told] = await replays.disclosures(found.id, None, 10)
    assert (told.delivery, told.state, told.certain) == (name, State.DELIVERED, True)


async def test_one_whose_worker_died_is_withdrawn_without_an_attempt_and_told_as_perhaps_received(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [0])
    lanes = PostgresLanes(database)
    await take(lanes, "anne", lease=NOW)
    found = await anew(replays, rules(Unroutable(())))
    _, claims = await take(lanes, "basile")
    assert not claims
    stands = await standing(database, name)
    assert (stands.state, stands.cause, stands.attempt) == (State.WITHDRAWN, "hub.perhaps_received", 1)
    [told] = await replays.disclosures(found.id, None, 10)
    assert (told.delivery, told.certain) == (name, False)


async def test_one_in_flight_that_is_chosen_again_before_it_ends_goes_on(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [0])
    lanes = PostgresLanes(database)
    lane, [claim] = await take(lanes, "anne")
    await anew(replays, rules(Unroutable(())))
    found = await anew(replays, rules(to(1)))
    assert found.unchanged == 1
    await conclude(lanes, "anne", lane, [waiting(claim.attempt)])
    assert (await standing(database, name)).state is State.WAITING


# --- whom a replay sends to ---------------------------------------------------------------------------


async def test_a_replay_by_the_rules_of_then_sends_to_nobody_the_newest_decision_does_not_name(
    database: Database, replays: PostgresReplays
) -> None:
    wrong, parked = await plant(database, [0, 1])
    await park(database)
    await anew(replays, rules(by={0: to(2), 1: to(1)}))
    await park(database)
    for state in (State.WITHDRAWN, State.PARKED):
        order = ReplayOrder(Selection(subscriber=subscriber(1), state=state), "paul", "encore")
        begun = await replays.begin(uuid4(), order)
        while await replays.send_again(10):
            pass
        found = await replays.replay(begun.id)
        assert found is not None
        assert (found.matched, found.sent) == (1, int(state is State.PARKED))
    assert await states(database) == {
        wrong: State.WITHDRAWN,
        delivery(0, 2): State.PARKED,
        parked: State.PLANNED,
    }


async def test_what_was_withdrawn_is_planned_again_under_its_name_when_it_is_chosen_again(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [0])
    await park(database)
    await anew(replays, rules(to(2)))
    found = await anew(replays, rules(to(1)))
    assert (found.sent, found.withdrawn, found.planned) == (1, 1, 0)
    stands = await standing(database, name)
    assert (stands.state, stands.sending) == (State.PLANNED, 2)
    assert await replays.disclosures(found.id, None, 10) == []


async def test_a_succession_is_no_difference_and_a_new_one_goes_to_the_successor(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [0])
    await park(database)
    await declare(database, 2)
    await succeed(database, {1: 2})
    for verdict in (to(1), to(2)):
        found = await anew(replays, rules(verdict))
        assert (found.planned, found.withdrawn, found.disclosed) == (0, 0, 0)
    found = await anew(replays, rules(to(1, files=(2,))))
    assert (found.revised, found.withdrawn) == (1, 1)
    [row] = await rows(database, "SELECT subscriber, state FROM delivery WHERE id <> $1", name)
    assert (row["subscriber"], row["state"]) == (str(subscriber(2)), "planned")


# --- by hand ------------------------------------------------------------------------------------------


async def test_a_delivery_is_rerouted_by_a_decision_by_hand_and_the_former_one_is_withdrawn(
    database: Database, replays: PostgresReplays
) -> None:
    name, other = await plant(database, [0], to=[1, 2])
    await park(database)
    await declare(database, 3, channel="webhook")
    found = await replays.reroute(name, subscriber(3), "jeanne", "mauvaise mairie")
    assert found is not None
    assert (found.decision, found.delivery, found.disclosed) == (2, delivery(0, 3), False)
    assert await states(database) == {
        name: State.WITHDRAWN,
        other: State.PARKED,
        delivery(0, 3): State.PLANNED,
    }
    [row] = await rows(database, "SELECT snapshot, author, replay, recipients FROM decision WHERE number = 2")
    assert (row["snapshot"], row["author"], row["replay"]) == (7, "jeanne", None)
    by_hand = [one["reasons"][0] for one in row["recipients"] if one["delivery"] == str(delivery(0, 3))]
    assert [(one["rule"], one["steps"]) for one in by_hand] == [("by hand", ["mauvaise mairie"])]
    back = await replays.reroute(delivery(0, 3), subscriber(1), "jeanne", "finalement non")
    assert back is not None
    assert (back.decision, back.delivery) == (3, name)
    assert (await standing(database, name)).state is State.PLANNED


async def test_what_the_former_partner_received_is_rerouted_and_said_to_be_disclosed(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [0])
    lanes = PostgresLanes(database)
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [delivered(claim.attempt)])
    await declare(database, 3)
    found = await replays.reroute(name, subscriber(3), "jeanne", "mauvaise mairie")
    assert found is not None
    assert found.disclosed
    assert (await standing(database, name)).state is State.DELIVERED
    assert [one for one, _, _ in await journal(database, "delivery.disclosed")] == [name]


async def test_who_gets_it_already_is_sent_nothing_more(database: Database, replays: PostgresReplays) -> None:
    name, other = await plant(database, [0], to=[1, 2])
    await park(database)
    found = await replays.reroute(name, subscriber(2), "jeanne", "en double")
    assert found is not None
    assert found.delivery == other
    assert await states(database) == {name: State.WITHDRAWN, other: State.PARKED}


async def test_a_reroute_that_cannot_be_names_the_field_and_decides_nothing(
    database: Database, replays: PostgresReplays
) -> None:
    [name] = await plant(database, [0])
    await declare(database, 2)
    await succeed(database, {1: 2})
    for to_whom, rule in ((1, "same"), (2, "same"), (9, "partner")):
        with pytest.raises(Invalid) as refusal:
            await replays.reroute(name, subscriber(to_whom), "jeanne", "essai")
        assert [(flaw.field, flaw.rule) for flaw in refusal.value.flaws] == [("/to", rule)]
    assert await replays.reroute(uuid4(), subscriber(2), "jeanne", "essai") is None
    assert await rows(database, "SELECT FROM decision WHERE number > 1") == []


# --- what breaks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table", ["decision", "partner", "delivery", "no_longer_named", "journal", "replay_item", "replay"]
)
async def test_whoever_dies_at_any_write_of_a_page_decided_nothing_of_it(
    database: Database, replays: PostgresReplays, table: str
) -> None:
    await plant(database, range(4))
    await park(database)
    await declare(database, 2)
    today = rules(by={0: to(1), 1: to(1, files=(2,)), 2: to(2), 3: to(1, 2)})
    order = ReplayOrder(SubmissionSelection(procedure="EtatCivil"), "jeanne", "corrigé", ReplayRules.TODAY)
    begun = await replays.begin(uuid4(), order)
    before = await states(database)
    async with Obstacle.before(database, table) as obstacle:
        deciding = asyncio.create_task(replays.send_again(10, today))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await deciding
    assert await states(database) == before
    assert await rows(database, "SELECT FROM decision WHERE number > 1") == []
    while await PostgresReplays(database).send_again(10, today):
        pass
    found = await replays.replay(begun.id)
    assert found is not None
    assert (found.sent, found.revised, found.planned, found.withdrawn) == (2, 1, 2, 2)
    assert len(await rows(database, "SELECT FROM decision WHERE number = 2")) == 4
    assert await rows(database, "SELECT FROM decision WHERE number > 2") == []


async def test_several_who_decide_anew_while_workers_deliver_and_registrars_register_break_nothing(
    database: Database, replays: PostgresReplays
) -> None:
    await plant(database, range(30), to=[1, 2])
    lanes = PostgresLanes(database)
    verdicts: tuple[Verdict, ...] = (to(1), to(2, 3), to(1, files=(2,)), to(3), to(1, 2))

    async def decide(turn: int) -> None:
        for verdict in verdicts[turn:] + verdicts[:turn]:
            order = ReplayOrder(
                SubmissionSelection(procedure="EtatCivil"), f"op{turn}", "plan corrigé", ReplayRules.TODAY
            )
            await replays.begin(uuid4(), order)
            for _ in range(4):
                await replays.send_again(10, rules(verdict))

    async def work(worker: str) -> None:
        for turn in range(20):
            for lane in await lanes.lease(worker, 2, NOW):
                try:
                    claims = await lanes.claim(worker, lane.id, 5)
                except LeaseLost:
                    continue
                news: list[Any] = [
                    delivered(claim.attempt) if turn % 3 else waiting(claim.attempt, NOW) for claim in claims
                ]
                await conclude(lanes, worker, lane.id, news)
            await asyncio.sleep(0.005)

    async def arrive() -> None:
        for number in range(30, 42, 3):
            await plant(database, range(number, number + 3), to=[1, 3])
            await asyncio.sleep(0.02)

    await asyncio.gather(decide(0), decide(2), work("anne"), work("basile"), arrive())
    while await replays.send_again(50, rules(to(1, 2))):
        pass
    [newest] = await rows(database, "SELECT count(*) FROM replay WHERE state <> 'finished'")
    assert newest["count"] == 0
