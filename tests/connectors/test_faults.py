"""Faults of partners' servers: what each is called, whom it concerns, and that the parcel gets through, under one
name, when the server is healed. Those that every connector shares are in `tests/conformance/test_connectors.py`."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp.connector
import asyncssh
import pytest
from aiohttp import web

from connectors import mail, sftp, webhook
from connectors.parcels import SLOWEST, patience
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector
from tests.certificates import Authority, authority
from tests.connectors.partners import (
    HERE,
    MailTown,
    SftpTown,
    WebhookTown,
    mail_town,
    sftp_town,
    some_file,
    some_parcel,
    surroundings,
    tried_again,
    webhook_town,
)
from tests.mounts import may_mount

LIMIT = 1.0
FACTORIES = {"sftp": sftp.connector, "mail": mail.connector, "webhook": webhook.connector}


@asynccontextmanager
async def _connector(channel: str) -> AsyncIterator[Connector]:
    made = FACTORIES[channel](surroundings())
    try:
        yield made
    finally:
        await made.close()


async def _once(connector: Connector, endpoint: Endpoint, limit: float = LIMIT) -> Outcome:
    return (await connector.deliver(endpoint, [some_parcel()], limit))[0]


# --- webhooks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "told", "outcome"),
    [
        (500, None, Deferred("webhook.http_500")),
        (503, "120", Deferred("webhook.http_503", About.ENDPOINT, timedelta(seconds=120))),
        (429, "7", Deferred("webhook.http_429", About.ENDPOINT, timedelta(seconds=7))),
        (401, None, Refused("webhook.http_401", About.ENDPOINT)),
        (410, None, Refused("webhook.http_410", About.ENDPOINT)),
        (413, None, Refused("webhook.http_413", About.PARCEL)),
    ],
)
async def test_a_webhook_that_answered_badly_gets_the_same_parcel_when_it_is_healed(
    status: int, told: str | None, outcome: Outcome
) -> None:
    parcel = some_parcel()
    async with webhook_town() as town, _connector("webhook") as connector:
        town.answers.append(web.Response(status=status, headers={"Retry-After": told} if told else {}))
        assert await connector.deliver(town.endpoint, [parcel], LIMIT) == [outcome]
        assert town.received() == []
        again = await connector.deliver(town.endpoint, [tried_again(parcel)], LIMIT)
        assert again == [Delivered("http 204")]
        assert [name for name, _ in town.received()] == [str(parcel.attempt.delivery)]


# --- a byte at a time ---------------------------------------------------------------------------------


@asynccontextmanager
async def _dripping(greeting: bytes, answer: bytes = b"") -> AsyncIterator[int]:
    """A server that says all it says a byte at a time, ten a second."""

    async def drip(writer: asyncio.StreamWriter, text: bytes) -> None:
        for at in range(len(text)):
            writer.write(text[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0.1)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(greeting)
            while await reader.read(65536):
                await drip(writer, answer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, HERE, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(
    ("channel", "greeting", "answer"),
    [
        ("webhook", b"", b"HTTP/1.1 204 No Content\r\nX-Filling: " + b"x" * 500),
        ("mail", b"220 x\r\n", b"250 " + b"x" * 500),
        ("sftp", b"SSH-2.0-x\r\n", b"\x00\x00\x40\x00" + b"x" * 500),
    ],
    ids=["webhook", "mail", "sftp"],
)
async def test_a_server_that_answers_a_byte_at_a_time_holds_a_page_for_one_limit(
    channel: str, greeting: bytes, answer: bytes
) -> None:
    async with _dripping(greeting, answer) as port, AsyncExitStack() as stack:
        endpoint = await _endpoint(stack, channel, port)
        connector = await stack.enter_async_context(_connector(channel))
        began = time.monotonic()
        outcomes = await connector.deliver(endpoint, [some_parcel(), some_parcel()], LIMIT)
        assert time.monotonic() - began < 3 * LIMIT
    assert {outcome.about for outcome in outcomes if isinstance(outcome, Deferred)} == {About.ENDPOINT}
    assert len(outcomes) == 2


async def test_a_server_that_speaks_no_ssh_is_no_fault_of_ours() -> None:
    async with _dripping(b"SSH-2.0-x\r\n", bytes(16)) as port, AsyncExitStack() as stack:
        endpoint = await _endpoint(stack, "sftp", port)
        connector = await stack.enter_async_context(_connector("sftp"))
        assert await _once(connector, endpoint, 3) == Deferred("sftp.disconnected")


async def _endpoint(stack: AsyncExitStack, channel: str, port: int) -> Endpoint:
    if channel == "webhook":
        return WebhookTown(0).at(port)
    if channel == "mail":
        return MailTown(0).at(port)
    key = asyncssh.generate_private_key("ssh-ed25519")
    return SftpTown(Path(), 0, key, key).at(port)


def test_a_parcel_may_take_as_long_as_a_slow_line_needs_and_no_longer() -> None:
    assert patience(0, 30) == 120
    assert patience(10_000_000, 30) == 120 + 10_000_000 / SLOWEST


async def test_a_mail_server_that_reads_a_little_at_a_time_is_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is never silent for the limit, and would take hours."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        while line := await reader.readline():
            if line.startswith(b"DATA"):
                writer.write(b"354 x\r\n")
                while await reader.read(4_000):
                    await asyncio.sleep(0.02)
            writer.write(b"250 x\r\n")
        writer.close()

    monkeypatch.setattr("connectors.parcels.SLOWEST", 50_000_000)
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        door.bind((HERE, 0))
        server = await asyncio.start_server(converse, sock=door, limit=8192)
        parcel = some_parcel(some_file(1, "a.bin", bytes(4_000_000)))
        async with _connector("mail") as connector:
            outcomes = await connector.deliver(MailTown(0).at(door.getsockname()[1]), [parcel], 0.4)
        server.close()
    assert outcomes == [Deferred("mail.timeout")]


async def test_an_sftp_server_that_takes_a_little_at_a_time_is_given_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.parcels.SLOWEST", 50_000_000)
    root = tmp_path / "inbox"
    root.mkdir()
    async with sftp_town(root) as town, _connector("sftp") as connector:
        town.pause = 0.2
        parcel = some_parcel(some_file(1, "a.bin", bytes(2_000_000)))
        assert await connector.deliver(town.endpoint, [parcel], 0.4) == [Deferred("sftp.timeout")]
        town.pause = 0
        assert (await connector.deliver(town.endpoint, [tried_again(parcel)], LIMIT))[0] == Delivered(
            sftp.folder_name(parcel)
        )
        assert [name for name, _ in town.received()] == [sftp.folder_name(parcel)]


# --- certificates -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("signing") / "ca")


def _context(signing: Authority, fault: str) -> ssl.SSLContext:
    files = {
        "none": lambda: signing.sign("good"),
        "expired": lambda: signing.sign("expired", expired=True),
        "for another name": lambda: signing.sign("other", "127.0.0.2"),
    }[fault]()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    return context


@pytest.mark.parametrize("fault", ["expired", "for another name"])
@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_mail_server_whose_certificate_does_not_hold_gets_nothing_until_it_does(
    signing: Authority, tls: str, fault: str
) -> None:
    ca, parcel = signing.file.read_text(), some_parcel()
    async with _connector("mail") as connector:
        async with mail_town(tls, _context(signing, fault), ca) as town:
            assert await connector.deliver(town.endpoint, [parcel], LIMIT) == [
                Deferred("mail.certificate_invalid")
            ]
            assert town.mails == []
        async with mail_town(tls, _context(signing, "none"), ca) as town:
            (outcome,) = await connector.deliver(town.endpoint, [tried_again(parcel)], LIMIT)
            assert isinstance(outcome, Delivered)
            assert len(town.received()) == 1


@pytest.mark.parametrize("fault", ["expired", "for another name"])
async def test_a_webhook_whose_certificate_does_not_hold_gets_nothing_until_it_does(
    signing: Authority, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the library believes was read when it was imported: the system's authorities, and now this one too.
    trust = ssl.create_default_context(cafile=str(signing.file))
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trust)
    parcel = some_parcel()
    async with _connector("webhook") as connector:
        async with webhook_town(_context(signing, fault)) as town:
            assert await connector.deliver(town.endpoint, [parcel], LIMIT) == [
                Deferred("webhook.certificate_invalid")
            ]
            assert town.requests == []
        async with webhook_town(_context(signing, "none")) as town:
            assert await connector.deliver(town.endpoint, [tried_again(parcel)], LIMIT) == [
                Delivered("http 204")
            ]


# --- mail ---------------------------------------------------------------------------------------------


def _recipients(answer: str) -> Callable[[MailTown], None]:
    return lambda town: town.refusals.update({"accueil@mairie.test": answer})


def _content(answer: str) -> Callable[[MailTown], None]:
    return lambda town: setattr(town, "content_answer", answer)


async def test_what_a_mail_server_said_to_one_mail_is_kept_for_no_other_that_shares_its_outcome() -> None:
    async with mail_town() as town, _connector("mail") as connector:
        _recipients("421 4.3.2 no more after Dupont")(town)
        first, *others = await connector.deliver(town.endpoint, [some_parcel() for _ in range(3)], LIMIT)
    assert first.answer is not None
    assert b"Dupont" in first.answer
    assert others == [first] * 2
    assert [other.answer for other in others] == [None] * 2


@pytest.mark.parametrize(
    ("spoil", "outcome"),
    [
        (_recipients("450 4.7.1 come back later"), Deferred("mail.mailbox_busy")),
        (_recipients("452 4.2.2 full"), Deferred("mail.mailbox_busy")),
        (_recipients("552 5.2.2 full"), Deferred("mail.mailbox_busy")),
        (_recipients("550 5.1.1 who"), Refused("mail.mailbox_refused", About.ENDPOINT)),
        (_content("421 4.3.2 closing"), Deferred("mail.server_busy")),
        (_content("452 4.3.1 no space"), Deferred("mail.no_space")),
        (_content("552 5.3.4 too large"), Refused("mail.too_large", About.PARCEL)),
        (MailTown.break_off, Deferred("mail.disconnected")),
    ],
    ids=["greylisting", "452", "full 552", "550", "421", "no space", "too large", "cut after DATA"],
)
async def test_a_mail_server_that_refused_gets_the_same_mail_when_it_is_healed(
    spoil: Callable[[MailTown], None], outcome: Outcome
) -> None:
    parcel = some_parcel()
    async with mail_town() as town, _connector("mail") as connector:
        spoil(town)
        assert await connector.deliver(town.endpoint, [parcel], LIMIT) == [outcome]
        assert town.mails == []
        town.refusals.clear()
        town.content_answer, town.breaking = "250 OK", False
        (again,) = await connector.deliver(town.endpoint, [tried_again(parcel)], LIMIT)
        assert isinstance(again, Delivered)
        assert [f"{name} to 1 of 1" for name, _ in town.received()] == [again.receipt]


# --- names that nobody knows --------------------------------------------------------------------------


@pytest.mark.parametrize("channel", FACTORIES)
async def test_a_name_that_nobody_knows_is_the_endpoint_s_fault_and_may_pass(channel: str) -> None:
    async with AsyncExitStack() as stack:
        endpoint = await _endpoint(stack, channel, 9)
        settings = {**endpoint.settings, "host": "nobody.invalid"}
        if channel == "webhook":
            settings = {"url": "https://nobody.invalid/x"}
        connector = await stack.enter_async_context(_connector(channel))
        outcome = await _once(connector, replace(endpoint, settings=settings), 20)
    assert outcome == Deferred(f"{channel}.host_unknown")


# --- disks that are full ------------------------------------------------------------------------------


@contextmanager
def _small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_partner_whose_disk_is_full_gets_the_parcel_when_there_is_room(tmp_path: Path) -> None:
    """Servers of version 3 have no word for it: that there is no room is asked then."""
    root = tmp_path / "inbox"
    root.mkdir()
    parcel, another = (some_parcel(some_file(1, "a.bin", bytes(100_000))) for _ in range(2))
    async with sftp_town(root) as town, _connector("sftp") as connector:
        town.fault, town.room = asyncssh.SFTPFailure("x"), 50_000
        outcomes = await connector.deliver(town.endpoint, [parcel, another], LIMIT)
        assert set(outcomes) == {Deferred("sftp.no_space")}
        assert town.received() == []
        town.fault, town.room = None, None
        (again,) = await connector.deliver(town.endpoint, [tried_again(parcel)], LIMIT)
        assert again == Delivered(sftp.folder_name(parcel))
        assert [name for name, _ in town.received()] == [sftp.folder_name(parcel)]
        assert town.hidden() == []


@pytest.mark.skipif(not may_mount(), reason="a disk of a few kilobytes needs the right to mount one")
async def test_a_server_on_a_disk_of_a_few_kilobytes_says_that_it_is_full(tmp_path: Path) -> None:
    root = tmp_path / "inbox"
    root.mkdir()
    large, small = (some_parcel(some_file(1, "a.bin", bytes(size))) for size in (400_000, 1_000))
    with _small_disk(root, 256):
        async with sftp_town(root) as town, _connector("sftp") as connector:
            assert await connector.deliver(town.endpoint, [large], LIMIT) == [Deferred("sftp.no_space")]
            assert town.hidden() == []
            assert await connector.deliver(town.endpoint, [small], LIMIT) == [
                Delivered(sftp.folder_name(small))
            ]


async def test_a_parcel_that_fails_where_there_is_room_concerns_itself_alone(tmp_path: Path) -> None:
    root = tmp_path / "inbox"
    root.mkdir()
    async with sftp_town(root) as town, _connector("sftp") as connector:
        town.fault = asyncssh.SFTPFailure("x")
        assert await _once(connector, town.endpoint) == Deferred("sftp.failure", About.PARCEL)
