"""Bounces: return addresses are given out, recognised, and what comes back to them is noted.

Business of this room: that only what the hub gave out is believed, and that a report changes something only when it
says that the mail will not arrive. How a report is read is handed in; what it changes is the store's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog

from hub.domain.bounces import BounceEffect, Return, StatusReport, read_return_address, return_address
from hub.ports.bounces import Bounces
from hub.ports.keyring import Keyring

_PURPOSE = b"return address\0"

log = structlog.get_logger()


class ReturnAddresses:
    """Under `domain`, whose mail comes to the hub's door for bounces. They stay good when the hub's key is rotated."""

    def __init__(self, keyring: Keyring, domain: str) -> None:
        self._keyring = keyring
        self._domain = domain.casefold()

    def address(self, mail: UUID, sending: int, place: int, address: str) -> str:
        """As `Surroundings.returns` promises it."""
        return f"{return_address(mail, sending, place, address, self._sign)}@{self._domain}"

    def read(self, address: str) -> Return | None:
        """None: the hub never gave it out."""
        local, _, domain = address.rpartition("@")
        return read_return_address(local, self._sign) if domain.casefold() == self._domain else None

    def find(self, returned: Return, addresses: Sequence[str]) -> str | None:
        """Which of a partner's addresses it came back from; None: none that it has today."""
        return returned.address(addresses, self._sign)

    def _sign(self, content: bytes) -> bytes:
        # Half of a signature would be told apart by no older key: digests are made under a root that stays.
        return self._keyring.digest(_PURPOSE + content)


class BounceRoom:
    def __init__(
        self, bounces: Bounces, addresses: ReturnAddresses, read: Callable[[bytes], StatusReport]
    ) -> None:
        self._bounces = bounces
        self._addresses = addresses
        self._read = read

    def recognise(self, address: str) -> Return | None:
        """What a mail to this address came back from; None: nobody is there."""
        return self._addresses.read(address)

    async def take(self, returned: Return, content: bytes) -> BounceEffect | None:
        """What a mail to a return address changes; None: it is no report of a failure. Raises Unavailable."""
        report = await asyncio.to_thread(self._read, content)
        told = {"mail": str(returned.mail), "sending": returned.sending, "place": returned.place}
        if not report.failed:
            log.info("bounce.passed_over", **told)
            return None
        effect = await self._bounces.note(
            returned, report.status, lambda addresses: self._addresses.find(returned, addresses)
        )
        log.warning("bounce.taken", **told, status=report.status, effect=effect.value)
        return effect
