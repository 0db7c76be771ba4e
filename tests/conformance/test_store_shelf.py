"""What must be true of the shelf in the store: one row for each place in the log, and operators see the newest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.shelf import PostgresShelf
from hub.ports.shelf import Unreadable

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ONE = Unreadable("submissions", "a life", 3, 2**40, "no_avro", 2**33, AT, UUID(int=5))


async def test_a_place_in_the_log_has_one_row_whoever_tells_it_how_often(database: Database) -> None:
    rows = PostgresShelf(database)
    elsewhere = [
        replace(ONE, topic="journal"),
        replace(ONE, life="another life"),
        replace(ONE, partition=4),
        replace(ONE, offset=7, submission=None),
    ]
    assert await rows.keep([]) == 0
    assert await rows.keep([ONE, replace(ONE, reason="other"), *elsewhere]) == 5
    assert await rows.keep([*elsewhere, replace(ONE, at=AT + timedelta(days=1))]) == 0
    assert len(await PostgresShelf(database).newest(10)) == 5


async def test_what_was_set_aside_last_comes_first_and_is_told_as_it_was(database: Database) -> None:
    rows = PostgresShelf(database)
    told = [replace(ONE, offset=number, at=AT + timedelta(seconds=number)) for number in range(5)]
    await rows.keep(told)
    assert await rows.newest(3) == told[:1:-1]


async def test_words_that_no_column_takes_hold_up_nothing(database: Database) -> None:
    """Whoever may write the topic may write anything into it."""
    rows = PostgresShelf(database)
    assert await rows.keep([replace(ONE, topic="\0", reason="a\0b", life="")]) == 1
    [found] = await rows.newest(1)
    assert (found.topic, found.reason) == ("?", "a?b")
