"""A second matcher: slow, straight from the words of `hub.domain.rules`, and nothing shared with the first.

It asks every rule, and for each every subscription, every transfer and every succession. It shares the values
and the territory's `resolve` and `above` with the hub, and neither its plans nor its conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import assert_never

from hub.domain.conditions import All, Any, Condition, Equals, Exists, In, Not, NotIn, Prefix, Range
from hub.domain.identity import Subscriber
from hub.domain.rules import (
    QUARANTINE,
    Competent,
    Everyone,
    FactType,
    Named,
    Procedure,
    Rule,
    Subscription,
    SubscriptionState,
    Succession,
)
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.domain.territory import Level, Place, PlaceType, StepRule, Territory

Because = tuple[str, str, str | None]
"""Rule, kind of recipient, subscription."""


@dataclass(frozen=True)
class Gets:
    """What one subscriber gets, and why; the reasons in no order."""

    files: tuple[int, ...]
    mailbox: bool
    because: frozenset[Because]


Answer = Mapping[Subscriber, Gets] | str
"""Who gets it, or the word for nobody: `unroutable`, or why it is set aside."""


@dataclass(frozen=True)
class World:
    """What a rule book is made of, as plain lists."""

    territory: Territory
    procedures: Sequence[Procedure]
    subscriptions: Sequence[Subscription]
    successions: Sequence[Succession]


@dataclass(frozen=True)
class Meant:
    """What a place fact means: `place` today, and `within` it what was written, if that is a part of it."""

    place: Place
    within: Place


class _Quarantined(Exception):
    pass


def answer(submission: RoutingFacts, world: World) -> Answer:
    procedures = [one for one in world.procedures if one.code == submission.procedure]
    if not procedures:
        return "unknown_procedure"
    (procedure,) = procedures
    meant: dict[str, Meant] = {}
    for name, spec in procedure.facts.items():
        if spec.type is FactType.PLACE and name in submission.facts:
            read = _meant(submission.facts[name], world.territory)
            if read is None:
                return "unknown_place"
            meant[name] = read
    asked = _Asked(submission, procedure, meant, world)
    try:
        return asked.answer()
    except _Quarantined as rule:
        return f"quarantined:{rule}"


def _meant(value: str, territory: Territory) -> Meant | None:
    type, code = None, value
    if ":" in value:
        word, _, code = value.partition(":")
        if word not in [one.value for one in PlaceType]:
            return None
        type = PlaceType(word)
    resolution = territory.resolve(code, type)
    if resolution is None:
        return None
    for step in resolution.steps:
        if step.rule is not StepRule.FORMER_CODE:
            return Meant(resolution.place, Place.parse(step.given))
    return Meant(resolution.place, resolution.place)


@dataclass(frozen=True)
class _Asked:
    submission: RoutingFacts
    procedure: Procedure
    meant: Mapping[str, Meant]
    world: World

    def answer(self) -> Answer:
        found: dict[Subscriber, list[tuple[Rule, Because]]] = {}
        # The order only says which rule's quarantine is named, where there are several.
        for rule in sorted(self.deciding(), key=lambda rule: (rule.recipient, rule.id)):
            for subscriber, by, because in self.from_chain(rule):
                found.setdefault(subscriber, []).append((by, because))
        if not found:
            return "unroutable"
        return {
            subscriber: Gets(
                tuple(
                    file.number
                    for file in self.submission.attachments
                    if any(_gives(rule, file) for rule, _ in those)
                ),
                all(isinstance(rule.to, Named) and rule.to.mailbox for rule, _ in those),
                frozenset(because for _, because in those),
            )
            for subscriber, those in found.items()
        }

    def deciding(self) -> Iterator[Rule]:
        named_by_others = [rule.otherwise for rule in self.procedure.rules]
        for rule in self.procedure.rules:
            if rule.id in named_by_others or not self.applies(rule):
                continue
            better = [
                other
                for other in self.procedure.rules
                if other.recipient == rule.recipient
                and other.priority > rule.priority
                and other.id not in named_by_others
                and self.applies(other)
            ]
            if not better:
                yield rule

    def from_chain(self, rule: Rule) -> list[tuple[Subscriber, Rule, Because]]:
        found = self.finds(rule) if self.applies(rule) else []
        if found:
            return [(subscriber, rule, because) for subscriber, because in found]
        if rule.otherwise == QUARANTINE:
            raise _Quarantined(rule.id)
        for following in self.procedure.rules:
            if following.id == rule.otherwise:
                return self.from_chain(following)
        return []

    def applies(self, rule: Rule) -> bool:
        at = self.submission.received_at
        return rule.period.since <= at < rule.period.until and (rule.when is None or self.holds(rule.when))

    # --- whom a rule finds ----------------------------------------------------------------------------

    def finds(self, rule: Rule) -> list[tuple[Subscriber, Because]]:
        match rule.to:
            case Named(subscriber=subscriber):
                return [(self.heir(subscriber), (rule.id, rule.recipient, None))]
            case Everyone():
                return self.chosen(rule, self.counting())
            case Competent(fact=fact, levels=levels):
                if fact not in self.meant:
                    return []
                for level in levels:
                    for places in self.at_level(level, self.meant[fact]):
                        there = [(one, place) for one, place in self.counting() if place in places]
                        if there:
                            return self.chosen(rule, there)
                return []
            case _:
                assert_never(rule.to)

    def chosen(
        self, rule: Rule, those: Sequence[tuple[Subscription, Place]]
    ) -> list[tuple[Subscriber, Because]]:
        return [(self.heir(one.subscriber), (rule.id, rule.recipient, one.id)) for one, _ in those]

    def at_level(self, level: Level, meant: Meant) -> list[list[Place]]:
        """The places of this level to look at, one after the other; each may be several at once."""
        territory = self.world.territory
        around = [meant.within, *territory.above(meant.within)]
        communes = [place for place in around if place.type is PlaceType.COMMUNE]
        if self.procedure.transfers:
            handed = any(self.handed(commune) for commune in communes)
            if level is Level.EPCI and not handed:
                return []
            if handed and level in _COMMUNAL:
                return []
        if level is Level.NATIONAL:
            return [[Place(PlaceType.NATIONAL, "FR")]]
        if level is Level.ARRONDISSEMENTS:
            # Downwards only from a commune that was named itself.
            if meant.within.type is not PlaceType.COMMUNE:
                return []
            parts = territory.parts_of(meant.within.code, PlaceType.ARRONDISSEMENT)
            return [list(parts)]
        if level is Level.ABROAD:
            if meant.place.type is not PlaceType.ABROAD:
                return []
            return [[meant.place], [Place(PlaceType.ABROAD, "99")]]
        return [[place] for place in around if place.type.value == level.value]

    def handed(self, commune: Place) -> bool:
        at = self.submission.received_at
        return any(
            transfer.period.since <= at < transfer.period.until
            and commune in self.world.territory.members_of(transfer.epci)
            and (transfer.communes is None or commune.code in transfer.communes)
            for transfer in self.procedure.transfers
        )

    def counting(self) -> list[tuple[Subscription, Place]]:
        """The subscriptions of this procedure that count at the receipt time, each with its place of today."""
        at = self.submission.received_at
        found = []
        for one in self.world.subscriptions:
            if one.procedure != self.procedure.code or one.state is not SubscriptionState.ACTIVE:
                continue
            if not one.period.since <= at < one.period.until:
                continue
            place = self.today(one)
            if place is not None:
                found.append((one, place))
        return found

    def today(self, subscription: Subscription) -> Place | None:
        """A commune that was merged is where it went, for a subscriber that has a successor."""
        place, territory = subscription.place, self.world.territory
        if territory.knows(place):
            return place
        if not any(one.former == subscription.subscriber for one in self.world.successions):
            return None
        resolution = territory.resolve(place.code, place.type)
        return None if resolution is None else resolution.place

    def heir(self, subscriber: Subscriber) -> Subscriber:
        for one in self.world.successions:
            if one.former == subscriber and one.since <= self.submission.received_at:
                return self.heir(one.subscriber)
        return subscriber

    # --- conditions -----------------------------------------------------------------------------------

    def holds(self, condition: Condition) -> bool:
        match condition:
            case All(of=of):
                return False not in [self.holds(one) for one in of]
            case Any(of=of):
                return True in [self.holds(one) for one in of]
            case Not(of=inner):
                return not self.holds(inner)
            case Exists(fact=fact, present=present):
                return present if fact in self.submission.facts else not present
            case _:
                return condition.fact in self.submission.facts and self.tested(condition)

    def tested(self, condition: Equals | In | NotIn | Prefix | Range) -> bool:
        name = condition.fact
        told = self.meant[name].place.code if name in self.meant else self.submission.facts[name]
        match condition:
            case Equals(value=value):
                return told == value
            case In(values=values):
                return told in values
            case NotIn(values=values):
                return told not in values
            case Prefix(prefix=prefix):
                return told[: len(prefix)] == prefix
            case Range(low=low, high=high):
                if self.procedure.facts[name].type is FactType.NUMBER:
                    if not _is_number(told):
                        return False
                    number = Decimal(told)
                    return not (low is not None and number < Decimal(low)) and not (
                        high is not None and number > Decimal(high)
                    )
                return not (low is not None and told < str(low)) and not (
                    high is not None and told > str(high)
                )
            case _:
                assert_never(condition)


_COMMUNAL = (
    Level.ARRONDISSEMENT,
    Level.ARRONDISSEMENTS,
    Level.COMMUNE_DELEGUEE,
    Level.COMMUNE_ASSOCIEE,
    Level.COMMUNE,
)


def _is_number(told: str) -> bool:
    """Up to 15 digits, and up to 6 after a point."""
    whole, point, fraction = told.removeprefix("-").partition(".")
    digits = "0123456789"
    return (
        1 <= len(whole) <= 15
        and (1 <= len(fraction) <= 6 if point else True)
        and all(letter in digits for letter in whole + fraction)
    )


def _gives(rule: Rule, file: AttachmentFacts) -> bool:
    if rule.attachments is not None and file.type not in rule.attachments:
        return False
    return file.recipients is None or rule.recipient in file.recipients
