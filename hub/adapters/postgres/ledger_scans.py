"""The scans of the ledger: each table read once, grouped by days or hours, procedure and partner.

Business of this file: statements, and that the database plans them well: it adds up in several processes where it knows
that few groups come of many rows. Each takes $1, the procedure (null: all), and $2, the partner whom decisions name
(null: all of them together, as '').
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.adapters.postgres.slips import SIDES_OF_ENTRIES, UNFOLDED
from hub.domain.ledger import Scope, Term

DAY = 24
_HOUR = 3600


def scan(statement: str, scope: Scope, hours: int, days: Sequence[int] = ()) -> str:
    """With so many hours in one group; the partners apart where it is one hour, or one is asked for. `days`: of these
    alone, by their first hours; none: of all."""
    partner = "CASE WHEN $2::text IS NULL THEN '' ELSE {0} END" if hours > 1 else "{0}"
    return (
        statement.replace("<hour>", f"hour / {hours} * {hours}" if hours > 1 else "hour")
        .replace(
            "<hour or none>", f"COALESCE(hour, 0) / {hours} * {hours}" if hours > 1 else "COALESCE(hour, 0)"
        )
        .replace("<in hours>", _in_hours(scope) + _on("hour", days))
        .replace("<received>", _received(scope) + _on("hour_of(received_at)", days))
        .replace("<partner of delivery>", partner.format("COALESCE(named, subscriber)"))
        .replace("<partner of first>", partner.format("(recipients -> 0 ->> 'subscriber')"))
        .replace("<partner of recipient>", partner.format("(recipient ->> 'subscriber')"))
        .replace("<partner>", partner.format("partner"))
    )


def _in_hours(scope: Scope) -> str:
    """Nothing where all hours are asked for: what the database does not ask, it need not guess the result of. A row
    that was brought in by nobody knows no hour: it stands in the first one."""
    asked = []
    if scope.first > 0:
        asked.append(f"hour >= {scope.first}")
    if scope.end < Scope().end:
        asked.append(f"hour < {scope.end}")
    within = " AND ".join(asked) or "true"
    return f"({within})" if scope.first > 0 or not asked else f"({within} OR hour IS NULL)"


def _on(hour: str, days: Sequence[int]) -> str:
    if not days:
        return ""
    listed = f"'{{{','.join(map(str, days))}}}'::integer[]"
    return f" AND COALESCE({hour}, 0) / {DAY} * {DAY} = ANY({listed})"


def _received(scope: Scope) -> str:
    return (
        f"received_at >= to_timestamp({scope.first * _HOUR}::bigint)"
        f" AND received_at < to_timestamp({scope.end * _HOUR}::bigint)"
    )


_ASKED = "($1::text IS NULL OR procedure = $1)"

# With whom and on which channel they are now breaks their terms down; with whom, where one is asked for.
DELIVERIES = f"""
    SELECT <hour or none> AS hour, procedure, kind, <partner of delivery> AS partner, channel,
           CASE WHEN $2::text IS NULL THEN '' ELSE subscriber END AS subscriber, state, attempt > 1 AS again,
           count(*) AS number, sum(ledger_hash(id, COALESCE(hour, 0), COALESCE(named, subscriber))) AS sum
    FROM delivery
    WHERE <in hours> AND {_ASKED} AND ($2::text IS NULL OR COALESCE(named, subscriber) = $2)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""

SUBMISSIONS_THERE = f"""
    SELECT <hour> AS hour, procedure, '' AS partner, count(*) AS number, sum(ledger_hash(id, hour, '')) AS sum
    FROM (SELECT hour_of(received_at) AS hour, procedure, id FROM submission WHERE <received>) AS there
    WHERE {_ASKED} AND $2::text IS NULL
    GROUP BY 1, 2
"""

_AGAIN = "submission IN (SELECT submission FROM decision WHERE number > 1)"
_ASKED_OF_DECISION = "($1::text IS NULL OR COALESCE(procedure, '') = $1)"

# Most submissions have one decision, and most decisions one recipient: read without any detour.
VERDICTS = f"""
    SELECT <hour or none> AS hour, COALESCE(procedure, '') AS procedure, <partner of first> AS partner, verdict,
           count(*) AS number, sum(ledger_hash(submission, COALESCE(hour, 0), '')) AS sum,
           count(recipients -> 0) AS named,
           COALESCE(sum(ledger_hash((recipients -> 0 ->> 'delivery')::uuid, COALESCE(hour, 0),
                                    recipients -> 0 ->> 'subscriber')), 0) AS named_sum
    FROM decision
    WHERE <in hours> AND {_ASKED_OF_DECISION} AND NOT {_AGAIN}
      AND ($2::text IS NULL OR recipients -> 0 ->> 'subscriber' = $2)
    GROUP BY 1, 2, 3, 4
"""

# The others: further recipients; the newest verdict of those that were decided again, and whom any of their
# decisions names, once.
FURTHER = f"""
    WITH again AS MATERIALIZED (
        SELECT submission, number, verdict, recipients, late, hour, COALESCE(procedure, '') AS procedure
        FROM decision WHERE <in hours> AND {_ASKED_OF_DECISION} AND {_AGAIN}
    ), newest AS (
        SELECT DISTINCT ON (submission) * FROM again ORDER BY submission, number DESC
    ), called AS (
        SELECT hour, COALESCE(procedure, '') AS procedure, recipient
        FROM decision, jsonb_array_elements(recipients - 0) AS recipient
        WHERE <in hours> AND {_ASKED_OF_DECISION} AND jsonb_array_length(recipients) > 1 AND NOT {_AGAIN}
        UNION ALL
        SELECT hour, procedure, recipient FROM (
            SELECT DISTINCT ON (recipient ->> 'delivery') hour, procedure, recipient
            FROM again, jsonb_array_elements(recipients) AS recipient WHERE NOT late
        ) AS once
    )
    SELECT <hour or none> AS hour, procedure, '' AS partner, verdict, count(*) AS number,
           sum(ledger_hash(submission, COALESCE(hour, 0), '')) AS sum, 0 AS named, 0 AS named_sum
    FROM newest GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT <hour or none>, procedure, <partner of recipient>, NULL, 0, 0, count(*),
           sum(ledger_hash((recipient ->> 'delivery')::uuid, COALESCE(hour, 0), recipient ->> 'subscriber'))
    FROM called
    WHERE $2::text IS NULL OR recipient ->> 'subscriber' = $2
    GROUP BY 1, 2, 3
"""

_SUMS = ", ".join(f"sum({side}_number) AS {side}_number, sum({side}_sum) AS {side}_sum" for side in Term)
_OF_SLIPS = ", ".join(
    f"sum(number) FILTER (WHERE side = '{side}') AS {side}_number,"
    f" sum(sum) FILTER (WHERE side = '{side}') AS {side}_sum"
    for side in Term
)
_KEPT_IN_SCOPE = f"<in hours> AND {_ASKED} AND ($2::text IS NULL OR partner = $2)"

# The buckets, and the few slips that are not among them yet.
KEPT = f"""
    SELECT <hour> AS hour, procedure, kind, <partner> AS partner, {_SUMS}
    FROM ledger WHERE {_KEPT_IN_SCOPE} GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT <hour>, procedure, kind, <partner>, {_OF_SLIPS}
    FROM (
        WITH entry AS MATERIALIZED ({UNFOLDED.format(slips="ledger_slip")})
        {SIDES_OF_ENTRIES}
    ) AS side
    WHERE {_KEPT_IN_SCOPE} GROUP BY 1, 2, 3, 4
"""
