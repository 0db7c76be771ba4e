"""A zip written as a stream, with each byte given once and its place.

Business of this file: that equal entries make equal archives, and that no entry is ever held in memory. Entries are
stored, not deflated; the checksum in an entry's header is known only after its last byte, so the header of a large one
is given after its content: some readers refuse stored entries with a descriptor behind them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime

from connectors.layouts.entries import Entry
from hub.domain.errors import Tampered
from hub.domain.pace import HERE

PIECE = 512 * 1024
"""Bytes that are gathered before they are given on: what is smaller than this is given in one piece, in order."""


async def packed(entries: Sequence[Entry], received_at: datetime) -> AsyncGenerator[tuple[int, bytes], None]:
    """(place, bytes), each place once. Raises Tampered for an entry that is not as long as it says, and what reading
    entries raises; what was given until then is no archive."""
    sheet = _Sheet()
    with zipfile.ZipFile(sheet, "w", zipfile.ZIP_STORED) as archive:
        for entry in entries:
            size = 0
            with archive.open(_info(entry, received_at), "w") as inside:
                # The header is written a second time, with the checksum: only that one counts.
                sheet.forget()
                async for chunk in entry.open(0, None):
                    size += len(chunk)
                    inside.write(chunk)
                    for piece in sheet.pieces(PIECE):
                        yield piece
            if size != entry.size:
                raise Tampered
    for piece in sheet.pieces(0):
        yield piece


def packed_size(entries: Sequence[Entry]) -> int:
    """How many bytes `packed` gives, without reading an entry."""
    size, directory = 0, 0
    for entry in entries:
        name = len(entry.name.encode())
        # The library leaves room for a size of eight bytes where the entry might grow by a twentieth.
        is_long = entry.size * 1.05 > zipfile.ZIP64_LIMIT
        extra = 8 * (2 * (entry.size > zipfile.ZIP64_LIMIT) + (size > zipfile.ZIP64_LIMIT))
        directory += 46 + name + (4 + extra if extra else 0)
        size += 30 + name + (20 if is_long else 0) + entry.size
    is_long = len(entries) > zipfile.ZIP_FILECOUNT_LIMIT or max(size, directory) > zipfile.ZIP64_LIMIT
    return size + directory + 22 + (56 + 20 if is_long else 0)


def _info(entry: Entry, received_at: datetime) -> zipfile.ZipInfo:
    at = received_at.astimezone(HERE)
    info = zipfile.ZipInfo(entry.name, (max(at.year, 1980), at.month, at.day, at.hour, at.minute, at.second))
    info.file_size = entry.size
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    return info


class _Sheet(io.RawIOBase):
    """What the archive writes to: keeps what was written and not yet taken, with its place."""

    def __init__(self) -> None:
        super().__init__()
        self._at = 0
        self._kept: list[tuple[int, bytes]] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET
        self._at = place
        return place

    def write(self, data: object, /) -> int:
        written = bytes(data)  # type: ignore[call-overload]
        if not written:
            return 0
        self._kept.append((self._at, written))
        self._size += len(written)
        self._at += len(written)
        return len(written)

    def forget(self) -> None:
        """What was written last: its place stays."""
        _, written = self._kept.pop()
        self._size -= len(written)

    def pieces(self, least: int) -> Sequence[tuple[int, bytes]]:
        """What was kept, put together where one follows the other; nothing if it is less than `least`."""
        if self._size < least:
            return ()
        runs: list[tuple[int, list[bytes]]] = []
        end = -1
        for place, written in sorted(self._kept):
            if place != end:
                runs.append((place, []))
            runs[-1][1].append(written)
            end = place + len(written)
        self._kept, self._size = [], 0
        return [(place, parts[0] if len(parts) == 1 else b"".join(parts)) for place, parts in runs]
