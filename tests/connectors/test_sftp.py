"""The SFTP connector: folders that appear whole, once, on a server whose key is pinned."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from contextlib import suppress
from dataclasses import replace

import asyncssh
import pytest

from connectors.sftp import folder_name, judge
from connectors.sftp.judging import SizeDiffers
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.ports.connector import ForbiddenAddress
from tests.connectors.partners import (
    PASSWORD,
    SftpTown,
    names,
    some_file,
    some_parcel,
    tried_again,
    with_settings,
)
from tests.connectors.sftp_world import LIMIT, SFTP, left_nowhere, town

__all__ = ["left_nowhere", "town"]


# --- what faults mean ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (TimeoutError(), Deferred("sftp.timeout")),
        (ConnectionRefusedError(), Deferred("sftp.connection_refused")),
        (ConnectionResetError(), Deferred("sftp.disconnected")),
        (socket.gaierror(), Deferred("sftp.host_unknown")),
        (OSError(errno.EHOSTUNREACH, "x"), Deferred("sftp.unreachable")),
        (ForbiddenAddress(), Refused("sftp.address_forbidden", About.ENDPOINT)),
        (OSError(errno.EMFILE, "x"), Deferred("hub.exhausted", About.PARCEL)),
        (NotADirectoryError(), Refused("sftp.directory_missing", About.ENDPOINT)),
        (asyncssh.HostKeyNotVerifiable("x"), Refused("sftp.host_key_changed", About.ENDPOINT)),
        (asyncssh.PermissionDenied("x"), Refused("sftp.permission_denied", About.ENDPOINT)),
        (asyncssh.KeyExchangeFailed("x"), Refused("sftp.no_common_algorithm", About.ENDPOINT)),
        (asyncssh.ConnectionLost("x"), Deferred("sftp.disconnected")),
        (asyncssh.ProtocolError("x"), Deferred("sftp.disconnected")),
        (asyncssh.ChannelOpenError(1, "x"), Deferred("sftp.no_sftp")),
        (asyncssh.SFTPConnectionLost("x"), Deferred("sftp.disconnected")),
        (asyncssh.SFTPBadMessage("x"), Deferred("sftp.disconnected")),
        (asyncssh.SFTPPermissionDenied("x"), Refused("sftp.write_denied", About.ENDPOINT)),
        (asyncssh.SFTPWriteProtect("x"), Refused("sftp.write_denied", About.ENDPOINT)),
        (asyncssh.SFTPNoSpaceOnFilesystem("x"), Deferred("sftp.no_space")),
        (asyncssh.SFTPQuotaExceeded("x"), Deferred("sftp.no_space")),
        (asyncssh.SFTPInvalidFilename("x"), Refused("sftp.name_refused", About.PARCEL)),
        (asyncssh.SFTPNoSuchFile("x"), Deferred("sftp.folder_vanished", About.PARCEL)),
        (asyncssh.SFTPFailure("x"), Deferred("sftp.failure", About.PARCEL)),
        (SizeDiffers(), Deferred("sftp.size_differs", About.PARCEL)),
        (asyncssh.SFTPError(4711, "x"), Deferred("sftp.failure", About.PARCEL)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_fault_has_one_meaning(fault: Exception, expected: Deferred | Refused) -> None:
    assert judge(fault) == expected


# --- the door -----------------------------------------------------------------------------------------


async def test_a_server_with_another_host_key_gets_nothing(town: SftpTown) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    outcomes = await SFTP.deliver(with_settings(town.endpoint, host_key=other), [some_parcel()], LIMIT)
    assert outcomes == [Refused("sftp.host_key_changed", About.ENDPOINT)]
    assert town.received() == []


async def test_the_pinned_key_is_asked_for_when_the_server_has_several(town: SftpTown) -> None:
    assert names(await SFTP.deliver(town.endpoint, [some_parcel()], LIMIT)) == ["Delivered"]


def test_no_endpoint_goes_without_a_pinned_host_key(town: SftpTown) -> None:
    settings = {key: value for key, value in town.endpoint.settings.items() if key != "host_key"}
    assert SFTP.check(replace(town.endpoint, settings=settings)) == ("host_key is missing",)


@pytest.mark.parametrize("secrets", [{}, {"private_key": ""}, {"password": ""}], ids=str)
def test_no_endpoint_goes_without_a_way_to_log_in(town: SftpTown, secrets: dict[str, str]) -> None:
    flaws = SFTP.check(replace(town.endpoint, secrets=secrets))
    assert flaws[0] == "private_key or password is missing"


async def test_a_login_that_is_refused_says_so(town: SftpTown) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    endpoint = replace(town.endpoint, secrets={"private_key": stranger})
    outcomes = await SFTP.deliver(endpoint, [some_parcel()], LIMIT)
    assert outcomes == [Refused("sftp.permission_denied", About.ENDPOINT)]


@pytest.mark.parametrize(("password", "expected"), [(PASSWORD, "Delivered"), ("wrong", "Refused")])
async def test_a_password_logs_in_where_there_is_no_key(town: SftpTown, password: str, expected: str) -> None:
    endpoint = replace(town.endpoint, secrets={"password": password})
    assert names(await SFTP.deliver(endpoint, [some_parcel()], LIMIT)) == [expected]


async def test_a_directory_that_is_not_there_is_the_endpoint_s_fault(town: SftpTown) -> None:
    outcomes = await SFTP.deliver(with_settings(town.endpoint, directory="depot"), [some_parcel()], LIMIT)
    assert outcomes == [Refused("sftp.directory_missing", About.ENDPOINT)]


def test_secrets_stay_out_of_what_is_shown_of_an_endpoint(town: SftpTown) -> None:
    assert "PRIVATE KEY" not in repr(town.endpoint)


# --- the folder ---------------------------------------------------------------------------------------


async def test_a_page_of_parcels_takes_one_connection(town: SftpTown) -> None:
    await SFTP.deliver(town.endpoint, [some_parcel() for _ in range(20)], LIMIT)
    assert town.connections == 1
    assert len(town.received()) == 20


async def test_a_folder_appears_only_when_it_is_whole(town: SftpTown) -> None:
    parcel = some_parcel(*(some_file(number, f"{number}.bin", bytes(300_000)) for number in range(1, 4)))
    await SFTP.deliver(town.endpoint, [parcel], LIMIT)
    assert town.appeared == [{"1.bin": 300_000, "2.bin": 300_000, "3.bin": 300_000}]
    assert town.hidden() == []


def test_a_folder_s_name_comes_from_the_delivery_alone() -> None:
    parcel = some_parcel()
    assert folder_name(parcel) == folder_name(tried_again(parcel, 7))
    assert folder_name(parcel).startswith("A-9-X3UGO4V7-")
    assert folder_name(parcel) != folder_name(some_parcel())
    assert "/" not in folder_name(replace(parcel, external_id="../a/b"))


async def test_an_attempt_that_died_after_the_rename_ends_delivered(town: SftpTown) -> None:
    parcel = some_parcel()
    town.cut_after_rename = True
    assert await SFTP.deliver(town.endpoint, [parcel], LIMIT) == [Deferred("sftp.disconnected")]
    town.cut_after_rename = False
    written = town.written
    outcomes = await SFTP.deliver(town.endpoint, [tried_again(parcel)], LIMIT)
    assert outcomes == [Delivered(folder_name(parcel))]
    assert [name for name, _ in town.received()] == [folder_name(parcel)]
    assert town.written == written, "what is there is not sent a second time"


async def test_what_stands_under_the_final_name_is_never_overwritten(town: SftpTown) -> None:
    parcel = some_parcel()
    folder = town.root / folder_name(parcel)
    folder.mkdir()
    (folder / "submission.json").write_bytes(b"of somebody else")
    outcomes = await SFTP.deliver(town.endpoint, [parcel], LIMIT)
    assert outcomes == [Refused("sftp.conflict", About.PARCEL)]
    assert (folder / "submission.json").read_bytes() == b"of somebody else"


async def test_one_changed_byte_is_another_content(town: SftpTown) -> None:
    parcel = some_parcel()
    await SFTP.deliver(town.endpoint, [parcel], LIMIT)
    file = town.root / folder_name(parcel) / "submission.json"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    outcomes = await SFTP.deliver(town.endpoint, [tried_again(parcel)], LIMIT)
    assert outcomes == [Refused("sftp.conflict", About.PARCEL)]


async def test_what_the_partner_adds_to_a_folder_is_its_own_business(town: SftpTown) -> None:
    parcel = some_parcel()
    await SFTP.deliver(town.endpoint, [parcel], LIMIT)
    (town.root / folder_name(parcel) / "traite.txt").write_bytes(b"lu")
    assert names(await SFTP.deliver(town.endpoint, [tried_again(parcel)], LIMIT)) == ["Delivered"]


async def test_what_older_attempts_of_a_delivery_left_is_cleared_and_nothing_else(town: SftpTown) -> None:
    parcel, other = some_parcel(), some_parcel()
    mine, others = parcel.attempt.delivery, other.attempt.delivery
    kept = [f".{mine}.1.4.part", f".{mine}.2.1.part", f".{others}.1.1.part", ".ssh", f".{mine}.x.1.part"]
    for name in (f".{mine}.1.1.part", f".{mine}.1.2.7.gone", *kept):
        (town.root / name).mkdir()
        (town.root / name / "half").write_bytes(b"ha")
    assert names(await SFTP.deliver(town.endpoint, [tried_again(parcel, 3)], LIMIT)) == ["Delivered"]
    assert town.hidden() == sorted(kept)


async def test_an_attempt_begun_before_under_the_same_number_starts_from_nothing(town: SftpTown) -> None:
    parcel = some_parcel()
    left = town.root / f".{parcel.attempt.delivery}.1.1.part"
    left.mkdir()
    (left / "submission.json").write_bytes(b"ha")
    assert names(await SFTP.deliver(town.endpoint, [parcel], LIMIT)) == ["Delivered"]
    assert town.hidden() == []


async def test_two_workers_with_one_delivery_make_one_folder_and_both_say_delivered(town: SftpTown) -> None:
    parcel = some_parcel(some_file(1, "a.bin", bytes(3_000_000)))
    attempts = [[tried_again(parcel, number)] for number in range(1, 5)]
    outcomes = await asyncio.gather(*(SFTP.deliver(town.endpoint, page, 10) for page in attempts))
    assert sum(len(page) for page in outcomes) == 4
    assert any(isinstance(page[0], Delivered) for page in outcomes)
    # A worker whose folder an elder's successor took away is deferred; nobody reports half a parcel.
    assert {type(page[0]) for page in outcomes} <= {Delivered, Deferred}
    ((_, files),) = town.received()
    assert files == {"a.bin": bytes(3_000_000)}


async def test_a_failed_upload_leaves_nothing_behind(town: SftpTown) -> None:
    town.fault = asyncssh.SFTPFailure("x")
    outcomes = await SFTP.deliver(town.endpoint, [some_parcel()], LIMIT)
    assert outcomes == [Deferred("sftp.failure", About.PARCEL)]
    assert list(town.root.iterdir()) == []


async def test_a_server_that_falls_silent_in_the_middle_holds_a_page_for_one_limit_only(
    town: SftpTown,
) -> None:
    town.mute = True
    began = time.monotonic()
    outcomes = await SFTP.deliver(town.endpoint, [some_parcel() for _ in range(30)], LIMIT)
    assert time.monotonic() - began < LIMIT + 1
    assert set(outcomes) == {Deferred("sftp.timeout")}


async def test_a_cancelled_delivery_leaves_no_connection(town: SftpTown) -> None:
    town.mute = True
    task = asyncio.ensure_future(SFTP.deliver(town.endpoint, [some_parcel()], 30))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 2
    assert task.cancelled()
