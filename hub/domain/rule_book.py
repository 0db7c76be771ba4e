"""The rule book: everything by which submissions are decided, whole, checked and indexed; and its snapshots.

Business of this file: what holds between procedures, subscriptions, successions and territory. What each of
them is, is `rules`'; how a decision is found, `matching`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hub.domain.errors import RuleBookError
from hub.domain.identity import Subscriber
from hub.domain.plans import Plan, compile_plan
from hub.domain.rules import (
    Named,
    Procedure,
    Subscription,
    Succession,
    check_procedure,
    check_successions,
)
from hub.domain.territory import Territory


@dataclass(slots=True)
class Memory:
    """How many choices the plans of a rule book were given to remember. Plans that two books share count with
    whoever asked them."""

    choices: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RuleBook:
    """Rules, subscriptions (by id), successions (by who was succeeded) and territory.

    `dormant` are subscriptions that can find nobody: their commune is one no longer, and nobody succeeded
    their subscriber; or they are not active, and their place is unknown.
    """

    procedures: Mapping[str, Procedure]
    subscriptions: Mapping[str, Subscription] = field(repr=False)
    successions: Mapping[Subscriber, Succession] = field(repr=False)
    territory: Territory
    plans: Mapping[str, Plan] = field(repr=False)
    dormant: tuple[Subscription, ...] = field(repr=False)
    memory: Memory = field(default_factory=Memory, repr=False)

    @classmethod
    def build(
        cls,
        procedures: Iterable[Procedure],
        subscriptions: Iterable[Subscription],
        territory: Territory,
        successions: Iterable[Succession] = (),
        like: RuleBook | None = None,
    ) -> RuleBook:
        """What is unchanged is shared with `like`. Raises RuleBookError when a name stands twice, something
        names what does not exist, or fallbacks or successions run in a circle."""
        known = _by_code(procedures)
        followed = check_successions(successions)
        shared = _still_right(like, followed, territory)
        by_id = _by_id(subscriptions, known)
        plans: dict[str, Plan] = {}
        for code, those in _by_procedure(known, by_id).items():
            kept = shared.get(code)
            if kept is not None and kept.procedure == known[code] and kept.subscriptions == those:
                plans[code] = kept
            else:
                check_procedure(known[code], territory)
                plans[code] = compile_plan(known[code], those, followed, territory)
        dormant = tuple(one for plan in plans.values() for one in plan.dormant)
        return cls(known, by_id, followed, territory, plans, dormant)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A rule book with its number, in force for submissions received at or after `effective_from`, until
    the next one is."""

    number: int
    effective_from: datetime
    book: RuleBook


def _by_code(procedures: Iterable[Procedure]) -> dict[str, Procedure]:
    known: dict[str, Procedure] = {}
    for procedure in procedures:
        if procedure.code in known:
            raise RuleBookError(f"procedure {procedure.code} is described twice", (procedure.code,))
        known[procedure.code] = procedure
    return known


def _still_right(
    like: RuleBook | None, successions: Mapping[Subscriber, Succession], territory: Territory
) -> dict[str, Plan]:
    """The plans that answer by these successions what they answer by their own, for all they may find."""
    if like is None or like.territory is not territory:
        return {}
    turned = _turned(like.successions, successions)
    return {
        code: plan for code, plan in like.plans.items() if not turned or turned.isdisjoint(_found_by(plan))
    }


def _turned(
    before: Mapping[Subscriber, Succession], after: Mapping[Subscriber, Succession]
) -> set[Subscriber]:
    """Whose chain of successions may lead elsewhere: their own is another, or that of one it leads to. Who is
    none of these passes the same ones before and after."""
    turned = {former for former in before.keys() | after.keys() if before.get(former) != after.get(former)}
    while led := {former for former, one in before.items() if one.subscriber in turned} - turned:
        turned |= led
    return turned


def _found_by(plan: Plan) -> Iterator[Subscriber]:
    """Also those who are dormant: a succession may wake them."""
    for subscription in plan.subscriptions:
        yield subscription.subscriber
    for rule in plan.procedure.rules:
        if isinstance(rule.to, Named):
            yield rule.to.subscriber


def _by_id(subscriptions: Iterable[Subscription], known: Mapping[str, Procedure]) -> dict[str, Subscription]:
    found: dict[str, Subscription] = {}
    for subscription in subscriptions:
        name = subscription.id
        if subscription.procedure not in known:
            raise RuleBookError(f"subscription {name}: no such procedure", ("subscriptions", name))
        if subscription.period.since >= subscription.period.until:
            raise RuleBookError(f"subscription {name}: it ends before it begins", ("subscriptions", name))
        if found.setdefault(name, subscription) != subscription:
            raise RuleBookError(f"subscription {name} stands twice, differently", ("subscriptions", name))
    return found


def _by_procedure(
    known: Mapping[str, Procedure], by_id: Mapping[str, Subscription]
) -> dict[str, tuple[Subscription, ...]]:
    """In the order of their ids, so that no order of files or rows can show in what is decided."""
    found: dict[str, list[Subscription]] = {code: [] for code in sorted(known)}
    for name in sorted(by_id):
        found[by_id[name].procedure].append(by_id[name])
    return {code: tuple(those) for code, those in found.items()}
