"""What a partner says of what lies in its mailbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from hub.domain.identity import Subscriber


class Mailboxes(Protocol):
    async def acknowledge(self, subscriber: Subscriber, deliveries: Sequence[UUID]) -> Sequence[UUID]:
        """The partner says it has these; those of them that are acknowledged now (again: still). Its own are
        those of whom it stands for at this moment: a partner that is succeeded has none any more."""
        ...
