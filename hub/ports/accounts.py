"""The ledger, and the accounts that are compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hub.domain.ledger import WHOLE, Discrepancy, Scope, Term


@dataclass(frozen=True, slots=True)
class SubmissionAccount:
    """accepted = routed + unroutable + set_aside + undecided, for one procedure."""

    procedure: str
    accepted: int
    routed: int
    unroutable: int
    set_aside: int
    undecided: int


@dataclass(frozen=True, slots=True)
class DeliveryAccount:
    """named = the sum of `terms`, for one procedure and kind of delivery. `named` is counted from the decisions,
    `terms` from the deliveries. Other kinds than submissions (news, notices) are named by none: they are counted
    beside."""

    procedure: str
    kind: str
    named: int
    terms: Mapping[Term, int]


@dataclass(frozen=True, slots=True)
class StandingAccount:
    """Where the deliveries of one kind and procedure are now: with this partner ('' where none was asked for), on
    this channel."""

    kind: str
    procedure: str
    partner: str
    channel: str
    terms: Mapping[Term, int]


@dataclass(frozen=True, slots=True)
class Accounts:
    """The two equations, read in one transaction, and compared with what transactions counted. `standing` breaks the
    right side of the second one down. `strays`: records beside the accounts."""

    submissions: tuple[SubmissionAccount, ...]
    """None where a partner is asked for: the first equation knows no partners."""
    deliveries: tuple[DeliveryAccount, ...]
    standing: tuple[StandingAccount, ...]
    differences: tuple[Discrepancy, ...]
    unopened: int
    """Buckets that differ as well, and were not looked into for ids."""
    strays: int


class Ledger(Protocol):
    async def accounts(self, scope: Scope = WHOLE) -> Accounts: ...

    async def note(self, check: str, differences: int) -> None:
        """What this check (`recent`, `whole`) found, for all to see."""
        ...

    async def noted(self) -> Mapping[str, datetime]:
        """When each check was last made."""
        ...

    async def fold(self, limit: int) -> int:
        """Add what transactions counted up into buckets: the oldest so many transactions, fewer if there are fewer;
        how many. 0 also while somebody else is at it."""
        ...
