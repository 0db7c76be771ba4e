"""Digests (récapitulatifs): what is due for a partner goes in one mail at certain hours, instead of one by one.

Pure: instants are handed in. Business of this file: which hours these are, and that a digest's deliveries come to the
same end. Each mail of a digest is an issue: its list is fixed before its first attempt, and every further attempt
carries that list. When a delivery of it was withdrawn, moved or parked meanwhile, the next issue goes without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from uuid import UUID

from hub.domain.delivery import Attempt, Conclusion, Outcome, conclude
from hub.domain.pace import HERE
from hub.domain.partner import Endpoint
from hub.domain.retry import RetryPolicy


class Frequency(StrEnum):
    """How often a partner wants a mail; what an endpoint's setting `frequency` says."""

    UNIT = "unit"
    """One for each delivery, at once."""
    DAILY = "daily"
    TWICE_DAILY = "twice_daily"


@dataclass(frozen=True, slots=True)
class DigestHours:
    """At which hours, on the clocks of Paris, digests leave; at least one each."""

    daily: tuple[time, ...] = (time(8),)
    twice_daily: tuple[time, ...] = (time(8), time(14))

    def of(self, frequency: Frequency) -> tuple[time, ...]:
        return self.twice_daily if frequency is Frequency.TWICE_DAILY else self.daily


USUAL_HOURS = DigestHours()


@dataclass(frozen=True, slots=True)
class Issue:
    """One mail of a digest: its name for ever; of which slot, the how manieth, and which attempt at it this is."""

    id: UUID
    slot: datetime
    number: int
    attempt: int


def frequency_of(endpoint: Endpoint) -> Frequency:
    told = endpoint.settings.get("frequency")
    return Frequency(str(told)) if told in tuple(Frequency) else Frequency.UNIT


def slots_around(hours: Sequence[time], now: datetime) -> tuple[datetime, datetime]:
    """The last slot that has begun, and the next one. An hour that comes twice is the first one."""
    today = now.astimezone(HERE).date()
    slots = sorted(
        datetime.combine(today + timedelta(days=day), hour, HERE).astimezone(UTC)
        for day in (-1, 0, 1)
        for hour in hours
    )
    return max(slot for slot in slots if slot <= now), min(slot for slot in slots if slot > now)


def conclude_issue(
    issue: Issue, attempts: Sequence[Attempt], outcomes: Sequence[Outcome], policy: RetryPolicy, jitter: float
) -> list[Conclusion]:
    """What an attempt at an issue means for its deliveries. Their waits follow the issue's own attempts, however
    often each was tried before: they are due again together."""
    return [
        replace(conclude(replace(attempt, number=issue.attempt), outcome, policy, jitter), attempt=attempt)
        for attempt, outcome in zip(attempts, outcomes, strict=True)
    ]
