"""A trial (essai) of an endpoint: what was looked at, step by step, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class StepState(StrEnum):
    WELL = "well"
    WRONG = "wrong"
    NOTED = "noted"
    """Nothing is wrong; there is something to know, or it was left out."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a trial looked at. `name` is a word of ours (`name`, `connection`, `host_key`, `login` …); `fr`
    and `en` say in a sentence what was found, and where something is wrong, what it should be: never a secret, never a
    text of the partner's server. `cause`: what an attempt would be deferred or refused for."""

    name: str
    state: StepState
    fr: str
    en: str
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """Of one endpoint of a partner. `notice`: of where its notices go, not its parcels."""

    channel: str
    notice: bool
    steps: Sequence[Step]

    @property
    def is_well(self) -> bool:
        return all(step.state is not StepState.WRONG for step in self.steps)
