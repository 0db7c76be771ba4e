"""Replays, and decisions by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from hub.domain.decisions import Verdict
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.domain.replays import Chosen, ReplayOrder, ReplayState, ReplayVerb
from hub.domain.submission import RoutingFacts


@dataclass(frozen=True, slots=True)
class Preview:
    """What a choice matches at this moment: how many (deliveries, or submissions), how many bytes of files, and
    some of them."""

    matched: int
    bytes: int
    examples: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """An order to send again, and how far it is. `matched` items are fixed when it is given. `sent` again so far,
    `skipped` because they had moved on by themselves. By the rules of today also: next revisions planned
    (`revised`), deliveries to who was not chosen before (`planned`), `withdrawn`, `unchanged`, and `disclosed`:
    received by who is not chosen any more."""

    id: UUID
    order: ReplayOrder
    state: ReplayState
    created_at: datetime
    approved_by: str | None
    matched: int
    bytes: int
    sent: int
    skipped: int
    revised: int
    planned: int
    withdrawn: int
    unchanged: int
    disclosed: int
    pending: int
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Disclosure:
    """A delivery that its partner received and that no decision names any more; or may have received, when its
    last attempt was lost (not `certain`)."""

    delivery: UUID
    submission: UUID
    subscriber: Subscriber
    state: State
    certain: bool


@dataclass(frozen=True, slots=True)
class TodaysRules:
    """The rule book in force now: its number, and what it says of a submission."""

    snapshot: int
    decide: Callable[[RoutingFacts], Verdict]


RulesNow = Callable[[], Awaitable[TodaysRules]]
"""Asked when they are needed. Raises RuleBookError when they cannot be read."""


@dataclass(frozen=True, slots=True)
class Rerouted:
    """What a decision by hand came to: its number, the delivery it names instead, and whether the former partner
    had received the other one."""

    decision: int
    delivery: UUID
    disclosed: bool


class Replays(Protocol):
    async def preview(self, chosen: Chosen, examples: int = 10) -> Preview: ...

    async def begin(self, id: UUID, order: ReplayOrder, approval: int | None = None) -> Replay:
        """Fix what is matched. Of more than `approval` items, it waits for another operator to approve it. The
        same id again: the replay that is there, whatever else is said. Raises Invalid."""
        ...

    async def send_again(self, limit: int, rules: RulesNow | None = None) -> int:
        """Treat a page of the running replay that waits for longest, at its rate: plan deliveries again, as new
        sendings, or decide their submissions anew; how many items were treated. Without `rules`, those by the
        rules of today wait. Raises RuleBookError, nothing done."""
        ...

    async def turn(self, id: UUID, verb: ReplayVerb, operator: str) -> Replay | None:
        """Approve, pause, resume or cancel it; None: there is none. When this returns, nothing more is planned
        by one that is paused or cancelled. Raises IllegalMove."""
        ...

    async def replay(self, id: UUID) -> Replay | None: ...

    async def newest(self, limit: int) -> Sequence[Replay]: ...

    async def disclosures(self, id: UUID, after: UUID | None, limit: int) -> Sequence[Disclosure]:
        """By delivery, above `after`: also what was received only after it had been withdrawn."""
        ...

    async def reroute(self, delivery: UUID, to: Subscriber, author: str, reason: str) -> Rerouted | None:
        """A decision by hand: another delivery is planned instead of this one, which is withdrawn, if its partner
        has not received it. None: there is no such delivery. Raises Invalid, naming /to or /delivery."""
        ...
