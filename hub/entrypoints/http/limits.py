"""Limits: how much, how often and how many at a time a sender may post, and when the disk is too full.

Kept in the memory of one process and bounded: several processes each count for themselves. What stands
here is fairness among senders, not protection against the whole world.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from hub.entrypoints.http.problems import Problem
from hub.ports.attachments import Attachments


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds, rates in posts per second; all but `reserve` are per sender."""

    body: int = 2 * 2**30
    """A whole post, files included."""
    document: int = 1_200_000
    """A JSON body with its inline files, the `submission` part of a multipart, a line of a batch."""
    rate: float = 50.0
    burst: int = 200
    """How many posts at once a sender that was quiet may make. A batch counts as one post."""
    in_flight: int = 16
    longest_post: float = 3600.0
    batch_lines: int = 20_000
    batch_group: int = 100
    """Lines of a batch that are accepted in one transaction."""
    reserve: float = 0.05
    """The share of the disk that posts must leave free."""
    senders: int = 10_000
    """How many senders are remembered."""


_AWAY = 10
"""Seconds after which a sender may ask again when it is not its own fault."""


@dataclass(slots=True)
class _Account:
    tokens: float
    seen: float
    in_flight: int = 0


class Turnstile:
    """Counts the posts of each sender. `now`: seconds; a clock that steps back gives nothing away."""

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def enter(self, sender: str) -> None:
        """One more post. Raises Problem 429; whoever entered must leave."""
        account = self._account(sender)
        if account.in_flight >= self._limits.in_flight:
            raise too_many("in_flight", "too many posts of this sender are under way", 1)
        if account.tokens < 1:
            wait = math.ceil((1 - account.tokens) / self._limits.rate)
            raise too_many("rate", "this sender posts too often", max(wait, 1))
        account.tokens -= 1
        account.in_flight += 1

    def leave(self, sender: str) -> None:
        self._accounts[sender].in_flight -= 1

    def _account(self, sender: str) -> _Account:
        now = self._now()
        account = self._accounts.get(sender)
        if account is None:
            self._forget_one()
            account = self._accounts[sender] = _Account(float(self._limits.burst), now)
        self._accounts.move_to_end(sender)
        earned = max(now - account.seen, 0.0) * self._limits.rate
        account.tokens = min(account.tokens + earned, float(self._limits.burst))
        account.seen = now
        return account

    def _forget_one(self) -> None:
        """The one that was quiet longest; whoever has a post under way is never forgotten."""
        if len(self._accounts) < self._limits.senders:
            return
        for sender, account in self._accounts.items():
            if account.in_flight == 0:
                del self._accounts[sender]
                return


def too_many(rule: str, detail: str, wait: int) -> Problem:
    return Problem(429, rule, detail, headers={"Retry-After": str(wait)})


async def keep_reserve(attachments: Attachments, limits: Limits) -> None:
    """Raises Problem 503 when less room is left than the reserve: what was accepted must stay deliverable."""
    if await attachments.room() < limits.reserve:
        raise Problem(503, "disk_full", "there is too little room left", headers={"Retry-After": str(_AWAY)})
