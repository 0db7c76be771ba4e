"""Editions: changing the rule book in force, on an operator's order, and looking at what it was.

Business of this room: what a change would make of the rule book in force, whether the whole still holds
together, and publishing it. A change that has any fault is refused whole; what is in force stays. Workers
take the new edition up by themselves (see `library`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hub.domain.differences import Difference, between
from hub.domain.errors import RuleBookError
from hub.domain.rule_book import RuleBook, Snapshot
from hub.ports.rule_books import Change, Edition, Item, ItemKey, ItemKind, RuleBooks

Items = Mapping[ItemKey, Item]
Read = Callable[[RuleBook | None, Change], RuleBook]
"""What a change makes of a rule book (None: of nothing). Raises RuleBookError."""

RULES = frozenset({ItemKind.PROCEDURE, ItemKind.TERRITORY})
"""What rule files hold; subscriptions and successions are the partners'."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rule book that holds together, and what publishing it would change. `based_on` 0: nothing was
    published yet."""

    based_on: int
    change: Change
    differences: tuple[Difference, ...]
    book: RuleBook

    @property
    def changes_nothing(self) -> bool:
        return not (self.change.put or self.change.dropped)


class EditionRoom:
    """`difference` says what turns some items into others (see `hub.wire`)."""

    def __init__(
        self,
        editions: RuleBooks,
        read: Read,
        difference: Callable[[Items, Items], Change],
        lead: timedelta,
    ) -> None:
        self._editions = editions
        self._read = read
        self._difference = difference
        self._lead = lead

    async def propose(self, rules: Items) -> Proposal:
        """These rules and this territory, with the subscriptions and successions of the newest edition.
        Raises RuleBookError when they do not hold together."""
        number, now = await self._now()
        kept = {key: item for key, item in now.items() if key[0] not in RULES}
        return self._proposal(number, now, {**kept, **rules})

    async def propose_back(self, to: int | None = None, *, rules_only: bool = False) -> Proposal:
        """What edition `to` held (None: the one before the newest); `rules_only`: with the subscriptions
        and successions of the newest. Raises RuleBookError when there is none, Pruned when what it held
        is gone."""
        number, now = await self._now()
        wanted = number - 1 if to is None else to
        if number == 0 or not 1 <= wanted <= number:
            raise RuleBookError("there is no edition of the rule book to go back to")
        then = await self.items(wanted)
        if rules_only:
            kept = {key: item for key, item in now.items() if key[0] not in RULES}
            then = {**kept, **{key: item for key, item in then.items() if key[0] in RULES}}
        return self._proposal(number, now, then)

    async def publish(self, proposal: Proposal, author: str, reason: str) -> Edition:
        """As the newest edition. Raises Superseded when there is a newer one than it was proposed for."""
        number = await self._editions.publish(proposal.change, proposal.based_on, self._lead, author, reason)
        return await self.edition(number)

    async def history(self, limit: int) -> Sequence[Edition]:
        """The newest first."""
        return await self._editions.editions(limit)

    async def edition(self, number: int) -> Edition:
        """Raises RuleBookError when it was never published."""
        newest = next(iter(await self._editions.editions(1)), None)
        if newest is not None and 1 <= number <= newest.number:
            for edition in await self._editions.editions(newest.number - number + 1):
                if edition.number == number:
                    return edition
        raise RuleBookError(f"no edition of the rule book has number {number}")

    async def items(self, number: int) -> Items:
        """What an edition holds. Raises RuleBookError or Pruned."""
        return {(item.kind, item.key): item for item in (await self._editions.changes(0, number)).put}

    async def snapshot(self, number: int | None = None) -> Snapshot:
        """An edition, read; None: the newest. Raises RuleBookError or Pruned."""
        wanted = (await self.newest()).number if number is None else number
        edition = await self.edition(wanted)
        return Snapshot(
            wanted, edition.effective_from, self._read(None, await self._editions.changes(0, wanted))
        )

    async def between(self, old: int, new: int) -> tuple[Difference, ...]:
        """What differs from one edition to another. Raises RuleBookError or Pruned."""
        forward = await self._editions.changes(old, new)
        backward = await self._editions.changes(new, old)
        return between(written(backward.put), written(forward.put))

    async def rules_differ(
        self, rules: Items, number: int | None = None
    ) -> tuple[int, tuple[Difference, ...]]:
        """What these rules, unread and so unchecked, would change in an edition (None: the newest); with
        its number."""
        wanted = (await self.newest()).number if number is None else number
        there = {key: item for key, item in (await self.items(wanted)).items() if key[0] in RULES}
        return wanted, _differences(there, rules)

    async def as_declared(self, declared: Items) -> tuple[bool, bool]:
        """Whether the newest edition has these rules and no others; and whether it has each of these
        subscriptions and successions (others there may be)."""
        _, now = await self._now()
        rules = {key for key in now.keys() | declared.keys() if key[0] in RULES}
        wishes = {key for key in declared if key[0] not in RULES}
        return (
            all(now.get(key) == declared.get(key) for key in rules),
            all(now.get(key) == declared[key] for key in wishes),
        )

    async def newest(self) -> Edition:
        """Raises RuleBookError when nothing was published yet."""
        for edition in await self._editions.editions(1):
            return edition
        raise RuleBookError("no rule book was published yet: start the hub, or apply rules")

    async def _now(self) -> tuple[int, Items]:
        """Its number and what it holds; 0 and nothing before the first one."""
        for edition in await self._editions.editions(1):
            return edition.number, await self.items(edition.number)
        return 0, {}

    def _proposal(self, number: int, now: Items, then: Items) -> Proposal:
        whole = Change(tuple(then.values()))
        return Proposal(number, self._difference(now, then), _differences(now, then), self._read(None, whole))


def _differences(old: Items, new: Items) -> tuple[Difference, ...]:
    """Only what is not the same to the byte need be read."""
    left = [item for key, item in old.items() if new.get(key) != item]
    right = [item for key, item in new.items() if old.get(key) != item]
    return between(written(left), written(right))


def written(items: Iterable[Item]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Items as JSON objects, for telling differences; of a territory, which is no JSON, its digest."""
    return {
        (item.kind.value, item.key): {"digest": hashlib.sha256(item.content).hexdigest()[:12]}
        if item.kind is ItemKind.TERRITORY
        else json.loads(item.content)
        for item in items
    }
