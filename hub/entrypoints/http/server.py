"""The web server around an application: listens, serves, and stops when it is asked to.

It takes no signals (whoever runs it does), and writes no access log: a signed link is a secret, and it
stands in the address. Which event loop runs it is its caller's choice too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LARGEST_HEAD = 65_536


@dataclass(frozen=True, slots=True)
class Listening:
    """Where it listens; `port` is the real one when 0 was asked for."""

    host: str
    port: int
    secure: bool

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


@asynccontextmanager
async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    certificate: Path | None = None,
    key: Path | None = None,
    grace: float = 30.0,
) -> AsyncIterator[Listening]:
    """Serves while the block runs. Leaving it refuses new connections, lets requests under way finish for
    `grace` seconds, cancels the others and waits until they have cleaned up. Raises OSError when the
    address cannot be had, SSLError for a certificate that cannot be used."""
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=True,
        http=_Guarded,
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=max(int(grace), 1),
        timeout_keep_alive=30,
        ws="none",
    )
    config.load()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await _started(server, serving)
        yield Listening(host, listener.getsockname()[1], certificate is not None)
    finally:
        server.should_exit = True
        await _ended(server, serving, grace)
        listener.close()


class _Guarded(HttpToolsProtocol):
    """No access log, however loggers are set up elsewhere: turning its logger off holds only until somebody
    sets up logging anew. And a head of bounded size: the parser itself would gather it for ever."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.access_log = False
        self._head: int | None = None

    def data_received(self, data: bytes) -> None:
        # What came together with the head's first byte is not counted: it is bounded by one read.
        begun = self._head is not None
        super().data_received(data)
        if not begun or self._head is None:
            return
        self._head += len(data)
        if self._head > _LARGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _started(server: _Server, serving: asyncio.Task[None]) -> None:
    while not server.started:
        if serving.done():
            await serving
            raise OSError("the web server ended before it began")
        await asyncio.sleep(0.01)


async def _ended(server: _Server, serving: asyncio.Task[None], grace: float) -> None:
    """The server cancels what is still under way and goes; what was cancelled may have files to remove."""
    left = set(server.server_state.tasks)
    try:
        async with asyncio.timeout(grace + 5):
            await asyncio.shield(serving)
    finally:
        serving.cancel()
        left |= server.server_state.tasks
        if left:
            await asyncio.wait(left, timeout=10)
