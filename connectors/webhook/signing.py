"""Signatures after Standard Webhooks 1.0: `v1` by a secret that both sides know, `v1a` by a key that only the hub has.

Business of this file: keys, and which of them sign when. While a key is replaced, the one before signs too, so that a
partner may change to the new one at any moment in between.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub.ports.connector import Parcel

SHARED, PRIVATE = "whsec_", "whsk_"
_SEED = 32


@dataclass(frozen=True, slots=True)
class Signer:
    """One key: of 24 to 64 bytes that are shared, or of ed25519."""

    key: bytes | Ed25519PrivateKey = field(repr=False)

    def sign(self, content: bytes) -> str:
        """As it stands in the header."""
        if isinstance(self.key, bytes):
            return f"v1,{base64.b64encode(hmac.digest(self.key, content, 'sha256')).decode()}"
        return f"v1a,{base64.b64encode(self.key.sign(content)).decode()}"


@dataclass(frozen=True, slots=True)
class Signers:
    """`previous` signs beside `current` until that moment (seconds since 1970)."""

    current: Signer
    previous: Signer | None = None
    until: float = 0.0

    def sign(self, content: bytes, now: float) -> str:
        if self.previous is None or now >= self.until:
            return self.current.sign(content)
        return f"{self.current.sign(content)} {self.previous.sign(content)}"


def signer(secret: str) -> Signer | None:
    """Of a secret as the standard writes it; None if it is none. Some generators leave the padding out."""
    if secret.startswith(SHARED):
        key = _decoded(secret.removeprefix(SHARED))
        return Signer(key) if 24 <= len(key) <= 64 else None
    key = _decoded(secret.removeprefix(PRIVATE)) if secret.startswith(PRIVATE) else b""
    if len(key) not in (_SEED, 2 * _SEED):
        return None
    private = Ed25519PrivateKey.from_private_bytes(key[:_SEED])
    # Some libraries write the public key behind the private one: another one there is a slip.
    return Signer(private) if key[_SEED:] in (b"", private.public_key().public_bytes_raw()) else None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def headers(parcel: Parcel, sent: bytes, signers: Signers, now: float) -> dict[str, str]:
    """The id is the delivery's, the same for every attempt; time and signatures are of this one."""
    told = signed(str(parcel.attempt.delivery), sent, signers, now)
    told["aiguillage-attempt"] = f"{parcel.attempt.sending}.{parcel.attempt.number}"
    return told


def signed(name: str, sent: bytes, signers: Signers, now: float) -> dict[str, str]:
    """Of JSON that is sent under this `webhook-id`."""
    at = str(int(now))
    return {
        "Content-Type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": at,
        "webhook-signature": signers.sign(b".".join((name.encode(), at.encode(), sent)), now),
    }
