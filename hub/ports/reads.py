"""Reads of content: who read what, kept before the first byte leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Read:
    """`reader`: `partner:<number>`, or `link` for whoever holds a signed one; `what`: the number of the file, the
    range, and in which state the delivery is. Never a name."""

    submission: UUID
    delivery: UUID
    reader: str
    what: str


class Reads(Protocol):
    async def shown(self, reads: Sequence[Read]) -> None:
        """These lie in a mailbox that its partner looked into: a line of the journal for each that it had not been
        shown yet."""
        ...

    async def fetched(self, read: Read) -> None:
        """A line of the journal; the first one of a delivery says when it was fetched."""
        ...
