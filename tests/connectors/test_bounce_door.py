"""The door for mails that come back: whoever knocks, only what the hub gave out is let in, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from hub.adapters.keys.local import LocalKeyring
from hub.domain.bounces import BounceEffect, Return
from hub.domain.errors import SettingsError, Unavailable
from hub.entrypoints.lmtp import KEPT, bounce_door, receive_bounces
from hub.services.bounces import BounceRoom, ReturnAddresses
from hub.wire import read_status_report
from tests.ports import free_port
from tests.unit.test_bounces import FAILED, report

RETURNS = ReturnAddresses(LocalKeyring(bytes(range(32))), "retours.test")
MAIL = UUID("6f1d3c0e-2a5b-5c7d-9e8f-1a2b3c4d5e6f")
ADDRESS = RETURNS.address(MAIL, 1, 2, "b@mairie.test")
FORGED = ReturnAddresses(LocalKeyring(bytes(32)), "retours.test").address(MAIL, 1, 2, "b@mairie.test")


@dataclass
class Noted:
    """A store that notes what it is told, and answers what a test says."""

    answers: list[BounceEffect | Exception] = field(default_factory=list)
    told: list[tuple[UUID, int, int, str | None, str | None]] = field(default_factory=list)

    async def note(
        self, returned: Return, status: str | None, address_of: Callable[[Sequence[str]], str | None]
    ) -> BounceEffect:
        address = address_of(["a@mairie.test", "b@mairie.test"])
        answer = self.answers.pop(0) if self.answers else BounceEffect.NOTED
        if isinstance(answer, Exception):
            raise answer
        self.told.append((returned.mail, returned.sending, returned.place, address, status))
        return answer


@dataclass
class Client:
    """A mail server that hands over mail, a line at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, line: str) -> str:
        self.writer.write(f"{line}\r\n".encode())
        return await self.hear()

    async def hear(self) -> str:
        async with asyncio.timeout(20):
            lines = [await self.reader.readline()]
            while lines[-1][3:4] == b"-":
                lines.append(await self.reader.readline())
        return lines[-1].decode().strip()

    async def hand_over(self, content: bytes, address: str = ADDRESS, sender: str = "") -> str:
        """The answer to the mail."""
        assert (await self.say(f"MAIL FROM:<{sender}>")).startswith("250")
        answer = await self.say(f"RCPT TO:<{address}>")
        if not answer.startswith("250"):
            await self.say("RSET")
            return answer
        assert (await self.say("DATA")).startswith("354")
        self.writer.write(content.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n")
        return await self.hear()


@asynccontextmanager
async def door(noted: Noted) -> AsyncIterator[int]:
    async with bounce_door(room(noted), "127.0.0.1", 0) as port:
        yield port


def room(noted: Noted) -> BounceRoom:
    return BounceRoom(noted, RETURNS, read_status_report)


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    found = Client(*await asyncio.open_connection("127.0.0.1", port))
    assert (await found.hear()).startswith("220")
    assert (await found.say("LHLO mx.test")).startswith("250")
    yield found
    found.writer.close()


async def test_a_report_of_a_failure_is_noted_by_its_return_address_alone() -> None:
    noted = Noted()
    async with door(noted) as port, client(port) as server:
        assert (await server.hand_over(report(FAILED))).startswith("250")
        assert (await server.hand_over(report(FAILED), ADDRESS.upper(), "mailer@mx.test")).startswith("250")
    assert noted.told == [(MAIL, 1, 2, "b@mairie.test", "5.1.1")] * 2


@pytest.mark.parametrize(
    "address",
    [FORGED, "nobody@retours.test", "r-@retours.test", ADDRESS.replace("retours", "autres"), "postmaster"],
    ids=["forged", "nobody", "empty", "elsewhere", "bare"],
)
async def test_an_address_that_was_not_given_out_is_nobody_s(address: str) -> None:
    noted = Noted()
    async with door(noted) as port, client(port) as server:
        assert (await server.hand_over(report(FAILED), address)).startswith("550")
        assert (await server.hand_over(report(FAILED))).startswith("250")
    assert len(noted.told) == 1


@pytest.mark.parametrize(
    "content",
    [report(FAILED.replace("failed", "delayed")), b"Subject: absent\r\n\r\nJe suis en vacances.", b"", b"\xff" * 99],
    ids=["delayed", "on leave", "nothing", "noise"],
)  # fmt: skip
async def test_what_is_no_failure_is_taken_and_changes_nothing(content: bytes) -> None:
    noted = Noted()
    async with door(noted) as port, client(port) as server:
        assert (await server.hand_over(content)).startswith("250")
    assert noted.told == []


async def test_a_report_is_told_again_later_while_nobody_can_say_what_it_means() -> None:
    noted = Noted([BounceEffect.UNDER_WAY, Unavailable("away"), ValueError("a fault of ours")])
    async with door(noted) as port, client(port) as server:
        for _ in range(3):
            assert (await server.hand_over(report(FAILED))).startswith("451")
        assert (await server.hand_over(report(FAILED))).startswith("250")


async def test_a_report_is_found_before_the_mail_it_brings_back_however_long_that_is() -> None:
    noted = Noted()
    whole = report(FAILED).removesuffix(b"--b/1--\r\n") + b"--b/1\r\nContent-Type: message/rfc822\r\n\r\n"
    lines = b"a line like many others\r\n" * (2 * KEPT // 25)
    one_line = b"x" * KEPT
    async with door(noted) as port, client(port) as server:
        assert (await server.hand_over(whole + lines)).startswith("250")
        assert (await server.hand_over(whole + one_line)).startswith("250")
    assert len(noted.told) == 2


async def test_a_mail_that_is_too_long_is_refused_for_good_and_the_next_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.entrypoints.lmtp._MOST", 100_000)
    noted = Noted()
    async with door(noted) as port, client(port) as server:
        for long in (b"x" * 200_000, b"a line like many others\r\n" * 10_000):
            assert (await server.hand_over(report(FAILED) + long)).startswith("552")
        assert noted.told == []
        assert (await server.hand_over(report(FAILED))).startswith("250")
        # One that says so before is not read at all.
        assert (await server.say("MAIL FROM:<> SIZE=100001")).startswith("552")
    assert len(noted.told) == 1


async def test_a_mail_without_an_end_is_refused_for_good_before_it_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.entrypoints.lmtp._MOST", 100_000)
    monkeypatch.setattr("hub.entrypoints.lmtp._DRAINED", 0.01)
    noted = Noted()
    async with door(noted) as port, client(port) as server:
        for line in ("MAIL FROM:<>", f"RCPT TO:<{ADDRESS}>", "DATA"):
            await server.say(line)
        server.writer.write(b"x" * 200_000)
        assert (await server.hear()).startswith("552")
        assert await server.reader.read() == b""
    assert noted.told == []


async def test_a_mail_is_for_one_address() -> None:
    noted = Noted()
    async with door(noted) as port, client(port) as server:
        await server.say("MAIL FROM:<>")
        assert (await server.say(f"RCPT TO:<{ADDRESS}>")).startswith("250")
        assert (await server.say(f"RCPT TO:<{ADDRESS}>")).startswith("452")


async def test_who_breaks_off_in_the_middle_is_not_heard() -> None:
    noted = Noted()
    async with door(noted) as port:
        async with client(port) as server:
            await server.say("MAIL FROM:<>")
            await server.say(f"RCPT TO:<{ADDRESS}>")
            await server.say("DATA")
            server.writer.write(report(FAILED))
            await server.writer.drain()
        async with client(port) as server:
            assert (await server.say("NOOP")).startswith("250")
    assert noted.told == []


async def test_too_many_at_once_are_sent_away_and_the_others_served() -> None:
    noted = Noted()
    async with door(noted) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for reader, _ in held:
            assert (await reader.readline()).startswith(b"220")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.readline()).startswith(b"421")
        writer.close()
        for _, writer in held:
            writer.close()

        async def serves() -> bool:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            line = await reader.readline()
            writer.close()
            return line.startswith(b"220")

        async with asyncio.timeout(20):
            while not await serves():
                await asyncio.sleep(0.02)


async def test_of_two_processes_one_has_the_door_and_the_other_takes_it_over() -> None:
    first, second = Noted(), Noted()
    port = free_port()
    with capture_logs() as lines:
        of_first, of_second = asyncio.Event(), asyncio.Event()
        having = asyncio.create_task(receive_bounces(room(first), "127.0.0.1", port, of_first))
        await handed_over(port, first)
        standing_by = asyncio.create_task(receive_bounces(room(second), "127.0.0.1", port, of_second, 0.02))
        while "bounce.stands_by" not in [line["event"] for line in lines]:
            await asyncio.sleep(0.01)
        await handed_over(port, first)
        of_first.set()
        await having
        await handed_over(port, second)
        of_second.set()
        await standing_by
    told = [line["event"] for line in lines if line["event"] != "bounce.taken"]
    assert told == ["bounce.stands_by", "bounce.takes_over"]
    assert (len(first.told), len(second.told)) == (2, 1)


async def handed_over(port: int, noted: Noted) -> None:
    """As soon as somebody answers."""
    before = len(noted.told)
    async with asyncio.timeout(20):
        while True:
            try:
                async with client(port) as server:
                    assert (await server.hand_over(report(FAILED))).startswith("250")
                break
            except OSError:
                await asyncio.sleep(0.01)
    assert len(noted.told) == before + 1


async def test_who_stands_by_ends_at_once_and_an_address_that_is_not_here_is_named() -> None:
    async with door(Noted()) as port:
        stopping = asyncio.Event()
        standing_by = asyncio.create_task(receive_bounces(room(Noted()), "127.0.0.1", port, stopping, 600))
        await asyncio.sleep(0)
        stopping.set()
        await asyncio.wait_for(standing_by, 20)
    with pytest.raises(SettingsError, match=r"mails that come back at 192\.0\.2\.1:2424 cannot be opened"):
        await receive_bounces(room(Noted()), "192.0.2.1", 2424, asyncio.Event())
