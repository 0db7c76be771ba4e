"""Sessions: an agent of a partner has shown its token once, and reads with its browser for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from hub.domain.identity import Subscriber

IDLE = timedelta(minutes=30)
"""After which a session that nobody uses has ended."""

LONGEST = timedelta(hours=10)


@dataclass(frozen=True, slots=True)
class Visitor:
    """`name`: the partner's, or its number where it is not declared."""

    subscriber: Subscriber
    name: str


class Sessions(Protocol):
    """A session lives no longer than its token."""

    async def begin(self, token: str) -> str | None:
        """A new session, by a secret that only its browser knows; None when this is no partner's valid token."""
        ...

    async def resume(self, secret: str) -> Visitor | None:
        """Whose session this is; None if it is unknown or has ended. It was used at this moment."""
        ...

    async def end(self, secret: str) -> None:
        """Whoever has its secret has nothing any more."""
        ...
