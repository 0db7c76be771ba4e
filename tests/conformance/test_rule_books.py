"""What every store must hold of the rule book's editions: what was confirmed once never changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from hub.adapters.postgres.database import Database
from hub.domain.errors import Unavailable
from hub.ports.rule_books import Change, Confirmation, RuleBooks
from tests.conformance.editions import NOTHING, begins, in_force, item, publish
from tests.conformance.samples import Obstacle, execute, rows, sizes


async def clock(database: Database) -> datetime:
    now: datetime = (await rows(database, "SELECT clock_timestamp() AS now"))[0]["now"]
    return now


async def test_before_anything_is_published_nothing_is_in_force(
    rule_books: RuleBooks, database: Database
) -> None:
    before = await clock(database)
    told = await rule_books.confirm(0)
    assert told.editions == ()
    assert before <= told.until <= await clock(database)


async def test_the_first_edition_is_in_force_at_once_and_for_all_that_came_before(
    rule_books: RuleBooks,
) -> None:
    assert await publish(rule_books, "one", timedelta(hours=1)) == 1
    told = await rule_books.confirm(0)
    assert told.editions == ((1, datetime.min.replace(tzinfo=UTC)),)
    assert in_force(told, datetime(1970, 1, 1, tzinfo=UTC)) == 1


async def test_a_later_edition_takes_force_its_lead_after_it_is_published(
    rule_books: RuleBooks, database: Database
) -> None:
    await publish(rule_books, "one")
    before = await clock(database)
    assert await publish(rule_books, "two", timedelta(seconds=30)) == 2
    after = await clock(database)
    start = await begins(rule_books, 2)
    assert before <= start - timedelta(seconds=30) <= after


async def test_the_list_of_editions_says_who_published_each_when_and_why(
    rule_books: RuleBooks, database: Database
) -> None:
    assert await rule_books.editions(10) == []
    before = await clock(database)
    await rule_books.publish(Change((item("one"),)), 0, NOTHING, "agent A", "premier plan")
    await rule_books.publish(Change((item("two"),)), 1, NOTHING, "agent B", "fusion de communes")
    after = await clock(database)
    told = await rule_books.editions(10)
    assert [(one.number, one.author, one.reason, one.pruned) for one in told] == [
        (2, "agent B", "fusion de communes", False),
        (1, "agent A", "premier plan", False),
    ]
    assert before <= told[1].published_at <= told[0].published_at <= after
    assert {one.number: one.effective_from for one in told} == dict((await rule_books.confirm(0)).editions)
    assert [one.number for one in await rule_books.editions(1)] == [2]


async def test_who_knows_some_editions_is_told_of_those_after_them_alone(rule_books: RuleBooks) -> None:
    for name in ("one", "two", "three"):
        await publish(rule_books, name, NOTHING)
    whole = await rule_books.confirm(0)
    for known in range(4):
        told = await rule_books.confirm(known)
        assert told.editions == whole.editions[known:]
        assert told.until > whole.until


async def test_an_edition_is_always_later_than_the_one_before_even_with_a_shorter_lead(
    rule_books: RuleBooks,
) -> None:
    await publish(rule_books, "one")
    await publish(rule_books, "two", timedelta(hours=1))
    await publish(rule_books, "three", NOTHING)
    assert await begins(rule_books, 2) < await begins(rule_books, 3)


async def test_an_edition_without_any_lead_still_begins_after_what_was_confirmed(
    rule_books: RuleBooks, database: Database
) -> None:
    await publish(rule_books, "one")
    for number in range(2, 12):
        until = (await rule_books.confirm(0)).until
        # A clock that stands still, or steps back, is the hardest case.
        await execute(database, "UPDATE rule_book_clock SET value = value + interval '1 hour'")
        ahead = (await rule_books.confirm(0)).until
        await publish(rule_books, f"edition {number}", NOTHING - timedelta(days=number))
        assert until < ahead < await begins(rule_books, number)


async def test_a_clock_that_steps_back_changes_nothing(rule_books: RuleBooks, database: Database) -> None:
    await publish(rule_books, "one")
    await execute(database, "UPDATE rule_book_clock SET value = clock_timestamp() + interval '1 hour'")
    told = await rule_books.confirm(0)
    assert told.until > await clock(database) + timedelta(minutes=50)
    answers = answers_of(told)
    await publish(rule_books, "two", NOTHING)
    again = await rule_books.confirm(0)
    assert again.until >= told.until
    assert answers_of(again, answers) == answers
    assert await begins(rule_books, 2) > told.until


async def test_an_edition_whose_commit_takes_longer_than_its_lead_never_changes_an_answer(
    rule_books: RuleBooks, database: Database
) -> None:
    await publish(rule_books, "one")
    told = await rule_books.confirm(0)
    answers = answers_of(told)
    await make_commits_slow(database, 0.6)
    publishing = asyncio.create_task(publish(rule_books, "two", timedelta(milliseconds=50)))
    confirmed = []
    while not publishing.done():
        confirmed.append(await rule_books.confirm(0))
        answers |= answers_of(confirmed[-1])
        await asyncio.sleep(0.01)
    assert await publishing == 2
    confirmed.append(await rule_books.confirm(0))
    start = await begins(rule_books, 2)
    assert confirmed[-1].until > start + timedelta(milliseconds=400)
    for one in confirmed:
        assert one.until < start or len(one.editions) == 2
    assert answers_of(confirmed[-1], answers) == answers


async def test_who_confirms_while_an_edition_is_being_committed_waits_for_it(
    rule_books: RuleBooks, database: Database
) -> None:
    await publish(rule_books, "one")
    async with Obstacle.before(database, "rule_book") as obstacle:
        publishing = asyncio.create_task(publish(rule_books, "two", NOTHING))
        await obstacle.reached()
        confirming = asyncio.create_task(rule_books.confirm(0))
        done, _ = await asyncio.wait([confirming], timeout=0.3)
        assert not done
        await obstacle.remove()
        assert await publishing == 2
        assert [number for number, _ in (await confirming).editions] == [1, 2]


@pytest.mark.parametrize("table", ["rule_book_item", "rule_book"])
async def test_a_publisher_that_dies_in_the_middle_leaves_nothing_and_holds_up_nobody(
    rule_books: RuleBooks, database: Database, table: str
) -> None:
    await publish(rule_books, "one")
    async with Obstacle.before(database, table) as obstacle:
        publishing = asyncio.create_task(publish(rule_books, "two"))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await publishing
        assert [number for number, _ in (await rule_books.confirm(0)).editions] == [1]
        assert await rule_books.changes(0, 1) == Change((item("one"),))
        assert await sizes(database, "rule_book_item") == {"rule_book_item": 1}
        await obstacle.remove()
        assert await publish(rule_books, "three") == 2
    assert await rule_books.changes(1, 2) == Change((item("three"),))


async def test_many_publishers_at_once_get_different_numbers_and_later_and_later_instants(
    rule_books: RuleBooks,
) -> None:
    numbers = await asyncio.gather(
        *(publish(rule_books, f"edition {number}", timedelta(seconds=number % 3)) for number in range(12))
    )
    assert sorted(numbers) == list(range(1, 13))
    told = await rule_books.confirm(0)
    starts = [start for _, start in sorted(told.editions)]
    assert starts == sorted(set(starts))


async def test_what_many_confirm_while_others_publish_is_never_contradicted(
    rule_books: RuleBooks, database: Database
) -> None:
    await publish(rule_books, "one")
    await make_commits_slow(database, 0.02)
    told: list[Confirmation] = []

    async def keep_confirming() -> None:
        for _ in range(60):
            told.append(await rule_books.confirm(0))

    async def keep_publishing(who: int) -> None:
        for turn in range(10):
            await publish(rule_books, f"{who} {turn}", timedelta(milliseconds=3))

    await asyncio.gather(*(keep_confirming() for _ in range(4)), *(keep_publishing(who) for who in range(2)))
    last = await rule_books.confirm(0)
    assert len(last.editions) == 21
    for one in told:
        assert in_force(one, one.until) == in_force(last, one.until)


async def test_confirmed_instants_never_go_back_for_those_who_ask_one_after_the_other(
    rule_books: RuleBooks,
) -> None:
    seen: list[datetime] = []

    async def ask() -> None:
        for _ in range(30):
            before = max(seen, default=None)
            until = (await rule_books.confirm(0)).until
            assert before is None or until >= before
            seen.append(until)

    await asyncio.gather(*(ask() for _ in range(5)))


def answers_of(
    told: Confirmation, instants: Sequence[datetime] | dict[datetime, int] = ()
) -> dict[datetime, int]:
    """What decides at each of `instants`, and (when none are given) at those around what is confirmed."""
    return {
        instant: in_force(told, instant)
        for instant in instants
        or [told.until - timedelta(microseconds=back) for back in (0, 1, 1000, 50_000)]
    }


async def make_commits_slow(database: Database, seconds: float) -> None:
    """From now on, a new edition is inserted at once and committed this much later."""
    await execute(
        database,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON rule_book DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow()",
    )
