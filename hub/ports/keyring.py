"""The keyring: the hub's own key, which wraps the data key of each submission.

Business of this port: fresh data keys, wrapping and unwrapping them, keyed digests and signatures. The
hub's key itself never leaves the adapter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DataKey:
    """A submission's own key: `plain` (32 bytes, memory only) and `wrapped` (what may be stored)."""

    plain: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


class Keyring(Protocol):
    def fresh(self) -> DataKey:
        """A new random data key with its wrapping."""
        ...

    def unwrap(self, wrapped: bytes) -> DataKey:
        """The data key again. Raises MissingKey (other hub key) or Tampered."""
        ...

    def seal(self, key: DataKey, plain: bytes, context: bytes) -> bytes:
        """Seal a small document (AES-256-GCM); `context` is bound to it, not stored."""
        ...

    def open(self, key: DataKey, sealed: bytes, context: bytes) -> bytes:
        """The document again. Raises Tampered when content, key or context differ."""
        ...

    def digest(self, content: bytes) -> bytes:
        """32 bytes: HMAC-SHA-256 under a key derived for digests only; equal for equal content."""
        ...

    def sign(self, purpose: str, content: bytes) -> bytes:
        """32 bytes: HMAC-SHA-256 under a key derived for this purpose (for links)."""
        ...
