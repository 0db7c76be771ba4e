"""Routing: from each submission's record to one decision, by the rule book in force when it was received.

Reads and writes the log; reads the rule book; knows no store. A record that cannot be read is decided too:
set aside, with a reason and never its bytes; so is one whose edition of the rule book is gone. But where nobody
can say yet which edition it is, or this process cannot read it (a newer one published it), nothing is decided:
another answer than that of who can read it would stand for ever. Such records wait, and their page with them;
what else stands on it is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never
from uuid import UUID

import structlog

from hub.domain.decisions import Decision, Routed, SetAside, Unroutable
from hub.domain.errors import Invalid, Pruned, RuleBookError, Unavailable
from hub.domain.matching import FIRST, decide
from hub.domain.rule_book import Snapshot
from hub.domain.submission import RoutingFacts
from hub.ports.log import Entry, Log, LogReader, Position, Record, Topic
from hub.services.library import Library, Missing
from hub.services.shelf import Shelf, Unread, submission_of

GROUP = "routing"
_UNDECIDED_BY_ANY_BOOK = 0

log = structlog.get_logger()


class RoutingRoom:
    """`read` and `write` turn records into values and back (see `hub.wire`); `read` raises Invalid."""

    def __init__(
        self,
        journey: Log,
        library: Library,
        read: Callable[[Record], RoutingFacts],
        write: Callable[[Decision], Record],
        shelf: Shelf,
        page: int = 500,
    ) -> None:
        self._journey = journey
        self._library = library
        self._read = read
        self._write = write
        self._shelf = shelf
        self._page = page
        # Decided beside what waits: not again at each look at their page.
        self._ahead: frozenset[Position] = frozenset()

    async def run_once(self, reader: LogReader, wait: float) -> int:
        """One page of submissions; waits up to `wait` seconds for the first. How many were read. When some
        must wait, the others are in the log, and the page is not done: raises why, RuleBookError or
        Unavailable."""
        entries = await reader.read(self._page, wait)
        decisions, waiting = await self._decide([one for one in entries if one.position not in self._ahead])
        if decisions:
            await self._journey.append(Topic.ROUTINGS, [self._write(decision) for decision in decisions])
        if waiting:
            self._ahead = frozenset(entry.position for entry in entries) - waiting.keys()
            raise next(iter(waiting.values()))
        self._ahead = frozenset()
        if entries:
            await reader.done(entries)
        return len(entries)

    async def _decide(self, entries: Sequence[Entry]) -> tuple[list[Decision], dict[Position, Missing]]:
        """In the order of the page, which is that of each partner's numbers; and why others must wait."""
        told = [self._told(entry) for entry in entries]
        await self._shelf.put(Topic.SUBMISSIONS, [one for one in told if isinstance(one, Unread)])
        readable = [facts for facts in told if not isinstance(facts, Unread)]
        in_force = await self._library.in_force({facts.received_at for facts in readable})
        decisions: list[Decision] = []
        waiting: dict[Position, Missing] = {}
        for entry, facts in zip(entries, told, strict=True):
            if isinstance(facts, Unread):
                decisions.extend(_unreadable(entry))
                continue
            found = in_force[facts.received_at]
            match found:
                case Snapshot():
                    decisions.append(_noted(facts, decide(facts, found)))
                case Pruned():
                    # It was decided once, or its edition would be here: whatever this says is skipped.
                    decisions.append(_noted(facts, _without_a_book(facts, "rule_book_pruned")))
                case RuleBookError() | Unavailable():
                    waiting[entry.position] = found
                case _:
                    assert_never(found)
        return decisions, waiting

    def _told(self, entry: Entry) -> RoutingFacts | Unread:
        try:
            return self._read(entry.record)
        except Invalid as error:
            return Unread(entry, error)


def _noted(facts: RoutingFacts, decision: Decision) -> Decision:
    log.info(
        "submission.routed",
        submission=str(facts.submission),
        procedure=facts.procedure,
        snapshot=decision.snapshot,
        verdict=verdict_word(decision),
        recipients=len(decision.verdict.recipients) if isinstance(decision.verdict, Routed) else 0,
    )
    return decision


def _without_a_book(facts: RoutingFacts, reason: str) -> Decision:
    log.error("submission.set_aside", submission=str(facts.submission), reason=reason)
    return Decision(facts.submission, FIRST, _UNDECIDED_BY_ANY_BOOK, SetAside(reason))


def _unreadable(entry: Entry) -> list[Decision]:
    """The key still names the submission, unless it too is damaged: then nothing is decided."""
    name = submission_of(entry.record.key)
    if name is None:
        return []
    return [Decision(name, FIRST, _UNDECIDED_BY_ANY_BOOK, SetAside("unreadable_record"))]


def verdict_word(decision: Decision) -> str:
    """`routed`, `unroutable` or `set_aside`."""
    match decision.verdict:
        case Routed():
            return "routed"
        case Unroutable():
            return "unroutable"
        case SetAside():
            return "set_aside"
