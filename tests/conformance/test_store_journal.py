"""What every store must hold of its journal as news: every line once handed out, none passed by."""

from __future__ import annotations

import pytest

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.journal import PostgresJournal
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.ports.outgoing import Journal
from tests.conformance.motion import plant
from tests.conformance.samples import subscriber


@pytest.fixture
def journal(database: Database) -> Journal:
    return PostgresJournal(database)


async def events(journal: Journal, limit: int = 100) -> list[str]:
    return [news.event for _, news in await journal.news(limit)]


async def note(database: Database, *words: str) -> None:
    async def work(connection: Connection) -> None:
        await write_journal(connection, [JournalEntry(word) for word in words])

    await database.run(work)


async def test_news_begin_when_somebody_first_asks_for_them(database: Database, journal: Journal) -> None:
    await note(database, "before")
    assert await events(journal) == []
    await note(database, "after")
    assert await events(journal) == ["after"]


async def test_news_are_told_again_until_they_are_carried(database: Database, journal: Journal) -> None:
    await journal.news(1)
    await note(database, "a", "b", "c")
    first = await journal.news(2)
    assert [news.event for _, news in first] == ["a", "b"]
    assert await journal.news(2) == first
    await journal.carried(first[-1][0])
    assert await events(journal) == ["c"]
    # Another carrier, which was slower.
    await journal.carried(first[0][0])
    assert await events(journal) == ["c"]


async def test_a_line_that_commits_later_with_an_earlier_number_is_not_passed_by(
    database: Database, journal: Journal
) -> None:
    await journal.news(1)
    async with database.alone() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await write_journal(slow, [JournalEntry("slow")])
        await note(database, "quick")
        assert await events(journal) == []
        await transaction.commit()
    found = await journal.news(100)
    assert [news.event for _, news in found] == ["slow", "quick"]
    await journal.carried(found[-1][0])
    assert await events(journal) == []


async def test_a_line_that_was_taken_back_is_no_news(database: Database, journal: Journal) -> None:
    await journal.news(1)
    async with database.alone() as undecided:
        transaction = undecided.transaction()
        await transaction.start()
        await write_journal(undecided, [JournalEntry("never")])
        await transaction.rollback()
    await note(database, "then")
    assert await events(journal) == ["then"]


async def test_news_of_a_delivery_tell_its_procedure_and_its_partner(
    database: Database, journal: Journal
) -> None:
    await journal.news(1)
    await plant(database, [1], to=[2])
    told = [news for _, news in await journal.news(100) if news.event == "delivery.planned"]
    assert [(news.subscriber, news.procedure) for news in told] == [(subscriber(2), "EtatCivil")]
    received = [news for _, news in await journal.news(100) if news.event == "submission.received"]
    assert [(news.subscriber, news.procedure) for news in received] == [(None, "EtatCivil")]
