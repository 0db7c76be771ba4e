"""Explaining: why a submission goes to whom it goes, and why to nobody else. For people; matching is told by
the same lines that decide, so an explanation cannot say anything else than the decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hub.domain.conditions import sentence
from hub.domain.decisions import Verdict
from hub.domain.matching import match
from hub.domain.plans import Candidate, PlannedRule
from hub.domain.rule_book import RuleBook
from hub.domain.submission import RoutingFacts


@dataclass(frozen=True, slots=True)
class Look:
    """A place a rule looked at (None: it asks for none, or for one that the submission does not say), and
    somebody who was there, through a subscription or named by the rule. `why_not` None: it was chosen."""

    place: str | None
    subscriber: str | None
    subscription: str | None
    why_not: str | None


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A rule's part in a verdict: what became of it, and where it looked, in order."""

    rule: str
    recipient: str
    sentence: str
    looked: tuple[Look, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """`rules` in the order they were asked; a rule that nobody fell back on is not there. `visited`: how many
    candidates were weighed."""

    verdict: Verdict
    rules: tuple[RuleLine, ...]
    visited: int


def explain(submission: RoutingFacts, book: RuleBook) -> Explanation:
    """What `match` answers, with each step that led there."""
    notes = _Notes()
    verdict = match(submission, book, notes)
    lines = tuple(notes.lines())
    return Explanation(verdict, lines, notes.visited)


@dataclass(slots=True)
class _Note:
    rule: PlannedRule
    sentence: str | None = None
    looked: list[Look] = field(default_factory=list)


@dataclass(slots=True)
class _Notes:
    """Implements `hub.domain.choosing.Trace`."""

    notes: dict[str, _Note] = field(default_factory=dict)
    last: _Note | None = None
    visited: int = 0

    def outranked(self, rule: PlannedRule) -> None:
        self._note(rule).sentence = f"another rule for {rule.recipient} has a higher priority"

    def not_in_force(self, rule: PlannedRule) -> None:
        self._note(rule).sentence = "it was not in force when the submission was received"

    def condition_fails(self, rule: PlannedRule) -> None:
        asked = "" if rule.rule.when is None else sentence(rule.rule.when)
        self._note(rule).sentence = f"its condition does not hold: {asked}"

    def looks_at(self, rule: PlannedRule, place: str | None) -> None:
        silent = place is None and rule.fact != ""
        why_not = f"the submission does not say {rule.fact}" if silent else "nobody subscribes here"
        self._note(rule).looked.append(Look(place, None, None, why_not))

    def weighs(self, candidate: Candidate, why_not: str | None) -> None:
        assert self.last is not None  # a rule looks before it weighs
        looked = self.last.looked
        place = looked[-1].place
        if looked[-1].subscriber is None:
            looked.pop()
        subscription = None if candidate.subscription is None else candidate.subscription.id
        looked.append(Look(place, str(candidate.subscriber), subscription, why_not))
        self.visited += 1

    def _note(self, rule: PlannedRule) -> _Note:
        self.last = self.notes.setdefault(rule.id, _Note(rule))
        return self.last

    def lines(self) -> Iterator[RuleLine]:
        for note in self.notes.values():
            rule = note.rule
            told = note.sentence or _outcome(rule, note.looked)
            yield RuleLine(rule.id, rule.recipient, told, tuple(note.looked))


def _outcome(rule: PlannedRule, looked: Sequence[Look]) -> str:
    if any(look.why_not is None for look in looked):
        return "it applies, and found whom it looked for"
    found = "it applies, and found nobody"
    if rule.quarantine:
        return f"{found}: a person must look at the submission"
    return found if rule.otherwise is None else f"{found}: {rule.otherwise.id} acts in its stead"
