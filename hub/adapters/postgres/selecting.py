"""What an operator's choice matches: deliveries or submissions, counted, shown, and fixed as items of a replay.

Business of this file: one condition for each field of a selection. Nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never
from uuid import UUID

from hub.adapters.postgres.database import Connection
from hub.domain.identity import ParcelKind
from hub.domain.lifecycle import IN_MOTION, State
from hub.domain.replays import Chosen, Selection, SubmissionSelection
from hub.ports.replays import Preview

Wish = tuple[str, object]
"""A condition with a place for its parameter, and the parameter; None: it is not wished for."""


async def preview(connection: Connection, chosen: Chosen, examples: int) -> Preview:
    """How many, how many bytes of files, and the first to be found."""
    conditions, values = _where(_wishes(chosen))
    # Millions of rows are looked through at most: by several at once, and without a compiler's overture.
    await connection.execute("SET LOCAL jit = off")
    statement = _COUNTED.format(found=_FOUND[type(chosen)].format(where=conditions), limit=examples)
    # Not as a single row: a statement that may be left half way is not shared out.
    [row] = await connection.fetch(statement, *values)
    return Preview(row["matched"], int(row["bytes"]), tuple(row["examples"]))


async def fix_items(connection: Connection, replay: UUID, chosen: Chosen) -> tuple[int, int]:
    """Items of the replay for all that is matched now: how many, and their bytes."""
    conditions, values = _where(_wishes(chosen), first=2)
    found = _FOUND[type(chosen)].format(where=conditions)
    [row] = await connection.fetch(_FIXED.format(found=found), replay, *values, timeout=_PATIENCE)
    return row["matched"], int(row["bytes"])


_PATIENCE = 900.0
"""Seconds: whoever orders millions has them written down."""

_COUNTED = """
    WITH found AS MATERIALIZED ({found})
    SELECT count(*) AS matched, COALESCE(sum(size), 0) AS bytes,
           ARRAY(SELECT COALESCE(delivery, submission) FROM found LIMIT {limit}) AS examples
    FROM found
"""

_FIXED = """
    WITH found AS MATERIALIZED ({found}), fixed AS (
        INSERT INTO replay_item (replay, submission, delivery, sending)
        SELECT $1, submission, delivery, sending FROM found
    )
    SELECT count(*) AS matched, COALESCE(sum(size), 0) AS bytes FROM found
"""

_FOUND: Mapping[type[Chosen], str] = {
    Selection: """
        SELECT submission, id AS delivery, sending, size FROM delivery WHERE {where}
    """,
    # The newest decision says where a submission stands; most have one only.
    SubmissionSelection: """
        SELECT submission.id AS submission, NULL::uuid AS delivery, NULL::integer AS sending,
               COALESCE((
                   SELECT sum((file ->> 'size')::bigint) FROM jsonb_array_elements(submission.attachments) AS file
               ), 0)::bigint AS size
        FROM submission JOIN decision ON decision.submission = submission.id
        WHERE {where} AND NOT EXISTS (
            SELECT FROM decision AS newer
            WHERE newer.submission = decision.submission AND newer.number > decision.number
        )
    """,
}


# --- conditions ---------------------------------------------------------------------------------------


def _where(wishes: Iterable[Wish], first: int = 1) -> tuple[str, list[object]]:
    """Conditions whose parameters begin at `first`."""
    given = [(clause, value) for clause, value in wishes if value is not None]
    clauses = [clause.format(place) for place, (clause, _) in enumerate(given, start=first)]
    return " AND ".join(clauses) or "true", [value for _, value in given]


def _wishes(chosen: Chosen) -> tuple[Wish, ...]:
    match chosen:
        case Selection():
            return _of_deliveries(chosen)
        case SubmissionSelection():
            return _of_submissions(chosen)
        case _:
            assert_never(chosen)


def _of_deliveries(chosen: Selection) -> tuple[Wish, ...]:
    return (
        ("kind = ANY(${}::text[])", _kinds(chosen)),
        ("state = ${}", chosen.state),
        # What a cause is indexed by; a row at rest is never due.
        ("cause = ${}" if chosen.state in IN_MOTION else "due_at IS NULL AND cause = ${}", chosen.cause),
        ("id = ANY(${}::uuid[])", chosen.deliveries),
        ("submission = ${}", chosen.submission),
        ("subscriber = ${}", None if chosen.subscriber is None else str(chosen.subscriber)),
        ("subscriber = ANY(ARRAY(SELECT subscriber FROM partner WHERE vendor = ${}))", chosen.vendor),
        ("channel = ${}", chosen.channel),
        ("procedure = ${}", chosen.procedure),
        ("created_at >= ${}", chosen.created_since),
        ("created_at < ${}", chosen.created_until),
        ("changed_at >= ${}", chosen.changed_since),
        ("changed_at < ${}", chosen.changed_until),
    )


def _kinds(chosen: Selection) -> list[str]:
    """What did not arrive, or is meant by name, may be a sender's news; whoever sends submissions again means those
    alone."""
    news = chosen.deliveries is not None or chosen.subscriber is not None or chosen.cause is not None
    return (
        [ParcelKind.SUBMISSION, ParcelKind.NEWS]
        if news or chosen.state is State.PARKED
        else [ParcelKind.SUBMISSION]
    )


def _of_submissions(chosen: SubmissionSelection) -> tuple[Wish, ...]:
    return (
        ("submission.id = ANY(${}::uuid[])", chosen.submissions),
        ("submission.procedure = ${}", chosen.procedure),
        # The word itself, not a parameter: what is not routed has an index of its own.
        (f"decision.verdict = '{chosen.state}' AND ${{}}", None if chosen.state is None else True),
        ("decision.reasons[1] = ${}", chosen.cause),
        ("submission.received_at >= ${}", chosen.received_since),
        ("submission.received_at < ${}", chosen.received_until),
    )
