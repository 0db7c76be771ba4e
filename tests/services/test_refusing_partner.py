"""A partner's real server that refuses who knocks: nobody knocks twice for a thousand deliveries, and all
of them go when the password is right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from connectors import sftp, webhook
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.system.clock import SystemClock
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.addresses import read_networks
from hub.domain.circuit import UNPROVED
from hub.domain.partner import Endpoint, Partner
from hub.domain.retry import Policies
from hub.ports.connector import Connector, Parcel
from hub.ports.lanes import Claim, Lane
from hub.services.dispatch import DispatchRoom, Pace
from hub.services.parcels import ParcelRoom
from tests.conformance.motion import plant
from tests.conformance.samples import rows, subscriber
from tests.connectors.nginx import ABSENT, NGINX, look_up, running_nginx
from tests.connectors.partners import HERE, PASSWORD, SftpTown, sftp_town, some_parcel, surroundings

POLICIES = Policies((timedelta(milliseconds=100), timedelta(minutes=5)), timedelta(seconds=5), {}, {})
WAITING = 1000
ENOUGH = 30


class _Small(ParcelRoom):
    """Every parcel has the same two files."""

    def __init__(self) -> None:
        return

    def build(self, claim: Claim) -> Parcel:
        return replace(some_parcel(), attempt=claim.attempt, subscriber=claim.subscriber)

    def seal_answer(self, claim: Claim, answer: bytes | None) -> bytes | None:
        return None


@asynccontextmanager
async def _at_work(
    database: Database, connector: Connector, opened: Callable[[Lane], Endpoint]
) -> AsyncIterator[None]:
    lanes, stopping, channel = PostgresLanes(database), asyncio.Event(), connector.channel
    room = DispatchRoom(
        "worker", lanes, {channel: connector}, _Small(), SystemClock(), POLICIES, opened, Pace(idle=0.05)
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


async def _say(database: Database, number: int, endpoint: Endpoint) -> None:
    told = Endpoint(endpoint.channel, endpoint.settings)
    await PostgresPartners(database).keep(
        [(Partner(subscriber(number), f"Partner {number}", told), None, None)]
    )


async def _say_where(database: Database, number: int, town: SftpTown, directory: str) -> None:
    await _say(database, number, Endpoint("sftp", {**town.endpoint.settings, "directory": directory}))


async def _tried(database: Database, number: int) -> list[tuple[str, str]]:
    """State and cause of what neither arrived nor waits."""
    found = await rows(
        database,
        "SELECT state, cause FROM delivery WHERE subscriber = $1"
        " AND state NOT IN ('planned', 'waiting', 'delivered')",
        str(subscriber(number)),
    )
    return [(row["state"], row["cause"]) for row in found]


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_wrong_password_is_tried_once_and_the_right_one_brings_everything(
    database: str, tmp_path: Path
) -> None:
    passwords = {subscriber(1): "wrong", subscriber(2): PASSWORD}

    def opened(lane: Lane) -> Endpoint:
        return Endpoint("sftp", lane.endpoint.settings, {"password": passwords[lane.subscriber]})

    for name in ("refusing", "other"):
        (tmp_path / name).mkdir()
    store = await Database.open(database)
    try:
        async with sftp_town(tmp_path / "refusing") as town, sftp_town(tmp_path / "other") as other:
            await plant(store, range(WAITING), to=[1])
            await plant(store, range(WAITING, WAITING + 20), to=[2])
            await _say_where(store, 1, town, ".")
            await _say_where(store, 2, other, ".")
            async with _at_work(store, sftp.connector(surroundings()), opened):
                await _until(lambda: len(other.received()) == 20)
                # Long enough for every retry that there could be.
                await asyncio.sleep(1)
                assert town.connections <= 2
                assert town.received() == []
                assert await _tried(store, 1) == [("parked", "sftp.permission_denied")]
                passwords[subscriber(1)] = PASSWORD
                await _say_where(store, 1, town, "./")
                await _until(lambda: len(town.received()) >= ENOUGH)
            names = [row["id"] for row in await rows(store, "SELECT id FROM delivery")]
            short = {name.hex[:16] for name in names}
            assert {folder.rpartition("-")[2] for folder, _ in town.received()} <= short
            assert await rows(store, "SELECT 1 FROM delivery WHERE state = 'parked'") == []
    finally:
        await store.close()


@pytest.mark.skipif(NGINX is None, reason=ABSENT)
async def test_a_certificate_that_a_server_does_not_believe_parks_one_and_the_right_one_brings_everything(
    database: str, tmp_path: Path
) -> None:
    """nginx answers 400 then, as it does to a request that is broken: at first, and once the certificate ran out."""
    store = await Database.open(database)
    guarded = replace(surroundings(), outgoing=GuardedOutgoing(read_networks(HERE), look_up))
    try:
        with running_nginx(tmp_path) as nginx:
            right = nginx.showing(nginx.clients.sign("hub"))
            wrong = nginx.showing(nginx.servers.sign("stranger"))
            late = nginx.showing(nginx.clients.sign("late", expired=True))
            shown = {subscriber(1): wrong, subscriber(2): right}

            def opened(lane: Lane) -> Endpoint:
                return shown[lane.subscriber]

            await plant(store, range(WAITING), [1], "webhook", settings=wrong.settings)
            await plant(store, range(WAITING, WAITING + 40), [2], "webhook", settings=right.settings)
            async with _at_work(store, webhook.connector(guarded), opened):
                await nginx.count("CN=hub", 40)
                # Long enough for every retry that there could be.
                await asyncio.sleep(1)
                assert await _tried(store, 1) == [("parked", "webhook.http_400")]
                assert 1 <= await nginx.count("CN=stranger") <= UNPROVED

                shown[subscriber(2)] = late
                await plant(store, range(2 * WAITING, 3 * WAITING), [2], "webhook", settings=right.settings)
                await nginx.count("CN=late", 1)
                await asyncio.sleep(1)
                assert await _tried(store, 2) == [("parked", "webhook.http_400")]

                for number in (1, 2):
                    shown[subscriber(number)] = right
                    await _say(store, number, replace(right, settings={**right.settings, "overlap": 1}))
                await nginx.count("CN=hub", 40 + 2 * WAITING)
            assert await rows(store, "SELECT 1 FROM delivery WHERE state <> 'delivered'") == []
    finally:
        await store.close()
