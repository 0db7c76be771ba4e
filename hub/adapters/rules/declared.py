"""What an operator declared in files: the rules with their cases, the territory beside them, the partners.

Business of this file: reading all of it, and making one rule book of it. It publishes nothing: what is in
force is the store's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hub.adapters.rules.cases import failing_cases
from hub.adapters.rules.documents import Document
from hub.adapters.rules.files import RuleFolder, located, read_partners, read_rules
from hub.adapters.rules.territory import read_dataset
from hub.adapters.rules.vintages import list_vintages
from hub.domain.errors import Invalid, RuleBookError
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner
from hub.domain.rule_book import RuleBook
from hub.domain.territory import Territory
from hub.ports.rule_books import Item, ItemKey
from hub.wire import items, rule_book
from hub.wire.partners import pace
from schemas.models.partners import PartnersFile
from schemas.models.rules import SubscriptionIn, SuccessionIn

ReadTerritory = Callable[[bytes], Territory]
_TERRITORIES_KEPT = 2


@dataclass(frozen=True, slots=True)
class _PartnersAt:
    """A partners file, read, and where."""

    path: Path
    document: Document = field(repr=False)

    def pointed(self, where: Sequence[str | int]) -> str | None:
        """File and line of a partner, of one of its subscriptions, or of a succession."""
        if len(where) < 2:
            return None
        steps = self._steps(str(where[0]), str(where[1]))
        return None if steps is None else located(self.path, self.document.follow(steps).line)

    def _steps(self, kind: str, name: str) -> tuple[str | int, ...] | None:
        key = "former" if kind == "successions" else "subscriber"
        section = "successions" if kind == "successions" else "partners"
        # Of two that bear one name, the second is too many.
        found: tuple[str | int, ...] | None = None
        for place, one in enumerate(self.document.told.get(section) or ()):
            if kind != "subscriptions":
                found = (section, place) if one.get(key) == name else found
            for inner, wish in enumerate(one.get("subscriptions") or ()):
                if f"{wish.get('procedure')}/{wish.get('place')}/{one.get(key)}" == name:
                    found = (section, place, "subscriptions", inner)
        return found


@dataclass(frozen=True, slots=True)
class Declared:
    """Implements `hub.services.declaration.Declared`. `vintage` and `dataset`: the newest territory beside
    the rules; `territory` reads it."""

    rules: RuleFolder
    vintage: str
    dataset: bytes
    territory: ReadTerritory
    partners: tuple[Partner, ...] | None
    subscriptions: tuple[SubscriptionIn, ...]
    successions: tuple[SuccessionIn, ...]
    partners_at: _PartnersAt | None = None

    def rule_items(self) -> dict[ItemKey, Item]:
        return items(self.rules.procedures, (), (), (self.vintage, self.dataset))

    def items(self) -> dict[ItemKey, Item]:
        ground = (self.vintage, self.dataset)
        with self._pointing():
            return items(self.rules.procedures, self.subscriptions, self.successions, ground)

    def check(self) -> None:
        self.rules.check(self.territory(self.dataset))

    def book(self) -> RuleBook:
        ground = self.territory(self.dataset)
        self.rules.check(ground)
        with self._pointing():
            return rule_book(self.rules.procedures, self.subscriptions, ground, self.successions)

    def failing_cases(self) -> tuple[str, ...]:
        return tuple(map(str, failing_cases(self.rules, self.territory(self.dataset))))

    @contextmanager
    def _pointing(self) -> Iterator[None]:
        """What does not stand together is told with file and line."""
        try:
            yield
        except RuleBookError as error:
            place = self.pointed(error.where)
            if place is None:
                raise
            raise RuleBookError(f"{place}: {error}") from None

    def pointed(self, where: Sequence[str | int]) -> str | None:
        at = None if self.partners_at is None else self.partners_at.pointed(where)
        return at or self.rules.pointed(where)


def read_declared(folder: Path, most: int, partners: Path | None, territory: ReadTerritory) -> Declared:
    """Every file, read and checked for itself; a folder may hold `most` rules. Raises RuleBookError."""
    rules = read_rules(folder, most)
    vintage, dataset = _newest_territory(folder)
    if partners is None:
        return Declared(rules, vintage, dataset, territory, None, (), ())
    told, document = read_partners(partners)
    at = _PartnersAt(partners, document)
    listed = _partners(told, at)
    return Declared(
        rules, vintage, dataset, territory, listed, _subscriptions(told), tuple(told.successions), at
    )


def remembering(read: Callable[[bytes, str], Territory]) -> ReadTerritory:
    """Each dataset is read once: rule books of one territory share it, and all that is built upon it."""
    kept: dict[bytes, Territory] = {}

    def territory(dataset: bytes) -> Territory:
        digest = hashlib.sha256(dataset).digest()
        if digest not in kept:
            while len(kept) >= _TERRITORIES_KEPT:
                kept.pop(next(iter(kept)))
            kept[digest] = read(dataset, "the rule book's territory")
        return kept[digest]

    return territory


def _newest_territory(folder: Path) -> tuple[str, bytes]:
    there = folder / "territory"
    found = list_vintages(folder) if there.is_dir() else ()
    if not found:
        raise RuleBookError(f"{there}: no territory is here")
    return found[-1].name, read_dataset(found[-1].path)


def _subscriptions(told: PartnersFile) -> tuple[SubscriptionIn, ...]:
    return tuple(
        SubscriptionIn.model_validate({"subscriber": partner.subscriber, **subscription.model_dump()})
        for partner in told.partners
        for subscription in partner.subscriptions
    )


def _partners(told: PartnersFile, at: _PartnersAt) -> tuple[Partner, ...]:
    found: dict[Subscriber, Partner] = {}
    for partner in told.partners:
        subscriber = Subscriber.parse(partner.subscriber)
        if subscriber in found:
            where = ("partners", str(subscriber))
            raise RuleBookError(f"{at.pointed(where)}: partner {subscriber} stands twice", where)
        endpoint = Endpoint(partner.channel, partner.settings, partner.secrets)
        try:
            asked = pace(partner.delivery)
        except Invalid as refusal:
            where = ("partners", str(subscriber))
            flaw = refusal.flaws[0]
            raise RuleBookError(f"{at.pointed(where)}: delivery{flaw.field}: {flaw.detail}", where) from None
        found[subscriber] = Partner(subscriber, partner.name, endpoint, partner.vendor, asked, partner.sender)
    return tuple(found.values())
