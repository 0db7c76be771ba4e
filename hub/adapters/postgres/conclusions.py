"""What came of attempts, written: the state each delivery goes to, and what each attempt came to.

Business of this file: that stale bad news changes nothing, that good news of the same sending is welcome, and
that one row's illegal move fails no other's. Whether a state may follow another is asked of the domain's
table. To be called under the lock of the lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never
from uuid import UUID

from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.domain.delivery import Conclusion, Deferred, Delivered, Outcome, Refused
from hub.domain.errors import IllegalMove
from hub.domain.lifecycle import IN_MOTION, State, move

LOST = "lost"
"""The outcome of an attempt whose worker was not heard of before its hold ended."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a delivery stands, under its lock."""

    submission: UUID
    state: State
    sending: int
    attempt: int
    moved_away: bool


@dataclass(frozen=True, slots=True)
class _Move:
    """News that is taken, with the state it was taken in."""

    source: State
    standing: _Standing
    conclusion: Conclusion


async def write_news(connection: Connection, lane: int, conclusions: Sequence[Conclusion]) -> list[UUID]:
    """The deliveries whose news was refused."""
    standings = await _lock_deliveries(connection, lane, {news.attempt.delivery for news in conclusions})
    moves, refused = _judge(standings, conclusions)
    await _write(connection, moves, [news for news in conclusions if news.attempt.delivery in standings])
    await write_journal(connection, [_line(made) for made in moves])
    return refused


async def _lock_deliveries(connection: Connection, lane: int, ids: Iterable[UUID]) -> dict[UUID, _Standing]:
    """Those in this lane, and those that moved away from it to a successor's."""
    rows = await connection.fetch(
        """
        SELECT id, submission, state, sending, attempt, lane <> $2 AS moved_away FROM delivery
        WHERE id = ANY($1::uuid[]) AND (
            lane = $2 OR EXISTS (SELECT FROM moved WHERE moved.delivery = delivery.id AND moved.lane = $2)
        )
        ORDER BY id
        FOR UPDATE
        """,
        list(ids),
        lane,
    )
    return {
        row["id"]: _Standing(
            row["submission"], State(row["state"]), row["sending"], row["attempt"], row["moved_away"]
        )
        for row in rows
    }


def _judge(
    standings: Mapping[UUID, _Standing], conclusions: Sequence[Conclusion]
) -> tuple[list[_Move], list[UUID]]:
    """Each on its own: one row's illegal move fails no other's."""
    states = {delivery: standing.state for delivery, standing in standings.items()}
    moves: list[_Move] = []
    refused: list[UUID] = []
    for conclusion in conclusions:
        delivery = conclusion.attempt.delivery
        standing = standings.get(delivery)
        if standing is None or not _is_heard(conclusion, standing, states[delivery]):
            refused.append(delivery)
            continue
        moves.append(_Move(states[delivery], standing, conclusion))
        states[delivery] = conclusion.state
    return moves, refused


def _is_heard(conclusion: Conclusion, standing: _Standing, state: State) -> bool:
    """Good news of this sending holds whichever of its attempts it is of: the partner has the parcel. Bad
    news says something of the attempt that is in flight only. That a former partner has it is no news of
    its successor: the attempt says so, and the delivery goes on."""
    if standing.moved_away:
        return False
    attempt = conclusion.attempt
    if attempt.sending != standing.sending or attempt.number > standing.attempt:
        return False
    if conclusion.state is not State.DELIVERED:
        current = state is State.IN_FLIGHT and attempt.number == standing.attempt
        if not current:
            return False
    try:
        move(state, conclusion.state)
    except IllegalMove:
        return False
    return True


async def _write(connection: Connection, moves: Sequence[_Move], conclusions: Sequence[Conclusion]) -> None:
    """Where each delivery stands now, and what each attempt came to, also when its delivery has moved on."""
    # A delivery of which two attempts are told at once stands once, where the later told one left it.
    last = {made.conclusion.attempt.delivery: made.conclusion for made in moves}
    words = [_words(news.outcome) for news in conclusions]
    await connection.execute(
        _WRITE,
        list(last),
        [news.state for news in last.values()],
        [news.cause for news in last.values()],
        [(news.wait or timedelta(0)) if news.state in IN_MOTION else None for news in last.values()],
        [news.attempt.delivery for news in conclusions],
        [news.attempt.sending for news in conclusions],
        [news.attempt.number for news in conclusions],
        [outcome for outcome, _ in words],
        [news.cause for news in conclusions],
        [receipt for _, receipt in words],
        LOST,
        State.DELIVERED,
    )


# Who was believed dead and yet had delivered corrects its `lost`.
_WRITE = """
    WITH moved AS (
        UPDATE delivery
        SET state = told.state, cause = told.cause, due_at = (SELECT clock_timestamp()) + told.wait,
            changed_at = clock_timestamp()
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::interval[]) AS told (id, state, cause, wait)
        WHERE delivery.id = told.id
    )
    UPDATE attempt
    SET ended_at = clock_timestamp(), outcome = told.outcome, cause = told.cause, receipt = told.receipt
    FROM unnest($5::uuid[], $6::integer[], $7::integer[], $8::text[], $9::text[], $10::text[])
      AS told (delivery, sending, number, outcome, cause, receipt)
    WHERE attempt.delivery = told.delivery AND attempt.sending = told.sending
      AND attempt.number = told.number
      AND (attempt.ended_at IS NULL OR (attempt.outcome = $11 AND told.outcome = $12))
"""


def _words(outcome: Outcome) -> tuple[str, str | None]:
    match outcome:
        case Delivered(receipt=receipt):
            return "delivered", receipt
        case Deferred():
            return "deferred", None
        case Refused():
            return "refused", None
        case _:
            assert_never(outcome)


def _line(made: _Move) -> JournalEntry:
    news = made.conclusion
    late = "" if made.source is State.IN_FLIGHT else f"late, was {made.source}"
    return JournalEntry(
        f"delivery.{news.state}",
        made.standing.submission,
        news.attempt.delivery,
        detail=news.cause or late,
    )
