"""The store's part of the mailbox: what its partner's programs hold, and that a partner has what was there for it.

Business of this file: leases, and acknowledging a partner's own deliveries where the table of states allows it; those
of whom it succeeds are its own, those of who is succeeded are not. Finding entries is that of `entries`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg

from hub.adapters.postgres.acknowledging import Standing, rest_acknowledged
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.entries import ENTRY, LEASABLE, entry_from, found_entries, lasting_page, open_page
from hub.adapters.postgres.rows import may_stand_in_a_row
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State, may_move
from hub.domain.mailbox import MOST_LEASED, Drawer
from hub.ports.mailboxes import Entry, EntryPage, Leased

_LOCK = 4_812_016

_WINDOWS = 50
"""Looks behind what cannot be read any more; the first one is enough where there is nothing of that."""


class PostgresMailboxes:
    """Implements `hub.ports.mailboxes.Mailboxes`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, subscriber: Subscriber, drawer: Drawer, begin: int | None, limit: int) -> EntryPage:
        async def work(connection: Connection) -> EntryPage:
            if drawer is Drawer.OPEN:
                return await open_page(connection, str(subscriber), begin or 0, limit)
            return await lasting_page(connection, str(subscriber), drawer, begin, limit)

        return await self._database.once(work)

    async def entry(self, subscriber: Subscriber, delivery: UUID) -> Entry | None:
        async def work(connection: Connection) -> Entry | None:
            row = await connection.fetchrow(ENTRY, delivery, str(subscriber))
            return None if row is None else entry_from(row)

        return await self._database.once(work)

    async def find(self, subscriber: Subscriber, text: str, limit: int) -> Sequence[Entry]:
        if not may_stand_in_a_row(text):
            return ()

        async def work(connection: Connection) -> Sequence[Entry]:
            return await found_entries(connection, str(subscriber), text, limit)

        return await self._database.once(work)

    async def lease(self, subscriber: Subscriber, reader: str, length: timedelta, limit: int) -> Leased:
        """One after the other for each partner, so that two readers who ask at once get whole pages. A row that is
        acknowledged at this moment may be among them: acknowledging it again is harmless."""
        partner = str(subscriber)

        async def work(connection: Connection) -> Leased:
            await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK, partner)
            await connection.execute(_FORGET_ENDED, partner)
            told = await connection.fetchrow(_HELD_BY_OTHERS, partner, reader, length)
            assert told is not None
            others, until = told["others"], told["until"]
            most = min(limit, MOST_LEASED - others)
            if most <= 0:
                return Leased((), until, full=True)
            rows = await _free(connection, partner, reader, others, most)
            await connection.execute(_HOLD, [row["id"] for row in rows], partner, reader, until)
            return Leased(tuple(replace(entry_from(row), leased_until=until) for row in rows), until)

        return await self._database.run(work)

    async def release(self, subscriber: Subscriber, reader: str) -> int:
        async def work(connection: Connection) -> int:
            held: int = await connection.fetchval(_RELEASE, str(subscriber), reader)
            return held

        return await self._database.once(work)

    async def acknowledge(self, subscriber: Subscriber, deliveries: Sequence[UUID]) -> Sequence[UUID]:
        """In the order asked."""

        async def work(connection: Connection) -> Sequence[UUID]:
            states = {row["id"]: row for row in await _lock_own(connection, subscriber, deliveries)}
            fresh = [
                Standing(row["id"], row["submission"], State(row["state"]), row["attempt"])
                for row in states.values()
                if may_move(State(row["state"]), State.ACKNOWLEDGED)
            ]
            await rest_acknowledged(connection, fresh, subscriber)
            held = {name for name, row in states.items() if row["state"] == State.ACKNOWLEDGED}
            held.update(one.delivery for one in fresh)
            return [delivery for delivery in dict.fromkeys(deliveries) if delivery in held]

        return await self._database.run(work)


async def _free(
    connection: Connection, partner: str, reader: str, others: int, most: int
) -> Sequence[asyncpg.Record]:
    """The first that no other reader holds and that can still be read: nobody could do anything with the others."""
    found: list[asyncpg.Record] = []
    after = 0
    for _ in range(_WINDOWS):
        window = await connection.fetch(LEASABLE, partner, after, others + most)
        found += [row for row in window if row["reader"] in (None, reader) and not row["purged"]]
        if len(found) >= most or len(window) < others + most:
            break
        after = window[-1]["sequence"]
    return found[:most]


async def _lock_own(
    connection: Connection, subscriber: Subscriber, deliveries: Sequence[UUID]
) -> Sequence[asyncpg.Record]:
    return await connection.fetch(
        """
        SELECT id, submission, state, attempt FROM delivery
        WHERE id = ANY($1::uuid[]) AND successor_in_force(subscriber) = $2
        ORDER BY id
        FOR UPDATE
        """,
        list(deliveries),
        str(subscriber),
    )


_HELD_BY_OTHERS = """
    SELECT count(*) FILTER (WHERE reader <> $2) AS others, clock_timestamp() + $3::interval AS until
    FROM mailbox_lease WHERE subscriber = $1 AND until > clock_timestamp()
"""

# In the order of names, as everybody who takes several of these rows.
_HOLD = """
    INSERT INTO mailbox_lease (delivery, subscriber, reader, until)
    SELECT delivery, $2, $3, $4 FROM unnest($1::uuid[]) AS delivery ORDER BY delivery
    ON CONFLICT (delivery) DO UPDATE
    SET subscriber = EXCLUDED.subscriber, reader = EXCLUDED.reader, until = EXCLUDED.until
"""

_DELETE = """
    WITH gone AS MATERIALIZED (
        SELECT delivery FROM mailbox_lease WHERE {which} ORDER BY delivery FOR UPDATE
    ), deleted AS (
        DELETE FROM mailbox_lease USING gone WHERE mailbox_lease.delivery = gone.delivery
        RETURNING mailbox_lease.until
    )
    SELECT count(*) FILTER (WHERE until > clock_timestamp()) FROM deleted
"""
_FORGET_ENDED = _DELETE.format(which="subscriber = $1 AND until <= clock_timestamp()")
_RELEASE = _DELETE.format(which="subscriber = $1 AND reader = $2")
