"""The scans of the ledger: each table read once, grouped by hours or days, procedure and partner.

Business of this file: statements. Each takes $1 and $2, the hours from and before which receipt lies, $3, the
procedure (null: all), and $4, the partner whom decisions name (null: all of them together, as '').
"""

from __future__ import annotations

from hub.adapters.postgres.slips import SIDES_OF_ENTRIES, UNFOLDED
from hub.domain.ledger import Term


def grouped(statement: str, hours: int) -> str:
    """With so many hours in one group; the partners apart where it is one hour, or one is asked for."""
    partner = "CASE WHEN $4::text IS NULL THEN '' ELSE {0} END" if hours > 1 else "{0}"
    return (
        statement.replace("<hour>", f"<at> / {hours} * {hours}" if hours > 1 else "<at>")
        .replace("<at>", "hour")
        .replace("<partner of delivery>", partner.format("COALESCE(named, subscriber)"))
        .replace("<partner of first>", partner.format("(recipients -> 0 ->> 'subscriber')"))
        .replace("<partner of recipient>", partner.format("(recipient ->> 'subscriber')"))
        .replace("<partner>", partner.format("partner"))
    )


_IN_SCOPE = "hour >= $1 AND hour < $2 AND ($3::text IS NULL OR procedure = $3)"

# With whom and on which channel they are now breaks their terms down, the partner where one is asked for.
DELIVERIES = f"""
    SELECT <hour> AS hour, procedure, kind, <partner of delivery> AS partner, channel,
           CASE WHEN $4::text IS NULL THEN '' ELSE subscriber END AS subscriber,
           term(state, attempt) AS term, count(*) AS number,
           sum(ledger_hash(id, hour, COALESCE(named, subscriber))) AS sum
    FROM (SELECT COALESCE(hour, 0) AS hour, procedure, kind, named, subscriber, channel, state, attempt, id
          FROM delivery) AS delivery
    WHERE {_IN_SCOPE} AND ($4::text IS NULL OR COALESCE(named, subscriber) = $4)
    GROUP BY 1, 2, 3, 4, 5, 6, 7
"""

SUBMISSIONS_THERE = """
    SELECT <hour> AS hour, procedure, '' AS partner, count(*) AS number, sum(ledger_hash(id, hour, '')) AS sum
    FROM (
        SELECT hour_of(received_at) AS hour, procedure, id FROM submission
        WHERE received_at >= to_timestamp($1::bigint * 3600) AND received_at < to_timestamp($2::bigint * 3600)
    ) AS received
    WHERE $3::text IS NULL OR procedure = $3
    GROUP BY 1, 2
"""

_AGAIN = "submission IN (SELECT submission FROM decision WHERE number > 1)"

# One that was brought in by nobody knows no hour: it is seen all the same.
_DECISIONS = """
    (SELECT submission, number, verdict, recipients, late, COALESCE(hour, 0) AS hour,
            COALESCE(procedure, '') AS procedure FROM decision) AS decided
"""

# Most submissions have one decision, and most decisions one recipient: read without any detour.
VERDICTS = f"""
    SELECT <hour> AS hour, procedure, <partner of first> AS partner, verdict, count(*) AS number,
           sum(ledger_hash(submission, hour, '')) AS sum, count(recipients -> 0) AS named,
           COALESCE(sum(ledger_hash((recipients -> 0 ->> 'delivery')::uuid, hour, recipients -> 0 ->> 'subscriber')),
                    0) AS named_sum
    FROM {_DECISIONS}
    WHERE {_IN_SCOPE} AND NOT {_AGAIN}
      AND ($4::text IS NULL OR recipients -> 0 ->> 'subscriber' = $4)
    GROUP BY 1, 2, 3, 4
"""

# The others: further recipients; the newest verdict of those that were decided again, and whom any of their
# decisions names, once.
FURTHER = f"""
    WITH again AS MATERIALIZED (
        SELECT * FROM {_DECISIONS} WHERE {_IN_SCOPE} AND {_AGAIN}
    ), newest AS (
        SELECT DISTINCT ON (submission) * FROM again ORDER BY submission, number DESC
    ), called AS (
        SELECT hour, procedure, recipient
        FROM {_DECISIONS}, jsonb_array_elements(recipients - 0) AS recipient
        WHERE {_IN_SCOPE} AND jsonb_array_length(recipients) > 1 AND NOT {_AGAIN}
        UNION ALL
        SELECT hour, procedure, recipient FROM (
            SELECT DISTINCT ON (recipient ->> 'delivery') hour, procedure, recipient
            FROM again, jsonb_array_elements(recipients) AS recipient WHERE NOT late
        ) AS once
    )
    SELECT <hour> AS hour, procedure, '' AS partner, verdict, count(*) AS number,
           sum(ledger_hash(submission, hour, '')) AS sum, 0 AS named, 0 AS named_sum
    FROM newest GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT <hour>, procedure, <partner of recipient>, NULL, 0, 0, count(*),
           sum(ledger_hash((recipient ->> 'delivery')::uuid, hour, recipient ->> 'subscriber'))
    FROM called
    WHERE $4::text IS NULL OR recipient ->> 'subscriber' = $4
    GROUP BY 1, 2, 3
"""

_SUMS = ", ".join(f"sum({side}_number) AS {side}_number, sum({side}_sum) AS {side}_sum" for side in Term)
_LISTED = ", ".join(f"{side}_number, {side}_sum" for side in Term)
_OF_SLIPS = ", ".join(
    f"sum(number) FILTER (WHERE side = '{side}') AS {side}_number,"
    f" sum(sum) FILTER (WHERE side = '{side}') AS {side}_sum"
    for side in Term
)
_KEPT_IN_SCOPE = f"{_IN_SCOPE} AND ($4::text IS NULL OR partner = $4)"

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
