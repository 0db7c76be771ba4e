"""What every store must hold of the items of the rule book's editions: each edition is read as it was published,
whatever came before and after it, and is let go only when nobody needs it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from datetime import timedelta

import pytest

from hub.adapters.postgres.database import Database
from hub.domain.decisions import Decision, SetAside, Unroutable, Verdict
from hub.domain.errors import Pruned, RuleBookError, Superseded, Unavailable
from hub.ports.intake import Intake
from hub.ports.registry import Registry
from hub.ports.rule_books import Change, ItemKey, ItemKind, RuleBooks
from tests.conformance.editions import NOTHING, RULES, in_force, item, newest, publish, publish_change
from tests.conformance.samples import Obstacle, counted, execute, rows, sizes, stopped_by_a_lock, submission

NOBODY = Unroutable(())

# --- what an edition holds ----------------------------------------------------------------------------

Held = Mapping[ItemKey, bytes]
"""What an edition holds, as a test keeps it."""


def after(change: Change, before: Held) -> Held:
    """Also asserts that the change names only what it changes."""
    held = dict(before)
    for key in change.dropped:
        del held[key]
    for one in change.put:
        assert held.get((one.kind, one.key)) != one.content
        held[one.kind, one.key] = one.content
    return held


def some_change(dice: random.Random) -> Change:
    """Of a few items, often to what they are already, or were once."""
    keys = dice.sample([(kind, f"{number}") for kind in ItemKind for number in range(3)], dice.randint(0, 6))
    cut = dice.randint(0, len(keys))
    return Change(tuple(item(dice.choice("abc"), key) for key in keys[:cut]), tuple(keys[cut:]))


def applied(change: Change, before: Held) -> Held:
    gone = {*change.dropped}
    return {key: content for key, content in before.items() if key not in gone} | {
        (one.kind, one.key): one.content for one in change.put
    }


@pytest.mark.parametrize("seed", range(2))
async def test_any_two_editions_are_told_apart_by_what_is_different_in_them_and_by_nothing_else(
    rule_books: RuleBooks, database: Database, seed: int
) -> None:
    dice = random.Random(seed)
    held: list[Held] = [{}]
    while len(held) < 12:
        change = some_change(dice)
        then = applied(change, held[-1])
        number = await publish_change(rule_books, change, len(held) - 1)
        if then == held[-1]:
            assert number == len(held) - 1
        else:
            assert number == len(held)
            held.append(then)
    for since, before in enumerate(held):
        for number, then in list(enumerate(held))[1:]:
            assert after(await rule_books.changes(since, number), before) == then
    # Each item stands once for all the editions in a row that hold it.
    runs = sum(
        then.get(key) is not None and then.get(key) != before.get(key)
        for before, then in itertools.pairwise(held)
        for key in then
    )
    assert await sizes(database, "rule_book_item") == {"rule_book_item": runs}


async def test_a_change_that_changes_nothing_makes_no_edition(rule_books: RuleBooks) -> None:
    assert await publish_change(rule_books, Change(), 0) == 0
    one = Change((item("one"), item("a", (ItemKind.SUBSCRIPTION, "s"))))
    assert await publish_change(rule_books, one, 0) == 1
    gone = ((ItemKind.SUBSCRIPTION, "never was"), (ItemKind.SUCCESSION, "s"))
    for nothing in (Change(), one, Change(dropped=gone), Change((item("one"),), gone)):
        assert await publish_change(rule_books, nothing, 1) == 1
    assert [edition.number for edition in await rule_books.editions(10)] == [1]


async def test_a_change_made_for_an_older_edition_is_refused_and_changes_nothing(
    rule_books: RuleBooks,
) -> None:
    await publish(rule_books, "one")
    await publish(rule_books, "two")
    for based_on in (0, 1, 3):
        with pytest.raises(Superseded):
            await publish_change(rule_books, Change((item("three"),)), based_on)
    assert await rule_books.changes(0, 2) == Change((item("two"),))
    assert await newest(rule_books) == 2


async def test_of_two_that_publish_on_the_same_edition_one_is_refused(rule_books: RuleBooks) -> None:
    await publish(rule_books, "one")
    answers = await asyncio.gather(
        *(publish_change(rule_books, Change((item(name),)), 1) for name in ("two", "other")),
        return_exceptions=True,
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Superseded", "int"]
    assert await newest(rule_books) == 2


async def test_a_change_that_names_one_item_twice_is_refused(rule_books: RuleBooks) -> None:
    for twice in (Change((item("one"), item("two"))), Change((item("one"),), (RULES,))):
        with pytest.raises(RuleBookError, match="twice"):
            await publish_change(rule_books, twice, 0)
    assert await newest(rule_books) == 0


async def test_an_edition_that_was_never_published_is_an_error(rule_books: RuleBooks) -> None:
    await publish(rule_books, "one")
    for since, number in ((0, 2), (2, 1), (1, 0), (0, 0), (-1, 1)):
        with pytest.raises(RuleBookError, match="no edition"):
            await rule_books.changes(since, number)


async def test_an_edition_larger_than_one_statement_is_kept_whole(rule_books: RuleBooks) -> None:
    keys = [(ItemKind.SUBSCRIPTION, f"{number:05}") for number in range(12_001)]
    first = Change(tuple(item("a", key) for key in keys))
    assert await publish_change(rule_books, first, 0) == 1
    assert await rule_books.changes(0, 1) == first
    second = Change((), tuple(keys))
    assert await publish_change(rule_books, second, 1) == 2
    assert await rule_books.changes(1, 2) == second
    assert await rule_books.changes(2, 1) == first


# --- pruning ------------------------------------------------------------------------------------------


async def receive(intake: Intake, rule_books: RuleBooks, number: int) -> int:
    """Accept the `number`-th submission; the edition in force when it was received."""
    [answer] = await intake.accept([submission(number)])
    told = await rule_books.confirm(0)
    return in_force(told, answer.received_at)  # type: ignore[union-attr]  # it is no conflict


async def decide(registry: Registry, number: int, by: int, verdict: Verdict = NOBODY) -> None:
    assert (await registry.register([Decision(submission(number).id, 1, by, verdict)])).decisions == 1


async def test_only_what_nothing_was_and_nothing_is_to_be_decided_by_is_let_go(
    rule_books: RuleBooks, intake: Intake, registry: Registry
) -> None:
    received: list[int] = []
    for number in range(1, 6):
        await publish(rule_books, f"edition {number}", NOTHING)
        if number in (2, 3):
            received.append(await receive(intake, rule_books, number))
    assert received == [2, 3]
    await decide(registry, 2, by=2)
    # The third is undecided; the fifth is the newest.
    assert await rule_books.prune(NOTHING) == [1, 4]
    for number in (2, 3, 5):
        assert await rule_books.changes(0, number) == Change((item(f"edition {number}"),))
    for since, number in ((0, 1), (1, 2), (5, 4), (0, 4)):
        with pytest.raises(Pruned):
            await rule_books.changes(since, number)
    assert [edition.number for edition in await rule_books.editions(9) if edition.pruned] == [4, 1]
    assert await rule_books.prune(NOTHING) == []
    # Decided, but by none: it could not be read.
    await decide(registry, 3, by=0, verdict=SetAside("unreadable_record"))
    assert await rule_books.prune(NOTHING) == [3]
    assert await rule_books.prune(NOTHING) == []


async def test_an_edition_in_force_now_or_later_or_until_a_moment_ago_is_kept(rule_books: RuleBooks) -> None:
    await publish(rule_books, "one", NOTHING)
    await publish(rule_books, "two", NOTHING)
    await publish(rule_books, "three", timedelta(hours=1))
    await publish(rule_books, "four", timedelta(hours=2))
    assert await rule_books.prune(timedelta(minutes=5)) == []
    assert await rule_books.prune(NOTHING - timedelta(days=1)) == [1]
    for number, name in ((2, "two"), (3, "three"), (4, "four")):
        assert await rule_books.changes(0, number) == Change((item(name),))


async def test_when_the_clock_stepped_back_what_is_in_force_again_is_kept(
    rule_books: RuleBooks, database: Database
) -> None:
    await publish(rule_books, "one", NOTHING)
    # Whoever read the clock before it stepped back read an hour more.
    await execute(database, "UPDATE rule_book_clock SET value = clock_timestamp() + interval '1 hour'")
    await publish(rule_books, "two", NOTHING)
    await publish(rule_books, "three", NOTHING)
    await execute(database, "UPDATE rule_book_clock SET value = clock_timestamp() + interval '2 hours'")
    assert await rule_books.prune(NOTHING) == []


async def test_what_pruned_editions_held_is_gone_but_for_what_others_hold_too(
    rule_books: RuleBooks, database: Database
) -> None:
    shared, own = (ItemKind.SUBSCRIPTION, "shared"), (ItemKind.SUBSCRIPTION, "own")
    await publish_change(rule_books, Change((item("one"), item("a", shared))), 0)
    await publish_change(rule_books, Change((item("two"), item("a", own))), 1)
    await publish_change(rule_books, Change((item("three"),), (own,)), 2)
    assert await rule_books.prune(NOTHING) == [1, 2]
    found = await rows(database, "SELECT key FROM rule_book_item ORDER BY key")
    assert [row["key"] for row in found] == ["CERTDC", "shared"]
    assert await rule_books.changes(0, 3) == Change((item("three"), item("a", shared)))
    # The instants of the others keep their meaning, and numbers are never given again.
    assert [number for number, _ in (await rule_books.confirm(0)).editions] == [1, 2, 3]
    assert await publish(rule_books, "four") == 4


async def test_a_prune_that_dies_in_the_middle_leaves_every_edition_whole(
    rule_books: RuleBooks, database: Database
) -> None:
    await publish(rule_books, "one", NOTHING)
    await publish(rule_books, "two", NOTHING)
    async with Obstacle.before(database, "rule_book") as obstacle:
        pruning = asyncio.create_task(rule_books.prune(NOTHING))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await pruning
    assert await rule_books.changes(0, 1) == Change((item("one"),))


async def test_what_is_let_go_while_it_is_read_is_never_read_by_half(
    rule_books: RuleBooks, database: Database
) -> None:
    await publish(rule_books, "one", NOTHING)
    await publish(rule_books, "two", NOTHING)
    # Whoever prunes keeps readers from the items until it has committed.
    await execute(
        database,
        "CREATE FUNCTION alone() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN LOCK TABLE rule_book_item IN ACCESS EXCLUSIVE MODE; RETURN NULL; END'",
        "CREATE TRIGGER alone AFTER UPDATE ON rule_book FOR EACH ROW EXECUTE FUNCTION alone()",
    )
    async with Obstacle.before(database, "rule_book") as obstacle:
        pruning = asyncio.create_task(rule_books.prune(NOTHING))
        await obstacle.reached()
        reading = asyncio.create_task(rule_books.changes(0, 1))
        await stopped_by_a_lock(database, "relation")
        await obstacle.remove()
        assert await pruning == [1]
        with pytest.raises(Pruned):
            await reading


async def test_a_prune_that_takes_long_holds_up_neither_who_confirms_nor_who_publishes(
    rule_books: RuleBooks, database: Database
) -> None:
    await publish(rule_books, "one", NOTHING)
    await publish(rule_books, "two", NOTHING)
    async with database.alone() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM rule_book WHERE number = 1 FOR UPDATE")
        pruning = asyncio.create_task(rule_books.prune(NOTHING))
        await stopped_by_a_lock(database, "transactionid")
        async with asyncio.timeout(5):
            assert [number for number, _ in (await rule_books.confirm(0)).editions] == [1, 2]
            assert await publish(rule_books, "three", NOTHING) == 3
        assert not pruning.done()
        await transaction.rollback()
        assert await pruning == [1]
    assert await rule_books.changes(0, 2) == Change((item("two"),))
    assert await rule_books.changes(2, 3) == Change((item("three"),))


async def test_of_two_prunes_at_once_each_tells_what_it_let_go_itself(
    rule_books: RuleBooks, database: Database
) -> None:
    for number in range(1, 6):
        await publish(rule_books, f"edition {number}", NOTHING)
    async with Obstacle.before(database, "rule_book") as obstacle:
        first = asyncio.create_task(rule_books.prune(NOTHING))
        await obstacle.reached()
        second = asyncio.create_task(rule_books.prune(NOTHING))
        await asyncio.sleep(0.2)
        await obstacle.remove()
        assert [await first, await second] == [[1, 2, 3, 4], []]
    assert await rule_books.changes(0, 5) == Change((item("edition 5"),))


async def test_pruning_never_walks_through_the_decisions(rule_books: RuleBooks, database: Database) -> None:
    for number in range(1, 30):
        await publish(rule_books, f"edition {number}", NOTHING)
    # Nearly all were decided by one: what the database knows of them calls a walk the shortest way.
    await execute(
        database,
        "INSERT INTO decision (submission, number, snapshot, verdict)"
        " SELECT gen_random_uuid(), 1, 29, 'unroutable' FROM generate_series(1, 20000)",
        "ANALYZE decision",
    )
    assert await rule_books.prune(NOTHING) == list(range(1, 29))
    walks = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'decision'"
    assert await counted(database, walks) == 0


async def test_who_decides_by_an_edition_while_it_is_pruned_keeps_it(
    rule_books: RuleBooks, intake: Intake, registry: Registry, database: Database
) -> None:
    await publish(rule_books, "one", NOTHING)
    assert await receive(intake, rule_books, 1) == 1
    await publish(rule_books, "two", NOTHING)
    async with Obstacle.before(database, "decision") as obstacle:
        deciding = asyncio.create_task(decide(registry, 1, by=1))
        await obstacle.reached()
        assert await rule_books.prune(NOTHING) == []
        await obstacle.remove()
        await deciding
    assert await rule_books.prune(NOTHING) == []
    assert await rule_books.changes(0, 1) == Change((item("one"),))
