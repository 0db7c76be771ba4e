"""Documents that come back through a return folder, on OpenSSH's own server: with the file that returns them, once, and
whole.

One little hub and one server for the whole file: each test has a folder and submissions of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from hub.ports.returns import DocumentAway
from hub.services.collecting import CollectPace
from tests.conformance.samples import execute, rows
from tests.services.http_world import SENDER
from tests.services.return_town import (
    MOST_RETURNED,
    PACE,
    Dying,
    Ground,
    Town,
    return_ground,
    return_town,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAPER = b"%PDF-1.7 " + bytes(range(256)) * 4096
"""More than one request of the protocol brings."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(
    postgres_dsn: str, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ground]:
    async with return_ground(postgres_dsn, database_template, tmp_path_factory) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="module")
async def town(ground: Ground) -> AsyncIterator[Town]:
    async with return_town(ground) as opened:
        yield opened


def _returning(delivery: str, name: str = "arr\u00eat\u00e9.pdf", more: str = "") -> str:
    return f"<remise>{delivery}</remise><statut>IN_PROGRESS</statut><fichier>{name}</fichier>{more}"


async def _file(town: Town, event: Any) -> bytes:
    answer = await town.world.call("GET", f"/v1/events/{event['id']}/file", SENDER)
    assert answer.status == 200, answer.body
    return answer.body


def _lay(town: Town, name: str, content: bytes, at: int = 1_690_000_000) -> None:
    (town.folder / name).write_bytes(content)
    os.utime(town.folder / name, (at, at))


async def test_a_document_comes_with_the_file_that_returns_it_and_both_are_taken_away(town: Town) -> None:
    _, delivery = await town.dossier()
    _lay(town, "arr\u00eat\u00e9.pdf", PAPER)
    said = f"<taille>{len(PAPER)}</taille><empreinte>{hashlib.sha256(PAPER).hexdigest().upper()}</empreinte>"
    town.leave("a.xml", _returning(delivery, more=said))
    town.leave("b.xml", f"<remise>{delivery}</remise><statut>DONE</statut>", 1_700_000_009)
    await town.look()
    first, second = await town.events(delivery)
    assert [first["status"], second["status"]] == ["IN_PROGRESS", "DONE"]
    assert (first["file"]["name"], first["file"]["media_type"]) == ("arr\u00eat\u00e9.pdf", "application/pdf")
    assert await _file(town, first) == PAPER
    assert town.there() == []


async def test_killed_before_a_document_is_taken_away_it_is_returned_once(town: Town) -> None:
    _, delivery = await town.dossier()
    _lay(town, "a.pdf", PAPER)
    town.leave("a.xml", _returning(delivery, "a.pdf"))
    await town.look(town.over(Dying(town.sftp)))
    assert town.there() == ["a.pdf", "a.xml"]
    await town.look()
    assert town.there() == []
    [event] = await town.events(delivery)
    assert await _file(town, event) == PAPER


async def test_a_document_that_is_not_there_yet_is_waited_for(town: Town) -> None:
    _, delivery = await town.dossier()
    town.leave("a.xml", _returning(delivery, "a.pdf", f"<taille>{len(PAPER)}</taille>"))
    before = len(await town.told())
    await town.look()
    _lay(town, "a.pdf", PAPER[:1000])
    await town.look()
    assert await town.events(delivery) == []
    assert town.there() == ["a.pdf", "a.xml"]
    # Told once for what it is now, and not before it was there.
    for _ in range(3):
        await town.look()
    assert (await town.told())[before:] == ["document_size"]
    _lay(town, "a.pdf", PAPER)
    await town.look()
    assert len(await town.events(delivery)) == 1
    assert town.there() == []


async def test_a_document_that_was_written_after_the_file_that_returns_it_is_believed_whole_by_its_size_alone(
    town: Town,
) -> None:
    _, delivery = await town.dossier()
    _lay(town, "a.pdf", PAPER, at=1_700_000_001)
    town.leave("a.xml", _returning(delivery, "a.pdf"))
    for _ in range(2):
        await town.look()
    assert await town.events(delivery) == []
    assert town.there() == ["a.pdf", "a.xml"]
    town.leave("a.xml", _returning(delivery, "a.pdf", f"<taille>{len(PAPER)}</taille>"))
    await town.look()
    assert len(await town.events(delivery)) == 1


async def test_two_files_that_return_each_other_are_two_events(town: Town) -> None:
    _, delivery = await town.dossier()
    town.leave("a.xml", _returning(delivery, "b.xml"))
    town.leave("b.xml", f"<remise>{delivery}</remise><fichier>a.xml</fichier>")
    await town.look()
    assert [one["file"]["name"] for one in await town.events(delivery)] == ["b.xml", "a.xml"]
    assert town.there() == []


async def test_no_more_of_a_document_is_read_than_its_server_listed(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, delivery = await town.dossier()
    _lay(town, "a.pdf", b"%PDF")
    town.leave("a.xml", _returning(delivery, "a.pdf"))
    given = 0

    async def endless(*_: Any) -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield PAPER

    monkeypatch.setattr("connectors.sftp.uploads.pieces", endless)
    await town.look()
    assert given == 1
    assert await town.events(delivery) == []
    assert town.there() == ["a.pdf", "a.xml"]


class Cutting(Dying):
    """Breaks off in the middle of each document."""

    async def read(self, *given: Any, **named: Any) -> AsyncIterator[bytes]:
        yield PAPER[:1000]
        raise DocumentAway("sftp.disconnected")

    async def done(self, *given: Any) -> Any:
        return await self._returns.done(*given)


async def test_a_document_that_breaks_off_leaves_nothing_behind_and_holds_up_no_other_file(
    town: Town,
) -> None:
    _, delivery = await town.dossier()
    _lay(town, "a.pdf", PAPER)
    town.leave("a.xml", _returning(delivery, "a.pdf"))
    town.leave("b.xml", f"<remise>{delivery}</remise><message>Bonjour</message>", 1_700_000_009)
    before = set(town.world.folder.rglob("*"))
    await town.look(town.over(Cutting(town.sftp)))
    assert [one["message"] for one in await town.events(delivery)] == ["Bonjour"]
    assert town.there() == ["a.pdf", "a.xml"]
    assert {one for one in set(town.world.folder.rglob("*")) - before if one.is_file()} == set()
    await town.look()
    assert await _file(town, (await town.events(delivery))[1]) == PAPER


class Dripping(Cutting):
    """Gives its documents so slowly that nobody would be served beside it."""

    async def read(self, *given: Any, **named: Any) -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)


async def test_a_document_that_comes_too_slowly_is_given_up(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, delivery = await town.dossier()
    _lay(town, "a.pdf", PAPER)
    town.leave("a.xml", _returning(delivery, "a.pdf"))
    room = town.over(Dripping(town.sftp))
    monkeypatch.setattr(CollectPace, "patience", lambda *_: timedelta(seconds=0.1))
    for _ in range(2):
        await town.look(room)
    assert "document_slow" in await town.told()
    assert await town.events(delivery) == []


async def test_a_look_has_one_time_for_all_documents_and_the_next_is_due_at_once(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, delivery = await town.dossier()
    for place, name in enumerate(("a", "b")):
        _lay(town, f"{name}.pdf", PAPER)
        town.leave(f"{name}.xml", _returning(delivery, f"{name}.pdf"), 1_700_000_000 + place)
    # The first has all the time there is, the second may not end within it: it is not taken, nor blamed.
    monkeypatch.setattr(CollectPace, "patience", lambda *_: PACE.documents)
    await town.look()
    assert town.there() == ["b.pdf", "b.xml"]
    assert (
        len(await rows(town.world.database, "SELECT FROM return_folder WHERE due_at <= clock_timestamp()"))
        == 1
    )
    await town.look()
    assert town.there() == []
    assert [one["file"]["name"] for one in await town.events(delivery)] == ["a.pdf", "b.pdf"]


async def test_no_document_outlasts_the_time_of_its_look(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CollectPace, "patience", lambda *_: timedelta(hours=1))
    _, delivery = await town.dossier()
    _lay(town, "a.pdf", PAPER)
    town.leave("a.xml", _returning(delivery, "a.pdf"))
    before = len(await town.told())
    room = town.over(Dripping(town.sftp), replace(PACE, documents=timedelta(seconds=0.1)))
    async with asyncio.timeout(60):
        for _ in range(2):
            await town.look(room)
    assert (await town.told())[before:] == ["document_slow"]
    assert await town.events(delivery) == []


@pytest.mark.parametrize(
    ("name", "more", "flaw"),
    [
        ("../a.pdf", "", "document_name"),
        (".a.pdf", "", "document_name"),
        ("lien.pdf", "", "document_missing"),
        ("dossier", "", "document_missing"),
        ("a.xml", "", "document_missing"),
        ("a.pdf", "<taille>-1</taille>", "document_size"),
        ("a.pdf", "<taille>7</taille>", "document_size"),
        ("a.pdf", "<empreinte>abc</empreinte>", "document_digest"),
        ("a.pdf", f"<empreinte>{'0' * 64}</empreinte>", "invalid"),
        ("grand.pdf", "", "document_too_large"),
    ],
)
async def test_a_document_that_cannot_be_taken_leaves_everything_as_it_is(
    town: Town, name: str, more: str, flaw: str
) -> None:
    await execute(town.world.database, "DELETE FROM journal WHERE event = 'return_file.unreadable'")
    await execute(town.world.database, "DELETE FROM return_file")
    _, delivery = await town.dossier()
    (town.folder / "dossier").mkdir()
    (town.folder / "lien.pdf").symlink_to("/etc/passwd")
    _lay(town, "a.pdf", b"%PDF")
    _lay(town, "grand.pdf", bytes(MOST_RETURNED + 1))
    town.leave("a.xml", _returning(delivery, name, more))
    before = town.there()
    for _ in range(2):
        await town.look()
    assert flaw in await town.told()
    assert await town.events(delivery) == []
    assert town.there() == before
