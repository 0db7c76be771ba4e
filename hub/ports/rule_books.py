"""The editions of the rule book: who publishes one, and who decides by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol


class ItemKind(StrEnum):
    """What an edition of the rule book is made of."""

    PROCEDURE = "procedure"
    """Key: the procedure's code. Content: its rule file as canonical JSON."""
    SUBSCRIPTION = "subscription"
    """Key: procedure/place/subscriber. Content: canonical JSON."""
    SUCCESSION = "succession"
    """Key: the subscriber that was. Content: canonical JSON, {"since": a date, "subscriber": the new one}."""
    TERRITORY = "territory"
    """Key: the vintage; one of them in each edition. Content: the dataset's own bytes."""


ItemKey = tuple[ItemKind, str]


@dataclass(frozen=True, slots=True)
class Item:
    """Equal content of one key is one item, kept once for all the editions in a row that hold it."""

    kind: ItemKind
    key: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """From one edition to another: `put` stand there with this content, `dropped` no longer do."""

    put: tuple[Item, ...] = ()
    dropped: tuple[ItemKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Edition:
    """A published snapshot, without its items. `pruned`: they are gone, nothing was decided by them."""

    number: int
    effective_from: datetime
    published_at: datetime
    author: str
    reason: str
    pruned: bool


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Every edition in force now or earlier is among `editions` (number, effective_from; by number, and so
    by time) or was known before: a submission received up to `until` can be decided."""

    editions: tuple[tuple[int, datetime], ...]
    until: datetime


class RuleBooks(Protocol):
    async def publish(self, change: Change, based_on: int, lead: timedelta, author: str, reason: str) -> int:
        """A new edition, in force `lead` from now; its number. A change that changes nothing makes none,
        and returns `based_on`. The first edition ever (`based_on` 0) is in force at once and for all that
        came before. Raises Superseded when `based_on` is not the newest edition's number."""
        ...

    async def confirm(self, known: int) -> Confirmation:
        """The editions after number `known` (0: all of them), read under the lock that publishing takes.
        What an edition is, once told, never changes."""
        ...

    async def changes(self, since: int, number: int) -> Change:
        """What turns edition `since` (0: nothing at all) into edition `number`, in either direction. Raises
        RuleBookError when one was never published, Pruned when its items are gone."""
        ...

    async def editions(self, limit: int) -> Sequence[Edition]:
        """The newest first."""
        ...

    async def prune(self, age: timedelta) -> Sequence[int]:
        """Let go of the items of editions by which nothing was decided and nothing is to be decided: they
        were superseded more than `age` ago, no decision names them, and no accepted submission received
        under them is undecided. The numbers of those pruned now."""
        ...
