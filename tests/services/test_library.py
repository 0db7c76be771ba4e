"""The library: which edition was in force at a receipt, read once and sharing what did not change."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.errors import Pruned, RuleBookError, Unavailable
from hub.domain.rule_book import RuleBook, Snapshot
from hub.ports.rule_books import Change, Confirmation, Item, ItemKind
from hub.services.library import Library, Missing
from tests.services.rules_world import COMMUNES, LONG_AGO, Press, partner, read, wish


@pytest_asyncio.fixture
async def books(database: str) -> AsyncIterator[PostgresRuleBooks]:
    opened = await Database.open(database)
    yield PostgresRuleBooks(opened)
    await opened.close()


@pytest.fixture
def press(books: PostgresRuleBooks) -> Press:
    return Press(books)


class Reader:
    """Reads, and counts what it read: how many items each time, and on top of nothing or of a book."""

    def __init__(self) -> None:
        self.read: list[tuple[bool, int]] = []

    def __call__(self, book: RuleBook | None, change: Change) -> RuleBook:
        self.read.append((book is None, len(change.put) + len(change.dropped)))
        return read(book, change)


async def began(books: PostgresRuleBooks, number: int) -> datetime:
    return dict((await books.confirm(0)).editions)[number]


def subscriber_of(snapshot: Snapshot | Missing) -> set[str]:
    assert isinstance(snapshot, Snapshot)
    return {str(one.subscriber) for one in snapshot.book.subscriptions.values()}


async def test_each_receipt_is_answered_by_the_edition_in_force_then(
    books: PostgresRuleBooks, press: Press
) -> None:
    for number in (1, 2, 3):
        assert await press.publish_for(number) == number
    second, third = await began(books, 2), await began(books, 3)
    moment = timedelta(microseconds=1)
    wanted = {LONG_AGO: 1, second - moment: 1, second: 2, third - moment: 2, third: 3}
    library = Library(books, read)
    found = dict(zip(wanted, await library.in_force(list(wanted)), strict=True))
    for received_at, number in wanted.items():
        for snapshot in (found[received_at], await library.at(received_at)):
            assert isinstance(snapshot, Snapshot)
            assert snapshot.number == number
            assert snapshot.effective_from <= received_at
            assert subscriber_of(snapshot) == {str(partner(number))}
    assert (await library.newest()).number == 3
    assert await library.in_force([]) == []
    assert {id(one) for one in await library.in_force([second, second + moment])} == {
        id(await library.at(second))
    }


async def test_books_share_what_did_not_change_whichever_was_read_first(
    books: PostgresRuleBooks, press: Press
) -> None:
    codes = ("P00", "P01", "P02")
    everywhere = [wish(1, code) for code in codes]
    await press.publish(everywhere, codes)
    await press.publish([*everywhere, wish(2)], codes)
    await press.publish([*everywhere, wish(2, commune=COMMUNES[1])], codes)
    reader = Reader()
    library = Library(books, reader)
    second = await library.at(await began(books, 2))
    third = await library.at(await began(books, 3))
    first = await library.at(LONG_AGO)
    # The first time all of it (three procedures, four subscriptions, the territory), then what differs.
    assert reader.read == [(True, 8), (False, 2), (False, 1)]
    for one in (second, third):
        assert one.book.plans["P01"] is first.book.plans["P01"]
        assert one.book.plans["P02"] is first.book.plans["P02"]
        assert one.book.territory is first.book.territory
        kept = f"P00/commune:{COMMUNES[0]}/{partner(1)}"
        assert one.book.subscriptions[kept] is first.book.subscriptions[kept]
    assert len({id(one.book.plans["P00"]) for one in (first, second, third)}) == 3


async def test_those_who_ask_at_once_wait_for_one_reading(books: PostgresRuleBooks, press: Press) -> None:
    await press.publish_for(1)
    await press.publish_for(2)
    reader = Reader()
    library = Library(books, reader)
    second = await began(books, 2)
    found = await asyncio.gather(
        *(library.at(LONG_AGO) for _ in range(5)),
        *(library.newest() for _ in range(5)),
        *(library.at(second) for _ in range(5)),
    )
    assert [snapshot.number for snapshot in found] == [1] * 5 + [2] * 10
    assert len(reader.read) == 2


async def test_reading_stops_nobody_who_asks_for_what_is_read_already(
    books: PostgresRuleBooks, press: Press
) -> None:
    await press.publish_for(1)
    begun, goes_on = threading.Event(), threading.Event()

    def slowly(book: RuleBook | None, change: Change) -> RuleBook:
        if book is not None:
            begun.set()
            assert goes_on.wait(30)
        return read(book, change)

    library = Library(books, slowly)
    assert (await library.newest()).number == 1
    await press.publish_for(2)
    reading = asyncio.create_task(library.refresh())
    async with asyncio.timeout(10):
        while not begun.is_set():
            await asyncio.sleep(0.01)
        assert (await library.at(LONG_AGO)).number == 1
    goes_on.set()
    await reading
    assert (await library.newest()).number == 2


async def test_a_reading_that_is_given_up_is_begun_again_by_the_next_who_asks(
    books: PostgresRuleBooks, press: Press
) -> None:
    await press.publish_for(1)
    library = Library(books, read)
    for steps in range(12):
        asking = asyncio.create_task(library.newest())
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
    assert (await library.newest()).number == 1


async def test_it_keeps_a_few_books_and_reads_an_older_one_again_when_asked(
    books: PostgresRuleBooks, press: Press
) -> None:
    for number in range(1, 8):
        await press.publish_for(number)
    begun = await starts(books)
    reader = Reader()
    library = Library(books, reader)
    found = await library.in_force(begun)
    assert [subscriber_of(one) for one in found] == [{str(partner(n))} for n in range(1, 8)]
    assert len(reader.read) == 7
    await library.newest()
    await library.at(begun[4])
    assert len(reader.read) == 7
    assert subscriber_of(await library.at(LONG_AGO)) == {str(partner(1))}
    assert len(reader.read) == 8
    await library.newest()
    assert len(reader.read) == 8


async def test_one_look_reads_the_newest_before_it_is_in_force(
    books: PostgresRuleBooks, press: Press
) -> None:
    await press.publish_for(1)
    reader = Reader()
    library = Library(books, reader)
    await library.refresh()
    assert (await library.newest()).number == 1
    await press.publish([wish(2)], lead=timedelta(hours=1))
    await library.refresh()
    assert len(reader.read) == 2
    assert (await library.newest()).number == 1


class Heard(PostgresRuleBooks):
    """Notes what it is asked for, and lets who asks wait for its answer until it is to come."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.asked: list[int] = []
        self.goes_on: list[asyncio.Event] = []

    async def confirm(self, known: int) -> Confirmation:
        self.asked.append(known)
        told = await super().confirm(known)
        if self.goes_on:
            await self.goes_on.pop(0).wait()
        return told


async def test_it_asks_for_the_editions_it_does_not_know_and_for_no_others(
    database: str, press: Press
) -> None:
    opened = await Database.open(database)
    heard = Heard(opened)
    library = Library(heard, read)
    await press.publish_for(1)
    await library.refresh()
    for number in (2, 3):
        await press.publish_for(number)
    await library.refresh()
    await library.refresh()
    await press.publish_for(4)
    await library.refresh()
    assert heard.asked == [0, 1, 3, 3]
    assert [(await library.at(start)).number for start in await starts(heard)] == [1, 2, 3, 4]
    await opened.close()


async def starts(books: PostgresRuleBooks) -> list[datetime]:
    return [LONG_AGO, *[start for _, start in (await books.confirm(0)).editions][1:]]


async def test_an_answer_that_comes_late_changes_nothing(database: str, press: Press) -> None:
    opened = await Database.open(database)
    heard = Heard(opened)
    library = Library(heard, read)
    await press.publish_for(1)
    await library.refresh()
    await press.publish_for(2)
    late = asyncio.Event()
    heard.goes_on.append(late)
    slow = asyncio.create_task(library.refresh())
    async with asyncio.timeout(10):
        while heard.goes_on:
            await asyncio.sleep(0.01)
    await press.publish_for(3)
    await library.refresh()
    late.set()
    await slow
    asked = len(heard.asked)
    assert (await library.newest()).number == 3
    assert [(await library.at(start)).number for start in await starts(heard)] == [1, 2, 3]
    # One of them is the test's own: all that was certain is certain still.
    assert len(heard.asked) == asked + 1
    await opened.close()


async def test_what_was_pruned_is_said_of_its_receipts_and_of_no_others(
    books: PostgresRuleBooks, press: Press
) -> None:
    for number in (1, 2):
        await press.publish_for(number)
    second = await began(books, 2)
    library = Library(books, read)
    before = await library.at(LONG_AGO)
    assert await books.prune(timedelta(0)) == [1]
    # What is read already can still be used, but no longer to read the next one.
    assert await library.at(LONG_AGO) is before
    assert subscriber_of(await library.at(second)) == {str(partner(2))}
    late = Library(books, read)
    first, then = await late.in_force([LONG_AGO, second])
    assert isinstance(first, Pruned)
    assert subscriber_of(then) == {str(partner(2))}
    with pytest.raises(Pruned):
        await late.at(LONG_AGO)


async def test_an_edition_that_cannot_be_read_is_said_of_its_receipts_and_of_no_others(
    books: PostgresRuleBooks, press: Press
) -> None:
    await press.publish_for(1)
    spoilt = Item(ItemKind.PROCEDURE, "P00", b'{"procedure": "P00", "from": "a later hub"}')
    assert await books.publish(Change((spoilt,)), 1, timedelta(0), "agent", "essai") == 2
    second = await began(books, 2)
    library = Library(books, read)
    first, then = await library.in_force([LONG_AGO, second])
    assert subscriber_of(first) == {str(partner(1))}
    assert type(then) is RuleBookError
    with pytest.raises(RuleBookError):
        await library.at(second)
    press.number = 2
    press.held[ItemKind.PROCEDURE, "P00"] = spoilt
    await press.publish_for(3)
    assert subscriber_of(await library.at(await began(books, 3))) == {str(partner(3))}


async def test_before_anything_is_published_no_receipt_has_an_answer(
    books: PostgresRuleBooks, press: Press
) -> None:
    library = Library(books, read)
    await library.refresh()
    for asking in (library.newest(), library.at(LONG_AGO), library.in_force([LONG_AGO])):
        with pytest.raises(RuleBookError, match="none was published"):
            await asking
    await press.publish_for(1)
    assert (await library.newest()).number == 1


async def test_a_receipt_later_than_what_is_certain_waits_and_lets_no_other_wait(
    books: PostgresRuleBooks, press: Press
) -> None:
    await press.publish_for(1)
    library = Library(books, read)
    later = (await books.confirm(0)).until + timedelta(minutes=5)
    with pytest.raises(Unavailable):
        await library.at(later)
    first, then = await library.in_force([LONG_AGO, later])
    assert isinstance(then, Unavailable)
    assert subscriber_of(first) == {str(partner(1))}
