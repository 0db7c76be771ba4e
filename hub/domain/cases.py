"""The case (dossier) that a delivery is for its partner, as one table of allowed moves.

Business of this file: the words partners have for how far they are, which of them may follow which, and taking one
back. The table is a procedure's; what it says nothing of is the usual one. Closing and archiving are no partner's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from hub.domain.identity import Subscriber


class CaseStatus(StrEnum):
    """In the words of the State's hub, which partners' software speaks."""

    HUBEE_NOTIFIED = "HUBEE_NOTIFIED"
    """Before its partner said anything; no partner says it, but when it takes its first word back."""
    SENT = "SENT"
    SI_RECEIVED = "SI_RECEIVED"
    IN_PROGRESS = "IN_PROGRESS"
    ADD_AWAITING = "ADD_AWAITING"
    REFUSED = "REFUSED"
    DONE = "DONE"
    SI_INTG_ERROR = "SI_INTG_ERROR"


_OPEN = (CaseStatus.REFUSED, CaseStatus.DONE, CaseStatus.SI_INTG_ERROR)
# Software that works at once says nothing before; software that fails, fails before it says anything else.
_JUMPS = (CaseStatus.SI_RECEIVED, CaseStatus.IN_PROGRESS, CaseStatus.DONE)
_FIRST = (*_JUMPS, CaseStatus.SI_INTG_ERROR)

USUAL_MOVES: Mapping[CaseStatus, tuple[CaseStatus, ...]] = {
    CaseStatus.HUBEE_NOTIFIED: (CaseStatus.SENT, *_FIRST),
    CaseStatus.SENT: _FIRST,
    CaseStatus.SI_RECEIVED: (CaseStatus.IN_PROGRESS, *_OPEN),
    CaseStatus.IN_PROGRESS: (CaseStatus.ADD_AWAITING, *_OPEN),
    CaseStatus.ADD_AWAITING: _OPEN,
    CaseStatus.DONE: (CaseStatus.SI_INTG_ERROR,),
    CaseStatus.SI_INTG_ERROR: _JUMPS,
}

USUAL_UNDO = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class CaseMoves:
    """Which status may follow which, and for how long the last one may be taken back by whoever said it."""

    moves: Mapping[CaseStatus, tuple[CaseStatus, ...]] = field(default_factory=lambda: USUAL_MOVES)
    undo: timedelta = USUAL_UNDO

    def following(self, status: CaseStatus) -> tuple[CaseStatus, ...]:
        return self.moves.get(status, ())


USUAL = CaseMoves()


def without(
    moves: Mapping[CaseStatus, tuple[CaseStatus, ...]], forbidden: Iterable[CaseStatus]
) -> Mapping[CaseStatus, tuple[CaseStatus, ...]]:
    """The same table for who does not have these statuses."""
    gone = frozenset(forbidden)
    return {
        status: tuple(one for one in following if one not in gone)
        for status, following in moves.items()
        if status not in gone
    }


def unreachable(moves: CaseMoves) -> tuple[CaseStatus, ...]:
    """Statuses that the table says something of, and no case ever comes to."""
    reached, ahead = {CaseStatus.HUBEE_NOTIFIED}, [CaseStatus.HUBEE_NOTIFIED]
    while ahead:
        fresh = set(moves.following(ahead.pop())) - reached
        reached |= fresh
        ahead.extend(fresh)
    told = {status for status, following in moves.moves.items() for status in (status, *following)}
    return tuple(status for status in CaseStatus if status in told - reached)


@dataclass(frozen=True, slots=True)
class Case:
    """How far a delivery's case is. `number` counts its statuses, from 0 for the first; `before`: the one it was
    changed from, when and by whom (None: nobody said anything yet)."""

    status: CaseStatus = CaseStatus.HUBEE_NOTIFIED
    number: int = 0
    before: CaseStatus | None = None
    changed_at: datetime | None = None
    changed_by: Subscriber | None = None


UNTOUCHED = Case()


def allowed(case: Case, moves: CaseMoves, by: Subscriber, now: datetime) -> tuple[CaseStatus, ...]:
    """The statuses this partner may report now, in the order of the table; taking the last one back stands last."""
    following = moves.following(case.status)
    if (
        case.before is None
        or case.before in following
        or case.changed_at is None
        or case.changed_by != by
        or now > case.changed_at + moves.undo
    ):
        return following
    return (*following, case.before)
