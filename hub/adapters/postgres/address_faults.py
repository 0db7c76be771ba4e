"""Addresses of a partner that do not take what its others take.

Business of this file: since when, and for which cause, so that somebody is told; by place, as its settings list
them. What is not heard of again is no alarm any more after a while (see `alarms`), and other settings begin anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.adapters.postgres.database import Connection


async def note_addresses(connection: Connection, places: Sequence[tuple[str, int]], cause: str) -> None:
    """`places`: subscribers and the places of their addresses. The last table that a transaction locks."""
    ordered = sorted(set(places))
    if ordered:
        await connection.execute(
            """
            INSERT INTO address_fault AS fault (subscriber, place, cause)
            SELECT subscriber, place, $3 FROM unnest($1::text[], $2::integer[]) AS told (subscriber, place)
            ON CONFLICT (subscriber, place) DO UPDATE
            SET cause = excluded.cause, last_at = clock_timestamp(),
                since = CASE WHEN fault.last_at < clock_timestamp() - interval '3 days' THEN clock_timestamp()
                        ELSE fault.since END
            """,
            [subscriber for subscriber, _ in ordered],
            [place for _, place in ordered],
            cause,
        )


async def forget_addresses(connection: Connection, subscribers: Sequence[str]) -> None:
    if subscribers:
        await connection.execute("DELETE FROM address_fault WHERE subscriber = ANY($1::text[])", subscribers)
