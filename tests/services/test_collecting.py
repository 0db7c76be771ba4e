"""Return folders, from OpenSSH's own server to the sender: what a partner leaves there is an event, once.

One little hub and one server for the whole file: each test has a folder and submissions of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from connectors.sftp import SftpConnector
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.return_folders import PostgresReturnFolders
from hub.domain.partner import Endpoint, Partner
from hub.ports.returns import Acknowledgement, DocumentAway, NamedDelivery, Returns
from hub.services.collecting import CollectingRoom, CollectPace, meant
from hub.services.endpoints import EndpointRoom
from tests.conformance.samples import execute, rows
from tests.conftest import Databases
from tests.connectors.openssh import OpenSsh, missing, openssh
from tests.connectors.partners import surroundings
from tests.services.http_world import SENDER, World, offer, open_world
from tests.unit.samples import BONNEVILLE

pytestmark = pytest.mark.asyncio(loop_scope="module")
PACE = CollectPace(timedelta(minutes=5), timedelta(seconds=10))
SECRET = "Zébulon-7319"
MOST_RETURNED = 2_000_000
_numbers = count(1)


@dataclass
class Town:
    """Bonneville, with a return folder."""

    world: World
    room: CollectingRoom
    sftp: SftpConnector
    folder: Path
    endpoint: Endpoint

    async def dossier(self) -> tuple[str, str]:
        """A submission for it: its number, and the delivery."""
        name = f"retour-{next(_numbers)}"
        answer = await self.world.post(offer(external_id=name))
        await self.world.route()
        told = (await self.world.call("GET", f"/v1/submissions/{answer.json['id']}")).json
        found = (one["id"] for one in told["deliveries"] if one["partner"] == "Mairie de Bonneville")
        return name, next(found)

    def leave(self, name: str, inside: str, at: int = 1_700_000_000) -> None:
        (self.folder / name).write_text(f"<acquittement>{inside}</acquittement>")
        os.utime(self.folder / name, (at, at))

    def there(self) -> list[str]:
        return sorted(found.name for found in self.folder.iterdir())

    async def look(self, room: CollectingRoom | None = None) -> int:
        """As if the time for it had come."""
        await execute(self.world.database, "UPDATE return_folder SET due_at = clock_timestamp()")
        return await (room or self.room).run_once()

    async def events(self, delivery: str) -> list[Any]:
        told = (await self.world.call("GET", "/v1/events?since=0&limit=500", SENDER)).json["items"]
        return [one for one in told if one["delivery"] == delivery]

    def over(self, returns: Returns) -> CollectingRoom:
        database, keyring = self.world.database, LocalKeyring(bytes(range(32)))
        return CollectingRoom(
            PostgresReturnFolders(database),
            PostgresPartners(database),
            {"sftp": returns},
            self.world.rooms.reports,
            EndpointRoom(keyring),
            self.world.rooms.clock,
            PACE,
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(
    postgres_dsn: str, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[World, OpenSsh]]:
    if (why := missing()) is not None:
        pytest.skip(why)
    made = Databases(postgres_dsn, database_template)
    with openssh(tmp_path_factory.mktemp("sshd")) as server:
        async with open_world(made.make(), tmp_path_factory.mktemp("hub")) as world:
            yield world, server
    made.drop()


@pytest_asyncio.fixture(loop_scope="module")
async def town(ground: tuple[World, OpenSsh]) -> AsyncIterator[Town]:
    world, server = ground
    folder, _ = server.fresh(f"retour-{next(_numbers)}")
    endpoint = server.at(".", return_directory=str(folder), return_max_size=MOST_RETURNED)
    kept = EndpointRoom(LocalKeyring(bytes(range(32)))).seal(
        Partner(BONNEVILLE, "Mairie de Bonneville", endpoint)
    )
    await PostgresPartners(world.database).keep([kept])
    await execute(world.database, "DELETE FROM return_folder")
    sftp = SftpConnector(surroundings())
    town = Town(world, None, sftp, folder, endpoint)  # type: ignore[arg-type]
    town.room = town.over(sftp)
    yield town
    await sftp.close()


async def test_a_file_becomes_an_event_and_is_taken_away(town: Town) -> None:
    _, delivery = await town.dossier()
    town.leave("2.xml", f"<remise>{delivery}</remise><statut>DONE</statut>", 1_700_000_001)
    town.leave("1.xml", f"<remise>{delivery}</remise><statut>IN_PROGRESS</statut><message>{SECRET}</message>")
    with capture_logs() as lines:
        assert await town.look() == 1
    told = await town.events(delivery)
    assert [(one["status"], one["message"]) for one in told] == [("IN_PROGRESS", SECRET), ("DONE", None)]
    assert town.there() == []
    assert SECRET not in str(lines)


async def test_the_same_file_left_again_is_the_same_event(town: Town) -> None:
    _, delivery = await town.dossier()
    for _ in range(2):
        town.leave("fait.xml", f"<remise>{delivery}</remise><statut>DONE</statut>")
        await town.look()
    assert [one["status"] for one in await town.events(delivery)] == ["DONE"]
    assert town.there() == []


async def test_a_delivery_may_be_named_by_the_sender_s_number(town: Town) -> None:
    name, delivery = await town.dossier()
    town.leave("a.xml", f"<numero>{name}</numero><demarche>CERTDC</demarche><statut>DONE</statut>")
    await town.look()
    assert [one["status"] for one in await town.events(delivery)] == ["DONE"]


class Dying:
    """Comes to its end, as a process would, when the files are to be taken away."""

    def __init__(self, returns: Returns) -> None:
        self._returns = returns

    async def collect(self, *given: Any) -> Any:
        return await self._returns.collect(*given)

    def read(self, *given: Any, **named: Any) -> Any:
        return self._returns.read(*given, **named)

    async def done(self, *given: Any) -> Any:
        raise RuntimeError


async def test_killed_before_the_file_is_taken_away_the_next_look_says_the_same_event(town: Town) -> None:
    _, delivery = await town.dossier()
    town.leave("a.xml", f"<remise>{delivery}</remise><statut>DONE</statut>")
    await town.look(town.over(Dying(town.sftp)))
    assert town.there() == ["a.xml"]
    assert [one["status"] for one in await town.events(delivery)] == ["DONE"]
    await town.look()
    assert town.there() == []
    assert [one["status"] for one in await town.events(delivery)] == ["DONE"]


# --- documents ----------------------------------------------------------------------------------------

PAPER = b"%PDF-1.7 " + bytes(range(256)) * 4096
"""More than one request of the protocol brings."""


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
    await town.look()
    _lay(town, "a.pdf", PAPER[:1000])
    await town.look()
    assert await town.events(delivery) == []
    assert town.there() == ["a.pdf", "a.xml"]
    await execute(town.world.database, "DELETE FROM return_file")
    _lay(town, "a.pdf", PAPER)
    await town.look()
    assert len(await town.events(delivery)) == 1
    assert town.there() == []


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
    assert flaw in await _told(town)
    assert await town.events(delivery) == []
    assert town.there() == before


async def _told(town: Town) -> list[str]:
    found = await rows(
        town.world.database,
        "SELECT detail FROM journal WHERE event = 'return_file.unreadable' ORDER BY at, detail",
    )
    return [row["detail"].rpartition(", ")[2] for row in found]


async def test_what_nobody_can_read_stays_is_told_once_and_stops_nothing(town: Town) -> None:
    await execute(town.world.database, "DELETE FROM journal WHERE event = 'return_file.unreadable'")
    _, delivery = await town.dossier()
    foreign = "<remise>00000000-0000-5000-8000-000000000000</remise><statut>DONE</statut>"
    (town.folder / f"{SECRET}.xml").write_bytes(b"<half")
    town.leave("foreign.xml", foreign)
    town.leave("nobody.xml", "<numero>no such number</numero><statut>DONE</statut>")
    town.leave("good.xml", f"<remise>{delivery}</remise><statut>IN_PROGRESS</statut>", 1_700_000_009)
    await town.look()
    assert len(await town.events(delivery)) == 1
    assert await _told(town) == [], "it may still be being written"
    for _ in range(3):
        await town.look()
    assert sorted(await _told(town)) == ["no_xml", "unknown", "unknown"]
    assert town.there() == sorted(["foreign.xml", "nobody.xml", f"{SECRET}.xml"])
    there = await rows(town.world.database, "SELECT * FROM return_file")
    lines = await rows(town.world.database, "SELECT detail FROM journal")
    assert SECRET not in f"{there} {lines}"
    # Whole now: it is another file.
    town.leave(f"{SECRET}.xml", f"<remise>{delivery}</remise><statut>DONE</statut>")
    await town.look()
    assert [one["status"] for one in await town.events(delivery)] == ["IN_PROGRESS", "DONE"]


async def test_a_status_that_is_not_allowed_leaves_its_file_and_no_event(town: Town) -> None:
    _, delivery = await town.dossier()
    town.leave("a.xml", f"<remise>{delivery}</remise><statut>ADD_AWAITING</statut>")
    await town.look()
    assert await town.events(delivery) == []
    assert town.there() == ["a.xml"]


async def test_a_folder_that_is_away_is_looked_at_less_and_less_often_and_then_as_before(town: Town) -> None:
    town.folder.rmdir()
    for failures in (1, 2):
        assert await town.look() == 1
        [row] = await rows(town.world.database, "SELECT * FROM return_folder")
        assert (row["failures"], row["cause"]) == (failures, "sftp.directory_missing")
        assert row["failing_since"] is not None
    assert await town.room.run_once() == 0, "it is not due"
    town.folder.mkdir()
    await town.look()
    [row] = await rows(town.world.database, "SELECT * FROM return_folder")
    assert (row["failures"], row["cause"], row["failing_since"]) == (0, None, None)


async def test_a_partner_is_not_looked_at_while_it_is_not_to_be_called(town: Town) -> None:
    _, delivery = await town.dossier()
    town.leave("a.xml", f"<remise>{delivery}</remise><statut>DONE</statut>")
    planned = '[{"from": "2020-01-01T00:00:00+00:00", "until": "2100-01-01T00:00:00+00:00", "reason": "x"}]'
    await execute(town.world.database, f"UPDATE partner SET maintenance = '{planned}'")
    await town.look()
    assert town.there() == ["a.xml"]
    assert await town.room.run_once() == 0, "it is due when that is over"
    await execute(town.world.database, "UPDATE partner SET maintenance = NULL")
    await town.look()
    assert town.there() == []


async def test_two_workers_never_look_at_one_folder_at_once(town: Town) -> None:
    folders = PostgresReturnFolders(town.world.database)
    held: Sequence[Any] = [
        *await folders.due(10, timedelta(minutes=1)),
        *await folders.due(10, timedelta(minutes=1)),
    ]
    assert [one.subscriber for one in held] == [BONNEVILLE]


async def test_looks_that_fail_wait_longer_and_a_full_look_waits_for_nothing() -> None:
    minutes = [PACE.wait(failures, 0) / timedelta(minutes=1) for failures in range(6)]
    assert minutes == [5, 5, 10, 20, 40, 60]
    assert PACE.wait(0, 100) == timedelta(0)


async def test_a_number_means_the_newest_revision_of_one_submission_and_of_two_none() -> None:
    one, other = UUID(int=1), UUID(int=2)
    those = [
        NamedDelivery(UUID(int=11), one, "CERTDC", 1),
        NamedDelivery(UUID(int=12), one, "CERTDC", 2),
        NamedDelivery(UUID(int=21), other, "EtatCivil", 1),
    ]
    said = Acknowledgement(external_id="A-1")
    assert meant(said, {"A-1": those}) == "ambiguous"
    assert meant(said, {"A-1": those[:2]}) == UUID(int=12)
    assert meant(replace(said, procedure="EtatCivil"), {"A-1": those}) == UUID(int=21)
    assert meant(replace(said, procedure="recensementCitoyen"), {"A-1": those}) == "unknown"
    assert meant(said, {}) == "unknown"
