"""Partners as the store keeps them: their secrets apart, sealed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner

KeptPartner = tuple[Partner, bytes | None, bytes | None]
"""A partner without its secrets, its sealed secrets, and the wrapped key they are sealed under."""


class Partners(Protocol):
    async def keep(self, partners: Sequence[KeptPartner]) -> None:
        """These are the partners' names, channels, settings and secrets from now on (None: no secrets);
        others stay. Subscribers are distinct. A partner's running number is never touched; what waits in
        a lane stays in it, even when the channel changes."""
        ...

    async def replace(self, changes: Sequence[tuple[KeptPartner | None, KeptPartner]]) -> None:
        """The same for each from what was seen of it (None: it was not there), all of them or none. Raises
        Superseded when one is no longer as it was seen."""
        ...

    async def get(self, subscriber: Subscriber) -> KeptPartner | None: ...

    async def list(self) -> Sequence[KeptPartner]:
        """All of them, by subscriber."""
        ...

    async def having(self, settings: Collection[str]) -> Sequence[tuple[Subscriber, Endpoint]]:
        """The endpoints in which any of these settings stands, without their secrets, by subscriber."""
        ...
