"""Review: what a rule book may say, and is hardly what somebody meant.

Business of this file: reading a rule book that is sound (what contradicts itself was refused before) and
naming what looks like a slip, in sentences for people who do not program. It changes and decides nothing.

A *fault* keeps rules from being applied. It is what can only be a slip of the rule files, whatever the day
and the subscriptions: a rule that never acts, a condition on a word that nobody can say, a fallback of a
rule that cannot fail. All else is a *warning*: it may be meant (two rules that both act, files that nobody
gets), comes with time (a rule whose period is over), or lies in partners, subscriptions, successions and
transfers, where one partner's row must not hold up the rules of all. A partner that a rule names and nobody
knows is one: it has a mailbox under its number as soon as something is for it, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import combinations, islice
from typing import assert_never

from hub.domain.cases import CaseStatus, unreachable
from hub.domain.condition_review import can_hold, flaws_in
from hub.domain.conditions import (
    Not,
    sentence,
)
from hub.domain.identity import Subscriber
from hub.domain.rule_book import RuleBook
from hub.domain.rules import (
    ALWAYS,
    Competent,
    Everyone,
    Named,
    Period,
    Procedure,
    Rule,
    Subscription,
    SubscriptionState,
    successor,
)
from hub.domain.territory import Level, Place, PlaceType, Territory

_MOST_PAIRS = 2_000
"""How many pairs of rules of one procedure are compared."""


class Severity(StrEnum):
    FAULT = "fault"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """`where` leads to it, as a RuleBookError's does."""

    severity: Severity
    where: tuple[str | int, ...]
    sentence: str


def review(book: RuleBook, partners: Collection[Subscriber] | None, at: datetime) -> tuple[Finding, ...]:
    """Faults first, then warnings, each by procedure. `partners`: all that are known; None when only the
    rule files are at hand: then nothing is said of partners, subscriptions and successions. What is
    over at `at` is not looked at any more, but said to be over."""
    found: list[Finding] = []
    for code in sorted(book.procedures):
        found.extend(_review_moves(book.procedures[code]))
        found.extend(_review_rules(_Reviewed.of(book.procedures[code], at), book.territory))
        if partners is not None:
            found.extend(_review_register(code, book, partners, at))
    if partners is not None:
        found.extend(_unknown_partners(book, partners, at))
    return tuple(sorted(found, key=lambda finding: finding.severity is not Severity.FAULT))


@dataclass(frozen=True, slots=True)
class _Reviewed:
    """A procedure, its rules that are not over, and of these the ones that act by themselves."""

    procedure: Procedure
    rules: tuple[Rule, ...]
    acting: tuple[Rule, ...]
    over: tuple[Rule, ...]

    @classmethod
    def of(cls, procedure: Procedure, at: datetime) -> _Reviewed:
        rules = tuple(rule for rule in procedure.rules if at < rule.period.until)
        return cls(
            procedure,
            rules,
            tuple(rule for rule in rules if rule.id not in procedure.fallbacks),
            tuple(rule for rule in procedure.rules if rule.period.until <= at),
        )

    def fault(self, rule: Rule, field: str, said: str) -> Finding:
        code = self.procedure.code
        return Finding(Severity.FAULT, (code, "rules", rule.id, field), f"{code}, rule {rule.id}: {said}")

    def warning(self, rule: Rule, field: str, said: str) -> Finding:
        code = self.procedure.code
        return Finding(Severity.WARNING, (code, "rules", rule.id, field), f"{code}, rule {rule.id}: {said}")


# --- the rules by themselves --------------------------------------------------------------------------


def _review_rules(told: _Reviewed, territory: Territory) -> Iterator[Finding]:
    for rule in told.over:
        yield told.warning(rule, "until", "its period is over, so it can be taken out")
    possible = []
    for rule in told.rules:
        flaws = [] if rule.when is None else list(flaws_in(rule.when, told.procedure, territory))
        for flaw in flaws:
            yield told.fault(rule, "when", flaw)
        if rule.when is None or can_hold(told.procedure, rule.when):
            possible.append(rule)
        elif not flaws:
            never = f"its condition can never hold, so the rule never acts: {sentence(rule.when)}"
            yield told.fault(rule, "when", never)
        yield from _useless_fallback(told, rule)
    acting = [rule for rule in possible if rule in told.acting]
    yield from _outranked(told, acting)
    yield from _overlaps(told, acting)
    yield from _files_for_nobody(told)


def _useless_fallback(told: _Reviewed, rule: Rule) -> Iterator[Finding]:
    # A rule that another one falls back on, and that does not apply then, does hand over.
    steps_aside = rule not in told.acting and (rule.when is not None or rule.period != ALWAYS)
    if rule.otherwise is not None and isinstance(rule.to, Named) and not steps_aside:
        yield told.fault(
            rule,
            "otherwise",
            f"it names a partner and so always finds somebody: {rule.otherwise} never takes its place",
        )


def _outranked(told: _Reviewed, acting: Sequence[Rule]) -> Iterator[Finding]:
    for rule in acting:
        above = [
            other
            for other in acting
            if other.recipient == rule.recipient
            and other.priority > rule.priority
            and _contains(other.period, rule.period)
        ]
        left = [Not(other.when) for other in above if other.when is not None]
        own = () if rule.when is None else (rule.when,)
        if above and (len(left) < len(above) or not can_hold(told.procedure, *own, *left)):
            yield told.fault(
                rule,
                "priority",
                f"it never acts: whenever it applies, {_listed([other.id for other in above])} of higher "
                f"priority decides for {rule.recipient} in its stead",
            )


def _contains(period: Period, other: Period) -> bool:
    return period.since <= other.since and other.until <= period.until


def _overlaps(told: _Reviewed, acting: Sequence[Rule]) -> Iterator[Finding]:
    pairs = (
        (one, other)
        for one, other in combinations(acting, 2)
        if (one.recipient, one.priority) == (other.recipient, other.priority) and _may_differ(one, other)
    )
    both: dict[str, list[str]] = {}
    for one, other in islice(pairs, _MOST_PAIRS):
        conditions = [rule.when for rule in (one, other) if rule.when is not None]
        if one.period.overlaps(other.period) and can_hold(told.procedure, *conditions):
            both.setdefault(one.id, []).append(other.id)
    for rule in acting:
        if rule.id in both:
            yield told.warning(
                rule,
                "priority",
                f"it may apply together with {_listed(both[rule.id])} of equal priority for {rule.recipient}: "
                "then all of them act",
            )
    if next(pairs, None) is not None:
        code = told.procedure.code
        said = f"{code}: it has too many rules to compare each with each other; overlaps may be missing here"
        yield Finding(Severity.WARNING, (code, "rules"), said)


def _may_differ(one: Rule, other: Rule) -> bool:
    if isinstance(one.to, Named) and isinstance(other.to, Named):
        return one.to.subscriber != other.to.subscriber
    return one.to != other.to


def _files_for_nobody(told: _Reviewed) -> Iterator[Finding]:
    code = told.procedure.code
    for type in told.procedure.attachment_types or ():
        if not any(rule.attachments is None or type in rule.attachments for rule in told.rules):
            said = f"{code}: no rule gives attachments of type {type} to anybody"
            yield Finding(Severity.WARNING, (code, "attachment_types", type), said)


def _review_moves(procedure: Procedure) -> Iterator[Finding]:
    where = (procedure.code, "statuses")
    if never := unreachable(procedure.case_moves):
        said = (
            f"{procedure.code}: no case ever comes to {_listed(never)}: no status it can come to leads there"
        )
        yield Finding(Severity.FAULT, where, said)
    if not procedure.case_moves.following(CaseStatus.HUBEE_NOTIFIED):
        said = (
            f"{procedure.code}: nothing follows {CaseStatus.HUBEE_NOTIFIED}, so partners can report no status"
        )
        yield Finding(Severity.WARNING, where, said)


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


# --- partners, subscriptions, successions, transfers --------------------------------------------------


def _review_register(
    code: str, book: RuleBook, partners: Collection[Subscriber], at: datetime
) -> Iterator[Finding]:
    plan = book.plans[code]
    told = _Reviewed.of(plan.procedure, at)
    dormant = {one.id for one in plan.dormant}
    heard = [one for one in plan.subscriptions if _heard(one, at) and one.id not in dormant]
    competent = {transfer.epci for transfer in plan.procedure.transfers}
    served = {_looked_for(one, competent) for one in heard}
    looked = frozenset(word for rule in told.rules for word in _looks_for(rule))
    for rule in told.rules:
        if isinstance(rule.to, Named):
            yield from _unknown_named(told, rule, rule.to, book, partners, at)
        elif served.isdisjoint(_looks_for(rule)):
            yield told.warning(rule, "competent", "nobody subscribes anywhere it looks, so it finds nobody")
    lost = [one for one in plan.dormant if one.state is not SubscriptionState.REFUSED]
    said = "their place is no longer there and nobody succeeded their subscriber, so they get nothing"
    yield from _of_subscriptions(lost, said)
    aside = [one for one in heard if _looked_for(one, competent) not in looked]
    yield from _of_subscriptions(aside, f"no rule of {code} ever looks at their place, so they get nothing")
    yield from _unanswered_transfers(plan.procedure, heard, book.territory, at)


def _heard(subscription: Subscription, at: datetime) -> bool:
    return subscription.state is SubscriptionState.ACTIVE and at < subscription.period.until


_ANYWHERE = frozenset(Level) - {Level.ARRONDISSEMENTS}
_NOT_COMPETENT = "epci without a transfer"


def _looks_for(rule: Rule) -> Collection[str]:
    """The words of `_looked_for` of the subscriptions that it may find."""
    match rule.to:
        case Competent(levels=levels):
            return {Level.ARRONDISSEMENT if one is Level.ARRONDISSEMENTS else one for one in levels}
        case Named():
            return ()
        case Everyone():
            return {*_ANYWHERE, _NOT_COMPETENT}
        case _:
            assert_never(rule.to)


def _looked_for(subscription: Subscription, competent: Collection[str]) -> str:
    place = subscription.place
    if competent and place.type is PlaceType.EPCI and place.code not in competent:
        return _NOT_COMPETENT
    return place.type.value


def _of_subscriptions(those: Sequence[Subscription], said: str) -> Iterator[Finding]:
    # A national register has thousands: one sentence for all of one kind, or they hide the rest.
    if those:
        named = _listed([one.id for one in those])
        yield Finding(Severity.WARNING, ("subscriptions", those[0].id), f"subscriptions {named}: {said}")


def _unknown_named(
    told: _Reviewed,
    rule: Rule,
    to: Named,
    book: RuleBook,
    partners: Collection[Subscriber],
    at: datetime,
) -> Iterator[Finding]:
    named, mailbox = to.subscriber, to.mailbox
    if successor(named, book.successions, at) not in partners:
        said = (
            f"it names {named}, and there is no such partner: what is for it waits in a mailbox under this "
            "number, until it is imported and fetches it"
        )
        yield told.warning(rule, "mailbox" if mailbox else "partner", said)


def _unanswered_transfers(
    procedure: Procedure, heard: Iterable[Subscription], territory: Territory, at: datetime
) -> Iterator[Finding]:
    subscribed = {one.place.code for one in heard if one.place.type is PlaceType.EPCI}
    silent = {
        transfer.epci: number
        for number, transfer in enumerate(procedure.transfers)
        if transfer.epci not in subscribed and at < transfer.period.until
    }
    if silent:
        named = [f"{epci} ({territory.name(Place(PlaceType.EPCI, epci))})" for epci in silent]
        yield Finding(
            Severity.WARNING,
            (procedure.code, "transfers", min(silent.values())),
            f"{procedure.code}: EPCI {_listed(named)}: competent by a transfer without a subscription, so what "
            "is for their communes reaches neither them nor the communes",
        )


def _unknown_partners(book: RuleBook, partners: Collection[Subscriber], at: datetime) -> Iterator[Finding]:
    behind = {
        successor(one.subscriber, book.successions, at)
        for one in book.subscriptions.values()
        if _heard(one, at)
    }
    strangers = sorted(behind - set(partners))
    if strangers:
        named = _listed(list(map(str, strangers)))
        said = f"there are subscriptions of {named}, and no such partners"
        yield Finding(Severity.WARNING, ("subscriptions", str(strangers[0])), said)
    for former, succession in sorted(book.successions.items()):
        heir = succession.subscriber
        if heir not in partners and heir not in book.successions:
            said = f"{former} is succeeded by {heir}, and there is no such partner"
            yield Finding(Severity.WARNING, ("successions", str(former)), said)
