"""Connections to partners' servers, kept for a while: who comes again soon needs no new handshake.

Business of this file: that a server is who it should be, that no more handshakes are begun in a second than a core
bears, and that a connection which died while it lay idle is replaced before anything is asked of it. What is asked of
a session is others' business.
"""

from __future__ import annotations

import asyncio
import errno
import stat
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import asyncssh

from connectors.sftp.judging import ABSENT, FAULTS, AtTheJump, ForwardingDenied, is_answer
from connectors.sftp.settings import Algorithms, Hop, HostKeys, Target
from hub.domain.partner import Endpoint
from hub.ports.connector import Outgoing

KEPT = 60.0
"""Seconds that a connection lies idle before it is closed."""
MOST_KEPT = 500
"""Connections that lie idle, of all partners together; the one that has lain longest gives way."""
HANDSHAKES = 50.0
"""Begun in a second, by one process: each takes some milliseconds of a core."""

_SUDDEN = 2
"""Attempts at a kind of key when connections break off."""
_PROBE = 5.0
_LEAVING = 1.0

T = TypeVar("T")
Family = tuple[str, ...]


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
        except FAULTS:
            if self._silent:
                raise TimeoutError from None
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
        self._families: dict[int, tuple[Endpoint, int]] = {}

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
        return await self._open(endpoint, target, limit)

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

    async def _open(self, endpoint: Endpoint, target: Target, limit: float) -> Session:
        families = target.server.host_keys.families
        known = self._families.get(id(endpoint))
        begin = known[1] if known is not None and known[0] is endpoint else 0

        async def attempt(family: Family) -> Session:
            await self._handshakes.turn()
            return await _connect(self._outgoing, target, family, limit)

        place, session = await _first_believed((*families[begin:], *families[:begin]), attempt)
        if len(families) > 1:
            self._remember(endpoint, (begin + place) % len(families))
        return session

    def _remember(self, endpoint: Endpoint, place: int) -> None:
        if len(self._families) >= MOST_KEPT * 10:
            self._families.clear()
        self._families[id(endpoint)] = (endpoint, place)


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


async def _connect(outgoing: Outgoing, target: Target, family: Family, limit: float) -> Session:
    jump = None if target.jump is None else await _jump(outgoing, target.jump, target.algorithms, limit)
    try:
        async with asyncio.timeout(limit):
            connection = await _enter(outgoing, target.server, target.algorithms, family, limit, jump)
            try:
                # A file name in the directory that is no UTF-8 is no reason to stop.
                sftp = await connection.start_sftp_client(path_errors="surrogateescape")
            except BaseException:
                connection.abort()
                raise
    except BaseException:
        if jump is not None:
            jump.abort()
        raise
    return Session(connection, sftp, limit, jump)


async def _jump(
    outgoing: Outgoing, server: Hop, algorithms: Algorithms, limit: float
) -> asyncssh.SSHClientConnection:
    """Raises AtTheJump."""

    async def attempt(family: Family) -> asyncssh.SSHClientConnection:
        async with asyncio.timeout(limit):
            return await _enter(outgoing, server, algorithms, family, limit)

    try:
        return (await _first_believed(server.host_keys.families, attempt))[1]
    except FAULTS as fault:
        raise AtTheJump(fault) from None


async def _first_believed(
    families: Sequence[Family], attempt: Callable[[Family], Awaitable[T]]
) -> tuple[int, T]:
    """What the first attempt brings whose kind of key is believed, and its place. That a key was found and not believed
    is told first, then a connection that broke off, then that there is no key of a kind."""
    untrusted: Exception | None = None
    broken: Exception | None = None
    none_of_kind: Exception | None = None
    for place, family in enumerate(families):
        # Asked for a kind that it has not, a server may leave so quickly that nobody hears why; and any may break off.
        for _ in range(_SUDDEN):
            try:
                return place, await attempt(family)
            except asyncssh.HostKeyNotVerifiable as fault:
                untrusted = fault
            except asyncssh.KeyExchangeFailed as fault:
                none_of_kind = fault
            except (ConnectionResetError, asyncssh.ConnectionLost) as fault:
                broken = fault
                if len(families) > 1:
                    continue
            break
    told = untrusted or broken or none_of_kind
    assert told is not None
    raise told


async def _enter(
    outgoing: Outgoing,
    server: Hop,
    algorithms: Algorithms,
    family: Family,
    limit: float,
    jump: asyncssh.SSHClientConnection | None = None,
) -> asyncssh.SSHClientConnection:
    """Logged in, through the guard, or through `jump`: what stands behind that is its partner's own network."""
    keys, key = server.host_keys, server.private_key
    way = (
        {"sock": await outgoing.connect(server.host, server.port, limit)}
        if jump is None
        else {"tunnel": jump}
    )
    try:
        return await asyncssh.connect(
            server.host,
            server.port,
            **way,
            client_factory=lambda: _Pinned(keys),
            username=server.username,
            known_hosts=(list(keys.keys), list(keys.authorities), list(keys.revoked)),
            server_host_key_algs=family,
            client_keys=None
            if key is None
            else [key if server.certificate is None else (key, server.certificate)],
            password=server.password,
            preferred_auth=("publickey",) if key else ("password", "keyboard-interactive"),
            kex_algs=algorithms.exchange,
            encryption_algs=algorithms.ciphers,
            mac_algs=algorithms.macs,
            signature_algs=algorithms.signatures,
            compression_algs=None,
            utf8_decode_errors="replace",
            # Only what the partner's settings say: nothing of the account this process runs under.
            config=None,
            agent_path=None,
            gss_host=None,
            x509_trusted_certs=None,
        )
    except asyncssh.ChannelOpenError as fault:
        if fault.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
            raise ForwardingDenied from None
        raise OSError(errno.EHOSTUNREACH, "behind the jump") from None


class _Pinned(asyncssh.SSHClient):
    """Believes keys by their fingerprints; those that are given whole, the library has believed before it asks."""

    def __init__(self, keys: HostKeys) -> None:
        self._keys = keys

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return key.get_fingerprint("sha256").rstrip("=") in self._keys.fingerprints
