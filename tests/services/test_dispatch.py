"""Dispatch: whatever a connector or a worker does, a delivery is never lost, and only its own lane waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest_asyncio

from hub.adapters.postgres.lanes import PostgresLanes
from hub.domain.delivery import Deferred, Delivered, Outcome
from hub.ports.connector import Parcel
from tests.services.http_world import World, offer, open_world
from tests.services.room_world import (
    ScriptedPartner,
    all_in,
    column,
    decide_all,
    dispatch,
    ports,
    serve_lanes,
    states,
)
from tests.unit.samples import MINISTRY

OUTCOMES = "SELECT outcome FROM journal WHERE sending IS NOT NULL"


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """Two deliveries, to the ministry and to a mairie, are planned."""
    async with open_world(database, tmp_path) as world:
        assert (await world.post_parts(offer([b"un fichier"]), [b"un fichier"])).status == 202
        await decide_all(world, ports(world, ScriptedPartner()))
        assert await states(world) == ["planned", "planned"]
        yield world


@pytest_asyncio.fixture
async def lanes(world: World) -> AsyncIterator[PostgresLanes]:
    lanes = PostgresLanes(world.database)
    yield lanes
    await lanes.close()


async def test_what_is_due_is_delivered_and_noted_with_its_attempt(
    world: World, lanes: PostgresLanes
) -> None:
    partner = ScriptedPartner()
    await serve_lanes(dispatch(world, lanes, {"mailbox": partner}), lambda: all_in(world, "delivered"))
    assert len(partner.arrived) == 2
    assert await column(world, OUTCOMES) == ["delivered", "delivered"]


async def test_a_connector_that_fails_by_our_own_fault_leaves_the_result_unknown(
    world: World, lanes: PostgresLanes
) -> None:
    calls = 0
    partner = ScriptedPartner()

    async def fails_once(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise ValueError("a fault of ours, with what nobody may read")
        return [Delivered("here") for _ in parcels]

    partner.conduct = fails_once
    await serve_lanes(dispatch(world, lanes, {"mailbox": partner}), lambda: all_in(world, "delivered"))
    causes = await column(
        world, "SELECT cause FROM journal WHERE sending IS NOT NULL AND outcome = 'deferred'"
    )
    assert causes == ["hub.fault", "hub.fault"]


async def test_a_connector_that_miscounts_is_not_believed(world: World, lanes: PostgresLanes) -> None:
    partner = ScriptedPartner()
    answers = iter([[], [Delivered("a"), Delivered("b")]])

    async def miscounts(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        return next(answers, [Delivered("here") for _ in parcels])

    partner.conduct = miscounts
    await serve_lanes(dispatch(world, lanes, {"mailbox": partner}), lambda: all_in(world, "delivered"))
    assert sorted(await column(world, OUTCOMES)) == [
        "deferred",
        "deferred",
        "delivered",
        "delivered",
    ]


async def test_a_channel_without_connector_parks_with_its_cause(world: World, lanes: PostgresLanes) -> None:
    await serve_lanes(dispatch(world, lanes, {}), lambda: all_in(world, "parked"))
    assert set(await column(world, "SELECT cause FROM delivery")) == {"hub.unknown_channel"}


async def test_content_that_does_not_open_parks_its_delivery(world: World, lanes: PostgresLanes) -> None:
    await column(world, "UPDATE submission SET sealed = sealed || '\\x00' RETURNING id")
    await serve_lanes(dispatch(world, lanes, {"mailbox": ScriptedPartner()}), lambda: all_in(world, "parked"))
    assert set(await column(world, "SELECT cause FROM delivery")) == {"hub.content_unreadable"}


async def test_a_purged_submission_parks_its_deliveries(world: World, lanes: PostgresLanes) -> None:
    await column(world, "DELETE FROM submission_key RETURNING submission")
    partner = ScriptedPartner()
    await serve_lanes(dispatch(world, lanes, {"mailbox": partner}), lambda: all_in(world, "parked"))
    assert set(await column(world, "SELECT cause FROM delivery")) == {"hub.content_unreadable"}
    assert not partner.arrived


async def test_a_partner_that_hangs_costs_its_lane_and_nobody_elses(
    world: World, lanes: PostgresLanes
) -> None:
    partner = ScriptedPartner()

    async def ministry_hangs(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        if parcels[0].subscriber == MINISTRY:
            await asyncio.sleep(3600)
        return [Delivered("here") for _ in parcels]

    partner.conduct = ministry_hangs

    async def mairie_has_it() -> bool:
        return sorted(await states(world)) == ["delivered", "in_flight"]

    # The attempt under way is cut off at the end of the grace, and claimed again when its hold ends.
    await serve_lanes(dispatch(world, lanes, {"mailbox": partner}, lease=1), mairie_has_it)
    partner.conduct = None
    await serve_lanes(
        dispatch(world, lanes, {"mailbox": partner}, worker="next", lease=1),
        lambda: all_in(world, "delivered"),
    )
    assert sorted(await column(world, OUTCOMES)) == ["delivered", "delivered", "lost"]


async def test_a_long_delivery_keeps_its_lane_by_renewing(world: World, lanes: PostgresLanes) -> None:
    partner = ScriptedPartner()

    async def takes_long(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        await asyncio.sleep(2.5)
        return [Delivered("here") for _ in parcels]

    partner.conduct = takes_long
    await serve_lanes(
        dispatch(world, lanes, {"mailbox": partner}, lease=1), lambda: all_in(world, "delivered")
    )
    assert await column(world, OUTCOMES) == ["delivered", "delivered"]


async def test_a_worker_that_lost_its_lane_aborts_what_it_was_doing(
    world: World, lanes: PostgresLanes
) -> None:
    begun = asyncio.Event()
    aborted: list[str] = []
    partner = ScriptedPartner()

    async def is_slow(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            aborted.append(str(parcels[0].subscriber))
            raise
        return []

    partner.conduct = is_slow

    async def stolen() -> bool:
        await begun.wait()
        await column(
            world,
            "UPDATE lane SET holder = 'thief', lease_until = clock_timestamp() + interval '1 hour'"
            " WHERE holder <> 'thief' RETURNING id",
        )
        return len(aborted) == 2

    await serve_lanes(dispatch(world, lanes, {"mailbox": partner}, lease=1), stolen)
    assert set(await states(world)) == {"in_flight"}


async def test_a_lane_leased_anew_is_not_aborted_by_the_renewal_of_its_last_lease(
    world: World, lanes: PostgresLanes
) -> None:
    partner = ScriptedPartner()
    pages = 0
    asked, answered = asyncio.Event(), asyncio.Event()

    class SlowToRenew(PostgresLanes):
        """Answers about the lanes as they were when it was asked, after they were given back and leased
        anew."""

        async def renew(self, worker: str, lanes: Sequence[int], length: timedelta) -> set[int]:
            if asked.is_set():
                return await super().renew(worker, lanes, length)
            asked.set()
            await answered.wait()
            return set()

    async def conduct(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        nonlocal pages
        pages += 1
        if pages <= 2:
            await asked.wait()
            return [Deferred("webhook.timeout") for _ in parcels]
        answered.set()
        await asyncio.sleep(0.3)
        return [Delivered("here") for _ in parcels]

    partner.conduct = conduct
    slow = SlowToRenew(world.database)
    await serve_lanes(
        dispatch(world, slow, {"mailbox": partner}, lease=3), lambda: all_in(world, "delivered")
    )
    await slow.close()
    assert "lost" not in await column(world, OUTCOMES)


async def test_stopping_lets_what_is_under_way_end(world: World, lanes: PostgresLanes) -> None:
    partner = ScriptedPartner()
    begun = asyncio.Event()

    async def takes_a_moment(parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        begun.set()
        await asyncio.sleep(0.5)
        return [Delivered("here") for _ in parcels]

    partner.conduct = takes_a_moment
    await serve_lanes(dispatch(world, lanes, {"mailbox": partner}), _set(begun))
    assert set(await states(world)) <= {"delivered", "planned"}
    assert "delivered" in await states(world)


def _set(event: asyncio.Event) -> Any:
    async def is_set() -> bool:
        return event.is_set()

    return is_set
