"""Bounces: what the store notes of a mail that came back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from hub.domain.bounces import BounceEffect, Return


@dataclass(frozen=True, slots=True)
class Bounce:
    """A mail of a delivery that came back: from which address (None: its partner had no such address any more), by its
    place (from 1) among those it was sent to, and with which code (RFC 3463). `sending`: 0 for a digest."""

    at: datetime
    sending: int
    place: int
    address: str | None = field(repr=False)
    status: str | None


@dataclass(frozen=True, slots=True)
class Untaken:
    """An address that did not take a mail which another one took. `address`: as its partner's settings list it at that
    place; None where these were changed since, or nobody can say that they were not."""

    at: datetime
    sending: int
    attempt: int
    place: int
    address: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class AddressFaults:
    """What went wrong with single addresses of a delivery's mails, the eldest first."""

    untaken: Sequence[Untaken] = ()
    bounced: Sequence[Bounce] = ()


class Bounces(Protocol):
    async def note(
        self, returned: Return, status: str | None, address_of: Callable[[Sequence[str]], str | None]
    ) -> BounceEffect:
        """A mail came back from one address; `address_of` picks it from those of its partner. Parks what that
        mail delivered, if every address that took it gave it back, and that sending is still the latest. One
        transaction; told twice, it is noted once."""
        ...


class BounceViews(Protocol):
    async def of(self, delivery: UUID, reader: str) -> AddressFaults:
        """Of a delivery, be it in a digest. That `reader` (`operator:<name>`)
        looked is a line of the journal, written before, where there is anything to see."""
        ...
