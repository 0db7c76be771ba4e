"""Matching: from a submission's routing facts and a rule book to a verdict. Pure, and a few look-ups.

How many candidates are looked at depends on who subscribes around one place, never on how many partners
there are. What was chosen for one submission (`choosing`) is remembered for those after it that say the same:
the lines of `match` are few and plain because a national register passes through them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sys import intern

from hub.domain.choosing import Situation, Trace, choose
from hub.domain.decisions import Decision, Recipient, Routed, SetAside, Verdict
from hub.domain.plans import Choice, Grant, Places, Plan, PlannedRule
from hub.domain.rule_book import RuleBook, Snapshot
from hub.domain.rules import Rule
from hub.domain.submission import AttachmentFacts, Brief, RoutingFacts
from hub.domain.territory import Resolution, Territory

Asked = RoutingFacts | Brief

_UNKNOWN_PROCEDURE = Choice((), SetAside("unknown_procedure"), None)
_NOWHERE = Choice((), SetAside("unknown_place"), None)


def decide(submission: RoutingFacts, snapshot: Snapshot) -> Decision:
    """The first decision of a submission: the same for ever, whoever asks, whenever."""
    return Decision.first(submission.submission, snapshot.number, match(submission, snapshot.book))


def match_all(submissions: Iterable[Asked], book: RuleBook) -> list[Verdict]:
    """One verdict for each, in order."""
    return [match(submission, book) for submission in submissions]


def match(submission: Asked, book: RuleBook, trace: Trace | None = None) -> Verdict:
    """The verdict, and with it whom, which files, by which rule, subscription and steps."""
    found = chosen(submission, book, trace)
    files = submission.attachments
    if isinstance(found, Grant):
        return _new(Routed, ((_recipient(found, files),),))
    if found.verdict is not None:
        return found.verdict
    return _new(Routed, (tuple([_recipient(grant, files) for grant in found.grants]),))


_new = tuple.__new__
"""A named tuple's own constructor costs three times as much."""


def _recipient(grant: Grant, files: tuple[AttachmentFacts, ...]) -> Recipient:
    return _new(Recipient, (grant.subscriber, numbers_of(grant.rules, files), grant.reasons, grant.mailbox))


# --- whom ---------------------------------------------------------------------------------------------


def chosen(submission: Asked, book: RuleBook, trace: Trace | None = None) -> Choice | Grant:
    """Whom, whatever the files. One subscriber for ever is its grant alone. Those who say the same are given
    the very same answer, as long as it is remembered."""
    plan = book.plans.get(submission.procedure)
    if plan is None:
        return _UNKNOWN_PROCEDURE
    facts, at = submission.facts, submission.received_at
    not_apply = 0
    for rule in plan.conditional:
        if rule.contrary:
            if not not_apply & rule.contrary:
                not_apply |= rule.bit
            continue
        period, holds = rule.period, rule.holds
        if (period and not period.since <= at < period.until) or (holds and not holds(facts)):
            not_apply |= rule.bit
    name = plan.place
    said: Places = tuple(map(facts.get, plan.place_facts)) if name is None else facts.get(name)
    known = plan.known.get(not_apply)
    found = None if known is None else known.get(said)
    if found is not None and trace is None:
        if isinstance(found, Grant):
            return found
        if found.period is None or found.period.holds(at):
            return found
    return _choose(submission, book, plan, not_apply, said, trace)


def _choose(
    submission: Asked,
    book: RuleBook,
    plan: Plan,
    not_apply: int,
    said: Places,
    trace: Trace | None,
) -> Choice:
    """By a walk, and remembered."""
    places = _read(submission, plan, book.territory)
    if places is None:
        return _NOWHERE
    choice = choose(Situation(plan, places, not_apply, submission.received_at, trace))
    _remember(book, plan, not_apply, said, choice)
    return choice


def _read(submission: Asked, plan: Plan, territory: Territory) -> dict[str, Resolution] | None:
    """The places it says; None when one of them means nothing."""
    found: dict[str, Resolution] = {}
    for name in plan.place_facts:
        value = submission.facts.get(name)
        if value is not None:
            resolution = territory.read(value)
            if resolution is None:
                return None
            found[name] = resolution
    return found


def _remember(book: RuleBook, plan: Plan, not_apply: int, said: Places, choice: Choice) -> None:
    if book.memory.choices >= MOST_CHOICES:
        _make_room(book)
    book.memory.choices += 1
    for_ever = choice.period is None and len(choice.grants) == 1 and len(choice.grants[0].rules) == 1
    if isinstance(said, str):
        # One text for all plans that remember this place.
        said = intern(said)
    plan.known.setdefault(not_apply, {})[said] = choice.grants[0] if for_ever else choice


def _make_room(book: RuleBook) -> None:
    """The plan that remembers most begins again: what the others know is worth more than what is new."""
    max(book.plans.values(), key=_remembered).known.clear()
    book.memory.choices = sum(map(_remembered, book.plans.values()))


def _remembered(plan: Plan) -> int:
    return sum(map(len, plan.known.values()))


MOST_CHOICES = 240_000
"""For a rule book: what a country asks for in some weeks, and little enough for a router of 300 MB."""


# --- what each gets -----------------------------------------------------------------------------------


def numbers_of(rules: Sequence[PlannedRule], files: tuple[AttachmentFacts, ...]) -> tuple[int, ...]:
    """The numbers of those that any of these rules gives, in their order."""
    if len(rules) > 1:
        return tuple([file.number for file in files if any(grants(rule.rule, file) for rule in rules)])
    rule = rules[0]
    numbers = rule.files.get(files)
    if numbers is None:
        numbers = tuple([file.number for file in files if grants(rule.rule, file)])
        if len(rule.files) < _MOST_LISTS_OF_FILES:
            rule.files[files] = numbers
    return numbers


_MOST_LISTS_OF_FILES = 1000


def grants(rule: Rule, attachment: AttachmentFacts) -> bool:
    """Whether a rule gives this file to its recipients. The sender's wish narrows, it never widens."""
    given = rule.attachments is None or attachment.type in rule.attachments
    return given and (attachment.recipients is None or rule.recipient in attachment.recipients)
