"""The rooms behind the HTTP door, on a real store, log and attachment store, with a partner whose conduct a
test writes: for what happens between the rooms, and when one of them dies."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.system.clock import SystemClock
from hub.domain.delivery import Delivered, Outcome
from hub.domain.fields import Field
from hub.domain.partner import Endpoint
from hub.domain.retry import Policies
from hub.ports.connector import Connector, Parcel
from hub.ports.lanes import Lanes
from hub.ports.log import Log, Topic
from hub.ports.outgoing import Tray
from hub.ports.registry import Registry
from hub.services.dispatch import DispatchRoom, Pace
from hub.services.outgoing import OutgoingRoom
from hub.services.registration import RegistrationRoom
from hub.services.routing import RoutingRoom
from hub.services.shelf import Shelf
from hub.wire import (
    DecisionWriter,
    SubmissionReader,
    read_decision_record,
    write_submission,
    write_unreadable,
)
from tests.services.http_world import World

POLICIES = Policies((timedelta(milliseconds=50),) * 5, timedelta(seconds=5), {}, {})


class Killed(BaseException):
    """The process died here. No room may survive it."""


@dataclass(slots=True)
class ScriptedPartner:
    """A connector whose partner does what the test says; it notes what arrived, by name."""

    channel: str = "mailbox"
    fields: Sequence[Field] = ()
    conduct: Callable[[Sequence[Parcel]], Awaitable[Sequence[Outcome]]] | None = None
    arrived: dict[UUID, list[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(list))

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return ()

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        if self.conduct is not None:
            return await self.conduct(parcels)
        for parcel in parcels:
            self.arrived[parcel.attempt.delivery].append(tuple(file.sha256 for file in parcel.files))
        return [Delivered("here") for _ in parcels]

    async def close(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Ports:
    tray: Tray
    log: Log
    registry: Registry
    lanes: Lanes
    partner: Connector


def ports(world: World, partner: Connector) -> Ports:
    return Ports(
        PostgresTray(world.database),
        PostgresLog(world.database, 2),
        PostgresRegistry(world.database),
        PostgresLanes(world.database),
        partner,
    )


def dispatch(
    world: World,
    lanes: Lanes,
    connectors: Mapping[str, Connector],
    *,
    worker: str = "worker",
    lease: float = 30,
    policies: Policies = POLICIES,
) -> DispatchRoom:
    return DispatchRoom(
        worker=worker,
        lanes=lanes,
        connectors=connectors,
        parcels=world.rooms.parcels,
        clock=SystemClock(),
        policies=policies,
        open_secrets=lambda lane: lane.endpoint,
        pace=Pace(lease=timedelta(seconds=lease), idle=0.05),
    )


async def decide_all(world: World, through: Ports) -> None:
    """Outgoing, routing and registration, each until it has nothing left."""
    outgoing = OutgoingRoom(through.tray, through.log, write_submission)
    while await outgoing.run_once(0):
        pass
    shelf = Shelf(through.log, write_unreadable, SystemClock())
    routing = RoutingRoom(through.log, world.rooms.library, SubmissionReader().read, DecisionWriter(), shelf)
    async with through.log.reader(Topic.SUBMISSIONS, "routing") as reader:
        while await routing.run_once(reader, 0):
            pass
    registration = RegistrationRoom(through.registry, read_decision_record, shelf)
    async with through.log.reader(Topic.ROUTINGS, "registration") as reader:
        while await registration.run_once(reader, 0):
            pass


async def serve_lanes(room: DispatchRoom, until: Callable[[], Awaitable[bool]], within: float = 20) -> None:
    """Run dispatch until something is true."""
    stopping = asyncio.Event()
    running = asyncio.create_task(room.run(stopping, 5))
    try:
        async with asyncio.timeout(within):
            while not await until():
                if running.done():
                    running.result()
                await asyncio.sleep(0.02)
    finally:
        stopping.set()
        await asyncio.gather(running, return_exceptions=True)


async def column(world: World, query: str) -> list[Any]:
    async def work(connection: Any) -> list[Any]:
        return [row[0] for row in await connection.fetch(query)]

    return await world.database.run(work)


async def states(world: World) -> list[str]:
    return await column(world, "SELECT state FROM delivery ORDER BY id")


async def all_in(world: World, state: str) -> bool:
    found = await states(world)
    return bool(found) and set(found) == {state}
