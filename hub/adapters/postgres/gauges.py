"""Gauges: what may be asked for every minute, whatever the store holds.

Business of this file: counts that read a few rows. How many deliveries there are of each term, the ledger knows;
what stands still, the last look for alarms.
"""

from __future__ import annotations

from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.slips import UNFOLDED
from hub.domain.alarms import AlarmKind
from hub.domain.ledger import STANDING, SUBMISSIONS, Term


async def read_gauges(connection: Connection) -> dict[str, int]:
    """All of them are there, with 0 too: a gauge that vanishes is no zero."""
    told = {f"deliveries.{term}": 0 for term in STANDING}
    told |= {f"alarms.{kind}": 0 for kind in AlarmKind}
    told |= {"submissions.accepted": 0, "ledger_differences.recent": 0, "ledger_differences.whole": 0}
    # Told with the question, the database knows how few are left.
    decided_until = await connection.fetchval(DECIDED_UNTIL)
    told.update({row["name"]: row["count"] for row in await connection.fetch(_GAUGES, decided_until)})
    return told


DECIDED_UNTIL = "SELECT decided_until FROM log_life"

# What transactions counted since the last totals is added to them; they are few.
_GAUGES = f"""
    WITH entry AS MATERIALIZED ({UNFOLDED.format(slips="ledger_slip")}), side AS (
        SELECT kind, side, number FROM ledger_total
        UNION ALL SELECT kind, target, number FROM entry WHERE target IS NOT NULL
        UNION ALL SELECT kind, source, -number FROM entry WHERE source IS NOT NULL
    )
    SELECT CASE WHEN kind = '{SUBMISSIONS}' THEN 'submissions.accepted' ELSE 'deliveries.' || side END AS name,
           sum(number)::bigint AS count
    FROM side
    WHERE CASE WHEN kind = '{SUBMISSIONS}' THEN side = '{Term.ACCEPTED}' ELSE side <> '{Term.NAMED}' END
    GROUP BY 1
    UNION ALL
    SELECT told.name, told.count FROM (
        SELECT count(*) AS undecided,
               GREATEST(EXTRACT(epoch FROM clock_timestamp() - min(received_at)), 0) AS waited
        FROM submission
        WHERE received_at >= $1
          AND NOT EXISTS (SELECT FROM decision WHERE decision.submission = submission.id)
    ) AS left_over CROSS JOIN LATERAL (
        VALUES ('submissions.undecided', undecided), ('lag_seconds.undecided', COALESCE(waited, 0)::bigint)
    ) AS told (name, count)
    UNION ALL
    SELECT 'lag_seconds.due',
           COALESCE(GREATEST(EXTRACT(epoch FROM clock_timestamp() - min(due_at)), 0), 0)::bigint
    FROM lane
    UNION ALL
    SELECT 'tray.letters', count(*) FROM tray
    UNION ALL
    SELECT 'set_aside.records', count(*) FROM set_aside_record
    UNION ALL
    SELECT 'alarms.' || kind, sum(number)::bigint FROM alarm GROUP BY kind
    UNION ALL
    SELECT 'ledger_differences.' || scope, differences FROM ledger_check
"""
