"""The attachment store: sealed files under fresh names.

Business of this port: bytes that are whole or absent. It never sees plain text at rest: what it is given
to keep is sealed chunk by chunk under the submission's data key before it touches a disk, temporary
files included. It knows no submission, only names it made.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from hub.ports.keyring import DataKey


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A durable sealed file: fresh `name`, `size` in plain bytes, `sha256` of the plain bytes."""

    name: str
    size: int
    sha256: bytes


class Attachments(Protocol):
    async def put(self, chunks: AsyncIterator[bytes], key: DataKey) -> StoredFile:
        """Seal and store a stream. When this returns, the file is whole where it is kept (a folder: it survives
        a power cut; a bucket: the store has told of all of it). When it raises or is cancelled, nothing remains
        that a reader could see. Never holds more than a few chunks."""
        ...

    def read(self, name: str, key: DataKey, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Plain bytes [start, end). Raises Tampered, or Unavailable when the file is not there."""
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """Forget these files; names that are not there are no error."""
        ...

    def names_older_than(self, age: timedelta) -> AsyncIterator[Sequence[str]]:
        """Pages of names last written longer ago than `age`, for the sweep; unfinished ones among them where
        they can be seen (a bucket hides them: a rule of its own takes them away)."""
        ...

    async def room(self) -> float:
        """The share of the disk that is free, 0 to 1 (1.0 where the notion does not apply)."""
        ...


class SealedFiles(Protocol):
    """The same store for who carries its files elsewhere as they lie: sealed, under the names they have."""

    def sizes(self) -> AsyncIterator[Sequence[tuple[str, int]]]:
        """Pages of all whole files: their names, and how many sealed bytes they are."""
        ...

    def sealed(self, name: str) -> AsyncGenerator[bytes, None]:
        """Raises Unavailable when the file is not there."""
        ...

    async def take(self, name: str, size: int, sealed: Callable[[], AsyncGenerator[bytes, None]]) -> bool:
        """From now on these bytes lie under this name, whole or not at all; False: they did already. `sealed`
        begins to read them, perhaps twice. Raises Unavailable, SettingsError when others lie there."""
        ...
