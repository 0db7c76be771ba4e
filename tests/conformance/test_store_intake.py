"""What every store must hold of accepting submissions, and of the tray."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.tray import PostgresTray
from hub.domain.decisions import Unroutable
from hub.domain.errors import HubError, Unavailable
from hub.domain.submission import Accepted, Conflict, RoutingFacts
from hub.ports.intake import Intake
from hub.ports.outgoing import Tray
from hub.ports.registry import Registry
from tests.conformance.samples import (
    Obstacle,
    WatchedDatabase,
    decided,
    execute,
    rows,
    sizes,
    submission,
    submissions,
)

TABLES = ("submission", "submission_key", "stored_file", "tray", "journal")


async def test_a_submission_is_kept_whole_with_key_files_letter_and_journal_line(
    intake: Intake, database: Database
) -> None:
    one = submission(1)
    [answer] = await intake.accept([one])
    assert isinstance(answer, Accepted)
    assert answer.fresh
    assert answer.submission == one.id
    [row] = await rows(
        database, "SELECT * FROM submission JOIN submission_key ON submission_key.submission = submission.id"
    )
    assert (row["sender"], row["external_id"], row["procedure"]) == (
        one.sender,
        one.external_id,
        one.procedure,
    )
    assert (row["facts"], row["digest"], row["sealed"]) == (one.facts, one.digest, one.sealed)
    assert (row["wrapped"], row["received_at"]) == (one.wrapped_key, answer.received_at)
    [line] = await rows(database, "SELECT * FROM journal")
    assert (line["event"], line["submission"]) == ("submission.received", one.id)
    assert await sizes(database, *TABLES) == {
        "submission": 1,
        "submission_key": 1,
        "stored_file": 2,
        "tray": 1,
        "journal": 1,
    }


async def test_the_receipt_time_is_the_clock_of_the_database(intake: Intake, database: Database) -> None:
    before = (await rows(database, "SELECT clock_timestamp() AS now"))[0]["now"]
    [answer] = await intake.accept([submission(1)])
    after = (await rows(database, "SELECT clock_timestamp() AS now"))[0]["now"]
    assert isinstance(answer, Accepted)
    assert before <= answer.received_at <= after


async def test_the_same_content_again_gets_the_same_answer_and_changes_nothing(
    intake: Intake, database: Database
) -> None:
    [first] = await intake.accept([submission(1, copy="a")])
    before = await sizes(database, *TABLES)
    [again] = await intake.accept([submission(1, copy="b")])
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert not again.fresh
    assert again.received_at == first.received_at
    assert await sizes(database, *TABLES) == before
    assert await intake.named(["1-a-1", "1-b-1"]) == {"1-a-1"}
    [row] = await rows(database, "SELECT sealed FROM submission")
    assert row["sealed"] == b"sealed-1-a"


async def test_other_content_under_the_same_name_is_a_conflict_and_what_is_there_stands(
    intake: Intake, database: Database
) -> None:
    await intake.accept([submission(1, digest=b"one")])
    before = await sizes(database, *TABLES)
    assert await intake.accept([submission(1, digest=b"other", copy="b")]) == [Conflict(submission(1).id)]
    assert await sizes(database, *TABLES) == before
    [row] = await rows(database, "SELECT wrapped FROM submission_key")
    assert row["wrapped"] == b"key-1-a"


async def test_answers_come_in_the_order_asked(intake: Intake) -> None:
    await intake.accept([submission(3), submission(5, digest=b"one")])
    batch = [submission(number, copy="b") for number in (9, 5, 1, 3, 7)]
    answers = await intake.accept(batch)
    assert [answer.submission for answer in answers] == [one.id for one in batch]
    kinds = [answer.fresh if isinstance(answer, Accepted) else None for answer in answers]
    assert kinds == [True, None, True, False, True]


async def test_an_empty_batch_is_answered_with_nothing(intake: Intake) -> None:
    assert await intake.accept([]) == []


async def test_two_batches_of_the_same_names_in_opposite_orders_never_deadlock(fresh_dsn: str) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    intake = PostgresIntake(database)
    for turn in range(12):
        names = range(turn * 500, turn * 500 + 500)
        forth = [submission(number, copy="a") for number in names]
        back = [submission(number, copy="b") for number in reversed(names)]
        answers = await asyncio.gather(intake.accept(forth), intake.accept(back))
        fresh = [
            one.submission for batch in answers for one in batch if isinstance(one, Accepted) and one.fresh
        ]
        assert sorted(fresh) == sorted(one.id for one in forth)
    assert (await sizes(database, "tray", "stored_file")) == {"tray": 6000, "stored_file": 12000}
    assert await database.deadlocks() == 0


async def test_of_many_who_post_one_name_at_once_exactly_one_is_fresh(
    intake: Intake, database: Database
) -> None:
    for number in range(30):
        posts = [submission(number, copy=str(copy), digest=str(copy % 2).encode()) for copy in range(8)]
        answers = [found for [found] in await asyncio.gather(*(intake.accept([post]) for post in posts))]
        winners = [place for place, one in enumerate(answers) if isinstance(one, Accepted) and one.fresh]
        assert len(winners) == 1
        [row] = await rows(database, "SELECT * FROM submission WHERE id = $1", posts[0].id)
        assert row["sealed"] == posts[winners[0]].sealed
        for post, answer in zip(posts, answers, strict=True):
            assert isinstance(answer, Accepted) == (post.digest == row["digest"])
            if isinstance(answer, Accepted):
                assert answer.received_at == row["received_at"]
    assert (await sizes(database, "submission_key", "stored_file"))["stored_file"] == 60


async def test_who_is_second_waits_and_is_judged_by_what_the_first_committed(
    intake: Intake, database: Database
) -> None:
    async with Obstacle.before(database, "journal") as obstacle:
        first = asyncio.create_task(intake.accept([submission(1, digest=b"one")]))
        await obstacle.reached()
        second = asyncio.create_task(intake.accept([submission(1, digest=b"other", copy="b")]))
        done, _ = await asyncio.wait([second], timeout=0.3)
        assert not done
        await obstacle.remove()
        [winner], [loser] = await first, await second
    assert isinstance(winner, Accepted)
    assert isinstance(loser, Conflict)


async def test_when_the_first_fails_the_second_is_accepted(intake: Intake, database: Database) -> None:
    async with Obstacle.before(database, "tray") as obstacle:
        first = asyncio.create_task(intake.accept([submission(1, digest=b"one")]))
        process = await obstacle.reached()
        second = asyncio.create_task(intake.accept([submission(1, digest=b"other", copy="b")]))
        await asyncio.sleep(0.1)
        await obstacle.kill(process)
        await obstacle.remove()
        with pytest.raises(Unavailable):
            await first
        [answer] = await second
    assert isinstance(answer, Accepted)
    assert answer.fresh
    assert await intake.named(["1-a-1", "1-b-1"]) == {"1-b-1"}


@pytest.mark.parametrize("table", TABLES)
async def test_an_acceptance_whose_connection_dies_in_the_middle_leaves_nothing(
    intake: Intake, database: Database, table: str
) -> None:
    async with Obstacle.before(database, table) as obstacle:
        accepting = asyncio.create_task(intake.accept(submissions(20)))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await accepting
        assert set((await sizes(database, *TABLES)).values()) == {0}
        await obstacle.remove()
        answers = await intake.accept(submissions(20))
    assert all(isinstance(one, Accepted) and one.fresh for one in answers)


async def test_a_name_that_stands_under_another_id_is_an_error_and_leaves_nothing(
    intake: Intake, database: Database
) -> None:
    await intake.accept([submission(1)])
    await execute(database, "UPDATE submission SET id = gen_random_uuid()")
    with pytest.raises(HubError):
        await intake.accept([submission(1), submission(2)])
    assert (await sizes(database, "submission"))["submission"] == 1


async def test_a_batch_of_five_hundred_takes_as_few_statements_as_a_batch_of_two(fresh_dsn: str) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    intake = PostgresIntake(database)
    await intake.accept(submissions(1))
    counts = []
    for count in (2, 500):
        # Of each batch some are there already and some are not.
        database.statements.clear()
        await intake.accept(submissions(count))
        counts.append(len(database.statements))
    await database.close()
    assert counts[0] == counts[1] <= 6


async def test_letters_tell_what_the_log_may_know_oldest_first(intake: Intake, tray: Tray) -> None:
    [answer] = await intake.accept([submission(1)])
    await intake.accept([submission(2)])
    await intake.accept([submission(3)])
    letters = await tray.letters(2)
    one = submission(1)
    assert isinstance(answer, Accepted)
    assert letters[0].content == RoutingFacts(
        one.id,
        one.sender,
        one.procedure,
        one.facts,
        tuple(attachment.facts for attachment in one.attachments),
        answer.received_at,
    )
    assert [letter.content.submission for letter in letters] == [one.id, submission(2).id]


async def test_a_discarded_letter_is_gone_and_the_others_stay(intake: Intake, tray: Tray) -> None:
    await intake.accept(submissions(5))
    letters = await tray.letters(10)
    await tray.discard([letter.position for letter in letters[1:4]])
    await tray.discard([letter.position for letter in letters[1:4]])
    assert await tray.letters(10) == [letters[0], letters[4]]


async def test_many_who_discard_the_same_letters_never_deadlock(fresh_dsn: str) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    tray = PostgresTray(database)
    await PostgresIntake(database).accept(submissions(500))
    positions = [letter.position for letter in await tray.letters(1000)]
    orders = [random.Random(seed).sample(positions, len(positions)) for seed in range(8)]
    await asyncio.gather(*(tray.discard(order) for order in orders))
    assert await tray.letters(10) == []
    assert await database.deadlocks() == 0


async def test_who_waits_at_the_tray_is_woken_by_a_letter(intake: Intake, tray: Tray) -> None:
    await tray.wait(0.5)
    waiting = asyncio.create_task(tray.wait(20))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await intake.accept([submission(1)])
    await asyncio.wait_for(waiting, 5)


async def test_who_waits_at_an_empty_tray_goes_away_after_the_time(tray: Tray) -> None:
    loop = asyncio.get_running_loop()
    # The first may be sent to look at once: nobody listened before it.
    await tray.wait(0.5)
    start = loop.time()
    await tray.wait(0.2)
    assert 0.15 < loop.time() - start < 5


# --- letters again ------------------------------------------------------------------------------------


async def carried(tray: Tray) -> None:
    """The log has all of them."""
    await tray.discard([letter.position for letter in await tray.letters(1000)])


async def in_tray(tray: Tray) -> list[UUID]:
    return [letter.content.submission for letter in await tray.letters(1000)]


async def test_a_new_life_of_the_log_gets_a_letter_again_for_what_is_not_decided(
    intake: Intake, tray: Tray, registry: Registry
) -> None:
    await intake.accept(submissions(4))
    await tray.put_back("first")
    await carried(tray)
    await registry.register([decided(0, Unroutable(()))])
    await intake.accept([submission(9)])
    assert await tray.put_back("first") == 0
    assert await in_tray(tray) == [submission(9).id]
    assert await tray.put_back("second") == 3
    assert sorted(await in_tray(tray)) == sorted(submission(number).id for number in (1, 2, 3, 9))
    assert await tray.put_back("second") == 0


async def test_several_who_put_back_at_once_write_one_letter_each(intake: Intake, fresh_dsn: str) -> None:
    await intake.accept(submissions(50))
    opened = [await Database.open(fresh_dsn) for _ in range(4)]
    trays = [PostgresTray(one) for one in opened]
    await carried(trays[0])
    counts = await asyncio.gather(*(one.put_back("life") for one in trays))
    assert sum(counts) == 50
    assert len(await in_tray(trays[0])) == 50
    for one in opened:
        await one.close()


async def test_what_was_lost_gets_a_letter_again_and_what_came_since_does_not(
    intake: Intake, tray: Tray, registry: Registry, database: Database
) -> None:
    await intake.accept(submissions(3))
    await registry.register([decided(1, Unroutable(()))])
    await carried(tray)
    await execute(database, "UPDATE submission SET received_at = received_at - interval '1 hour'")
    await intake.accept([submission(9)])
    await carried(tray)
    before = await tray.carried_until()
    assert await tray.put_back_lost(before) == 2
    assert sorted(await in_tray(tray)) == sorted(submission(number).id for number in (0, 2))
    assert await tray.put_back_lost(before) == 0
    # Lost once more, it is found once more.
    await carried(tray)
    assert await tray.put_back_lost(before) == 2


async def test_what_has_a_letter_still_is_not_taken_for_carried(
    intake: Intake, tray: Tray, database: Database
) -> None:
    await intake.accept(submissions(3))
    await execute(database, "UPDATE submission SET received_at = received_at - interval '1 hour'")
    oldest = min(letter.content.received_at for letter in await tray.letters(10))
    assert await tray.carried_until() == oldest
    assert await tray.put_back_lost(await tray.carried_until()) == 0
