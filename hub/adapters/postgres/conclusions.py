"""What came of attempts, written: the state each delivery goes to, and what each attempt came to.

Business of this file: that stale bad news changes nothing, that good news of the same sending is welcome, and
that one row's illegal move fails no other's. Whether a state may follow another is asked of the domain's
table. To be called under the locks of the lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never
from uuid import UUID

from hub.adapters.postgres.address_faults import note_addresses
from hub.adapters.postgres.database import Connection
from hub.adapters.postgres.rows import AttemptTold, JournalEntry, write_journal
from hub.adapters.postgres.slips import THEIR_BUCKET, slip
from hub.domain.bounces import ADDRESS_REFUSED
from hub.domain.delivery import Attempt, Conclusion, Deferred, Delivered, Outcome, Refused
from hub.domain.ledger import term
from hub.domain.lifecycle import IN_MOTION, State, may_move, move
from hub.domain.partner import MAILBOX


class Told(NamedTuple):
    """News of an attempt, and the lane it was made in."""

    lane: int
    conclusion: Conclusion


class _Row(NamedTuple):
    """Where a delivery stands, under its lock, and since when."""

    submission: UUID
    state: State
    sending: int
    attempt: int
    subscriber: str
    withdrawing: str | None
    since: datetime


class _Move(NamedTuple):
    """News that is taken: from which state to which, and why if not for its outcome."""

    source: State
    target: State
    row: _Row
    conclusion: Conclusion
    why: str = ""


async def write_news(connection: Connection, told: Sequence[Told], owners: Mapping[int, str]) -> list[UUID]:
    """The deliveries whose news was refused. Under the locks of the lanes, which are these partners'."""
    rows = await _lock_deliveries(connection, told)
    moves, refused = _judge(rows, owners, told)
    await _write(connection, moves)
    await _note_refusals(connection, moves)
    lines = [_line(made) for made in moves]
    if refused:
        taken = {made.conclusion.attempt for made in moves}
        lines += [
            _unheard(rows[attempt.delivery], one.conclusion)
            for one in told
            if (attempt := one.conclusion.attempt) not in taken and _was(rows, attempt)
        ]
    await write_journal(connection, lines)
    return refused


async def _lock_deliveries(connection: Connection, told: Sequence[Told]) -> dict[UUID, _Row]:
    """By their names."""
    rows = await connection.fetch(
        """
        SELECT id, submission, state, sending, attempt, subscriber, withdrawing, changed_at
        FROM delivery
        WHERE id = ANY($1::uuid[])
        ORDER BY id
        FOR UPDATE
        """,
        [one.conclusion.attempt.delivery for one in told],
    )
    return {
        row["id"]: _Row(
            row["submission"],
            State(row["state"]),
            row["sending"],
            row["attempt"],
            row["subscriber"],
            row["withdrawing"],
            row["changed_at"],
        )
        for row in rows
    }


def _was(rows: Mapping[UUID, _Row], attempt: Attempt) -> bool:
    """Whether there was such an attempt."""
    row = rows.get(attempt.delivery)
    return row is not None and (attempt.sending, attempt.number) <= (row.sending, row.attempt)


def _judge(
    rows: Mapping[UUID, _Row], owners: Mapping[int, str], told: Sequence[Told]
) -> tuple[list[_Move], list[UUID]]:
    """Each on its own: one row's illegal move fails no other's."""
    states = {delivery: row.state for delivery, row in rows.items()}
    moves: list[_Move] = []
    refused: list[UUID] = []
    for lane, conclusion in told:
        delivery = conclusion.attempt.delivery
        row = rows.get(delivery)
        # That a former partner has it is no news of its successor: the journal says so, and the delivery goes on.
        if (
            row is None
            or owners.get(lane) != row.subscriber
            or not _is_heard(conclusion, row, states[delivery])
        ):
            refused.append(delivery)
            continue
        moved = _move(row, states[delivery], conclusion)
        moves.append(moved)
        states[delivery] = moved.target
    return moves, refused


def _is_heard(conclusion: Conclusion, row: _Row, state: State) -> bool:
    """Good news of this sending holds whichever of its attempts it is of: the partner has the parcel. Bad
    news says something of the attempt that is in flight only."""
    attempt = conclusion.attempt
    if attempt.sending != row.sending or attempt.number > row.attempt:
        return False
    if conclusion.state is State.DELIVERED:
        return may_move(state, State.DELIVERED)
    return state is State.IN_FLIGHT and attempt.number == row.attempt


def _move(row: _Row, state: State, conclusion: Conclusion) -> _Move:
    """What failed and was to be withdrawn is withdrawn."""
    if conclusion.state is not State.DELIVERED and row.withdrawing is not None:
        return _Move(state, move(state, State.WITHDRAWN), row, conclusion, row.withdrawing)
    return _Move(state, move(state, conclusion.state), row, conclusion)


async def _write(connection: Connection, moves: Sequence[_Move]) -> None:
    """They are counted. A delivery of which two attempts are told at once stands once, where the later told one left
    it, and has left what the first found."""
    first: dict[UUID, _Move] = {}
    for made in moves:
        first.setdefault(made.conclusion.attempt.delivery, made)
    last = {made.conclusion.attempt.delivery: made for made in moves}
    if not last:
        return
    await connection.execute(
        _WRITE,
        list(last),
        [made.target for made in last.values()],
        [made.conclusion.cause for made in last.values()],
        [
            (made.conclusion.wait or timedelta(0)) if made.target in IN_MOTION else None
            for made in last.values()
        ],
        [term(made.source, made.row.attempt) for made in first.values()],
        [_is_announced(made.conclusion.outcome) for made in last.values()],
    )


def _is_announced(outcome: Outcome) -> bool:
    return isinstance(outcome, Delivered) and outcome.announced


_MOVED = slip(f"SELECT {THEIR_BUCKET}, source, state AS target, id FROM delivery WHERE source <> state")

_WRITE = f"""
    WITH delivery AS (
        UPDATE delivery
        SET state = told.state, cause = told.cause, due_at = (SELECT clock_timestamp()) + told.wait,
            channel = CASE WHEN told.announced THEN '{MAILBOX}' ELSE delivery.channel END,
            withdrawing = NULL, changed_at = clock_timestamp()
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::interval[], $5::text[], $6::boolean[])
          AS told (id, state, cause, wait, source, announced)
        WHERE delivery.id = told.id
        RETURNING delivery.*, told.source
    )
    {_MOVED}
"""


def _told(row: _Row, conclusion: Conclusion) -> AttemptTold:
    """With the time it began, if it is the newest one."""
    attempt, outcome = conclusion.attempt, conclusion.outcome
    word, receipt = _words(outcome)
    newest = (attempt.sending, attempt.number) == (row.sending, row.attempt) and row.state is State.IN_FLIGHT
    return AttemptTold(
        attempt.sending,
        attempt.number,
        row.since if newest else None,
        word,
        conclusion.cause,
        receipt,
        conclusion.sealed,
    )


async def _note_refusals(connection: Connection, moves: Sequence[_Move]) -> None:
    """Addresses that did not take what others of the same partner took."""
    places = [(made.row.subscriber, place) for made in moves for place in _refused(made.conclusion.outcome)]
    await note_addresses(connection, places, ADDRESS_REFUSED)


def _refused(outcome: Outcome) -> tuple[int, ...]:
    return outcome.refused if isinstance(outcome, Delivered) else ()


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
    late = "" if made.source is State.IN_FLIGHT else f"late, was {made.source}"
    refused = ", ".join(map(str, _refused(made.conclusion.outcome)))
    partly = f"not taken by address {refused}" if refused else ""
    lies = "announced, lies in the mailbox" if _is_announced(made.conclusion.outcome) else ""
    return JournalEntry(
        f"delivery.{made.target}",
        made.row.submission,
        made.conclusion.attempt.delivery,
        detail="; ".join(
            filter(None, (made.why or made.conclusion.cause or late, partly, lies, made.conclusion.note))
        ),
        attempt=_told(made.row, made.conclusion),
    )


def _unheard(row: _Row, conclusion: Conclusion) -> JournalEntry:
    """What came of an attempt when its delivery had moved on."""
    return JournalEntry(
        "delivery.attempted",
        row.submission,
        conclusion.attempt.delivery,
        detail="its delivery had moved on",
        attempt=_told(row, conclusion),
    )
