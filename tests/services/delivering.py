"""The delivery engine at work in a world of the HTTP tests, with the connectors that are installed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import entry_points

from hub.adapters.keys.local import LocalKeyring
from hub.adapters.postgres.lanes import PostgresLanes
from hub.domain.retry import Policies
from hub.ports.connector import Connector, Surroundings
from hub.services.dispatch import DispatchRoom, Pace
from hub.services.endpoints import EndpointRoom
from tests.connectors.partners import outgoing
from tests.services.http_world import World

POLICIES = Policies((timedelta(seconds=0.2),) * 100, timedelta(seconds=2), {}, {})
KEYRING = LocalKeyring(bytes(range(32)))


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[dict[str, Connector]]:
    """All that are installed."""
    around = Surroundings(world.rooms.links.link, world.rooms.clock.now, outgoing())
    known = {point.name: point.load()(around) for point in entry_points(group="hub.connectors")}
    try:
        yield known
    finally:
        for connector in known.values():
            await connector.close()


@asynccontextmanager
async def dispatching(world: World, known: Mapping[str, Connector]) -> AsyncIterator[None]:
    lanes = PostgresLanes(world.database)
    room = DispatchRoom(
        "worker",
        lanes,
        known,
        world.rooms.parcels,
        world.rooms.clock,
        POLICIES,
        EndpointRoom(KEYRING).open,
        Pace(idle=0.05),
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(room.run(stopping, 1))
    try:
        yield
    finally:
        stopping.set()
        await running
        await lanes.close()
