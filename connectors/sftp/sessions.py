"""Connections to partners' servers, kept for a while: who comes again soon needs no new handshake.

Business of this file: that no more handshakes are begun in a second than a core bears, and that a connection which died
while it lay idle is replaced before anything is asked of it. What is asked of a session is others' business.
"""

from __future__ import annotations

import asyncio
import stat
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import asyncssh

from connectors.sftp.algorithms import Algorithms, Family
from connectors.sftp.connecting import check_behind, first_believed, log_in
from connectors.sftp.judging import ABSENT, FAULTS, AtTheJump, is_answer, judge
from connectors.sftp.settings import Hop, Target
from hub.domain.delivery import Deferred
from hub.domain.partner import Endpoint
from hub.ports.connector import Outgoing

KEPT = 60.0
"""Seconds that a connection lies idle before it is closed."""
MOST_KEPT = 500
"""Connections that lie idle, of all partners together; the one that has lain longest gives way."""
HANDSHAKES = 50.0
"""Begun in a second, by one process: each takes some milliseconds of a core."""

_PROBE = 5.0
_LEAVING = 1.0

T = TypeVar("T")


class Handshakes:
    """Turns, at most `rate` a second; who comes when there are none waits, in order."""

    def __init__(self, rate: float) -> None:
        self._apart = 1 / rate
        self._next = 0.0

    async def turn(self) -> None:
        now = asyncio.get_running_loop().time()
        mine = max(now, self._next)
        self._next = mine + self._apart
        if mine > now:
            await asyncio.sleep(mine - now)


@dataclass(slots=True)
class Session:
    """A connection that is logged in, with SFTP on it. `links`: whether hard links seem to work there. A server
    that is asked and says nothing for `limit` seconds, to nobody, is left."""

    connection: asyncssh.SSHClientConnection
    sftp: asyncssh.SFTPClient
    limit: float
    jump: asyncssh.SSHClientConnection | None = None
    links: bool = True
    _asked: int = 0
    _heard: float = 0.0
    _silent: bool = False
    _left: bool = False
    _watch: asyncio.TimerHandle | None = None

    async def soon(self, answer: Awaitable[T]) -> T:
        """The server's answer, or TimeoutError when it says nothing for too long. One watch for all that is asked at
        once: a timer for each request would cost a tenth of what it waits for."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            self._heard = loop.time()
            if self._watch is None:
                self._watch = loop.call_later(self.limit, self._look)
        self._asked += 1
        try:
            return await answer
        except FAULTS as fault:
            if self._silent:
                raise TimeoutError from None
            if self.jump is not None and self.jump.is_closed() and not is_answer(fault):
                raise AtTheJump(ConnectionResetError()) from None
            raise
        finally:
            self._asked -= 1
            self._heard = loop.time()

    def _look(self) -> None:
        self._watch = None
        if not self._asked:
            return
        loop = asyncio.get_running_loop()
        left = self._heard + self.limit - loop.time()
        if left > 0:
            self._watch = loop.call_later(left, self._look)
            return
        self._silent = True
        self.abort()

    async def is_directory(self, path: str) -> bool:
        """False, too, when nothing is there. Raises what `judge` understands."""
        try:
            attributes = await self.soon(self.sftp.stat(path))
        except ABSENT:
            return False
        # A server may hide permissions, and then the first file written will tell.
        return attributes.permissions is None or stat.S_ISDIR(attributes.permissions)

    @property
    def is_closed(self) -> bool:
        """Also at once after it was left: the library says so only when the loop has come by."""
        return self._left or self.connection.is_closed()

    def abort(self) -> None:
        self._unwatch()
        self._left = True
        self.connection.abort()
        if self.jump is not None:
            self.jump.abort()

    def close(self) -> None:
        """Without waiting for its end."""
        self._unwatch()
        self._left = True
        self.connection.close()
        if self.jump is not None:
            self.jump.close()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def leave(self) -> None:
        self.close()
        with suppress(*FAULTS):
            async with asyncio.timeout(_LEAVING):
                await self.connection.wait_closed()
                if self.jump is not None:
                    await self.jump.wait_closed()
                return
        self.abort()


@dataclass(slots=True)
class _Kept:
    endpoint: Endpoint
    session: Session
    ending: asyncio.TimerHandle


class Sessions:
    """Of one event loop. The hub hands in the same endpoint object again and again: a connection is kept for it."""

    def __init__(self, outgoing: Outgoing, kept: float = KEPT, handshakes: float = HANDSHAKES) -> None:
        self._outgoing = outgoing
        self._idle = kept
        self._handshakes = Handshakes(handshakes)
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._families: dict[int, tuple[Hop, int]] = {}

    async def enter(self, endpoint: Endpoint, target: Target, limit: float) -> Session:
        """A session that answered a moment ago. Raises what `judge` understands, and leaves nothing open then."""
        kept = self._kept.pop(id(endpoint), None)
        if kept is not None:
            kept.ending.cancel()
            try:
                if await _answers(kept.session, min(limit / 3, _PROBE)):
                    kept.session.limit = limit
                    return kept.session
            except BaseException:
                kept.session.abort()
                raise
            kept.session.abort()
        return await self._open(target, limit)

    def give_back(self, endpoint: Endpoint, session: Session) -> None:
        """To be used again; whatever state it is in."""
        if session.is_closed or id(endpoint) in self._kept:
            # Somebody else served this endpoint meanwhile: one connection is enough.
            session.close()
            return
        ending = asyncio.get_running_loop().call_later(self._idle, self._let_go, id(endpoint))
        self._kept[id(endpoint)] = _Kept(endpoint, session, ending)
        if len(self._kept) > MOST_KEPT:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, key: int) -> None:
        kept = self._kept.pop(key)
        kept.ending.cancel()
        kept.session.close()

    async def close(self) -> None:
        going = list(self._kept.values())
        self._kept.clear()
        for kept in going:
            kept.ending.cancel()
        await asyncio.gather(*(kept.session.leave() for kept in going))

    async def _open(self, target: Target, limit: float) -> Session:
        if target.jump is None:
            return await self._through(target, limit, None)
        check_behind(self._outgoing, target.server.host)
        try:
            jump = await self._jump(target.jump, target.algorithms, limit)
        except FAULTS as fault:
            raise AtTheJump(fault) from None
        try:
            return await self._through(target, limit, jump)
        except BaseException as fault:
            gone = jump.is_closed()
            jump.abort()
            if gone and isinstance(fault, FAULTS) and isinstance(judge(fault), Deferred):
                raise AtTheJump(ConnectionResetError()) from None
            raise

    async def _jump(self, server: Hop, algorithms: Algorithms, limit: float) -> asyncssh.SSHClientConnection:
        async def attempt(family: Family) -> asyncssh.SSHClientConnection:
            await self._handshakes.turn()
            async with asyncio.timeout(limit):
                return await log_in(self._outgoing, server, algorithms, family, limit)

        return await self._believed(server, attempt)

    async def _through(
        self, target: Target, limit: float, jump: asyncssh.SSHClientConnection | None
    ) -> Session:
        async def attempt(family: Family) -> Session:
            await self._handshakes.turn()
            async with asyncio.timeout(limit):
                connection = await log_in(
                    self._outgoing, target.server, target.algorithms, family, limit, jump
                )
                try:
                    # A file name in the directory that is no UTF-8 is no reason to stop.
                    sftp = await connection.start_sftp_client(path_errors="surrogateescape")
                except BaseException:
                    connection.abort()
                    raise
            return Session(connection, sftp, limit, jump)

        return await self._believed(target.server, attempt)

    async def _believed(self, server: Hop, attempt: Callable[[Family], Awaitable[T]]) -> T:
        """Begins with the kind of key that was believed the last time."""
        families = server.host_keys.families
        known = self._families.get(id(server))
        begin = known[1] if known is not None and known[0] is server else 0
        place, found = await first_believed((*families[begin:], *families[:begin]), attempt)
        if len(families) > 1:
            if len(self._families) >= MOST_KEPT * 10:
                self._families.clear()
            self._families[id(server)] = (server, (begin + place) % len(families))
        return found


async def _answers(session: Session, limit: float) -> bool:
    """Whether a connection that lay idle still serves: its server may be gone without a word."""
    if session.is_closed:
        return False
    try:
        async with asyncio.timeout(limit):
            await session.sftp.stat(".")
    except FAULTS as fault:
        return is_answer(fault)
    return True
