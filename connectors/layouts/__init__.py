"""Layouts (présentations): how a parcel lies at a partner that gets files.

Business of this package: names and files, the same each time they are made of one delivery. How they get there is a
connector's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from connectors.layouts.entries import Entry, folder_name, number, own_entry, plain_entries, sorted_entries
from connectors.layouts.packing import packed, packed_size
from connectors.layouts.service_public import Origin, archive_name, service_public_entries
from hub.ports.connector import Parcel

__all__ = [
    "LAYOUTS",
    "Entry",
    "Layout",
    "Origin",
    "folder_name",
    "number",
    "own_entry",
    "packed",
    "packed_size",
]


@dataclass(frozen=True, slots=True)
class Layout:
    """`name`: under which the parcel appears; `entries`: what it consists of. `is_packed`: they are one zip, else the
    name is a folder's."""

    name: Callable[[Parcel], str]
    entries: Callable[[Parcel, Origin], Awaitable[Sequence[Entry]]]
    is_packed: bool


async def _plain(parcel: Parcel, origin: Origin) -> Sequence[Entry]:
    return await plain_entries(parcel)


async def _sorted(parcel: Parcel, origin: Origin) -> Sequence[Entry]:
    return await sorted_entries(parcel)


LAYOUTS: Mapping[str, Layout] = {
    "folder": Layout(folder_name, _plain, is_packed=False),
    "zip": Layout(lambda parcel: f"{folder_name(parcel)}.zip", _sorted, is_packed=True),
    "service-public": Layout(archive_name, service_public_entries, is_packed=True),
}
"""By the word that partners' settings name them with."""
