"""What an exception or a log would show of a parcel on its way."""

from __future__ import annotations

from uuid import uuid4

from connectors.layouts.entries import plain_entries
from connectors.mail.conversation import Mail
from connectors.mail.mime import Attached
from tests.connectors.partners import some_file, some_parcel
from tests.journeys.marks import finds, value_of


async def test_a_parcel_shows_neither_names_of_files_nor_what_is_in_them() -> None:
    content = value_of("filebytes").encode()
    parcel = some_parcel(some_file(1, f"{value_of('filename')}.xml", content))
    [entry] = await plain_entries(parcel)
    assert finds(entry.name.encode())
    for shown in (
        parcel,
        entry,
        Attached(entry.name, "application/xml", content),
        Mail(uuid4(), 1, content, (1,), utf8=False, announces=False),
    ):
        assert finds(f"{shown!r} {shown!s}".encode()) == []
