"""Dispatch over many lanes: an endpoint that refuses is asked once, one that is away is tried by one parcel, what
fails takes no place from what is new, and a partner is called when it wants to be."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lane_orders import PostgresLaneOrders
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.system.clock import SystemClock
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.domain.fields import Field
from hub.domain.partner import Endpoint
from hub.domain.retry import Policies
from hub.ports.connector import Parcel
from hub.ports.lanes import Claim, Page
from hub.services.concluding import ConcludingRoom
from hub.services.dispatch import DispatchRoom, Pace
from hub.services.parcels import ParcelRoom
from tests.conformance.motion import plant
from tests.conformance.samples import execute, partner, rows, subscriber

Conduct = Callable[[int, Sequence[Parcel]], Awaitable[Sequence[Outcome]]]

POLICIES = Policies((timedelta(milliseconds=100), timedelta(minutes=5)), timedelta(seconds=5), {}, {})
GONE = Refused("sftp.login_refused", About.ENDPOINT)
AWAY = Deferred("sftp.timeout")


class _Bare(ParcelRoom):
    """Parcels without anything in them: here, only who gets how many when is looked at."""

    def __init__(self) -> None:
        return

    def build(self, claim: Claim) -> Parcel:
        return Parcel(
            claim.attempt, claim.subscriber, claim.sequence, claim.sender, claim.external_id, claim.procedure, "",
            claim.kind, claim.revision, claim.received_at, (),
        )  # fmt: skip


@dataclass
class Partners:
    """Partners numbered from 1, on one channel, whose conduct a test writes. `visits`: how many parcels each
    call brought, by partner; `arrived`: the numbers each took, in order."""

    conduct: Conduct
    visits: dict[int, list[int]] = field(default_factory=dict)
    arrived: dict[int, list[int]] = field(default_factory=dict)

    @property
    def channel(self) -> str:
        return "sftp"

    @property
    def fields(self) -> Sequence[Field]:
        return ()

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return ()

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        number = int(parcels[0].subscriber.siret)
        self.visits.setdefault(number, []).append(len(parcels))
        outcomes = await self.conduct(number, parcels)
        for parcel, outcome in zip(parcels, outcomes, strict=True):
            if isinstance(outcome, Delivered):
                self.arrived.setdefault(number, []).append(parcel.sequence)
        return outcomes

    async def close(self) -> None:
        return None


@dataclass
class World:
    database: Database
    lanes: PostgresLanes

    async def serve(
        self,
        conduct: Conduct,
        until: Callable[[], Awaitable[bool]],
        pace: Pace | None = None,
        within: float = 15,
    ) -> Partners:
        partners = Partners(conduct)
        room = DispatchRoom(
            "worker", self.lanes, {"sftp": partners}, _Bare(), SystemClock(), POLICIES,
            lambda lane: lane.endpoint, pace or Pace(idle=0.05),
        )  # fmt: skip
        stopping = asyncio.Event()
        running = asyncio.create_task(room.run(stopping, 0.5))
        try:
            async with asyncio.timeout(within):
                while not await until():
                    assert not running.done()
                    await asyncio.sleep(0.02)
        finally:
            stopping.set()
            await asyncio.gather(running, return_exceptions=True)
        return partners

    async def states(self, number: int | None = None) -> Counter[str]:
        found = await rows(
            self.database,
            "SELECT state, count(*) FROM delivery WHERE $1::text IS NULL OR subscriber = $1 GROUP BY state",
            None if number is None else str(subscriber(number)),
        )
        return Counter({row["state"]: row["count"] for row in found})

    async def lane(self, number: int) -> dict[str, Any]:
        [row] = await rows(
            self.database,
            "SELECT *, EXTRACT(EPOCH FROM due_at - clock_timestamp())::float8 AS due_in FROM lane"
            " WHERE subscriber = $1",
            str(subscriber(number)),
        )
        return dict(row)


@pytest_asyncio.fixture
async def world(fresh_database: Callable[[], str]) -> AsyncIterator[World]:
    database = await Database.open(fresh_database())
    lanes = PostgresLanes(database)
    yield World(database, lanes)
    await lanes.close()
    await database.close()


async def _takes_all(_: int, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
    return [Delivered("here") for _ in parcels]


def _but(number: int, outcome: Outcome) -> Conduct:
    async def conduct(asked: int, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        return [outcome if asked == number else Delivered("here") for _ in parcels]

    return conduct


async def test_an_endpoint_that_refuses_is_asked_once_for_all_that_waits_for_it(world: World) -> None:
    await plant(world.database, range(1000), to=[1])
    await plant(world.database, range(1000, 1020), to=[2])

    async def the_other_is_served() -> bool:
        closed = bool(await rows(world.database, "SELECT 1 FROM lane WHERE closed_at IS NOT NULL"))
        return closed and await world.states(2) == {"delivered": 20}

    partners = await world.serve(_but(1, GONE), the_other_is_served)
    assert len(partners.visits[1]) == 1
    states = await world.states(1)
    assert states["parked"] == 1
    assert states["planned"] + states["waiting"] == 999
    lane = await world.lane(1)
    [parked] = await rows(world.database, "SELECT id, cause FROM delivery WHERE state = 'parked'")
    assert (lane["closed_cause"], lane["closed_by"]) == ("sftp.login_refused", parked["id"])
    assert 86_000 < lane["due_in"] <= 86_400


async def test_a_closed_lane_says_so_again_every_day_and_tries_nothing_whatever_comes(world: World) -> None:
    await plant(world.database, [1], to=[1])

    async def closed() -> bool:
        return bool(await rows(world.database, "SELECT 1 FROM lane WHERE closed_at IS NOT NULL"))

    await world.serve(_but(1, GONE), closed)
    await plant(world.database, [2], to=[1])
    assert 86_000 < (await world.lane(1))["due_in"] <= 86_400
    await execute(world.database, "UPDATE lane SET due_at = clock_timestamp()")

    async def reminded() -> bool:
        return bool((await world.lane(1))["due_in"] > 80_000)

    partners = await world.serve(_takes_all, reminded)
    assert not partners.visits
    assert await world.states() == {"parked": 1, "planned": 1}


async def test_an_endpoint_that_is_away_is_tried_by_one_parcel_and_drained_when_it_is_back(
    world: World,
) -> None:
    await plant(world.database, range(60), to=[1])
    back = False

    async def comes_back(_: int, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        return [Delivered("here") if back else AWAY for _ in parcels]

    async def failed_twice() -> bool:
        found = await rows(world.database, "SELECT 1 FROM lane WHERE failures = 2")
        return bool(found)

    partners = await world.serve(comes_back, failed_twice)
    assert [partners.visits[1][0], *partners.visits[1][1:2]] == [4, 1]
    assert 200 < (await world.lane(1))["due_in"] < 370
    back = True
    await execute(world.database, "UPDATE lane SET due_at = clock_timestamp()")

    async def drained() -> bool:
        return (await world.states())["delivered"] == 60

    partners = await world.serve(comes_back, drained)
    assert partners.visits[1][:4] == [1, 4, 16, 20]
    assert max(partners.visits[1]) <= 20


async def test_what_fails_takes_no_place_from_what_does_not(world: World) -> None:
    """Six partners hang, more than the places there are for those that fail; a seventh is served at once."""
    await plant(world.database, [1, 2], to=range(1, 7))
    await execute(world.database, "UPDATE lane SET failures = 1, failing_since = clock_timestamp()")

    async def hangs(number: int, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        if number < 7:
            await asyncio.sleep(3600)
        return [Delivered("here") for _ in parcels]

    async def in_flight() -> bool:
        return (await world.states())["in_flight"] == 3

    async def served() -> bool:
        if not await in_flight():
            return False
        await plant(world.database, range(10, 20), to=[7])
        async with asyncio.timeout(3):
            while (await world.states(7))["delivered"] < 10:
                await asyncio.sleep(0.01)
        return True

    partners = await world.serve(hangs, served, Pace(lanes=2, failing=3, idle=0.05))
    assert sum(map(len, partners.visits.values())) - len(partners.visits[7]) == 3


async def test_lanes_of_one_vendor_that_fail_together_rest_together_and_come_back_one_by_one(
    world: World,
) -> None:
    await plant(world.database, range(2), to=range(1, 9))
    await execute(world.database, "UPDATE partner SET vendor = 'editeur'")
    await plant(world.database, range(10, 12), to=[9])

    async def all_rest() -> bool:
        found = await rows(
            world.database,
            "SELECT 1 FROM lane JOIN partner USING (subscriber) WHERE vendor IS NOT NULL AND holder IS NULL"
            " AND rests_until > clock_timestamp() + interval '100 s'",
        )
        return len(found) >= 6 and (await world.states(9))["delivered"] == 2

    async def only_the_ninth(number: int, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        return [Delivered("here") if number == 9 else AWAY for _ in parcels]

    await world.serve(only_the_ninth, all_rest, Pace(vendor_opens_at=3, idle=0.05))
    assert await world.lanes.wake_vendor("editeur", timedelta(seconds=0.5)) >= 6

    async def each_was_served() -> bool:
        found = await rows(
            world.database, "SELECT DISTINCT subscriber FROM delivery WHERE state = 'delivered'"
        )
        return len(found) == 9

    partners = await world.serve(_takes_all, each_was_served)
    assert all(partners.visits[number][0] == 1 for number in range(1, 9))


async def test_a_partner_is_called_when_its_hours_and_its_rate_allow(world: World) -> None:
    await plant(world.database, range(3), to=[1, 2, 3])
    now = datetime.now(UTC)
    closed = [{"from": (now - timedelta(hours=1)).isoformat(), "until": (now + timedelta(hours=2)).isoformat(),
               "reason": "essai"}]  # fmt: skip
    await _ask(world, 1, maintenance=closed)
    await _ask(world, 2, pace={"rate": 2})

    async def two_have_something() -> bool:
        return (await world.states(3))["delivered"] == 3 and (await world.states(2))["delivered"] == 1

    partners = await world.serve(_takes_all, two_have_something)
    assert 1 not in partners.visits
    assert 7000 < (await world.lane(1))["due_in"] <= 7200
    assert partners.visits[2] == [1]
    assert 20 < (await world.lane(2))["due_in"] <= 30


async def test_what_must_arrive_in_order_waits_for_the_first_and_other_procedures_do_not(
    world: World,
) -> None:
    await plant(world.database, range(4), to=[1])
    await execute(world.database, "UPDATE delivery SET procedure = 'AUTRE' WHERE sequence = 4")
    await _ask(world, 1, pace={"ordered": ["EtatCivil"]})
    tries = 0

    async def the_first_waits(_: int, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        nonlocal tries
        tries += sum(parcel.sequence == 1 for parcel in parcels)
        own = Deferred("hub.content_away", About.PARCEL)
        return [own if parcel.sequence == 1 and tries < 2 else Delivered("here") for parcel in parcels]

    async def all_arrived() -> bool:
        return (await world.states())["delivered"] == 4

    partners = await world.serve(the_first_waits, all_arrived)
    assert [number for number in partners.arrived[1] if number != 4] == [1, 2, 3]
    assert partners.arrived[1][0] == 4


async def test_of_a_partner_that_is_gone_from_the_store_nothing_is_lost(world: World) -> None:
    """Its lane is closed by what it is tried with, which is nothing; declared again, and opened, it goes on."""
    await plant(world.database, range(5), to=[1, 2])
    await execute(world.database, f"DELETE FROM partner WHERE subscriber = '{subscriber(1)}'")

    async def nowhere(number: int, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        return [
            Refused("sftp.settings", About.ENDPOINT) if number == 1 else Delivered("here") for _ in parcels
        ]

    async def closed() -> bool:
        return (await world.lane(1))["closed_at"] is not None and (await world.states(2))["delivered"] == 5

    await world.serve(nowhere, closed)
    states = await world.states(1)
    assert (states["parked"], states["planned"] + states["waiting"]) == (1, 4)
    await PostgresPartners(world.database).keep([(partner(1), None, None)])
    room = PostgresLaneOrders(world.database)
    await room.open_lane((await world.lane(1))["id"], "jeanne", "declared again")

    async def all_arrived() -> bool:
        return (await world.states())["delivered"] == 10

    await world.serve(_takes_all, all_arrived)


@pytest.mark.parametrize("closes", [False, True], ids=["leaves the order", "closes the procedure"])
async def test_what_is_parked_where_the_order_matters_says_what_it_means_for_those_behind(
    world: World, closes: bool
) -> None:
    await plant(world.database, range(3), to=[1])
    await _ask(world, 1, pace={"ordered": ["EtatCivil"], "ordered_closes": closes})

    async def refuses_the_first(_: int, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        return [Refused("sftp.too_large") if one.sequence == 1 else Delivered("here") for one in parcels]

    async def came_to_rest() -> bool:
        lane = await world.lane(1)
        return (
            lane["holder"] is None
            and (await world.states())["parked"] == 1
            and (lane["due_at"] is None or lane["due_in"] > 3600)
        )

    await world.serve(refuses_the_first, came_to_rest)
    [line] = await rows(world.database, "SELECT detail FROM journal WHERE event = 'delivery.parked'")
    if closes:
        assert line["detail"] == "sftp.too_large; closes its procedure"
        assert await world.states() == {"parked": 1, "planned": 2}
    else:
        assert line["detail"] == "sftp.too_large; leaves the order of its procedure"
        assert await world.states() == {"parked": 1, "delivered": 2}


async def test_a_lane_that_was_left_gives_its_rows_away_in_a_task_of_its_own(world: World) -> None:
    """Also one that is closed, and whose partner is not to be called now; and nobody else waits for it."""
    await plant(world.database, range(5), to=[1, 2])
    await PostgresPartners(world.database).keep([(partner(1, "webhook"), None, None)])
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    await _ask(
        world, 1, maintenance=[{"from": "2020-01-01T00:00:00+00:00", "until": later, "reason": "essai"}]
    )
    await execute(
        world.database,
        "UPDATE lane SET closed_at = now(), closed_cause = 'sftp.x' WHERE left_for IS NOT NULL",
    )

    async def moved() -> bool:
        found = await rows(
            world.database,
            "SELECT 1 FROM delivery JOIN lane ON lane.id = lane WHERE lane.channel = 'webhook'",
        )
        return len(found) == 5 and (await world.states(2))["delivered"] == 5

    partners = await world.serve(_takes_all, moved)
    assert 1 not in partners.visits


async def test_a_page_that_cannot_be_written_takes_no_other_with_it(world: World) -> None:
    """A lane's number that no column holds is refused by the database; its neighbour's page is written."""
    await plant(world.database, [1], to=[1])
    [taken] = await world.lanes.take("worker", 10, 10, 10, timedelta(minutes=1))
    room = ConcludingRoom("worker", world.lanes, SystemClock(), 1)
    results = await asyncio.gather(
        room.conclude(Page(taken.lane.id)), room.conclude(Page(2**70)), return_exceptions=True
    )
    assert results[0] == frozenset()
    assert isinstance(results[1], Exception)
    assert (await world.lane(1))["holder"] is None


async def _ask(world: World, number: int, **columns: object) -> None:
    for column, value in columns.items():
        await rows(
            world.database,
            f"UPDATE partner SET {column} = $2::text::jsonb WHERE subscriber = $1",
            str(partner(number).subscriber),
            json.dumps(cast(Any, value)),
        )
