"""Connections to mail servers: opened, kept for a while, looked at before they are used again.

Business of this file: that each is encrypted as its endpoint says and checked, goes through the hub's guard, and that a
server sees only so many of them at a time. What is said over one is in `conversation`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiosmtplib import SMTP

from connectors.mail.judging import FAULTS, Crowded
from connectors.mail.settings import Server, trust
from hub.ports.connector import Outgoing

AT_ONCE = 10
"""Connections to one server: mail servers take few from one client."""

_IDLE = 20.0
"""Seconds that a connection is kept: less than any server waits."""

_UNDER_WAY = 128 * 1024
_LEAVING = 1.0


async def open_connection(server: Server, outgoing: Outgoing, limit: float) -> SMTP:
    """Encrypted, checked and logged in, as the server's settings say. Raises what `judge` understands; leaves nothing
    open then."""
    async with asyncio.timeout(limit):
        smtp = _over(await outgoing.connect(server.host, server.port, limit), server, limit)
        try:
            # From here on the socket is the connection's: closed beside it, its number would be another's by the time
            # that the connection lets go of it.
            await smtp.connect()
            await smtp.ehlo()
        except BaseException:
            smtp.close()
            raise
    return smtp


def _over(door: socket.socket, server: Server, limit: float) -> SMTP:
    try:
        # What the system holds for us looks sent: the less it may hold, the sooner silence is seen.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNDER_WAY)
        return SMTP(
            hostname=server.host,
            sock=door,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            tls_context=None if server.tls == "none" else trust(server.ca),
            username=server.username,
            password=server.password,
            # The library would ask the name service for a name of this machine.
            local_hostname=server.greeting,
            timeout=limit,
        )
    except BaseException:
        door.close()
        raise


@dataclass(slots=True)
class Line:
    """An open connection while somebody uses it. `broken`: it is not to be used again."""

    smtp: SMTP
    broken: bool = False


@dataclass(slots=True)
class _Kept:
    smtp: SMTP
    expiry: asyncio.TimerHandle


@dataclass(slots=True)
class _Place:
    """What is there of one server: how many may be opened still, who waits or speaks, and what is kept."""

    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    users: int = 0
    kept: list[_Kept] = field(default_factory=list)


class Connections:
    """Of one event loop. `close` it: what is kept stays open."""

    def __init__(self) -> None:
        self._places: dict[Server, _Place] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def to(self, server: Server, outgoing: Outgoing, limit: float) -> AsyncIterator[Line]:
        """A line of one's own until the end of the block. Raises what `judge` understands, within `limit`."""
        place = self._places.setdefault(server, _Place())
        place.users += 1
        try:
            await _enter(place, limit)
            try:
                line = Line(await self._one(place, server, outgoing, limit))
                try:
                    yield line
                except BaseException:
                    line.broken = True
                    raise
                finally:
                    self._put_back(server, place, line)
            finally:
                place.free.release()
        finally:
            place.users -= 1
            self._forget(server, place)

    async def close(self) -> None:
        for server, place in list(self._places.items()):
            for kept in place.kept:
                kept.expiry.cancel()
                self._leave(kept.smtp)
            place.kept.clear()
            self._forget(server, place)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _one(self, place: _Place, server: Server, outgoing: Outgoing, limit: float) -> SMTP:
        """A kept one that answers still, else a new one: what was found dead is replaced once."""
        async with asyncio.timeout(limit):
            if place.kept:
                kept = place.kept.pop()
                kept.expiry.cancel()
                if await _answers(kept.smtp, limit / 2):
                    kept.smtp.timeout = limit
                    return kept.smtp
                kept.smtp.close()
            return await open_connection(server, outgoing, limit)

    def _put_back(self, server: Server, place: _Place, line: Line) -> None:
        if line.broken or not line.smtp.is_connected:
            line.smtp.close()
            return
        loop = asyncio.get_running_loop()
        place.kept.append(_Kept(line.smtp, loop.call_later(_IDLE, self._expire, server, place, line.smtp)))

    def _expire(self, server: Server, place: _Place, smtp: SMTP) -> None:
        place.kept = [kept for kept in place.kept if kept.smtp is not smtp]
        self._leave(smtp)
        self._forget(server, place)

    def _leave(self, smtp: SMTP) -> None:
        task = asyncio.create_task(_say_goodbye(smtp))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _forget(self, server: Server, place: _Place) -> None:
        if not place.users and not place.kept and self._places.get(server) is place:
            del self._places[server]


async def _enter(place: _Place, limit: float) -> None:
    try:
        async with asyncio.timeout(limit):
            await place.free.acquire()
    except TimeoutError:
        raise Crowded from None


async def _answers(smtp: SMTP, limit: float) -> bool:
    try:
        async with asyncio.timeout(limit):
            await smtp.rset()
    except FAULTS:
        return False
    return smtp.is_connected


async def _say_goodbye(smtp: SMTP) -> None:
    with suppress(*FAULTS):
        await smtp.quit(timeout=_LEAVING)
    smtp.close()
