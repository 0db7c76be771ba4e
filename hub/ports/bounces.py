"""Bounces: what the store notes of a mail that came back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hub.domain.bounces import BounceEffect, Return


class Bounces(Protocol):
    async def note(
        self, returned: Return, status: str | None, address_of: Callable[[Sequence[str]], str | None]
    ) -> BounceEffect:
        """A mail came back from one address; `address_of` picks it from those of its partner. Parks what that
        mail delivered, if every address that took it gave it back, and that sending is still the latest. One
        transaction; told twice, it is noted once."""
        ...
