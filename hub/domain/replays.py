"""A replay (rejeu): what an operator orders to be sent again, and the life of that order, as one table.

Business of this file: which choices can be made, and who may do what to an order when. What is decided anew
for a submission is `redecision`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from hub.domain.errors import Flaw, IllegalMove, Invalid
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State, may_move


class ReplayRules(StrEnum):
    """By which rules: those that decided then (each delivery goes again as it is), or those of today (each
    submission is decided anew)."""

    THEN = "then"
    TODAY = "today"


class SubmissionState(StrEnum):
    """What a submission's newest decision came to."""

    ROUTED = "routed"
    UNROUTABLE = "unroutable"
    SET_ASIDE = "set_aside"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deliveries: every field given must hold. None: any. `vendor`: of their partners' software. Periods
    are since <= an instant < until; `created`: when it was planned first, `changed`: when it came to its
    state."""

    deliveries: tuple[UUID, ...] | None = None
    submission: UUID | None = None
    subscriber: Subscriber | None = None
    vendor: str | None = None
    channel: str | None = None
    procedure: str | None = None
    cause: str | None = None
    state: State = State.PARKED
    created_since: datetime | None = None
    created_until: datetime | None = None
    changed_since: datetime | None = None
    changed_until: datetime | None = None

    def flaws(self) -> Iterator[Flaw]:
        if not may_move(self.state, State.PLANNED):
            yield Flaw("/state", "not_replayable", "what is in this state is not sent again")
        yield from _period("created", self.created_since, self.created_until)
        yield from _period("changed", self.changed_since, self.changed_until)


@dataclass(frozen=True, slots=True)
class SubmissionSelection:
    """Which submissions, by their newest decision; those that have none are never among them. `cause`: the
    reason why it was set aside."""

    submissions: tuple[UUID, ...] | None = None
    procedure: str | None = None
    state: SubmissionState | None = None
    cause: str | None = None
    received_since: datetime | None = None
    received_until: datetime | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self == SubmissionSelection():
            yield Flaw("/of", "everything", "say which submissions: by id, procedure, state or period")
        yield from _period("received", self.received_since, self.received_until)
        if self.cause is not None and self.state is not SubmissionState.SET_ASIDE:
            yield Flaw("/cause", "set_aside_only", "only what is set aside has a cause: say so in state")


Chosen = Selection | SubmissionSelection


def as_words(chosen: Chosen) -> dict[str, Any]:
    """What is given, by the names of the fields, in texts and lists of them: as it is kept and shown."""
    of = "deliveries" if isinstance(chosen, Selection) else "submissions"
    told = {name: getattr(chosen, name) for name in type(chosen).__dataclass_fields__}
    return {"of": of, **{name: _word(value) for name, value in told.items() if value is not None}}


def from_words(told: Mapping[str, Any]) -> Chosen:
    """What `as_words` told; an order that is older than its choice of submissions says nothing `of` it."""
    fields = {name: _READ.get(name, _as_it_is)(value) for name, value in told.items() if name != "of"}
    if told.get("of") == "submissions":
        state = fields.pop("state", None)
        return SubmissionSelection(state=None if state is None else SubmissionState(state), **fields)
    return Selection(state=State(fields.pop("state")), **fields)


def _word(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case Subscriber():
            return str(value)
        case tuple():
            return [str(one) for one in value]
        case _:
            return str(value)


def _ids(value: Iterable[str]) -> tuple[UUID, ...]:
    return tuple(map(UUID, value))


def _as_it_is(value: Any) -> Any:
    return value


_READ: Mapping[str, Callable[[Any], Any]] = {
    "deliveries": _ids,
    "submissions": _ids,
    "submission": UUID,
    "subscriber": Subscriber.parse,
    **dict.fromkeys(
        (f"{name}_{end}" for name in ("created", "changed", "received") for end in ("since", "until")),
        datetime.fromisoformat,
    ),
}


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """What is ordered. `rate`: deliveries a second at most; None: as fast as it goes. A selection of
    submissions is decided by the rules of today."""

    selection: Chosen
    author: str
    reason: str
    rules: ReplayRules = ReplayRules.THEN
    rate: float | None = None

    def check(self) -> None:
        """Raises Invalid with every flaw."""
        flaws = list(self.selection.flaws())
        if isinstance(self.selection, SubmissionSelection) and self.rules is ReplayRules.THEN:
            flaws.append(Flaw("/rules", "today_only", "submissions are decided anew: by the rules of today"))
        if self.rate is not None and not 0 < self.rate <= FASTEST:
            flaws.append(Flaw("/rate", "rate", f"a rate lies above 0 and is at most {FASTEST}"))
        if flaws:
            raise Invalid(*flaws)


FASTEST = 100_000
"""Deliveries a second; who wants more gives no rate."""


def _period(name: str, since: datetime | None, until: datetime | None) -> Iterator[Flaw]:
    if since is not None and until is not None and since >= until:
        yield Flaw(f"/{name}_until", "period", "the period ends before it begins")


# --- the life of an order -----------------------------------------------------------------------------


class ReplayState(StrEnum):
    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class ReplayVerb(StrEnum):
    """What an operator may do to an order."""

    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


REPLAY_MOVES: dict[tuple[ReplayState, ReplayVerb], ReplayState] = {
    (ReplayState.AWAITING_APPROVAL, ReplayVerb.APPROVE): ReplayState.RUNNING,
    (ReplayState.AWAITING_APPROVAL, ReplayVerb.CANCEL): ReplayState.CANCELLED,
    (ReplayState.RUNNING, ReplayVerb.PAUSE): ReplayState.PAUSED,
    (ReplayState.RUNNING, ReplayVerb.CANCEL): ReplayState.CANCELLED,
    (ReplayState.PAUSED, ReplayVerb.RESUME): ReplayState.RUNNING,
    (ReplayState.PAUSED, ReplayVerb.CANCEL): ReplayState.CANCELLED,
}
"""A running one is finished when nothing of it is left to do; what was done stays done when it is cancelled."""


def first_state(matched: int, approval: int | None) -> ReplayState:
    """Of an order that matched so many: above `approval` somebody else must approve it (None: never)."""
    if not matched:
        return ReplayState.FINISHED
    if approval is not None and matched > approval:
        return ReplayState.AWAITING_APPROVAL
    return ReplayState.RUNNING


def turned(state: ReplayState, verb: ReplayVerb, author: str, operator: str) -> ReplayState:
    """Where `operator` brings an order of `author`. Raises IllegalMove, also for who approves an order of its
    own."""
    target = REPLAY_MOVES.get((state, verb))
    if target is None:
        raise IllegalMove(f"a replay that is {state.replace('_', ' ')}: {verb} does nothing to it")
    if verb is ReplayVerb.APPROVE and _same(author, operator):
        raise IllegalMove("a replay is approved by another operator than its author")
    return target


def _same(author: str, operator: str) -> bool:
    return author.casefold() == operator.casefold()
