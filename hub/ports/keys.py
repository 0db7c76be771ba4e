"""Where wrapped keys are kept, and where the hub's own keys are: what a rotation asks of the two.

Business of this port: the root of digests, pages of keys that are wrapped anew, and that nothing is wrapped under a
key any more once it is forgotten. Wrapping is the keyring's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What one page came to: keys that were wrapped anew, and those that could not be, by the id of the hub key they
    are wrapped under. `last`: nothing comes after it."""

    done: int
    left: Mapping[bytes, int]
    last: bool


class Rewrapping(Protocol):
    """A walk over all wrapped keys, page by page."""

    async def page(self) -> Rewrapped:
        """The next page, in one transaction. Raises Unavailable: the same page again is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class Newest:
    """The id of the hub key that was last made the newest, how long ago, and those that were before."""

    id: bytes
    age: timedelta
    older: frozenset[bytes]


class WrappedKeys(Protocol):
    async def root(self, root: bytes, newest: bytes) -> bytes:
        """The wrapped root of digests: the one that is kept, else this one, which is kept from now on."""
        ...

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """Whether nobody else rotates keys meanwhile."""
        ...

    async def begin(self, newest: bytes) -> None:
        """This key is the newest, from now on, unless it is already."""
        ...

    async def newest(self) -> Newest:
        """Which key that is, as far as is kept."""
        ...

    async def count(self) -> Mapping[bytes, int]:
        """How many keys are wrapped under which hub key."""
        ...

    def rewrapping(self, newest: bytes, rewrap: Callable[[bytes], bytes | None]) -> Rewrapping:
        """What is not wrapped under `newest` is wrapped anew by `rewrap`; None: it cannot be."""
        ...

    async def forbid(self, hub_key: bytes) -> bool:
        """Nothing may be wrapped under this key from now on: whoever tries meets Unavailable. False, and nothing is
        forbidden, while something is. Raises Unavailable."""
        ...


class KeyPlace(Protocol):
    """The hub's own keys, where they lie. Each verb raises SettingsError, and is done whole or not at all."""

    @property
    def announced(self) -> bool:
        """Whether there is a key that is known and not used yet."""
        ...

    def announce(self) -> None:
        """A fresh key is known and not used; nothing where one is already."""
        ...

    def promote(self) -> None:
        """The announced key becomes the newest; nothing where there is none."""
        ...

    def forget(self) -> None:
        """Only the newest stays."""
        ...
