"""Deposits: the topics into which senders write by themselves, one for each, and the ones in which they read what
was refused.

Business of this port: reading a sender's topic, refusing, forgetting what is read. Nobody but the sender writes to
the first, nobody but the hub to the second; that the brokers see to. What a deposit means is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from hub.ports.log import LogReader, Record


class Deposits(Protocol):
    @property
    def senders(self) -> frozenset[str]:
        """Those that have a topic."""
        ...

    def reader(self, sender: str) -> AbstractAsyncContextManager[LogReader]:
        """Of this sender's topic, for intake; it begins at the earliest deposit that was not read."""
        ...

    async def refuse(self, sender: str, refusals: Sequence[Record]) -> None:
        """Durable when it returns."""
        ...

    async def trim(self, sender: str) -> int:
        """Forget the deposits that intake has read; how many went."""
        ...

    async def read_before(self, sender: str, at: datetime) -> bool:
        """Whether all is read that this sender wrote before this instant, by the brokers' clock. Of any sender,
        also one that has no topic any more."""
        ...
