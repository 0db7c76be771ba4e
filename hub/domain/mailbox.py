"""The mailbox (boîte de dépôt) of a partner: which of its deliveries are found there, and where.

Every partner has one, whatever its channel. Business of this file: the table of that, and how long a program of a
partner may hold what it took.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from hub.domain.lifecycle import State
from hub.domain.partner import MAILBOX

SHORTEST_LEASE = timedelta(seconds=1)
LONGEST_LEASE = timedelta(hours=1)

MOST_LEASED = 2000
"""Parcels of one partner that its programs hold together: what they hold is stepped over by who looks for more."""

LATEST = 2000
"""How many of a partner's latest numbers are looked through for the beginning of a reference."""


class Drawer(StrEnum):
    """A part of a mailbox. What is in none of them is not, or not any more, its partner's."""

    OPEN = "open"
    """What the partner is to take note of: it lies here, is still on its way elsewhere, or could not be delivered."""
    HANDED_OVER = "handed_over"
    """What was delivered on another channel, and is not acknowledged."""
    ACKNOWLEDGED = "acknowledged"


_DRAWERS: Mapping[State, Drawer | None] = {
    State.PLANNED: Drawer.OPEN,
    State.IN_FLIGHT: Drawer.OPEN,
    State.WAITING: Drawer.OPEN,
    State.PARKED: Drawer.OPEN,
    State.DELIVERED: Drawer.HANDED_OVER,
    State.ACKNOWLEDGED: Drawer.ACKNOWLEDGED,
    State.RETURNED: None,
    State.WITHDRAWN: None,
    State.EXPIRED: None,
}


KEPT = frozenset(state for state, place in _DRAWERS.items() if place is not None)
"""States whose deliveries are in some drawer."""


def drawer(state: State, channel: str) -> Drawer | None:
    """`channel`: the one it was delivered on. What was delivered into the mailbox lies there."""
    if state is State.DELIVERED and channel == MAILBOX:
        return Drawer.OPEN
    return _DRAWERS[state]


def may_be_leased(state: State, channel: str) -> bool:
    """What is being attempted at this moment is given to no program."""
    return drawer(state, channel) is Drawer.OPEN and state is not State.IN_FLIGHT
