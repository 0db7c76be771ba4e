"""The ledger: two equations, kept as numbers and sums of hashes, so that one id that came, went or moved shows.

Business of this file: the sides of both equations, in which of them a delivery stands, and comparing what was kept
with what the rows say. How sums are kept and rows are read is the store's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from hub.domain.identity import ParcelKind
from hub.domain.lifecycle import State

_WRAP = 1 << 64
_HALF = 1 << 63


class Term(StrEnum):
    """The sides of the equations. *Submissions*: accepted = undecided + routed + unroutable + set aside.
    *Deliveries*: named = the others. An attempt is no term of its own: the first of a sending counts as planned, a
    later one as waiting, so that claiming writes nothing into the ledger."""

    ACCEPTED = "accepted"
    UNDECIDED = "undecided"
    ROUTED = "routed"
    UNROUTABLE = "unroutable"
    SET_ASIDE = "set_aside"
    NAMED = "named"
    PLANNED = "planned"
    WAITING = "waiting"
    PARKED = "parked"
    DELIVERED = "delivered"
    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


DECIDED = (Term.ROUTED, Term.UNROUTABLE, Term.SET_ASIDE)
STANDING = tuple(Term(state) for state in State if state is not State.IN_FLIGHT)
"""Those of a delivery."""
SUBMISSIONS = ""
"""In place of a kind of delivery: the first equation."""


def hour_since_epoch(at: datetime) -> int:
    return int(at.timestamp() // 3600)


def term(state: State, attempt: int) -> Term:
    """`attempt` counts within the sending, from 1."""
    if state is not State.IN_FLIGHT:
        return Term(state)
    return Term.WAITING if attempt > 1 else Term.PLANNED


class Tally(NamedTuple):
    """How many ids, and the lowest 64 bits of what their hashes come to, as a signed number."""

    number: int = 0
    sum: int = 0

    def plus(self, other: Tally) -> Tally:
        return Tally(self.number + other.number, wrapped(self.sum + other.sum))

    def minus(self, other: Tally) -> Tally:
        return Tally(self.number - other.number, wrapped(self.sum - other.sum))


NOTHING = Tally()


def wrapped(sum: int) -> int:
    return (sum + _HALF) % _WRAP - _HALF


class Bucket(NamedTuple):
    """Of a bucket, or of several together: `hour` since the epoch is that of receipt, or the first of a day;
    `kind`: of delivery, or SUBMISSIONS; `partner`: whom decisions name, '' for all of them."""

    hour: int
    procedure: str
    kind: str
    partner: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared: received from the hour `first` on and before `end`; of this procedure; for this partner, by
    the name that decisions call it. None: all."""

    first: int = 0
    end: int = 2**31 - 1
    procedure: str | None = None
    partner: str | None = None


WHOLE = Scope()


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that is not accounted for. `id`: of the submission (where the place is none of deliveries) or the
    delivery; None: it is known of the whole bucket only."""

    place: Bucket
    id: UUID | None
    what: str

    def __str__(self) -> str:
        kind = {SUBMISSIONS: "submission", ParcelKind.SUBMISSION.value: "delivery"}.get(
            self.place.kind, self.place.kind
        )
        name = f"{kind} {self.id}" if self.id is not None else f"{kind}, somewhere in its bucket,"
        hour = datetime.fromtimestamp(self.place.hour * 3600, UTC)
        where = " ".join(part for part in (self.place.procedure, self.place.partner) if part)
        return f"{name} {self.what} ({where}, received from {hour:%Y-%m-%d %H:%M} UTC on)"


Book = Mapping[Bucket, Mapping[Term, Tally]]


def differing(kept: Book, read: Book, alone: Iterable[str] = ()) -> list[Bucket]:
    """Where what was kept is not what the rows say, or an equation does not hold; sorted. `alone`: kinds that no
    decision names."""
    beside = frozenset(alone)
    found = []
    for place in kept.keys() | read.keys():
        had, has = kept.get(place, {}), read.get(place, {})
        if moved(had, has) or not (place.kind in beside or holds(place.kind, has)):
            found.append(place)
    return sorted(found)


def moved(kept: Mapping[Term, Tally], read: Mapping[Term, Tally]) -> dict[Term, Tally]:
    """By term, how many more were kept than are there; nothing where they are the same."""
    over = {
        side: kept.get(side, NOTHING).minus(read.get(side, NOTHING)) for side in kept.keys() | read.keys()
    }
    return {side: over[side] for side in Term if side in over and over[side] != NOTHING}


def holds(kind: str, sides: Mapping[Term, Tally]) -> bool:
    """Whether the equation of this kind holds, ids and all."""
    first, others = (
        (Term.ACCEPTED, (Term.UNDECIDED, *DECIDED)) if kind == SUBMISSIONS else (Term.NAMED, STANDING)
    )
    together = NOTHING
    for side in others:
        together = together.plus(sides.get(side, NOTHING))
    return sides.get(first, NOTHING) == together and all(tally.number >= 0 for tally in sides.values())
