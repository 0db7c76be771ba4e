"""The stream router where brokers cannot be had: routing, which begins first, ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hub.entrypoints import stream
from hub.services.supervision import SupervisionRoom
from hub.wire import read_news
from tests.connectors.partners import closed_port
from tests.kafka.rig import PACE


@dataclass
class Routing:
    """How many are at work."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    at_work: int = 0

    async def __call__(self) -> None:
        self.at_work += 1
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.at_work -= 1


async def nothing(*_: object) -> None: ...


def hosted(port: int, routing: Routing, folder: Path) -> stream.Hosted:
    return stream.Hosted(
        brokers=stream.Brokers((f"127.0.0.1:{port}",)),
        group="router",
        journal="journal",
        flows="flows",
        partitions=1,
        folder=folder,
        session=PACE.session,
        routing=routing,
        supervision=SupervisionRoom(read_news, enough=5),
        undress=nothing,  # type: ignore[arg-type]
        set_aside=nothing,
        silent=lambda flows: None,
    )


@asynccontextmanager
async def silent_broker() -> AsyncIterator[int]:
    """Takes connections, and never says a word."""
    gone = asyncio.Event()

    async def holds(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(holds, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        gone.set()
        server.close()


async def test_where_no_broker_answers_no_routing_is_left(tmp_path: Path) -> None:
    routing = Routing()
    async with asyncio.timeout(60):
        with closed_port() as port, pytest.raises(Exception, match=r"."):
            await stream.host(hosted(port, routing, tmp_path), asyncio.Event())
    assert routing.begun.is_set()
    assert routing.at_work == 0


async def test_whoever_is_cancelled_while_brokers_are_silent_leaves_no_routing(tmp_path: Path) -> None:
    routing = Routing()
    async with silent_broker() as port:
        hosting = asyncio.create_task(stream.host(hosted(port, routing, tmp_path), asyncio.Event()))
        await routing.begun.wait()
        hosting.cancel()
        done, _ = await asyncio.wait([hosting], timeout=10)
        assert done
    assert hosting.cancelled()
    assert routing.at_work == 0
