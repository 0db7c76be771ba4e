"""Where parcels go on an SFTP server, and as what: directories, end markers, zips, and what is there already."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from unittest.mock import ANY

import pytest

from connectors.sftp import SftpConnector, folder_name
from hub.domain.delivery import About, Deferred, Delivered, Refused
from tests.connectors.partners import (
    SftpTown,
    names,
    silent_port,
    some_file,
    some_parcel,
    surroundings,
    tried_again,
    with_settings,
)
from tests.connectors.sftp_world import LIMIT, SFTP, left_nowhere, town

__all__ = ["left_nowhere", "town"]


# --- where parcels go ---------------------------------------------------------------------------------


async def test_a_directory_is_filled_in_and_made(town: SftpTown) -> None:
    endpoint = with_settings(
        town.endpoint, directory="depot/{procedure}/{date}-{partner}", make_directories=True
    )
    late = replace(some_parcel(), received_at=datetime(2026, 12, 31, 23, 30, tzinfo=UTC))
    assert await SFTP.deliver(endpoint, [late, some_parcel()], LIMIT) == [
        Delivered(f"depot/EtatCivil/2027-01-01-21640122200017-64122/{folder_name(late)}"),
        ANY,
    ]
    assert (town.root / "depot/EtatCivil/2027-01-01-21640122200017-64122" / folder_name(late)).is_dir()
    assert sorted(found.name for found in (town.root / "depot/EtatCivil").iterdir()) == [
        "2026-04-03-21640122200017-64122",
        "2027-01-01-21640122200017-64122",
    ]


async def test_what_is_filled_in_leads_nowhere_else(town: SftpTown) -> None:
    (town.root / "depot").mkdir()
    endpoint = with_settings(town.endpoint, directory="depot/{procedure}", make_directories=True)
    parcels = [replace(some_parcel(), procedure=word) for word in ("../../x", "..", "a/b", ".")]
    assert names(await SFTP.deliver(endpoint, parcels, LIMIT)) == ["Delivered"] * 4
    assert [found.name for found in town.root.iterdir()] == ["depot"]
    assert sorted(found.name for found in (town.root / "depot").iterdir()) == ["_", "a_b", "x"]


async def test_a_folder_that_is_missing_concerns_those_that_go_there(town: SftpTown) -> None:
    (town.root / "EtatCivil").mkdir()
    endpoint = with_settings(town.endpoint, directory="{procedure}")
    other = replace(some_parcel(), procedure="CERTDC")
    outcomes = await SFTP.deliver(endpoint, [some_parcel(), other, some_parcel()], LIMIT)
    assert names(outcomes) == ["Delivered", "Refused", "Delivered"]
    assert outcomes[1] == Refused("sftp.directory_missing", About.ENDPOINT)


@pytest.mark.parametrize(
    ("settings", "marker"),
    [
        ({"end_marker": ".ok"}, "{name}.ok"),
        ({"end_marker": "fin.txt"}, "{name}/fin.txt"),
        ({"end_marker": ".ok", "layout": "zip"}, "{name}.zip.ok"),
    ],
    ids=["suffix", "name", "suffix-of-a-zip"],
)
async def test_an_end_marker_is_written_behind_the_parcel_and_again_if_that_was_not_reached(
    town: SftpTown, settings: dict[str, object], marker: str
) -> None:
    parcel = some_parcel()
    endpoint = with_settings(town.endpoint, **settings)
    path = town.root / marker.format(name=folder_name(parcel))
    assert names(await SFTP.deliver(endpoint, [parcel], LIMIT)) == ["Delivered"]
    assert path.read_bytes() == b""
    path.unlink()
    assert names(await SFTP.deliver(endpoint, [tried_again(parcel)], LIMIT)) == ["Delivered"]
    assert path.read_bytes() == b""
    assert names(await SFTP.deliver(endpoint, [tried_again(parcel, 3)], LIMIT)) == ["Delivered"]


# --- a zip --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrites", [False, True], ids=["hard-links", "a-rename-that-overwrites"])
async def test_a_zip_appears_whole_and_is_never_overwritten(town: SftpTown, overwrites: bool) -> None:
    town.overwrites = overwrites
    endpoint, parcel, taken = with_settings(town.endpoint, layout="zip"), some_parcel(), some_parcel()
    (town.root / f"{folder_name(taken)}.zip").write_bytes(b"of somebody else")
    outcomes = await SFTP.deliver(endpoint, [parcel, taken], LIMIT)
    assert outcomes == [Delivered(f"{folder_name(parcel)}.zip"), Refused("sftp.conflict", About.PARCEL)]
    assert (town.root / f"{folder_name(taken)}.zip").read_bytes() == b"of somebody else"
    with zipfile.ZipFile(town.root / f"{folder_name(parcel)}.zip") as read:
        assert {name: read.read(name) for name in read.namelist()} == {
            "submission.json": b'{"a":"\xc3\xa9"}',
            "état civil (1).xml": b"<?xml version='1.0'?>\r\n<a>\xe9</a>\n.\r\n",
        }
    assert town.hidden() == []


async def test_a_zip_that_is_there_is_compared_byte_by_byte(town: SftpTown) -> None:
    endpoint = with_settings(town.endpoint, layout="zip")
    parcel = some_parcel(some_file(1, "a.bin", bytes(700_000)), some_file(2, "b.bin", b"b"))
    await SFTP.deliver(endpoint, [parcel], LIMIT)
    assert names(await SFTP.deliver(endpoint, [tried_again(parcel)], LIMIT)) == ["Delivered"]
    path = town.root / f"{folder_name(parcel)}.zip"
    content = bytearray(path.read_bytes())
    content[300_000] ^= 1
    path.write_bytes(content)
    conflict = [Refused("sftp.conflict", About.PARCEL)]
    assert await SFTP.deliver(endpoint, [tried_again(parcel, 3)], LIMIT) == conflict
    unread = with_settings(endpoint, read_back=0)
    assert names(await SFTP.deliver(unread, [tried_again(parcel, 4)], LIMIT)) == ["Delivered"]
    path.write_bytes(content + b"!")
    assert await SFTP.deliver(unread, [tried_again(parcel, 5)], LIMIT) == conflict


@pytest.mark.parametrize("layout", ["folder", "zip"])
async def test_a_server_that_forgets_bytes_is_found_out_by_the_size(town: SftpTown, layout: str) -> None:
    town.swallows = 1
    endpoint = with_settings(town.endpoint, layout=layout)
    parcel = some_parcel(some_file(1, "a.bin", bytes(300_000)))
    outcomes = await SFTP.deliver(endpoint, [parcel], LIMIT)
    assert outcomes == [Deferred("sftp.size_differs", About.PARCEL)]
    assert list(town.root.iterdir()) == []


async def test_a_zip_that_an_elder_attempt_left_half_is_cleared(town: SftpTown) -> None:
    endpoint, parcel = with_settings(town.endpoint, layout="zip"), some_parcel()
    for number in (1, 2):
        (town.root / f".{parcel.attempt.delivery}.1.{number}.part").write_bytes(b"ha")
    assert names(await SFTP.deliver(endpoint, [tried_again(parcel, 2)], LIMIT)) == ["Delivered"]
    assert town.hidden() == []


# --- what comes back ----------------------------------------------------------------------------------


async def test_a_return_folder_that_is_missing_or_silent_is_an_outcome(town: SftpTown) -> None:
    connector = SftpConnector(surroundings())
    endpoint = with_settings(town.endpoint, return_directory="retour")
    missing = Refused("sftp.directory_missing", About.ENDPOINT)
    assert await connector.collect(endpoint, LIMIT, 10) == missing
    with silent_port() as port:
        silent = with_settings(endpoint, port=port)
        assert await connector.collect(silent, 0.3, 10) == Deferred("sftp.timeout")
    await connector.close()
