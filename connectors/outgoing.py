"""HTTP connections through the hub's guard, for every connector that speaks HTTP.

Business of this file: that aiohttp resolves no name and opens no socket by itself, and that no server keeps this
process busy with heads of answers. Of a literal address no resolver is asked, so each socket is checked too.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from hub.ports.connector import Outgoing

_PIECE = 4 * 1024
_HEADS = 16
"""Of answers that wait to be read: one, and what may come before it (100, 103)."""


def guarded(outgoing: Outgoing, keepalive: float) -> aiohttp.TCPConnector:
    """Without a common limit: a hanging partner must not use up the others' connections. `keepalive`: seconds
    that an idle connection is kept. Faults are aiohttp's ClientConnectorError, with ForbiddenAddress as `os_error`."""
    made = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=keepalive, resolver=_Resolver(outgoing), socket_factory=outgoing.open
    )
    # The library has no setting for it.
    made._factory = cast(partial[ResponseHandler], partial(_Answers, asyncio.get_running_loop()))
    return made


class _Answers(ResponseHandler):
    """The library reads as many answers of status 1xx as come, thousands at a time, and nobody else's turn comes
    meanwhile. Who sends more than a few is cut off."""

    def data_received(self, data: bytes) -> None:
        if len(data) <= _PIECE:
            super().data_received(data)
        else:
            for at in range(0, len(data), _PIECE):
                super().data_received(data[at : at + _PIECE])
                if len(self) > _HEADS:
                    break
        if len(self) > _HEADS and not self.is_eof():
            if self.transport is not None:
                self.transport.abort()
            self.set_exception(aiohttp.ServerDisconnectedError())


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
