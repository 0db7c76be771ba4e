"""Uploads: files that a sender sends ahead of a deposit, because they are too large for a record.

Business of this port: which files lie ready, for whom and since when. The files of one upload are sealed under one
key, that of the submission which will take them over. An upload is taken over once, by accepting a submission that
names it; else it is forgotten, before its files are removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """`location`: its fresh name in the attachment store; `size` in plain bytes; `digest`: the keyed digest of its
    SHA-256."""

    location: str
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Upload:
    """Files by their number, from 1 on."""

    id: UUID
    sender: str
    wrapped_key: bytes = field(repr=False)
    files: Sequence[UploadedFile]


class Uploads(Protocol):
    async def keep(self, upload: Upload) -> None:
        """All of it or nothing; durable when it returns."""
        ...

    async def find(self, sender: str, id: UUID) -> Upload | None:
        """None also for another sender's, and for one that was taken over or forgotten."""
        ...

    async def newest_older_than(self, age: timedelta) -> Mapping[str, datetime]:
        """For each sender that has uploads of that age, the time of the newest of them."""
        ...

    async def forget(self, sender: str, until: datetime) -> int:
        """This sender's uploads up to that time; how many files nobody names from now on."""
        ...
