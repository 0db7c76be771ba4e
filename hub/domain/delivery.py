"""A delivery (remise): one parcel for one subscriber; its attempts, and what comes of each.

What partners do is an outcome, a value. A cause is a word from a small vocabulary, `channel.reason`
(`sftp.connection_refused`, `webhook.http_503`), never a text that somebody else's server wrote. Such a text goes
beside it as `answer`: it changes nothing of what the outcome means, is kept sealed as evidence, and shown to nobody
but an operator who asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from hub.domain.lifecycle import State
from hub.domain.retry import Park, RetryPolicy, next_wait


class About(StrEnum):
    """Whether an outcome tells of this parcel alone, or of all that goes to the same endpoint. `EITHER`: of a refusal
    that says the same for both; what came beside it tells them apart (`hub.domain.circuit`)."""

    PARCEL = "parcel"
    ENDPOINT = "endpoint"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The partner's server said it has it. `receipt`: where or under which name, for the operator. `refused`: which
    of its addresses, by their places from 1, did not take it, while others did. `announced`: only that there is a
    parcel was told; what is in it lies in the mailbox still."""

    receipt: str
    refused: tuple[int, ...] = ()
    announced: bool = False
    answer: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Deferred:
    """It did not work, or nobody knows whether it did; trying again may help."""

    cause: str
    about: About = About.ENDPOINT
    retry_after: timedelta | None = None
    answer: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """Trying again unchanged cannot help."""

    cause: str
    about: About = About.PARCEL
    answer: bytes | None = field(default=None, repr=False, compare=False)


Outcome = Delivered | Deferred | Refused


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one sending. A replay begins a new sending; attempts count within it, from 1."""

    delivery: UUID
    sending: int
    number: int


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What an attempt means for its delivery: the state to go to, after which wait, for which cause. `note`: what
    else its journal is to say; `sealed`: the outcome's answer, as it may be stored."""

    attempt: Attempt
    state: State
    outcome: Outcome
    wait: timedelta | None = None
    note: str = ""
    sealed: bytes | None = field(default=None, repr=False)

    @property
    def cause(self) -> str | None:
        return None if isinstance(self.outcome, Delivered) else self.outcome.cause


def hold_back(conclusions: Sequence[Conclusion]) -> tuple[tuple[Conclusion, ...], Conclusion | None]:
    """An endpoint that refuses is asked once. The first delivery it refused is parked with the cause, and given
    beside (None: it refused none); the others that went with it wait behind it, as if they had not been tried."""
    first: Conclusion | None = None
    held: list[Conclusion] = []
    for conclusion in conclusions:
        outcome = conclusion.outcome
        if isinstance(outcome, Refused) and outcome.about is About.ENDPOINT:
            if first is None:
                first = conclusion
            else:
                conclusion = replace(conclusion, state=State.WAITING, wait=timedelta(0))
        held.append(conclusion)
    return tuple(held), first


def conclude(attempt: Attempt, outcome: Outcome, policy: RetryPolicy, jitter: float) -> Conclusion:
    """The next state of a delivery after an attempt. Pure: `jitter` in [-1, 1] is handed in."""
    match outcome:
        case Delivered():
            return Conclusion(attempt, State.DELIVERED, outcome)
        case Refused():
            return Conclusion(attempt, State.PARKED, outcome)
        case Deferred(retry_after=retry_after):
            wait = next_wait(policy, attempt.number, jitter, retry_after)
            if isinstance(wait, Park):
                return Conclusion(attempt, State.PARKED, outcome)
            return Conclusion(attempt, State.WAITING, outcome, wait)
        case _:
            assert_never(outcome)
