"""The numbered editions of the rule book, and up to which instant their list is certain.

Business of this file: that the edition in force at an instant, once confirmed, is the same for ever, and
that what editions in a row have in common stands once. It does not read what an item says.

Why it holds: whoever reads the clock does so under one lock, publishers alone; and confirmers too go one after
the other, for the row that keeps the clock is each one's until its commit. Nobody reads less than anybody
before. So an edition takes force later than every instant confirmed before it, however long its commit takes
and whatever the machine's clock does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from hub.adapters.postgres.database import Connection, Database
from hub.domain.errors import Pruned, RuleBookError, Superseded
from hub.ports.rule_books import Change, Confirmation, Edition, Item, ItemKey, ItemKind

Element = TypeVar("Element")

# One number each for all hubs on this database.
_LOCK = 4_812_002
_PRUNING = 4_812_004

# Rows of one statement: enough to hide the round trip, few enough for its time limit.
_BATCH = 5_000


class PostgresRuleBooks:
    """Implements `hub.ports.rule_books.RuleBooks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, change: Change, based_on: int, lead: timedelta, author: str, reason: str) -> int:
        _refuse_repetition(change)

        async def work(connection: Connection) -> int:
            await _lock_alone(connection)
            now = await _read_clock(connection)
            newest: int = await connection.fetchval("SELECT coalesce(max(number), 0) FROM rule_book")
            if newest != based_on:
                raise Superseded
            if not await _write_items(connection, change, newest + 1):
                return newest
            await connection.execute(_INSERT, newest + 1, now, lead, author, reason)
            return newest + 1

        return await self._database.run(work)

    async def confirm(self, known: int) -> Confirmation:
        async def work(connection: Connection) -> Confirmation:
            await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _LOCK)
            until = await _read_clock(connection)
            rows = await connection.fetch(
                "SELECT number, effective_from FROM rule_book WHERE number > $1 ORDER BY number", known
            )
            return Confirmation(tuple((row["number"], row["effective_from"]) for row in rows), until)

        return await self._database.run(work)

    async def changes(self, since: int, number: int) -> Change:
        async def work(connection: Connection) -> Change:
            rows = await connection.fetch(_CHANGES, since, number)
            # After the items: what was not pruned by now was whole when they were read.
            await _refuse_missing(connection, {number, since} if since else {number})
            return Change(
                tuple(
                    Item(ItemKind(row["kind"]), row["key"], row["content"])
                    for row in rows
                    if row["content"] is not None
                ),
                tuple((ItemKind(row["kind"]), row["key"]) for row in rows if row["content"] is None),
            )

        return await self._database.run(work)

    async def editions(self, limit: int) -> Sequence[Edition]:
        async def work(connection: Connection) -> Sequence[Edition]:
            rows = await connection.fetch(_EDITIONS, limit)
            return [Edition(**dict(row)) for row in rows]

        return await self._database.once(work)

    async def prune(self, age: timedelta) -> Sequence[int]:
        async def work(connection: Connection) -> Sequence[int]:
            # Not the lock of who publishes and confirms: those change the clock, the newest edition and items
            # that it holds; this, only superseded editions, which stay superseded, and items that ended. But
            # two of these at once would let go of the same.
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _PRUNING)
            # By most editions nothing was decided, and the database, told of the others only, believes that a
            # walk through all decisions ends at once.
            await connection.execute("SET LOCAL enable_seqscan = off")
            rows = await connection.fetch(_MARK_PRUNED, age)
            if rows:
                await connection.execute(_DELETE_UNHELD)
            return sorted(row["number"] for row in rows)

        return await self._database.run(work)


# --- the clock and the lock ---------------------------------------------------------------------------


async def _lock_alone(connection: Connection) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def _read_clock(connection: Connection) -> datetime:
    """The database's clock, or the highest value anybody read under the lock, whichever is later; kept.
    To be called in a statement after the one that took the lock."""
    # Read and kept in one UPDATE: of two confirmers at once the second waits for the row, and then
    # compares with what the first left there.
    value: datetime = await connection.fetchval(
        "UPDATE rule_book_clock SET value = GREATEST(value, clock_timestamp()) RETURNING value"
    )
    return value


# A microsecond more than what is confirmed already, even for a lead of nothing: the instant of the clock
# itself may have been answered. The first edition begins with the calendar of Python.
_INSERT = """
    INSERT INTO rule_book (number, effective_from, author, reason)
    SELECT $1,
           CASE WHEN count(*) = 0 THEN timestamptz '0001-01-01 00:00:00+00'
                ELSE GREATEST($2::timestamptz + GREATEST($3::interval, interval '1 microsecond'),
                              max(effective_from) + interval '1 microsecond')
           END,
           $4, $5
    FROM rule_book
"""


# --- items --------------------------------------------------------------------------------------------


def _refuse_repetition(change: Change) -> None:
    """Of two contents for one item neither is right."""
    keys: list[ItemKey] = [*((item.kind, item.key) for item in change.put), *change.dropped]
    if len(set(keys)) != len(keys):
        raise RuleBookError("a change of the rule book names one item twice")


async def _write_items(connection: Connection, change: Change, number: int) -> bool:
    """From edition `number` on; whether anything is different there. The lock is held alone, and a prune
    touches none of the newest edition's: nobody else holds a row of these."""
    touched = 0
    for keys in _batches(change.dropped):
        columns = [kind.value for kind, _ in keys], [key for _, key in keys]
        touched += _count(await connection.execute(_DROP, number, *columns))
    for items in _batches(change.put):
        put = (
            [item.kind.value for item in items],
            [item.key for item in items],
            [item.content for item in items],
        )
        touched += _count(await connection.execute(_END_OTHERS, number, *put))
        touched += _count(await connection.execute(_BEGIN, number, *put))
    return touched > 0


def _batches(whole: Sequence[Element]) -> Iterator[Sequence[Element]]:
    return (whole[first : first + _BATCH] for first in range(0, len(whole), _BATCH))


def _count(status: str) -> int:
    """How many rows a statement touched, by the status the server answers with."""
    return int(status.rpartition(" ")[2])


_DROP = """
    UPDATE rule_book_item AS item SET last_edition = $1
    FROM unnest($2::text[], $3::text[]) AS dropped (kind, key)
    WHERE item.last_edition IS NULL AND item.kind = dropped.kind AND item.key = dropped.key
"""

_END_OTHERS = """
    UPDATE rule_book_item AS item SET last_edition = $1
    FROM unnest($2::text[], $3::text[], $4::bytea[]) AS put (kind, key, content)
    WHERE item.last_edition IS NULL AND item.kind = put.kind AND item.key = put.key
      AND item.content <> put.content
"""

_BEGIN = """
    INSERT INTO rule_book_item (kind, key, first_edition, content)
    SELECT put.kind, put.key, $1, put.content
    FROM unnest($2::text[], $3::text[], $4::bytea[]) AS put (kind, key, content)
    WHERE NOT EXISTS (
        SELECT FROM rule_book_item AS item
        WHERE item.last_edition IS NULL AND item.kind = put.kind AND item.key = put.key
    )
"""

# Only what begins or ends between the two can be different in them. An item that went and came back with
# the same content is not.
_CHANGES = """
    WITH bounds AS (SELECT LEAST($1::integer, $2::integer) AS low, GREATEST($1, $2) AS high),
    touched AS (
        SELECT kind, key, content,
               first_edition <= $1 AND COALESCE(last_edition > $1, true) AS stood,
               first_edition <= $2 AND COALESCE(last_edition > $2, true) AS stands
        FROM rule_book_item
        WHERE first_edition > (SELECT low FROM bounds) AND first_edition <= (SELECT high FROM bounds)
           OR last_edition > (SELECT low FROM bounds) AND last_edition <= (SELECT high FROM bounds)
    )
    SELECT kind, key, put.content
    FROM (SELECT kind, key, content FROM touched WHERE stands) AS put
    FULL JOIN (SELECT kind, key, content FROM touched WHERE stood) AS before USING (kind, key)
    WHERE put.content IS DISTINCT FROM before.content
    ORDER BY kind, key
"""


async def _refuse_missing(connection: Connection, numbers: set[int]) -> None:
    """Raises RuleBookError when one was never published, Pruned when its items are gone."""
    rows = await connection.fetch(
        "SELECT number, pruned_at FROM rule_book WHERE number = ANY($1::integer[])", list(numbers)
    )
    for number in sorted(numbers - {row["number"] for row in rows}):
        raise RuleBookError(f"no edition of the rule book has number {number}")
    for row in rows:
        if row["pruned_at"] is not None:
            raise Pruned(
                f"what edition {row['number']} of the rule book held is gone: nothing was decided by it"
            )


_EDITIONS = """
    SELECT number, effective_from, published_at, author, reason, pruned_at IS NOT NULL AS pruned
    FROM rule_book ORDER BY number DESC LIMIT $1
"""

# --- pruning ------------------------------------------------------------------------------------------

# One statement, so that a decision written meanwhile is seen in both questions or in neither. The second,
# which walks through all that was received under an edition, is only asked where the first finds nothing:
# there whatever is not undecided was unreadable. By the clock itself, not by the highest value kept: after
# a step back, submissions are received under earlier editions again.
_MARK_PRUNED = """
    WITH succeeded AS (
        SELECT number, pruned_at, effective_from, lead(effective_from) OVER (ORDER BY number) AS until
        FROM rule_book
    )
    UPDATE rule_book SET pruned_at = clock_timestamp()
    FROM succeeded
    WHERE succeeded.number = rule_book.number
      AND succeeded.pruned_at IS NULL
      AND succeeded.until < clock_timestamp() - GREATEST($1::interval, interval '0')
      AND CASE
          WHEN EXISTS (SELECT FROM decision WHERE snapshot = succeeded.number) THEN false
          ELSE NOT EXISTS (
              SELECT FROM submission
              WHERE received_at >= succeeded.effective_from AND received_at < succeeded.until
                AND NOT EXISTS (SELECT FROM decision WHERE decision.submission = submission.id)
          )
          END
    RETURNING rule_book.number
"""

_DELETE_UNHELD = """
    DELETE FROM rule_book_item AS item
    WHERE last_edition IS NOT NULL AND NOT EXISTS (
        SELECT FROM rule_book
        WHERE number >= item.first_edition AND number < item.last_edition AND pruned_at IS NULL
    )
"""
