"""All files of a parcel as one zip, written while it is sent: nothing of it is held but a chunk."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator
from datetime import datetime

from hub.entrypoints.http.page.words import PARIS
from hub.ports.connector import Parcel

_LARGE = 2**31 - 2**20
_OLDEST = 1980


async def zipped(parcel: Parcel) -> AsyncIterator[bytes]:
    """Stored as they are, under their safe names, at the receipt time of the parcel. Raises Tampered or Unavailable
    where a file breaks off: the zip then has no end, so nobody takes it for whole."""
    held = _Held()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        for file in parcel.files:
            entry = zipfile.ZipInfo(file.name, _time(parcel.received_at))
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=file.size >= _LARGE) as into:
                async for chunk in file.open(0, None):
                    into.write(chunk)
                    yield held.taken()
            yield held.taken()
    yield held.taken()


def _time(instant: datetime) -> tuple[int, int, int, int, int, int]:
    """A zip knows no zones: on the clocks of Paris, as whoever opens it expects."""
    told = instant.astimezone(PARIS)
    return max(told.year, _OLDEST), told.month, told.day, told.hour, told.minute, told.second


class _Held:
    """What was written and not yet sent. It can neither seek nor tell: so sizes stand behind each file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """It is sent when it is taken."""

    def close(self) -> None:
        """Nothing is open."""

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
