"""A partner's real server that refuses who knocks: nobody knocks twice for a thousand deliveries, and all
of them go when the password is right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from connectors import sftp
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.system.clock import SystemClock
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner
from hub.domain.retry import Policies
from hub.ports.connector import Parcel
from hub.ports.lanes import Claim, Lane
from hub.services.dispatch import DispatchRoom, Pace
from hub.services.parcels import ParcelRoom
from tests.conformance.motion import plant
from tests.conformance.samples import rows, subscriber
from tests.connectors.partners import PASSWORD, SftpTown, sftp_town, some_parcel, surroundings

POLICIES = Policies((timedelta(milliseconds=100), timedelta(minutes=5)), timedelta(seconds=5), {}, {})
WAITING = 1000
ENOUGH = 30


class _Small(ParcelRoom):
    """Every parcel has the same two files."""

    def __init__(self) -> None:
        return

    def build(self, claim: Claim) -> Parcel:
        return replace(some_parcel(), attempt=claim.attempt, subscriber=claim.subscriber)


@asynccontextmanager
async def _at_work(database: Database, passwords: dict[Subscriber, str]) -> AsyncIterator[None]:
    lanes, connector, stopping = PostgresLanes(database), sftp.connector(surroundings()), asyncio.Event()

    def opened(lane: Lane) -> Endpoint:
        return Endpoint("sftp", lane.endpoint.settings, {"password": passwords[lane.subscriber]})

    room = DispatchRoom(
        "worker", lanes, {"sftp": connector}, _Small(), SystemClock(), POLICIES, opened, Pace(idle=0.05)
    )
    running = asyncio.create_task(room.run(stopping, 5))
    try:
        yield
        assert not running.done()
    finally:
        stopping.set()
        await running
        await connector.close()
        await lanes.close()


async def _say_where(database: Database, number: int, town: SftpTown, directory: str) -> None:
    settings = {**town.endpoint.settings, "directory": directory}
    partner = Partner(subscriber(number), f"Partner {number}", Endpoint("sftp", settings))
    await PostgresPartners(database).keep([(partner, None, None)])


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_wrong_password_is_tried_once_and_the_right_one_brings_everything(
    database: str, tmp_path: Path
) -> None:
    passwords = {subscriber(1): "wrong", subscriber(2): PASSWORD}
    for name in ("refusing", "other"):
        (tmp_path / name).mkdir()
    store = await Database.open(database)
    try:
        async with sftp_town(tmp_path / "refusing") as town, sftp_town(tmp_path / "other") as other:
            await plant(store, range(WAITING), to=[1])
            await plant(store, range(WAITING, WAITING + 20), to=[2])
            await _say_where(store, 1, town, ".")
            await _say_where(store, 2, other, ".")
            async with _at_work(store, passwords):
                await _until(lambda: len(other.received()) == 20)
                # Long enough for every retry that there could be.
                await asyncio.sleep(1)
                assert town.connections <= 2
                assert town.received() == []
                found = await rows(
                    store,
                    "SELECT state, cause FROM delivery WHERE subscriber = $1 AND state NOT IN ('planned', 'waiting')",
                    str(subscriber(1)),
                )
                assert [tuple(row) for row in found] == [("parked", "sftp.permission_denied")]
                passwords[subscriber(1)] = PASSWORD
                await _say_where(store, 1, town, "./")
                await _until(lambda: len(town.received()) >= ENOUGH)
            names = [row["id"] for row in await rows(store, "SELECT id FROM delivery")]
            short = {name.hex[:16] for name in names}
            assert {folder.rpartition("-")[2] for folder, _ in town.received()} <= short
            assert await rows(store, "SELECT 1 FROM delivery WHERE state = 'parked'") == []
    finally:
        await store.close()
