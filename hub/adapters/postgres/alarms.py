"""What a person should look at, found in the rows and kept in one small table.

Business of this file: looking by indexes that hold what is in motion, lies in a mailbox, or is parked, never through
all deliveries; and keeping what was found, so that everybody who asks reads a few rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.gauges import DECIDED_UNTIL
from hub.domain.alarms import Alarm, AlarmKind, Patience

_LOCK = 4_812_012


class PostgresAlarms:
    """Implements `hub.ports.alarms.Alarms`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(
        self, patience: Patience, beside: Sequence[Alarm] = ()
    ) -> tuple[Sequence[Alarm], Sequence[Alarm]]:
        async def work(connection: Connection) -> tuple[Sequence[Alarm], Sequence[Alarm]]:
            mine = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK)
            before = [_alarm(row) for row in await connection.fetch(_STANDING)]
            if not mine:
                return before, before
            found = [
                _alarm(row)
                for row in await connection.fetch(
                    _FIND,
                    patience.unfetched,
                    patience.unacknowledged,
                    patience.undecided,
                    patience.waiting,
                    patience.failing,
                    await connection.fetchval(DECIDED_UNTIL),
                )
            ]
            found += beside
            await _keep(connection, found)
            return before, found

        return await self._database.run(work)

    async def standing(self) -> Sequence[Alarm]:
        async def work(connection: Connection) -> Sequence[Alarm]:
            return [_alarm(row) for row in await connection.fetch(_STANDING)]

        return await self._database.once(work)


async def _keep(connection: Connection, found: Sequence[Alarm]) -> None:
    await connection.execute("DELETE FROM alarm")
    await connection.execute(
        """
        INSERT INTO alarm (kind, subscriber, channel, since, number, cause)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::text[])
        """,
        [one.kind for one in found],
        [one.subscriber for one in found],
        [one.channel for one in found],
        [one.since for one in found],
        [one.number for one in found],
        [one.cause for one in found],
    )


def _alarm(row: asyncpg.Record) -> Alarm:
    return Alarm(
        AlarmKind(row["kind"]), row["subscriber"], row["channel"], row["since"], row["number"], row["cause"]
    )


_STANDING = (
    "SELECT kind, subscriber, channel, since, number, cause FROM alarm ORDER BY kind, subscriber, channel"
)

# A sending begins with the delivery, or when it was sent again. What lies in a mailbox was put there then: fetching
# and acknowledging are its partner's alone, on that channel alone.
_FIND = """
    SELECT CASE WHEN fetched THEN 'unacknowledged' ELSE 'unfetched' END AS kind, subscriber, channel,
           min(changed_at) AS since, count(*) AS number, NULL AS cause
    FROM (SELECT *, COALESCE(fetched_at >= changed_at, false) AS fetched FROM delivery WHERE lies) AS lying
    WHERE changed_at < clock_timestamp() - CASE WHEN fetched THEN $2::interval ELSE $1 END
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT 'undecided', '', '', min(received_at), count(*), NULL
    FROM submission
    WHERE received_at >= $6 AND received_at < clock_timestamp() - $3::interval
      AND NOT EXISTS (SELECT FROM decision WHERE decision.submission = submission.id)
    HAVING count(*) > 0
    UNION ALL
    SELECT 'waiting', subscriber, channel, min(begun), count(*), max(cause)
    FROM (
        SELECT delivery.*, CASE WHEN sending = 1 THEN created_at ELSE (
            SELECT max(at) FROM journal
            WHERE journal.submission = delivery.submission AND journal.delivery = delivery.id
              AND event = 'delivery.sent_again'
        ) END AS begun
        FROM delivery WHERE due_at IS NOT NULL AND created_at < clock_timestamp() - $4::interval
    ) AS moving
    WHERE begun < clock_timestamp() - $4::interval
    GROUP BY 2, 3
    UNION ALL
    SELECT 'parked', subscriber, channel, min(changed_at), count(*), mode() WITHIN GROUP (ORDER BY cause)
    FROM delivery WHERE due_at IS NULL AND cause IS NOT NULL AND state = 'parked'
    GROUP BY 2, 3
    UNION ALL
    SELECT 'closed', subscriber, channel, closed_at, 1, closed_cause FROM lane WHERE closed_at IS NOT NULL
    UNION ALL
    SELECT 'failing', subscriber, channel, failing_since, 1, NULL
    FROM lane WHERE closed_at IS NULL AND failing_since < clock_timestamp() - $5::interval
    UNION ALL
    SELECT 'address', subscriber, 'mail', min(since), count(*), mode() WITHIN GROUP (ORDER BY cause)
    FROM address_fault WHERE last_at > clock_timestamp() - interval '3 days'
    GROUP BY subscriber
    UNION ALL
    SELECT 'unreadable', subscriber, 'sftp', min(told_at), count(*), mode() WITHIN GROUP (ORDER BY flaw)
    FROM return_file JOIN partner USING (subscriber)
    WHERE told_at IS NOT NULL AND settings ? 'return_directory'
    GROUP BY subscriber
    UNION ALL
    SELECT 'returns', subscriber, 'sftp', failing_since, 1, cause
    FROM return_folder JOIN partner USING (subscriber)
    WHERE failing_since < clock_timestamp() - $5::interval AND settings ? 'return_directory'
"""
