"""Slips: what a transaction counted, for the ledger.

Business of this file: a row for each statement that writes or moves something, with what it means for the buckets it
touches; and adding such rows up into the buckets, behind the transactions. Nobody waits for anybody: a slip is a row
of its own. It is best a part of the statement whose rows it counts (`slip`); the functions are to be called when the
rows are written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from hub.adapters.postgres.database import Connection
from hub.domain.ledger import Term, hour_since_epoch, term
from hub.domain.lifecycle import State

# One folds at a time: whoever comes second has nothing to do.
_LOCK = 4_812_011


class Moved:
    """Deliveries that a transaction moves, with the terms they leave and reach."""

    def __init__(self) -> None:
        self._moves: dict[UUID, tuple[Term, Term]] = {}

    def note(self, delivery: UUID, source: Term, target: Term) -> None:
        """One that moves twice has left the first and reached the last."""
        first, _ = self._moves.get(delivery, (source, target))
        self._moves[delivery] = (first, target)

    def note_state(self, delivery: UUID, state: State, attempt: int, target: State) -> None:
        """`state` and `attempt` are those it leaves; it is not in flight afterwards."""
        self.note(delivery, term(state, attempt), Term(target))

    async def write(self, connection: Connection) -> None:
        """Of rows this transaction has locked."""
        moves = [(delivery, *sides) for delivery, sides in self._moves.items() if sides[0] is not sides[1]]
        if moves:
            await connection.execute(
                _MOVED, [one[0] for one in moves], [one[1] for one in moves], [one[2] for one in moves]
            )


async def count_moved(connection: Connection, deliveries: Iterable[UUID], source: Term, target: Term) -> None:
    """The same for deliveries that all leave and reach the same."""
    moved = Moved()
    for delivery in deliveries:
        moved.note(delivery, source, target)
    await moved.write(connection)


async def count_accepted(connection: Connection, submissions: Iterable[tuple[UUID, datetime, str]]) -> None:
    """Submissions that this transaction inserted, with their time of receipt and procedure."""
    ids, received, procedures = zip(*submissions, strict=True)
    await connection.execute(_ACCEPTED, ids, [hour_since_epoch(at) for at in received], procedures)


async def count_decided(connection: Connection, decisions: Collection[tuple[UUID, int]]) -> None:
    """Decisions (submission and number) that this transaction inserted, all of their submissions: where those stand by
    the newest, and the deliveries that are named for the first time. First decisions are better counted as such."""
    if decisions:
        await connection.execute(_DECIDED, [one for one, _ in decisions], [number for _, number in decisions])


async def count_registered(connection: Connection, deliveries: Collection[UUID]) -> None:
    """Deliveries that this transaction inserted."""
    if deliveries:
        await connection.execute(_REGISTERED, list(deliveries))


async def fold(connection: Connection, limit: int) -> int:
    """How many slips were added up; 0 while somebody else does."""
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
        return 0
    folded: int = await connection.fetchval(_FOLD, limit)
    return folded


# --- statements ---------------------------------------------------------------------------------------


def _written(counted: str) -> str:
    """`counted`: rows of kind, hour, procedure, partner, source, target, number and sum."""
    return f"""
        INSERT INTO ledger_slip (kind, hour, procedure, partner, source, target, number, sum)
        SELECT array_agg(kind), array_agg(hour), array_agg(procedure), array_agg(partner), array_agg(source),
               array_agg(target), array_agg(number), array_agg(sum)
        FROM ({counted}) AS counted
        HAVING count(*) > 0
    """


def slip(entries: str) -> str:
    """The insertion of one. `entries`: kind, hour, procedure, partner, source, target and the id of each that goes
    from one side of a bucket to another (source null: it is new)."""
    return _written(f"""
        SELECT kind, hour, procedure, partner, source, target, count(*)::integer AS number,
               wrapped(sum(ledger_hash(id, hour, partner))) AS sum
        FROM ({entries}) AS entry
        GROUP BY kind, hour, procedure, partner, source, target
    """)


THEIR_BUCKET = """
    delivery.kind, COALESCE(delivery.hour, 0) AS hour, delivery.procedure,
    COALESCE(delivery.named, delivery.subscriber) AS partner
"""
"""Of a delivery: where it is counted."""

_MOVED = slip(f"""
    SELECT {THEIR_BUCKET}, moved.source, moved.target, delivery.id
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS moved (id, source, target)
    JOIN delivery ON delivery.id = moved.id
""")

_REGISTERED = slip(f"""
    SELECT {THEIR_BUCKET}, NULL::text AS source, term(state, attempt) AS target, delivery.id
    FROM delivery WHERE delivery.id = ANY($1::uuid[])
""")

_ACCEPTED = _written("""
    SELECT '' AS kind, hour, procedure, '' AS partner, NULL::text AS source, target, number, sum
    FROM (
        SELECT hour, procedure, count(*)::integer AS number, wrapped(sum(ledger_hash(id, hour, ''))) AS sum
        FROM unnest($1::uuid[], $2::integer[], $3::text[]) AS received (id, hour, procedure)
        GROUP BY hour, procedure
    ) AS accepted
    CROSS JOIN (VALUES ('accepted'), ('undecided')) AS side (target)
""")

# What the other decisions of a submission said, there are hardly ever any.
_DECIDED = f"""
    WITH fresh AS MATERIALIZED (
        SELECT decision.* FROM unnest($1::uuid[], $2::integer[]) AS told (submission, number)
        JOIN decision ON decision.submission = told.submission AND decision.number = told.number
    ), former AS MATERIALIZED (
        SELECT decision.* FROM (SELECT DISTINCT submission FROM fresh) AS theirs
        JOIN decision ON decision.submission = theirs.submission
        WHERE NOT EXISTS (
            SELECT FROM fresh WHERE fresh.submission = decision.submission AND fresh.number = decision.number
        )
    ), stood AS (
        SELECT DISTINCT ON (submission) submission, number, verdict FROM former ORDER BY submission, number DESC
    ), stands AS (
        SELECT DISTINCT ON (submission) * FROM fresh ORDER BY submission, number DESC
    ), called AS (
        SELECT DISTINCT ON (recipient ->> 'delivery') fresh.submission, fresh.hour, fresh.procedure,
               recipient ->> 'subscriber' AS partner, (recipient ->> 'delivery')::uuid AS id
        FROM fresh, jsonb_array_elements(fresh.recipients) AS recipient
        WHERE NOT fresh.late
    )
    {
    slip('''
        SELECT '' AS kind, stands.hour, stands.procedure, '' AS partner,
               COALESCE(stood.verdict, 'undecided') AS source, stands.verdict AS target, stands.submission AS id
        FROM stands LEFT JOIN stood ON stood.submission = stands.submission
        WHERE stood.number IS NULL OR (stood.number < stands.number AND stood.verdict <> stands.verdict)
        UNION ALL
        SELECT 'submission', called.hour, called.procedure, called.partner, NULL, 'named', called.id
        FROM called WHERE NOT EXISTS (
            SELECT FROM former, jsonb_array_elements(former.recipients) AS recipient
            WHERE former.submission = called.submission AND NOT former.late
              AND (recipient ->> 'delivery')::uuid = called.id
        )
    ''')
}
"""

# --- folding ------------------------------------------------------------------------------------------

SIDES_OF_ENTRIES = """
    SELECT kind, hour, procedure, partner, target AS side, number, sum::numeric FROM entry
    WHERE target IS NOT NULL
    UNION ALL
    SELECT kind, hour, procedure, partner, source, -number, -sum::numeric FROM entry WHERE source IS NOT NULL
"""
"""Of entries of slips: what each adds to a side."""

UNFOLDED = """
    SELECT entry.* FROM {slips}, unnest(kind, hour, procedure, partner, source, target, number, sum)
      AS entry (kind, hour, procedure, partner, source, target, number, sum)
"""
"""The entries of `slips`."""


def _summed() -> str:
    return ",\n".join(
        f"NULLIF(sum(number) FILTER (WHERE side = '{side}'), 0) AS {side}_number,"
        f" NULLIF(wrapped(sum(sum) FILTER (WHERE side = '{side}')), 0) AS {side}_sum"
        for side in Term
    )


def _added() -> str:
    return ",\n".join(
        f"{side}_number = NULLIF(COALESCE(ledger.{side}_number, 0) + COALESCE(excluded.{side}_number, 0), 0),"
        f" {side}_sum = NULLIF(wrapped(COALESCE(ledger.{side}_sum, 0)::numeric"
        f" + COALESCE(excluded.{side}_sum, 0)), 0)"
        for side in Term
    )


_COLUMNS = ", ".join(f"{side}_number, {side}_sum" for side in Term)

_FOLD = f"""
    WITH slip AS (
        DELETE FROM ledger_slip WHERE id IN (SELECT id FROM ledger_slip ORDER BY id LIMIT $1) RETURNING *
    ), entry AS MATERIALIZED (
        {UNFOLDED.format(slips="slip")}
    ), side AS MATERIALIZED (
        {SIDES_OF_ENTRIES}
    ), kept AS (
        INSERT INTO ledger (kind, hour, procedure, partner, {_COLUMNS})
        SELECT kind, hour, procedure, partner, {_summed()}
        FROM side GROUP BY kind, hour, procedure, partner ORDER BY hour, procedure, kind, partner
        ON CONFLICT (hour, procedure, kind, partner) DO UPDATE SET {_added()}
    ), together AS (
        INSERT INTO ledger_total (kind, side, number)
        SELECT kind, side, sum(number) FROM side GROUP BY kind, side ORDER BY kind, side
        ON CONFLICT (kind, side) DO UPDATE SET number = ledger_total.number + excluded.number
    )
    SELECT count(*) FROM slip
"""
