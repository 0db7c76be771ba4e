"""HTTP connections through the hub's guard, for every connector that speaks HTTP.

Business of this file: that aiohttp resolves no name and opens no socket by itself. A literal address is asked for
no resolver, so each socket is checked too.
"""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from hub.ports.connector import Outgoing


def guarded(outgoing: Outgoing, keepalive: float) -> aiohttp.TCPConnector:
    """Without a common limit: a hanging partner must not use up the others' connections. `keepalive`: seconds
    that an idle connection is kept. Faults are aiohttp's ClientConnectorError, with ForbiddenAddress as `os_error`."""
    return aiohttp.TCPConnector(
        limit=0, keepalive_timeout=keepalive, resolver=_Resolver(outgoing), socket_factory=outgoing.open
    )


class _Resolver(AbstractResolver):
    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=info[4][0],
                port=port,
                family=info[0],
                proto=info[2],
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for info in await self._outgoing.resolve(host, port)
        ]

    async def close(self) -> None:
        """Nothing stays open."""
