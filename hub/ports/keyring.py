"""The keyring: the hub's own key, which wraps the data key of each submission.

Business of this port: fresh data keys, wrapping and unwrapping them, keyed digests and signatures. The
hub's key itself never leaves the adapter. While it is rotated there are several: the newest wraps and signs, all of
them open what they wrapped and know what they signed. Digests are made under a root of their own, which stays the same:
content that comes again is recognised for as long as it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        """The data key again. Raises UnknownKey (another hub key) or Tampered."""
        ...

    def rewrap(self, wrapped: bytes) -> bytes:
        """The same data key, wrapped under the newest hub key. Raises as `unwrap` does."""
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
        """32 bytes: HMAC-SHA-256 under a key derived for this purpose (for links), of the newest hub key. Whoever is
        shown one asks `verify`: it may have been made under an older key."""
        ...

    def verify(self, purpose: str, content: bytes, signature: bytes) -> bool:
        """Whether `sign` made it, under any hub key that is known. In constant time."""
        ...

    @property
    def ids(self) -> Sequence[bytes]:
        """Of the hub keys that are known, the newest that is used first. They tell nothing of the keys, and stand in
        what is wrapped."""
        ...

    def root(self) -> bytes:
        """The root of digests, wrapped under the newest hub key."""
        ...

    def take_root(self, wrapped: bytes) -> None:
        """From now on digests are made under this root. Raises as `unwrap` does."""
        ...
