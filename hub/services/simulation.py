"""Simulation: how the submissions of a past period would be routed by another rule book.

Business of this room: reading what was received page by page, deciding it anew, and counting what would
differ from what was decided first. It writes nothing and sends nothing; what it keeps grows with partners,
never with submissions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from hub.domain.differences import VerdictDifference, between_verdicts
from hub.domain.identity import Subscriber
from hub.domain.matching import match_all
from hub.domain.rule_book import RuleBook
from hub.ports.views import Received, ReceivedViews


@dataclass(slots=True)
class Tally:
    """How many submissions, and the first of them."""

    count: int = 0
    examples: list[UUID] = field(default_factory=list)

    def add(self, submission: UUID, most: int) -> None:
        self.count += 1
        if len(self.examples) < most:
            self.examples.append(submission)


@dataclass(frozen=True, slots=True)
class PartnerTally:
    """What would change for one partner: submissions it would get, would no longer get, and would get
    with other files or by another way."""

    gained: Tally = field(default_factory=Tally)
    lost: Tally = field(default_factory=Tally)
    altered: Tally = field(default_factory=Tally)

    @property
    def count(self) -> int:
        return self.gained.count + self.lost.count + self.altered.count


@dataclass(frozen=True, slots=True)
class Simulation:
    """`compared` submissions had been decided, `differ` of them would be decided otherwise; `undecided` had
    not been decided yet. `outcomes`: from what came of it to what would (`routed`, `unroutable`, a reason),
    where that differs."""

    compared: int
    differ: int
    undecided: int
    outcomes: Mapping[tuple[str, str], Tally]
    partners: Mapping[Subscriber, PartnerTally]


class SimulationRoom:
    """`examples`: how many submissions are named for each kind of difference."""

    def __init__(self, received: ReceivedViews, examples: int = 3, page: int = 1000) -> None:
        self._received = received
        self._examples = examples
        self._page = page

    async def run(
        self, book: RuleBook, since: datetime, until: datetime, procedure: str | None = None
    ) -> Simulation:
        """What was received from `since` on and before `until`, decided by `book`, against what was decided
        first."""
        counting = _Counting(self._examples)
        after: tuple[datetime, UUID] | None = None
        while page := await self._received.received(since, until, procedure, after, self._page):
            counting.add(page, book)
            last = page[-1].facts
            after = (last.received_at, last.submission)
        return counting.told()


@dataclass(slots=True)
class _Counting:
    most: int
    compared: int = 0
    differ: int = 0
    undecided: int = 0
    outcomes: dict[tuple[str, str], Tally] = field(default_factory=dict)
    partners: dict[Subscriber, PartnerTally] = field(default_factory=dict)

    def add(self, page: Sequence[Received], book: RuleBook) -> None:
        verdicts = match_all((one.facts for one in page), book)
        for one, verdict in zip(page, verdicts, strict=True):
            if one.verdict is None:
                self.undecided += 1
                continue
            self.compared += 1
            difference = between_verdicts(one.verdict, verdict)
            if difference is not None:
                self._note(one.facts.submission, difference)

    def _note(self, submission: UUID, difference: VerdictDifference) -> None:
        self.differ += 1
        words = (difference.before, difference.after)
        if words[0] != words[1]:
            self.outcomes.setdefault(words, Tally()).add(submission, self.most)
        for subscriber in difference.gained:
            self._of(subscriber).gained.add(submission, self.most)
        for subscriber in difference.lost:
            self._of(subscriber).lost.add(submission, self.most)
        for subscriber in difference.altered:
            self._of(subscriber).altered.add(submission, self.most)

    def _of(self, subscriber: Subscriber) -> PartnerTally:
        return self.partners.setdefault(subscriber, PartnerTally())

    def told(self) -> Simulation:
        return Simulation(self.compared, self.differ, self.undecided, self.outcomes, self.partners)
