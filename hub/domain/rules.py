"""The rule book: what procedures know, who subscribes to what, and which rule names whom.

Business of this file: immutable values with their index. Deciding is `matching`; reading files is not
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from hub.domain.errors import RuleBookError
from hub.domain.identity import Subscriber
from hub.domain.territory import Place, PlaceType, Territory


class FactType(StrEnum):
    """What a routing fact is: a place in the official geographic code, an establishment, or a word."""

    PLACE = "place"
    SIRET = "siret"
    WORD = "word"


@dataclass(frozen=True, slots=True)
class FactSpec:
    name: str
    type: FactType
    required: bool
    values: tuple[str, ...] = ()
    """The words allowed, for a WORD; empty: any short word."""


@dataclass(frozen=True, slots=True)
class Competent:
    """Whoever subscribes for the place that `fact` names, at the first of `levels` where anybody does."""

    fact: str
    levels: tuple[PlaceType, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """One partner, by its number, whatever the place."""

    subscriber: Subscriber


@dataclass(frozen=True, slots=True)
class Rule:
    """`recipient` is the kind of recipient this rule finds (a word senders may narrow files to);
    `attachments` the types it gives (None: all)."""

    id: str
    recipient: str
    to: Competent | Named
    attachments: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Procedure:
    """A démarche. `attachment_types` None: any type is accepted."""

    code: str
    title: str
    facts: Mapping[str, FactSpec]
    rules: tuple[Rule, ...]
    attachment_types: tuple[str, ...] | None = None

    @property
    def recipients(self) -> frozenset[str]:
        return frozenset(rule.recipient for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A partner's standing wish to get a procedure's submissions for a place."""

    procedure: str
    subscriber: Subscriber
    place: Place

    @property
    def id(self) -> str:
        return f"{self.procedure}/{self.place}/{self.subscriber}"


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Rules, subscriptions and territory, indexed for matching."""

    procedures: Mapping[str, Procedure]
    territory: Territory
    by_place: Mapping[tuple[str, Place], tuple[Subscription, ...]] = field(repr=False)

    @classmethod
    def build(
        cls, procedures: Iterable[Procedure], subscriptions: Iterable[Subscription], territory: Territory
    ) -> RuleBook:
        """Raises RuleBookError when a code stands twice or a subscription names what does not exist."""
        known: dict[str, Procedure] = {}
        for procedure in procedures:
            if procedure.code in known:
                raise RuleBookError(f"procedure {procedure.code} is described twice")
            known[procedure.code] = procedure
        index: dict[tuple[str, Place], list[Subscription]] = {}
        for subscription in subscriptions:
            if subscription.procedure not in known:
                raise RuleBookError(f"subscription {subscription.id}: no such procedure")
            if territory.name(subscription.place) is None:
                raise RuleBookError(f"subscription {subscription.id}: no such place")
            index.setdefault((subscription.procedure, subscription.place), []).append(subscription)
        ordered = {key: tuple(sorted(set(found), key=lambda s: s.subscriber)) for key, found in index.items()}
        return cls(known, territory, ordered)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A rule book with its number, in force for submissions received at or after `effective_from`, until
    the next one is."""

    number: int
    effective_from: datetime
    book: RuleBook
