"""Signed links: fetch one file of one parcel for a while, without a token.

Whoever has the link has the file, so a link is a secret: it is given to the parcel's partner alone, and
never written anywhere.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from hub.ports.connector import Parcel
from hub.ports.keyring import Keyring

_PURPOSE = "link"


class Links:
    """`base_url`: where partners reach this hub; `now`: seconds since the epoch."""

    def __init__(
        self, keyring: Keyring, base_url: str, lifetime: timedelta, now: Callable[[], float]
    ) -> None:
        self._keyring = keyring
        self._base_url = base_url.rstrip("/")
        self._lifetime = lifetime
        self._now = now

    def link(self, parcel: Parcel, number: int) -> str:
        """Valid for the lifetime, from now."""
        delivery = parcel.attempt.delivery
        expires = int(self._now() + self._lifetime.total_seconds())
        signed = self._keyring.sign(_PURPOSE, _told(delivery, number, expires))
        signature = base64.urlsafe_b64encode(signed).decode().rstrip("=")
        return (
            f"{self._base_url}/v1/parcels/{delivery}/attachments/{number}"
            f"?expires={expires}&signature={signature}"
        )

    def verify(self, delivery: UUID, number: int, expires: str, signature: str) -> bool:
        """Whether this hub made the link and it is valid. The signature is compared in constant time."""
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return False
        try:
            told = base64.b64decode(signature + "=" * (-len(signature) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return False
        genuine = self._keyring.verify(_PURPOSE, _told(delivery, number, int(expires)), told)
        return genuine and self._now() < int(expires)


def _told(delivery: UUID, number: int, expires: int) -> bytes:
    return f'["{delivery}", {number}, {expires}]'.encode()
