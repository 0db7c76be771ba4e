"""Return folders, from OpenSSH's own server to the sender: what a partner leaves there is an event, once.

One little hub and one server for the whole file: each test has a folder and submissions of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from hub.adapters.postgres.return_folders import PostgresReturnFolders
from hub.ports.returns import Acknowledgement, NamedDelivery
from hub.services.collecting import meant
from tests.conformance.samples import execute, rows
from tests.services.return_town import PACE, Dying, Ground, Town, return_ground, return_town
from tests.unit.samples import BONNEVILLE

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "Zébulon-7319"


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


async def test_killed_before_the_file_is_taken_away_the_next_look_says_the_same_event(town: Town) -> None:
    _, delivery = await town.dossier()
    town.leave("a.xml", f"<remise>{delivery}</remise><statut>DONE</statut>")
    await town.look(town.over(Dying(town.sftp)))
    assert town.there() == ["a.xml"]
    assert [one["status"] for one in await town.events(delivery)] == ["DONE"]
    await town.look()
    assert town.there() == []
    assert [one["status"] for one in await town.events(delivery)] == ["DONE"]


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
    assert await town.told() == [], "it may still be being written"
    for _ in range(3):
        await town.look()
    assert sorted(await town.told()) == ["no_xml", "unknown", "unknown"]
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


async def test_a_full_folder_of_what_cannot_be_moved_is_told_and_waits(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.services.collecting.MOST", 2)
    await town.settle(return_kept=f"{town.folder}/nowhere")
    _, delivery = await town.dossier()
    for name in ("1.xml", "2.xml", "3.xml"):
        town.leave(name, f"<remise>{delivery}</remise><message>{name}</message>")
    await town.look()
    [row] = await rows(town.world.database, "SELECT * FROM return_folder")
    assert (row["failures"], row["cause"]) == (1, "sftp.directory_missing")
    assert await town.room.run_once() == 0, "it is not due"
    (town.folder / "nowhere").mkdir()
    for _ in range(2):
        await town.look()
    assert town.there() == ["nowhere"]
    assert [one["message"] for one in await town.events(delivery)] == ["1.xml", "2.xml", "3.xml"]


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
    minutes = [PACE.wait(failures, more=False) / timedelta(minutes=1) for failures in range(6)]
    assert minutes == [5, 5, 10, 20, 40, 60]
    assert PACE.wait(3, more=True) == PACE.wait(3, more=False)
    assert PACE.wait(0, more=True) == timedelta(0)


class Unmoving(Dying):
    """Says that files were taken away, and leaves them there."""

    async def done(self, *_: Any) -> Any:
        return None


async def test_files_that_stay_though_their_server_says_otherwise_are_not_looked_at_without_a_wait(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.services.collecting.MOST", 2)
    _, delivery = await town.dossier()
    for name in ("1.xml", "2.xml"):
        town.leave(name, f"<remise>{delivery}</remise><message>{name}</message>")
    room = town.over(Unmoving(town.sftp))
    await town.look(room)
    due = "SELECT FROM return_folder WHERE due_at <= clock_timestamp()"
    assert len(await rows(town.world.database, due)) == 1, "it brought something, and there may be more"
    await town.look(room)
    assert await rows(town.world.database, due) == []
    assert len(await town.events(delivery)) == 2


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
