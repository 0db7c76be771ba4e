"""The life of a delivery, as one table.

Everything that changes a delivery's state asks this table; a move that is not in it is illegal. The
diagram in docs/ is drawn from it, so it cannot lie. Nothing else may be decided here.
"""

from __future__ import annotations

from enum import StrEnum

from hub.domain.errors import IllegalMove


class State(StrEnum):
    PLANNED = "planned"
    IN_FLIGHT = "in_flight"
    WAITING = "waiting"
    PARKED = "parked"
    DELIVERED = "delivered"
    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


MOVES: dict[tuple[State, State], str] = {
    (State.PLANNED, State.IN_FLIGHT): "a worker claims it",
    (State.PLANNED, State.WAITING): "its endpoint is known to be away",
    (State.PLANNED, State.WITHDRAWN): "a newer decision no longer names it",
    (State.PLANNED, State.EXPIRED): "it was kept too long",
    (State.PLANNED, State.ACKNOWLEDGED): "the partner took it from its mailbox",
    (State.IN_FLIGHT, State.DELIVERED): "the partner's server took it",
    (State.IN_FLIGHT, State.WAITING): "the attempt failed, another will follow",
    (State.IN_FLIGHT, State.PARKED): "refused for good, or tried for the last time",
    (State.IN_FLIGHT, State.ACKNOWLEDGED): "the partner took it from its mailbox",
    (State.IN_FLIGHT, State.WITHDRAWN): "asked for during an attempt that failed or was lost",
    (State.WAITING, State.IN_FLIGHT): "its wait is over, a worker claims it",
    (State.WAITING, State.PARKED): "an operator stops the tries",
    (State.WAITING, State.WITHDRAWN): "a newer decision no longer names it",
    (State.WAITING, State.EXPIRED): "it was kept too long",
    (State.WAITING, State.ACKNOWLEDGED): "the partner took it from its mailbox",
    (State.WAITING, State.DELIVERED): "late good news of this sending",
    (State.WAITING, State.PLANNED): "sent again before its wait is over",
    (State.PARKED, State.PLANNED): "sent again",
    (State.PARKED, State.WITHDRAWN): "a newer decision no longer names it",
    (State.PARKED, State.EXPIRED): "it was kept too long",
    (State.PARKED, State.ACKNOWLEDGED): "the partner took it from its mailbox",
    (State.PARKED, State.DELIVERED): "late good news of this sending",
    (State.DELIVERED, State.ACKNOWLEDGED): "the partner says it has it",
    (State.DELIVERED, State.RETURNED): "the partner says it is not for it",
    (State.DELIVERED, State.PARKED): "this sending bounced",
    (State.DELIVERED, State.PLANNED): "replayed, or its partner's successor looks into no mailbox",
    (State.ACKNOWLEDGED, State.PLANNED): "sent again",
    (State.RETURNED, State.PLANNED): "sent again",
    (State.WITHDRAWN, State.PLANNED): "decided anew, sent again",
    (State.WITHDRAWN, State.DELIVERED): "late good news, listed as disclosed",
    (State.EXPIRED, State.PLANNED): "decided anew, sent again",
    (State.EXPIRED, State.DELIVERED): "late good news, listed as disclosed",
}

IN_MOTION = frozenset({State.PLANNED, State.IN_FLIGHT, State.WAITING})
"""Not at rest: a delivery in one of these has exactly one wake-up, its due time."""


def may_move(source: State, target: State) -> bool:
    return (source, target) in MOVES


def move(source: State, target: State) -> State:
    """`target`, if the table allows it. Raises IllegalMove."""
    if (source, target) not in MOVES:
        raise IllegalMove(f"no move from {source} to {target}")
    return target


def sources_of(target: State) -> frozenset[State]:
    """The states from which `target` can be reached in one move."""
    return frozenset(source for source, reached in MOVES if reached is target)
