"""What every store must hold of registering decisions: each once, each delivery once, no number missing."""

from __future__ import annotations

import asyncio
import random
from itertools import chain

import pytest

from hub.adapters.postgres.database import Bell, Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.rows import recipients_from_json
from hub.domain.decisions import Routed, SetAside, Unroutable
from hub.domain.errors import Unavailable
from hub.ports.accounts import Ledger
from hub.ports.intake import Intake
from hub.ports.partners import Partners
from hub.ports.registry import Registered, Registry
from tests.conformance.motion import assert_nothing_is_forgotten, take
from tests.conformance.samples import (
    Obstacle,
    WatchedDatabase,
    decided,
    delivery,
    execute,
    numbers_by_partner,
    partner,
    recipient,
    repeated,
    routed,
    rows,
    sizes,
    submission,
    submissions,
    subscriber,
)

TABLES = ("decision", "delivery", "lane", "partner")


async def test_a_decision_is_kept_with_its_recipients_and_their_reasons(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(1))
    decision = routed(0, [1, 2])
    assert await registry.register([decision]) == Registered(1, 2, 0)
    [row] = await rows(database, "SELECT * FROM decision")
    assert (row["submission"], row["number"], row["snapshot"]) == (decision.submission, 1, 7)
    assert (row["verdict"], row["reasons"]) == ("routed", [])
    assert isinstance(decision.verdict, Routed)
    assert recipients_from_json(row["recipients"]) == decision.verdict.recipients
    assert [told["delivery"] for told in row["recipients"]] == [str(delivery(0, 1)), str(delivery(0, 2))]
    assert not any("mailbox" in told for told in row["recipients"])


async def test_each_recipient_gets_a_planned_delivery_that_is_due_now_in_a_lane_that_is_awake(
    intake: Intake, registry: Registry, partners: Partners, database: Database
) -> None:
    await partners.keep([(partner(1, "sftp"), None, None)])
    await intake.accept(submissions(1))
    await registry.register([routed(0, [1])])
    [row] = await rows(
        database,
        "SELECT delivery.*, lane.subscriber AS lane_subscriber, lane.channel AS lane_channel,"
        " lane.due_at <= delivery.due_at AS awake, delivery.due_at <= clock_timestamp() AS due"
        " FROM delivery JOIN lane ON lane.id = delivery.lane",
    )
    name = delivery(0, 1)
    assert (row["id"], row["submission"], row["procedure"]) == (name, submission(0).id, "EtatCivil")
    assert (row["subscriber"], row["channel"], row["sequence"]) == (str(subscriber(1)), "sftp", 1)
    assert (row["lane_subscriber"], row["lane_channel"]) == (row["subscriber"], "sftp")
    assert (row["kind"], row["revision"], row["attachments"]) == ("submission", 1, [1, 2])
    assert (row["state"], row["sending"], row["attempt"]) == ("planned", 1, 0)
    assert row["awake"]
    assert row["due"]


async def test_what_is_for_a_mailbox_lies_in_its_partner_s_mailbox_whatever_its_channel(
    intake: Intake, registry: Registry, partners: Partners, database: Database
) -> None:
    await partners.keep([(partner(1, "sftp"), None, None)])
    await intake.accept(submissions(2))
    await registry.register([routed(0, [1, 2], mailbox=True), routed(1, [1, 2])])
    found = await rows(
        database,
        "SELECT delivery.id, delivery.channel, lane.channel AS lane_channel, sequence"
        " FROM delivery JOIN lane ON lane.id = delivery.lane ORDER BY delivery.subscriber, sequence",
    )
    assert [tuple(row) for row in found] == [
        (delivery(0, 1), "mailbox", "mailbox", 1),
        (delivery(1, 1), "sftp", "sftp", 2),
        # Who is not declared has a mailbox only.
        (delivery(0, 2), "mailbox", "mailbox", 1),
        (delivery(1, 2), "mailbox", "mailbox", 2),
    ]
    [told] = await rows(database, "SELECT recipients FROM decision WHERE submission = $1", submission(0).id)
    assert [one["mailbox"] for one in told["recipients"]] == [True, True]
    assert [one.mailbox for one in recipients_from_json(told["recipients"])] == [True, True]


async def test_an_unroutable_and_a_set_aside_submission_are_decided_without_any_delivery(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(2))
    tried = ("r1: nobody subscribes for commune:64445", 'r2: "quoted", {braces} and \\')
    both = [decided(0, Unroutable(tried)), decided(1, SetAside("unknown_place"))]
    assert await registry.register(both) == Registered(2, 0, 0)
    found = {row["verdict"]: row["reasons"] for row in await rows(database, "SELECT * FROM decision")}
    assert found == {"unroutable": list(tried), "set_aside": ["unknown_place"]}
    assert await sizes(database, "delivery", "lane") == {"delivery": 0, "lane": 0}


async def test_a_recipient_without_any_file_gets_its_delivery(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(1))
    await registry.register([decided(0, Routed((recipient(1)._replace(attachments=()),)))])
    assert [row["attachments"] for row in await rows(database, "SELECT attachments FROM delivery")] == [[]]


async def test_every_step_of_a_registration_stands_in_the_journal(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(3))
    await execute(database, "DELETE FROM journal")
    verdicts = [decided(1, Unroutable(())), decided(2, SetAside("unknown_procedure"))]
    await registry.register([routed(0, [1]), *verdicts])
    await registry.register([routed(0, [1]), *verdicts])
    lines = await rows(database, "SELECT event, submission, delivery FROM journal ORDER BY id")
    assert [tuple(line) for line in lines] == [
        ("submission.unroutable", submission(1).id, None),
        ("submission.set_aside", submission(2).id, None),
        ("delivery.planned", submission(0).id, delivery(0, 1)),
    ]


async def test_registering_again_inserts_nothing_and_takes_no_number(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(4))
    batch = [routed(number, [1, 2]) for number in range(3)]
    await registry.register(batch)
    before = await sizes(database, *TABLES, "journal")
    assert await registry.register([*batch, *batch]) == Registered(0, 0, 0)
    assert await sizes(database, *TABLES, "journal") == before
    await registry.register([routed(3, [1, 2])])
    assert set(map(tuple, (await numbers_by_partner(database)).values())) == {(1, 2, 3, 4)}


async def test_a_decision_that_stands_twice_in_a_batch_counts_once_and_the_first_stands(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(1))
    assert await registry.register([routed(0, [1]), routed(0, [1, 2])]) == Registered(1, 1, 0)
    assert await numbers_by_partner(database) == {str(subscriber(1)): [1]}


async def test_the_first_decision_of_a_submission_stays_whatever_is_registered_later(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(1))
    await registry.register([routed(0, [1])])
    assert await registry.register([routed(0, [2])]) == Registered(0, 0, 0)
    assert await registry.register([decided(0, Unroutable(()))]) == Registered(0, 0, 0)
    assert await numbers_by_partner(database) == {str(subscriber(1)): [1]}


async def test_a_second_decision_plans_only_what_the_first_did_not_name(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(1))
    await registry.register([routed(0, [1, 2])])
    assert await registry.register([routed(0, [2, 3], decision=2)]) == Registered(1, 1, 0)
    assert set(map(tuple, (await numbers_by_partner(database)).values())) == {(1,)}


async def test_the_numbers_of_a_partner_follow_the_order_of_the_log(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(40))
    order = random.Random(1).sample(range(40), 40)
    await registry.register([routed(number, [1]) for number in order[:25]])
    await registry.register([routed(number, [1]) for number in order[20:]])
    found = await rows(database, "SELECT submission FROM delivery ORDER BY sequence")
    assert [row["submission"] for row in found] == [submission(number).id for number in order]


async def test_what_was_registered_at_once_leaves_in_the_order_of_its_numbers(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(200))
    await registry.register([routed(number, [1]) for number in range(200)])
    lanes = PostgresLanes(database)
    _, claims = await take(lanes, "anne")
    assert [claim.sequence for claim in claims] == list(range(1, 101))
    await lanes.close()


async def test_a_record_that_names_no_accepted_submission_is_kept_beside_once(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(1))
    assert await registry.register([routed(0, [1]), routed(99, [1])]) == Registered(1, 1, 1)
    assert await registry.register([routed(99, [1])]) == Registered(0, 0, 1)
    assert await sizes(database, "stray", "decision", "delivery") == {
        "stray": 1,
        "decision": 1,
        "delivery": 1,
    }


async def test_an_empty_batch_registers_nothing(registry: Registry) -> None:
    assert await registry.register([]) == Registered(0, 0, 0)


async def test_a_lane_that_sleeps_is_woken_and_one_that_is_due_earlier_stays_so(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(2))
    await registry.register([routed(0, [1, 2, 3])])
    names = [str(subscriber(number)) for number in (1, 2, 3)]
    await execute(
        database,
        f"UPDATE lane SET due_at = NULL WHERE subscriber = '{names[0]}'",
        f"UPDATE lane SET due_at = now() - interval '1 hour' WHERE subscriber = '{names[1]}'",
        f"UPDATE lane SET due_at = now() + interval '1 hour' WHERE subscriber = '{names[2]}'",
    )
    await registry.register([routed(1, [1, 2, 3])])
    found = await rows(
        database,
        "SELECT subscriber, due_at > now() - interval '1 minute' AS recent, due_at <= clock_timestamp() AS due"
        " FROM lane ORDER BY subscriber",
    )
    assert [tuple(row) for row in found] == [
        (names[0], True, True),
        (names[1], False, True),
        (names[2], True, True),
    ]


async def test_a_registration_waits_for_who_holds_the_row_of_its_lane(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(2))
    await registry.register([routed(0, [1])])
    async with database.alone() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM lane FOR UPDATE")
        registering = asyncio.create_task(registry.register([routed(1, [1])]))
        done, _ = await asyncio.wait([registering], timeout=0.3)
        assert not done
        await other.execute("UPDATE lane SET due_at = NULL")
        await transaction.commit()
        await registering
    assert [row["due_at"] is not None for row in await rows(database, "SELECT due_at FROM lane")] == [True]


async def test_a_new_delivery_rings_for_those_who_wait_for_lanes(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(1))
    bell = Bell(database, "lanes")
    await bell.wait(0.5)
    waiting = asyncio.create_task(bell.wait(20))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await registry.register([routed(0, [1])])
    await asyncio.wait_for(waiting, 5)
    await bell.close()


async def test_many_who_register_overlapping_batches_at_once_leave_no_gap_and_never_deadlock(
    fresh_dsn: str,
) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    registry = PostgresRegistry(database)
    await PostgresIntake(database).accept(submissions(400))

    async def register(seed: int) -> list[Registered]:
        dice = random.Random(seed)
        results = []
        for _ in range(8):
            batch = dice.sample(range(400), 150)
            results.append(
                await registry.register([routed(one, [one % 7, 7 + one % 11, 99]) for one in batch])
            )
        return results

    results = list(chain(*await asyncio.gather(*(register(seed) for seed in range(8)))))
    counts = await sizes(database, "decision", "delivery")
    assert sum(one.decisions for one in results) == counts["decision"]
    assert sum(one.deliveries for one in results) == counts["delivery"] == 3 * counts["decision"]
    for numbers in (await numbers_by_partner(database)).values():
        assert numbers == list(range(1, len(numbers) + 1))
    last = {row["subscriber"]: row["sequence"] for row in await rows(database, "SELECT * FROM partner")}
    assert last == {name: len(numbers) for name, numbers in (await numbers_by_partner(database)).items()}
    assert await database.deadlocks() == 0


async def test_two_who_register_the_same_new_partners_in_opposite_orders_never_deadlock(
    fresh_dsn: str,
) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    registry = PostgresRegistry(database)
    await PostgresIntake(database).accept(submissions(200))
    for turn in range(10):
        partners = range(turn * 500 + 1, turn * 500 + 501)
        forth = [routed(turn * 20 + place, partners[place::10]) for place in range(10)]
        back = [routed(turn * 20 + 10 + place, partners[::-1][place::10]) for place in range(10)]
        await asyncio.gather(registry.register(forth), registry.register(back))
    assert {tuple(numbers) for numbers in (await numbers_by_partner(database)).values()} == {(1, 2)}
    assert await database.deadlocks() == 0


async def test_many_who_register_for_the_same_known_partners_at_once_never_deadlock(fresh_dsn: str) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    registry = PostgresRegistry(database)
    await PostgresIntake(database).accept(submissions(81))
    known = range(1, 301)
    await registry.register([routed(80, known)])
    for turn in range(0, 80, 8):
        orders = [random.Random(turn + place).sample(known, len(known)) for place in range(8)]
        batches = [[routed(turn + place, order)] for place, order in enumerate(orders)]
        await asyncio.gather(*(registry.register(batch) for batch in batches))
    assert {tuple(numbers) for numbers in (await numbers_by_partner(database)).values()} == {
        tuple(range(1, 82))
    }
    assert await database.deadlocks() == 0


async def test_two_decisions_of_one_submission_at_once_plan_a_delivery_they_share_once(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(60))
    for number in range(60):
        await asyncio.gather(
            registry.register([routed(number, [1, 2])]),
            registry.register([routed(number, [2, 3], decision=2)]),
            registry.register([routed(number, [1, 2])]),
        )
    found = await numbers_by_partner(database)
    assert found[str(subscriber(2))] == found[str(subscriber(3))] == list(range(1, 61))
    # Where the newer one came first, the older one planned nothing.
    first = found.get(str(subscriber(1)), [])
    assert first == list(range(1, len(first) + 1))


async def test_an_older_decision_that_comes_after_a_newer_one_is_kept_and_plans_nothing(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(2))
    assert await registry.register([routed(0, [2], decision=2)]) == Registered(1, 1, 0)
    assert await registry.register([routed(0, [1])]) == Registered(1, 0, 0)
    together = [routed(1, [2], decision=2), routed(1, [1])]
    assert await registry.register(together) == Registered(2, 1, 0)
    assert await registry.register(together) == Registered(0, 0, 0)
    assert list(await numbers_by_partner(database)) == [str(subscriber(2))]
    assert (await sizes(database, "decision"))["decision"] == 4


@pytest.mark.parametrize("state", ["withdrawn", "expired"])
async def test_what_was_withdrawn_or_expired_is_planned_again_when_a_newer_decision_names_it(
    intake: Intake, registry: Registry, database: Database, state: str
) -> None:
    await intake.accept(submissions(1))
    await registry.register([routed(0, [1, 2])])
    await execute(
        database, f"UPDATE delivery SET state = '{state}', due_at = NULL", "UPDATE lane SET due_at = NULL"
    )
    await registry.register([routed(0, [1, 2])])
    assert {row["state"] for row in await rows(database, "SELECT state FROM delivery")} == {state}
    await registry.register([routed(0, [1], decision=2)])
    found = await rows(database, "SELECT id, state, sending, sequence FROM delivery ORDER BY subscriber")
    assert [(row["state"], row["sending"], row["sequence"]) for row in found] == [
        ("planned", 2, 1),
        (state, 1, 1),
    ]
    await assert_nothing_is_forgotten(database)


async def test_a_registration_that_fails_at_its_deliveries_takes_no_number(
    intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(3))
    await registry.register([routed(0, [1])])
    async with Obstacle.before(database, "delivery") as obstacle:
        registering = asyncio.create_task(registry.register([routed(1, [1])]))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await registering
        await obstacle.remove()
        await registry.register([routed(2, [1])])
    assert await numbers_by_partner(database) == {str(subscriber(1)): [1, 2]}


@pytest.mark.parametrize("table", [*TABLES, "journal", "stray"])
async def test_a_registration_whose_connection_dies_in_the_middle_leaves_nothing(
    intake: Intake, registry: Registry, ledger: Ledger, database: Database, table: str
) -> None:
    await intake.accept(submissions(20))
    before = await sizes(database, *TABLES, "journal", "stray")
    batch = [routed(number, [1, 2]) for number in range(21)]
    async with Obstacle.before(database, table) as obstacle:
        registering = asyncio.create_task(registry.register(batch))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await registering
        assert await sizes(database, *TABLES, "journal", "stray") == before
        await obstacle.remove()
        assert await registry.register(batch) == Registered(20, 40, 1)
    assert (await ledger.accounts()).differences == ()


async def test_a_batch_of_five_hundred_takes_as_many_statements_as_a_batch_of_two(fresh_dsn: str) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    registry = PostgresRegistry(database)
    await PostgresIntake(database).accept(submissions(600))
    await registry.register([routed(599, [1]), routed(1599, [1])])
    counts = []
    for names in (range(2), range(2, 502)):
        database.statements.clear()
        await registry.register([routed(name, [name % 90, 100]) for name in names])
        counts.append(len(database.statements))
    assert counts[0] == counts[1] <= 13
    assert repeated(database.statements) == []
    await database.close()
