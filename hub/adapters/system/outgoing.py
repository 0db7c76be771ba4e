"""One guard for every outgoing connection: names are looked up once, and what was checked is connected to.

Business of this file: that no name, literal or answer of a name server leads to an address that operators did not
allow, and that a name whose server is silent costs one look-up, however many wait for it. Which addresses are public
is the domain's business.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import aiohappyeyeballs

from hub.domain.addresses import Network, may_connect
from hub.ports.connector import AddressInfo, ForbiddenAddress

LookUp = Callable[[str], Coroutine[Any, Any, Sequence[AddressInfo]]]

_NEXT_AFTER = 0.25
"""Seconds until the next address of a name is tried beside the one before (RFC 8305)."""


async def looked_up(host: str) -> Sequence[AddressInfo]:
    """What the system knows of this name, in its order. Raises socket.gaierror."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError:
        # A label that is empty or too long, or what no name server is ever asked.
        raise socket.gaierror(socket.EAI_NONAME, "no name") from None
    return [cast(AddressInfo, info) for info in found if info[0] in (socket.AF_INET, socket.AF_INET6)]


class GuardedOutgoing:
    """Implements `hub.ports.connector.Outgoing`. `allowed`: networks that are no part of the public internet, and
    that the operator wants reached all the same. Of one event loop."""

    def __init__(self, allowed: Sequence[Network] = (), look_up: LookUp = looked_up) -> None:
        self._allowed = tuple(allowed)
        self._look_up = look_up
        self._under_way: dict[str, asyncio.Task[Sequence[AddressInfo]]] = {}

    async def connect(self, host: str, port: int, limit: float) -> socket.socket:
        async with asyncio.timeout(limit):
            found = await self.resolve(host, port)
            try:
                return await aiohappyeyeballs.start_connection(
                    found, happy_eyeballs_delay=_NEXT_AFTER, socket_factory=self.open
                )
            except RuntimeError:
                # The faster event loop's word for a connection that ended while it was made.
                raise ConnectionAbortedError from None

    async def resolve(self, host: str, port: int) -> Sequence[AddressInfo]:
        found = await self._shared(host)
        for info in found:
            self._check(info)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return [_at(info, port) for info in found]

    def open(self, info: AddressInfo) -> socket.socket:
        self._check(info)
        family, kind, protocol, _, _ = info
        return socket.socket(family, kind, protocol)

    async def _shared(self, host: str) -> Sequence[AddressInfo]:
        """A look-up cannot be ended once it has begun, and holds a thread while a name server is silent: whoever asks
        for the same name meanwhile waits for the same answer."""
        looking = self._under_way.get(host)
        if looking is None:
            looking = asyncio.create_task(self._look_up(host))
            self._under_way[host] = looking
            looking.add_done_callback(lambda done: self._ended(host, done))
        return await asyncio.shield(looking)

    def _ended(self, host: str, done: asyncio.Task[Sequence[AddressInfo]]) -> None:
        del self._under_way[host]
        if not done.cancelled():
            # Whoever asked may have gone.
            done.exception()

    def _check(self, info: AddressInfo) -> None:
        try:
            # Without the zone that a link-local address may have behind it.
            address = ipaddress.ip_address(str(info[4][0]).partition("%")[0])
        except ValueError:
            raise ForbiddenAddress from None
        if not may_connect(address, self._allowed):
            raise ForbiddenAddress


def _at(info: AddressInfo, port: int) -> AddressInfo:
    family, kind, protocol, name, address = info
    return family, kind, protocol, name, (address[0], port, *address[2:])
