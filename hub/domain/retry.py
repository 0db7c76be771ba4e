"""When to try again: an explicit list of waits, which an operator can read, and then park.

Pure: time is a duration, chance is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from hub.domain.pace import PartnerPace, Waits


@dataclass(frozen=True, slots=True)
class Park:
    """No wait is left: the delivery rests until an operator sends it again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`waits[n]` follows the failure of attempt n + 1; after the last, park. `limit` bounds one attempt's
    waiting for the partner's server; `spread` is the share by which a wait may be moved (0.2: ± 20 %)."""

    waits: Waits
    limit: timedelta
    spread: float = 0.2


@dataclass(frozen=True, slots=True)
class Policies:
    """Which waits hold where several have a say. The first of these that says any: the partner for the
    procedure, the partner, the procedure, the channel, the hub."""

    waits: Waits
    limit: timedelta
    of_channels: Mapping[str, Waits]
    of_procedures: Mapping[str, Waits]

    def policy(self, channel: str, procedure: str, pace: PartnerPace | None) -> RetryPolicy:
        said = (
            None if pace is None else pace.waits_of.get(procedure),
            None if pace is None else pace.waits,
            self.of_procedures.get(procedure),
            self.of_channels.get(channel),
        )
        return RetryPolicy(next((waits for waits in said if waits is not None), self.waits), self.limit)


def next_wait(
    policy: RetryPolicy, attempt: int, jitter: float, retry_after: timedelta | None = None
) -> timedelta | Park:
    """The wait after failed attempt number `attempt` (from 1); `jitter` in [-1, 1].

    A server's Retry-After lengthens the wait, never shortens it, and never beyond the longest wait of the
    policy: nobody else's header may hold a delivery for a year.
    """
    if attempt > len(policy.waits):
        return Park()
    wait = policy.waits[attempt - 1] * (1 + policy.spread * jitter)
    if retry_after is None or retry_after <= wait:
        return wait
    return min(retry_after, max(*policy.waits, wait))
