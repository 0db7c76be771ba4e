"""What a parcel becomes on a partner's disk: names, and files under names, made of the delivery alone."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from connectors.parcels import harmless_name, slug
from hub.ports.connector import Parcel

LONGEST_NUMBER = 80


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as the partner gets it. `open(start, end)` streams the bytes of [start, end)."""

    name: str = field(repr=False)
    size: int
    sha256: str
    open: Callable[[int, int | None], AsyncIterator[bytes]] = field(repr=False)


def own_entry(name: str, content: bytes) -> Entry:
    """A file that a layout wrote itself."""

    async def read(start: int, end: int | None) -> AsyncIterator[bytes]:
        yield content[start:end]

    return Entry(name, len(content), hashlib.sha256(content).hexdigest(), read)


def folder_name(parcel: Parcel) -> str:
    """The name a parcel has at its partner: from the delivery alone, so that it is the same each time."""
    return f"{number(parcel)}-{parcel.attempt.delivery.hex[:16]}"


def number(parcel: Parcel) -> str:
    """The sender's number of the submission, as a name may hold it. A delivery that moved to a successor says whose it
    was: the successor may have one of its own of the same submission."""
    told = slug(parcel.external_id, LONGEST_NUMBER)
    return told if parcel.named is None else f"{told}-{parcel.named.siret}-{slug(parcel.named.branch, 10)}"


async def plain_entries(parcel: Parcel) -> Sequence[Entry]:
    """The parcel's files under their own names."""
    return [Entry(harmless_name(file), file.size, file.sha256, file.open) for file in parcel.files]


async def sorted_entries(parcel: Parcel) -> Sequence[Entry]:
    return sorted(await plain_entries(parcel), key=lambda entry: entry.name)
