"""The door for mails that come back: LMTP (RFC 2033), for the mail server that receives them.

Business of this file: that only addresses the hub gave out are let in, one at a time, that a mail of any size and shape
is read in bounded room and time, and that a mail server is told to try again while nobody can say what a report means.
What it changes is the bounce room's business.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import structlog
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from hub.domain.bounces import BounceEffect
from hub.domain.errors import SettingsError, Unavailable
from hub.entrypoints.workers import Stopping, rest
from hub.services.bounces import BounceRoom

KEPT = 1 << 20
"""Bytes of a mail that are read: a report stands before the mail it reports."""

_MOST = 100 << 20
_DRAINED = 60.0
"""Seconds in which the rest of a mail that is longer is read, to be refused at its end."""
_AT_ONCE = 20
_SILENCE = 120.0
_LONGEST_LINE = 1 << 16
_FREE_EVERY = 1.0

_NOTED = "250 2.0.0 noted"
_LATER = "451 4.3.0 not now"
_TOO_LONG = "552 5.3.4 too long"

log = structlog.get_logger()


async def receive_bounces(
    room: BounceRoom, host: str, port: int, stopping: Stopping, every: float = _FREE_EVERY
) -> None:
    """Until `stopping` is set. While the address is another process's, this one stands by, and looks `every` so many
    seconds whether it is free. Raises SettingsError where it cannot be had at all."""
    # It is not shared: another hub that was given this port by mistake would be handed bounces that it refuses.
    stands_by = False
    while not stopping.is_set():
        try:
            async with bounce_door(room, host, port):
                if stands_by:
                    log.info("bounce.takes_over", port=port)
                await stopping.wait()
                return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                where = f"the door for mails that come back at {host}:{port}"
                raise SettingsError(f"{where} cannot be opened: {error.strerror}") from error
        if not stands_by:
            stands_by = True
            log.warning("bounce.stands_by", port=port)
        await rest(stopping, every)


@asynccontextmanager
async def bounce_door(room: BounceRoom, host: str, port: int) -> AsyncIterator[int]:
    """Open while the block runs; its port, the real one when 0 was asked for. Raises OSError."""
    loop = asyncio.get_running_loop()
    door = _Door(room)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    server = await loop.create_server(door.answer, sock=listener)
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.close()
        door.shut()


class _Door:
    """What the library asks about each mail."""

    def __init__(self, room: BounceRoom) -> None:
        self._room = room
        self._open: set[_Conversation] = set()

    def answer(self) -> asyncio.Protocol:
        if len(self._open) >= _AT_ONCE:
            return _Busy()
        conversation = _Conversation(self, self._open)
        self._open.add(conversation)
        return conversation

    def shut(self) -> None:
        for conversation in list(self._open):
            if conversation.transport is not None:
                conversation.transport.close()

    async def handle_RCPT(  # noqa: N802 - the library's name for it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if envelope.rcpt_tos:
            # Each recipient is to be answered for by itself, and a report has only one.
            return "452 4.5.3 one address at a time"
        if self._room.recognise(address) is None:
            return "550 5.1.1 no such address"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 go on"

    async def take(self, address: str, content: bytes) -> str:
        returned = self._room.recognise(address)
        if returned is None:
            return "550 5.1.1 no such address"
        try:
            effect = await self._room.take(returned, content)
        except Unavailable:
            return _LATER
        return _LATER if effect is BounceEffect.UNDER_WAY else _NOTED

    async def handle_exception(self, error: Exception) -> str:
        log.error("bounce.failed", error=type(error).__name__)
        return _LATER


class _Conversation(LMTP):
    # The library reads lines no longer than this at once, whatever they belong to.
    line_length_limit = _LONGEST_LINE

    def __init__(self, door: _Door, among: set[_Conversation]) -> None:
        super().__init__(
            door,
            # Told to mail servers that ask, and looked at where one says a size.
            data_size_limit=_MOST,
            enable_SMTPUTF8=True,
            hostname="localhost",
            ident="LMTP",
            timeout=_SILENCE,
            loop=asyncio.get_running_loop(),
        )
        self._door = door
        self._among = among

    def connection_lost(self, error: Exception | None) -> None:
        self._among.discard(self)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 - the library's name for it
        """In place of the library's, which refuses what is long: of a long mail, the beginning is read."""
        if await self.check_helo_needed():
            return
        if self.envelope is None or not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 an address first")
            return
        await self.push("354 go on")
        address = self.envelope.rcpt_tos[0]
        self.envelope = Envelope()
        try:
            content = await self._content()
        except TimeoutError:
            await self.push(_TOO_LONG)
            raise ConnectionResetError from None
        await self.push(_TOO_LONG if content is None else await self._door.take(address, content))

    async def _content(self) -> bytes | None:
        """Its beginning; None of one that is too long, which is read to its end all the same: a mail server that is cut
        off tries again for days. Raises TimeoutError where that end does not come."""
        kept, total = bytearray(), 0
        pieces = self._pieces()
        async for piece in pieces:
            total += len(piece)
            if total > _MOST:
                break
            if len(kept) < KEPT:
                kept += piece
        else:
            return bytes(kept)
        self._reset_timeout()
        async with asyncio.timeout(_DRAINED):
            async for _ in pieces:
                pass
        return None

    async def _pieces(self) -> AsyncIterator[bytes]:
        """Of a mail, until the line that ends it."""
        at_start = True
        while True:
            piece, whole = await self._piece()
            if at_start and whole and piece == b".\r\n":
                return
            yield piece[1:] if at_start and piece.startswith(b".") else piece
            at_start = whole

    async def _piece(self) -> tuple[bytes, bool]:
        """A line, or a part of one that is too long; whether its end is reached."""
        reader: Any = self._reader
        try:
            return await reader.readuntil(b"\r\n"), True
        except asyncio.LimitOverrunError as found:
            return await reader.read(found.consumed), False


class _Busy(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asked by isinstance: the faster event loop's transports are of no common class.
        cast(asyncio.WriteTransport, transport).write(b"421 4.3.2 too many at once\r\n")
        transport.close()
