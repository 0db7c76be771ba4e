"""Deliveries that must end: before another worker can hold their lane, and at a stop, also where a library loses the
cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from hub.adapters.postgres.lanes import PostgresLanes
from hub.domain.delivery import Delivered, Outcome
from hub.domain.errors import Unavailable
from hub.ports.connector import Parcel
from hub.services.ending import end
from tests.services.http_world import World, offer, open_world
from tests.services.room_world import (
    ScriptedPartner,
    column,
    decide_all,
    dispatch,
    ports,
    serve_lanes,
)

LEASE = 4.5


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """Two deliveries, to the ministry and to a mairie, are planned."""
    async with open_world(database, tmp_path) as world:
        assert (await world.post_parts(offer([b"un fichier"]), [b"un fichier"])).status == 202
        await decide_all(world, ports(world, ScriptedPartner()))
        yield world


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.services.ending._AGAIN_AFTER", 0.1)


class Deaf:
    """A delivery that loses its first cancellation, as `asyncio.wait_for` does."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.lost = 0
        self.ended = 0

    async def __call__(self, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.lost += 1
        try:
            await asyncio.sleep(3600)
        finally:
            self.ended += 1
        return [Delivered("here") for _ in parcels]


async def test_whoever_cannot_renew_ends_before_its_leases_do(world: World) -> None:
    class Away(PostgresLanes):
        """The store says once that it does not serve, and is silent then."""

        asked = 0

        async def renew(self, worker: str, lanes: Sequence[int], length: timedelta) -> set[int]:
            self.asked += 1
            if self.asked == 1:
                raise Unavailable("away")
            await asyncio.Event().wait()
            return set()

    partner = ScriptedPartner()
    held: list[bool] = []

    async def is_slow(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            held.extend(await column(world, "SELECT bool_and(lease_until > clock_timestamp()) FROM lane"))
            raise
        return []

    partner.conduct = is_slow
    lanes = Away(world.database)

    async def ended() -> bool:
        return len(held) == 2

    await serve_lanes(dispatch(world, lanes, {"mailbox": partner}, lease=LEASE), ended)
    await lanes.close()
    assert held == [True, True]
    assert lanes.asked == 2


async def test_a_delivery_that_loses_its_cancellation_is_cancelled_again_at_a_stop(
    world: World, impatient: None
) -> None:
    deaf = Deaf()
    lanes = PostgresLanes(world.database)
    stopping = asyncio.Event()
    room = dispatch(world, lanes, {"mailbox": ScriptedPartner(conduct=deaf)})
    running = asyncio.create_task(room.run(stopping, 0))
    await deaf.begun.wait()
    stopping.set()
    async with asyncio.timeout(20):
        await running
    await lanes.close()
    assert deaf.lost == deaf.ended > 0


async def test_a_delivery_that_loses_its_cancellation_is_cancelled_again_when_its_lane_is_lost(
    world: World, impatient: None
) -> None:
    deaf = Deaf()
    lanes = PostgresLanes(world.database)

    async def ended() -> bool:
        await deaf.begun.wait()
        await column(
            world,
            "UPDATE lane SET holder = 'thief', lease_until = clock_timestamp() + interval '1 hour'"
            " WHERE holder <> 'thief' RETURNING id",
        )
        return deaf.ended == 2

    # A third of this passes between two renewals: the second is not waited for.
    await serve_lanes(dispatch(world, lanes, {"mailbox": ScriptedPartner(conduct=deaf)}, lease=21), ended, 13)
    await lanes.close()
    assert deaf.lost == 2


async def test_what_has_ended_or_fails_is_no_matter_to_who_ends_it() -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError("late")

    async def done() -> None: ...

    tasks = [asyncio.create_task(one()) for one in (fails, done)]
    await asyncio.sleep(0)
    await end(tasks)
    assert isinstance(tasks[0].exception(), ValueError)
    await end([])
