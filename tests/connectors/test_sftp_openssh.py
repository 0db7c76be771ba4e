"""The SFTP connector with OpenSSH's own server, the one most partners have."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import zipfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import asyncssh
import pytest

from connectors.layouts import LAYOUTS
from connectors.sftp import SftpConnector, folder_name
from hub.domain.cases import CaseStatus
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.domain.partner import Endpoint
from hub.ports.connector import Parcel
from hub.ports.returns import FoundFile
from tests.connectors.openssh import OpenSsh, missing, openssh
from tests.connectors.partners import names, some_file, some_parcel, surroundings, tried_again, with_settings

LIMIT = 10.0
STATE = {"layout": "service-public", "sender_siret": "13000210800012"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    if (why := missing()) is not None:
        pytest.skip(why)
    with openssh(tmp_path_factory.mktemp("sshd")) as served:
        yield served


@pytest.fixture
async def sftp() -> AsyncIterator[SftpConnector]:
    made = SftpConnector(surroundings())
    yield made
    await made.close()


@pytest.fixture
def inbox(server: OpenSsh) -> tuple[Path, Endpoint]:
    """A folder of a test's own, and the endpoint that leads there."""
    return server.fresh(f"inbox-{uuid4().hex[:8]}")


def found(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


async def test_openssh_takes_a_parcel_byte_for_byte_and_once(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint]
) -> None:
    folder, endpoint = inbox
    content = os.urandom(3_000_001)
    parcel = some_parcel(some_file(0, "submission.json", b"{}"), some_file(1, "pièce 1.pdf", content))
    for number in (1, 2):
        outcomes = await sftp.deliver(endpoint, [tried_again(parcel, number)], LIMIT)
        assert outcomes == [Delivered(folder_name(parcel))]
    assert found(folder) == [folder_name(parcel)]
    assert (folder / folder_name(parcel) / "pièce 1.pdf").read_bytes() == content
    assert (folder / folder_name(parcel) / "submission.json").read_bytes() == b"{}"


@pytest.mark.parametrize("layout", ["folder", "zip"])
async def test_openssh_takes_a_page_of_parcels(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint], layout: str
) -> None:
    folder, endpoint = inbox
    parcels = [some_parcel() for _ in range(20)]
    outcomes = await sftp.deliver(with_settings(endpoint, layout=layout), parcels, LIMIT)
    assert names(outcomes) == ["Delivered"] * 20
    assert found(folder) == sorted(LAYOUTS[layout].name(parcel) for parcel in parcels)


@pytest.mark.parametrize("layout", ["folder", "zip"])
async def test_openssh_overwrites_nothing(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint], layout: str
) -> None:
    folder, endpoint = inbox
    parcel = some_parcel()
    there = folder / LAYOUTS[layout].name(parcel)
    if layout == "folder":
        there.mkdir()
    else:
        there.touch()
    outcomes = await sftp.deliver(with_settings(endpoint, layout=layout), [parcel], LIMIT)
    assert outcomes == [Refused("sftp.conflict", About.PARCEL)]
    assert list(there.iterdir()) == [] if layout == "folder" else there.read_bytes() == b""
    assert found(folder) == [there.name]


async def test_openssh_is_cleared_of_what_older_attempts_left(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint]
) -> None:
    folder, endpoint = inbox
    parcel = some_parcel()
    (folder / f".{parcel.attempt.delivery}.1.1.part").mkdir()
    (folder / f".{parcel.attempt.delivery}.1.1.part" / "half").write_bytes(b"ha")
    (folder / f".{parcel.attempt.delivery}.1.2.part").write_bytes(b"ha")
    assert names(await sftp.deliver(endpoint, [tried_again(parcel, 3)], LIMIT)) == ["Delivered"]
    assert found(folder) == [folder_name(parcel)]


async def test_openssh_tells_a_missing_directory_on_a_kept_connection_too(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint]
) -> None:
    folder, endpoint = inbox
    assert names(await sftp.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
    shutil.rmtree(folder)
    outcomes = await sftp.deliver(endpoint, [some_parcel()], LIMIT)
    assert outcomes == [Refused("sftp.directory_missing", About.ENDPOINT)]
    folder.mkdir()
    assert names(await sftp.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]


async def test_openssh_takes_the_state_s_zip(sftp: SftpConnector, inbox: tuple[Path, Endpoint]) -> None:
    folder, endpoint = inbox
    flux = b"<?xml version='1.0' encoding='ISO-8859-1'?>\r\n<a>\xe9</a>\n"
    parcel = some_parcel(some_file(0, "submission.json", b"{}"), some_file(1, "flux.xml", flux, "text/xml"))
    for number in (1, 2):
        outcomes = await sftp.deliver(with_settings(endpoint, **STATE), [tried_again(parcel, number)], LIMIT)
        assert outcomes == [Delivered("A-9-X3UGO4V7-EtatCivil-1.zip")]
    with zipfile.ZipFile(folder / "A-9-X3UGO4V7-EtatCivil-1.zip") as read:
        assert read.read("A-9-X3UGO4V7-EtatCivil-doc-piece-1-1.xml") == flux
    # Another sender's number may be the same, or the partner put something there.
    other = some_parcel(some_file(1, "flux.xml", flux[:-2] + b"!\n", "text/xml"))
    outcomes = await sftp.deliver(with_settings(endpoint, **STATE), [other], LIMIT)
    assert outcomes == [Refused("sftp.conflict", About.PARCEL)]


# --- killed -------------------------------------------------------------------------------------------

# Delivers a parcel, and dies as the server has said that it stands under its final name.
CHILD = """
import asyncio, json, os, signal, sys
from uuid import UUID
import asyncssh
from connectors.sftp import SftpConnector
from hub.domain.partner import Endpoint
from tests.connectors.partners import some_parcel, surroundings

told = json.loads(sys.stdin.read())

def deadly(name):
    real = getattr(asyncssh.SFTPClient, name)
    async def done(self, *given):
        await real(self, *given)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(asyncssh.SFTPClient, name, done)

deadly(told["verb"])
endpoint = Endpoint("sftp", told["settings"], told["secrets"])
parcel = some_parcel(delivery=UUID(told["delivery"]))
asyncio.run(SftpConnector(surroundings()).deliver(endpoint, [parcel], 10))
"""


@pytest.mark.parametrize(("layout", "verb"), [("folder", "rename"), ("zip", "link")], ids=["folder", "zip"])
async def test_killed_between_the_final_name_and_the_conclusion_the_second_attempt_ends_delivered(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint], layout: str, verb: str
) -> None:
    folder, endpoint = inbox
    endpoint = with_settings(endpoint, layout=layout)
    parcel = some_parcel(delivery=UUID(int=uuid4().int))
    told = {
        "verb": verb,
        "settings": dict(endpoint.settings),
        "secrets": dict(endpoint.secrets),
        "delivery": str(parcel.attempt.delivery),
    }
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, stdin=PIPE)
    await child.communicate(json.dumps(told).encode())
    assert child.returncode == -signal.SIGKILL
    there = folder / LAYOUTS[layout].name(parcel)
    before = there.stat()
    outcomes = await sftp.deliver(endpoint, [tried_again(parcel)], LIMIT)
    assert outcomes == [Delivered(there.name)]
    assert there.stat().st_ino == before.st_ino, "what is there is not sent a second time"
    assert found(folder) == [there.name]


# --- chroot -------------------------------------------------------------------------------------------


async def test_an_account_locked_into_its_folder_is_served_like_any_other(
    sftp: SftpConnector, tmp_path: Path
) -> None:
    if (why := missing()) is not None:
        pytest.skip(why)
    if os.geteuid() != 0:
        pytest.skip("only root may lock an account into a folder; run as root")
    with openssh(tmp_path, chroot=True) as locked:
        endpoint = with_settings(
            locked.at("{procedure}"), make_directories=True, return_directory="/depot/retour", **STATE
        )
        (locked.root / "retour").mkdir()
        assert names(await sftp.deliver(endpoint, [some_parcel()], LIMIT)) == ["Delivered"]
        assert locked.names("EtatCivil") == ["A-9-X3UGO4V7-EtatCivil-1.zip"]
        assert await sftp.collect(endpoint, LIMIT, 10) == []
        await sftp.close()


# --- the way back -------------------------------------------------------------------------------------


def acknowledgement(parcel: Parcel, status: str) -> bytes:
    told = f"<remise>{parcel.attempt.delivery}</remise><statut>{status}</statut>"
    return f"<acquittement>{told}</acquittement>".encode()


def leave(folder: Path, name: str, content: bytes, at: int) -> None:
    (folder / name).write_bytes(content)
    os.utime(folder / name, (at, at))


async def collected(
    sftp: SftpConnector, endpoint: Endpoint, most: int = 10, passed: frozenset[bytes] = frozenset()
) -> list[FoundFile]:
    files = await sftp.collect(endpoint, LIMIT, most, passed)
    assert not isinstance(files, Refused), files
    return list(files)  # type: ignore[arg-type]


async def test_files_of_a_return_folder_are_read_the_eldest_first_and_taken_away_when_it_is_said(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint]
) -> None:
    folder, endpoint = inbox
    endpoint = with_settings(endpoint, return_directory=str(folder))
    parcel = some_parcel()
    leave(folder, "2.xml", acknowledgement(parcel, "DONE"), 1_000_002)
    leave(folder, "1.xml", b"<half", 1_000_001)
    leave(folder, "3.xml", acknowledgement(parcel, "IN_PROGRESS"), 1_000_000)
    leave(folder, "4.xml.part", b"", 1_000_000)
    leave(folder, ".hidden", b"", 1_000_000)
    (folder / "a folder").mkdir()
    first = await collected(sftp, endpoint)
    assert [file.seen.name for file in first] == ["3.xml", "1.xml", "2.xml"]
    assert [file.said.status if file.said else file.flaw for file in first] == [
        CaseStatus.IN_PROGRESS,
        "no_xml",
        CaseStatus.DONE,
    ]
    rest = await collected(sftp, endpoint, 1, frozenset({first[0].seen.mark, first[1].seen.mark}))
    assert [file.seen.name for file in rest] == ["2.xml"]
    leave(folder, "3.xml", acknowledgement(parcel, "REFUSED"), 1_000_009)
    assert await sftp.done(endpoint, [file.seen for file in first if file.said], LIMIT) is None
    assert found(folder) == [".hidden", "1.xml", "3.xml", "4.xml.part", "a folder"]
    assert await sftp.done(endpoint, [file.seen for file in first if file.said], LIMIT) is None


async def test_files_that_were_read_may_go_to_another_folder_and_never_over_what_lies_there(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint]
) -> None:
    folder, endpoint = inbox
    for name in ("retour", "lus"):
        (folder / name).mkdir()
    endpoint = with_settings(endpoint, return_directory=f"{folder}/retour", return_kept=f"{folder}/lus")
    for at in (1_000_000, 1_000_001):
        leave(folder / "retour", "ack.xml", acknowledgement(some_parcel(), "DONE"), at)
        files = await collected(sftp, endpoint)
        assert await sftp.done(endpoint, [file.seen for file in files], LIMIT) is None
    assert found(folder / "retour") == []
    assert found(folder / "lus") == ["ack.xml", "ack.xml.1000001"]


async def test_a_file_that_cannot_be_taken_away_stops_none_of_the_others(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint]
) -> None:
    folder, endpoint = inbox
    (folder / "lus").mkdir()
    endpoint = with_settings(endpoint, return_directory=str(folder), return_kept=f"{folder}/lus")
    for name in ("1.xml", "2.xml"):
        leave(folder, name, acknowledgement(some_parcel(), "DONE"), 1_000_000)
    for name in ("1.xml", "1.xml.1000000"):
        (folder / "lus" / name).touch()
    files = await collected(sftp, endpoint)
    outcome = await sftp.done(endpoint, [file.seen for file in files], LIMIT)
    assert outcome == Deferred("sftp.failure", About.PARCEL)
    assert found(folder) == ["1.xml", "lus"]


async def test_a_folder_for_what_was_read_that_is_not_there_is_a_fault_and_a_file_that_is_gone_is_none(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint]
) -> None:
    folder, endpoint = inbox
    endpoint = with_settings(endpoint, return_directory=str(folder), return_kept=f"{folder}/nowhere")
    for name in ("1.xml", "2.xml"):
        leave(folder, name, acknowledgement(some_parcel(), "DONE"), 1_000_000)
    files = [file.seen for file in await collected(sftp, endpoint)]
    missing = Refused("sftp.directory_missing", About.ENDPOINT)
    assert await sftp.done(endpoint, files, LIMIT) == missing
    assert found(folder) == ["1.xml", "2.xml"]
    (folder / "1.xml").unlink()
    assert await sftp.done(endpoint, files, LIMIT) == missing
    (folder / "2.xml").unlink()
    assert await sftp.done(endpoint, files, LIMIT) is None


async def test_a_file_that_goes_away_just_before_it_is_moved_is_no_fault(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, endpoint = inbox
    (folder / "lus").mkdir()
    endpoint = with_settings(endpoint, return_directory=str(folder), return_kept=f"{folder}/lus")
    leave(folder, "1.xml", acknowledgement(some_parcel(), "DONE"), 1_000_000)
    files = [file.seen for file in await collected(sftp, endpoint)]
    rename = asyncssh.SFTPClient.rename

    async def late(client: asyncssh.SFTPClient, path: str, to: str) -> None:
        (folder / "1.xml").unlink()
        await rename(client, path, to)

    monkeypatch.setattr(asyncssh.SFTPClient, "rename", late)
    assert await sftp.done(endpoint, files, LIMIT) is None


async def test_a_name_that_is_no_text_is_told_and_stops_nothing(
    sftp: SftpConnector, inbox: tuple[Path, Endpoint]
) -> None:
    folder, endpoint = inbox
    endpoint = with_settings(endpoint, return_directory=str(folder))
    (folder / os.fsdecode(b"\xff\x01.xml")).write_bytes(b"x")
    leave(folder, "a.xml", acknowledgement(some_parcel(), "DONE"), 1_000_000)
    files = await collected(sftp, endpoint)
    assert [file.flaw for file in files] == [None, "name"]
    assert len({file.seen.mark for file in files}) == 2
