"""What the attachments' conformance suite stands on: a place for each adapter, and what it declares.

Business of this file: what a test may do to a place beside its port. An adapter joins by a line in `PLACES`
with the fixture that gives its place, and the features it declares.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

import pytest

from hub.adapters.keys.local import LocalKeyring
from hub.adapters.objects.bucket import Bucket
from hub.adapters.objects.local import LocalAttachments
from hub.adapters.objects.s3 import S3Attachments
from hub.adapters.objects.upload import PART
from hub.ports.attachments import Attachments
from hub.ports.keyring import DataKey
from tests.conformance.attachment_server import ACCESS_KEY, SECRET_KEY, Kept

KEYRING = LocalKeyring(bytes(range(32)))
KEY = KEYRING.fresh()
NOW = timedelta(0)
MARKER = b"AN UNMISTAKABLE MARKER OF WHAT THE CITIZEN WROTE. "


class Feature(Enum):
    FOLDER = auto()
    """Files lie in a folder of this machine: owners, links, disks that fill up, and that must be told to
    write at once."""
    UNFINISHED_FILES = auto()
    """What a killed process left unfinished has a name that is told to the sweep."""


class Place(Protocol):
    """An adapter, and the view of whoever holds what it stands on."""

    grain: int
    """A file of more bytes than this can be seen while it is being written."""

    @property
    def attachments(self) -> Attachments: ...

    def address(self) -> list[str]:
        """What another process needs to open the same: see `opened`."""
        ...

    async def kept(self) -> dict[str, bytes]:
        """All that is kept at this moment, by name, as it lies there: unfinished things too."""
        ...

    async def overwrite(self, name: str, content: bytes) -> None: ...

    async def make_older(self, name: str, age: timedelta) -> None: ...


class LocalFolder:
    grain = 1_100_000

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "attachments"
        self.attachments: Attachments = LocalAttachments(self.folder)

    def address(self) -> list[str]:
        return ["local", str(self.folder)]

    async def kept(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    async def overwrite(self, name: str, content: bytes) -> None:
        self.path(name).write_bytes(content)

    async def make_older(self, name: str, age: timedelta) -> None:
        then = time.time() - age.total_seconds()
        os.utime(self.path(name), (then, then))

    def path(self, name: str) -> Path:
        [path] = self.folder.rglob(name)
        return path


class S3Bucket:
    grain = PART

    def __init__(self, bucket: Kept) -> None:
        self.bucket = bucket
        self.attachments: Attachments = S3Attachments(bucket.settings())

    def address(self) -> list[str]:
        return ["s3", self.bucket.settings().address, self.bucket.server.endpoint]

    async def kept(self) -> dict[str, bytes]:
        return self.bucket.all()

    async def overwrite(self, name: str, content: bytes) -> None:
        self.bucket.overwrite(name, content)

    async def make_older(self, name: str, age: timedelta) -> None:
        self.bucket.make_older(name, age)


@dataclass(frozen=True, slots=True)
class Joined:
    """An adapter: the fixture that gives its place, and what it declares."""

    fixture: str
    features: frozenset[Feature]


PLACES = {
    "local": Joined("local", frozenset(Feature)),
    "s3": Joined("s3", frozenset()),
}


def only_with(feature: Feature) -> pytest.MarkDecorator:
    names = sorted(name for name, joined in PLACES.items() if feature in joined.features)
    return pytest.mark.parametrize("place", names, indirect=True)


def opened(address: list[str]) -> Attachments:
    """The same place, from another process."""
    match address:
        case ["local", folder]:
            return LocalAttachments(Path(folder))
        case ["s3", bucket, endpoint]:
            settings = Bucket(bucket, endpoint=endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
            return S3Attachments(settings)
        case _:
            raise AssertionError(address)


async def chunked(content: bytes, size: int = 70_000) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def whole(
    attachments: Attachments, name: str, start: int = 0, end: int | None = None, key: DataKey = KEY
) -> bytes:
    return b"".join([chunk async for chunk in attachments.read(name, key, start, end)])


async def old(attachments: Attachments, age: timedelta = NOW) -> list[str]:
    return [name async for page in attachments.names_older_than(age) for name in page]
