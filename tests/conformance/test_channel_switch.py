"""What a store must hold when a partner is served on another channel, or its endpoint is another: what waits goes
along, under its number, and nothing is left in a lane that nobody serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from importlib.resources import files
from uuid import UUID

import pytest
import pytest_asyncio

from hub.adapters.postgres import migrations
from hub.adapters.postgres.addresses import Wanted, find_addresses, lock_lanes, make_lanes
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.domain.circuit import Standing
from hub.domain.lifecycle import State
from hub.domain.pace import read_pace
from hub.domain.partner import Endpoint, Partner
from hub.ports.lanes import Claim, Page
from tests.conformance.motion import (
    MINUTE,
    assert_sound,
    attempts,
    conclude,
    delivered,
    journal,
    lane_due_in,
    plant,
    refused,
    standing,
    take,
    waiting,
)
from tests.conformance.samples import (
    WatchedDatabase,
    execute,
    numbers_by_partner,
    partner,
    routed,
    rows,
    submissions,
    subscriber,
)

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def lanes(database: Database, lanes: PostgresLanes) -> AsyncIterator[PostgresLanes]:
    yield lanes
    await assert_sound(database)


async def switch(database: Database, channel: str, number: int = 1, **settings: object) -> None:
    await PostgresPartners(database).keep([(partner(number, channel, **settings), None, None)])


async def serve(lanes: PostgresLanes, worker: str = "anne") -> list[tuple[str, Claim]]:
    """All that is due, as often as something is; what was claimed is delivered. Each with its channel."""
    claimed: list[tuple[str, Claim]] = []
    for _ in range(3):
        for taken in await lanes.take(worker, 100, 100, 100, MINUTE):
            claims = taken.claims
            if claims is None:
                claims = tuple(await lanes.claim(worker, taken.lane.id, 100))
            claimed += [(taken.lane.endpoint.channel, claim) for claim in claims]
            await conclude(lanes, worker, taken.lane.id, [delivered(claim.attempt) for claim in claims])
    return claimed


async def whereabouts(database: Database, names: Sequence[UUID]) -> list[tuple[str, str, int]]:
    """Of each: the channel of its lane, its own, and its number."""
    found = await rows(
        database,
        "SELECT lane.channel AS lane, delivery.channel, sequence FROM delivery JOIN lane ON lane.id = lane"
        " WHERE delivery.id = ANY($1::uuid[]) ORDER BY sequence",
        list(names),
    )
    return [tuple(row) for row in found]


async def test_what_waits_leaves_by_the_new_channel_at_once_under_its_number(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await plant(database, [1, 2])
    lane, claims = await take(lanes, "anne")
    await conclude(
        lanes, "anne", lane, [waiting(claim.attempt, HOUR) for claim in claims], HOUR, Standing(1, 3)
    )
    await switch(database, "webhook")
    found = await serve(lanes)
    assert [(channel, claim.sequence, claim.attempt.number) for channel, claim in found] == [
        ("webhook", 1, 2),
        ("webhook", 2, 2),
    ]
    assert await whereabouts(database, names) == [("webhook", "webhook", 1), ("webhook", "webhook", 2)]
    assert [line[2] for line in await journal(database, "delivery.switched")] == ["to webhook"] * 2
    assert [line[2] for line in await journal(database, "partner.switched")] == [
        f"{subscriber(1)}, from sftp to webhook"
    ]


async def test_what_is_in_flight_ends_where_it_is_and_its_failure_goes_by_the_new_channel(
    database: Database, lanes: PostgresLanes
) -> None:
    good, bad = await plant(database, [1, 2])
    lane, claims = await take(lanes, "anne")
    await switch(database, "webhook")
    assert await lanes.take("berta", 10, 10, 10, MINUTE) == []
    told = [
        delivered(one.attempt) if one.attempt.delivery == good else waiting(one.attempt, HOUR)
        for one in claims
    ]
    assert await conclude(lanes, "anne", lane, told) == []
    assert [(channel, claim.attempt.delivery) for channel, claim in await serve(lanes)] == [("webhook", bad)]
    assert await whereabouts(database, [good, bad]) == [("sftp", "sftp", 1), ("webhook", "webhook", 2)]
    assert (await standing(database, good)).state is State.DELIVERED


async def give_away(lanes: PostgresLanes, worker: str) -> None:
    """The only lane that is due was left: it is taken without rows, which then move."""
    [taken] = await lanes.take(worker, 10, 10, 10, MINUTE)
    assert taken.claims is None
    assert await lanes.claim(worker, taken.lane.id, 10) == ()
    await conclude(lanes, worker, taken.lane.id, [])


async def test_what_must_arrive_in_order_waits_for_what_is_still_to_follow_from_the_former_channel(
    database: Database, lanes: PostgresLanes
) -> None:
    first, second = await plant(database, [1, 2])
    lane = (await lanes.lease("anne", 10, MINUTE))[0].id
    [claim] = await lanes.claim("anne", lane, 10, ["EtatCivil"])
    assert claim.attempt.delivery == first
    await switch(database, "webhook")
    [third] = await plant(database, [3], channel="webhook")
    [new] = await lanes.lease("berta", 10, MINUTE)
    assert await lanes.claim("berta", new.id, 10, ["EtatCivil"]) == ()
    await lanes.conclude("berta", [Page(new.id, blocked=True)])
    due_in = await lane_due_in(database, new.id)
    assert due_in is not None
    assert due_in < 2
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, HOUR)])
    await give_away(lanes, "anne")
    arrived = []
    for _ in range(3):
        await execute(database, "UPDATE lane SET due_at = clock_timestamp() WHERE channel = 'webhook'")
        [new] = await lanes.lease("berta", 10, MINUTE)
        claims = await lanes.claim("berta", new.id, 10, ["EtatCivil"])
        arrived += [one.attempt.delivery for one in claims]
        await conclude(lanes, "berta", new.id, [delivered(one.attempt) for one in claims])
    assert arrived == [first, second, third]


async def test_late_good_news_of_a_worker_that_only_seemed_dead_holds_and_is_of_the_channel_it_left_by(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    lane, [claim] = await take(lanes, "anne", lease=timedelta(0))
    await switch(database, "mailbox")
    await give_away(lanes, "berta")
    assert await whereabouts(database, [name]) == [("mailbox", "sftp", 1)]
    assert await conclude(lanes, "anne", lane, [delivered(claim.attempt)]) == []
    assert await serve(lanes) == []
    assert (await standing(database, name)).state is State.DELIVERED
    assert await rows(database, "SELECT FROM delivery WHERE lies") == []


async def test_what_a_dead_worker_had_in_flight_goes_by_the_new_channel_and_is_counted(
    database: Database, lanes: PostgresLanes
) -> None:
    [name] = await plant(database, [1])
    await take(lanes, "anne", lease=timedelta(0))
    await switch(database, "webhook")
    assert [channel for channel, _ in await serve(lanes, "berta")] == ["webhook"]
    assert await attempts(database, name) == [(1, 1, "lost", True), (1, 2, "delivered", True)]


@pytest.mark.parametrize("lane_is_there", [True, False], ids=["lane", "no-lane"])
async def test_who_looked_before_the_switch_puts_its_rows_where_they_are_served(
    database: Database, lanes: PostgresLanes, lane_is_there: bool
) -> None:
    await switch(database, "sftp")
    if lane_is_there:
        await plant(database, [1])

    async def register(connection: Connection) -> int:
        wanted = Wanted(str(subscriber(1)), False)
        found = (await find_addresses(connection, [wanted]))[wanted]
        await switch(database, "webhook")
        await make_lanes(connection, [found])
        return (await lock_lanes(connection, [found]))[found]

    lane = await database.run(register)
    [row] = await rows(database, "SELECT channel FROM lane WHERE id = $1", lane)
    assert row["channel"] == "webhook"
    assert {channel for channel, _ in await serve(lanes)} <= {"webhook"}


async def test_a_switch_there_and_back_leaves_nothing_behind(
    database: Database, lanes: PostgresLanes
) -> None:
    names = await plant(database, [1])
    await switch(database, "webhook")
    names += await plant(database, [2], channel="webhook")
    await switch(database, "mail")
    await switch(database, "sftp")
    names += await plant(database, [3])
    assert {channel for channel, _ in await serve(lanes)} == {"sftp"}
    assert await whereabouts(database, names) == [("sftp", "sftp", number) for number in (1, 2, 3)]
    marks = await rows(database, "SELECT channel FROM lane WHERE left_for IS NULL")
    assert [row["channel"] for row in marks] == ["sftp"]


async def test_a_store_of_an_older_hub_serves_what_was_left_by_the_channel_of_today(
    database: Database, lanes: PostgresLanes
) -> None:
    """There, a partner that changed its channel kept its lanes for what was in them."""
    names = await plant(database, [1])
    await switch(database, "webhook")
    names += await plant(database, [2], channel="webhook")
    await execute(database, "UPDATE lane SET left_for = NULL, due_at = clock_timestamp() + interval '1 h'")
    upgrade = files(migrations).joinpath("0009_partner_pace.sql").read_text("utf-8")
    await execute(database, upgrade[upgrade.index("UPDATE lane") :])
    await execute(database, "UPDATE lane SET due_at = clock_timestamp()")
    assert {channel for channel, _ in await serve(lanes)} == {"webhook"}
    assert await whereabouts(database, names) == [("webhook", "webhook", 1), ("webhook", "webhook", 2)]


async def test_a_mailbox_is_never_left_and_takes_over_from_any_channel(
    database: Database, lanes: PostgresLanes
) -> None:
    lying = await plant(database, [1], channel="mailbox")
    assert [channel for channel, _ in await serve(lanes)] == ["mailbox"]
    await switch(database, "sftp")
    names = await plant(database, [2])
    await switch(database, "mailbox")
    assert [channel for channel, _ in await serve(lanes)] == ["mailbox"]
    assert await whereabouts(database, lying + names) == [
        ("mailbox", "mailbox", 1),
        ("mailbox", "mailbox", 2),
    ]
    await switch(database, "sftp")
    assert await serve(lanes) == []
    assert await rows(database, "SELECT FROM lane WHERE left_for IS NOT NULL") == []


async def test_switching_falling_back_registering_and_serving_at_once_loses_nothing_and_never_deadlocks(
    fresh_dsn: str,
) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    lanes = PostgresLanes(database)
    await PostgresIntake(database).accept(submissions(60))
    await switch(database, "sftp")
    await switch(database, "sftp", 2)

    async def switching(*channels: str) -> None:
        for channel in channels:
            await PostgresPartners(database).keep([(partner(one, channel), None, None) for one in (2, 1)])

    async def registering(start: int) -> None:
        for number in range(start, start + 20):
            await PostgresRegistry(database).register([routed(number, [1, 2])])

    async def serving(worker: str) -> None:
        for _ in range(5):
            for taken in await lanes.take(worker, 2, 2, 3, MINUTE):
                told = [waiting(claim.attempt, timedelta(0)) for claim in taken.claims or ()]
                if taken.lane.endpoint.channel == "webhook":
                    await lanes.fall_back(worker, taken.lane.id)
                await lanes.conclude(worker, [Page(taken.lane.id, tuple(told))])

    await asyncio.gather(
        switching("webhook", "mail", "sftp", "mailbox", "webhook"),
        switching("mail", "sftp", "webhook"),
        *(registering(start) for start in (0, 20, 40)),
        *(serving(worker) for worker in ("anne", "berta")),
    )
    await switch(database, "mail")
    await switch(database, "mail", 2)
    while await serve(lanes):
        pass
    found = await rows(database, "SELECT state, count(*) AS many FROM delivery GROUP BY state")
    assert [tuple(row) for row in found] == [("delivered", 120)]
    assert all(numbers == list(range(1, 61)) for numbers in (await numbers_by_partner(database)).values())
    await assert_sound(database)
    await lanes.close()
    assert await database.deadlocks() == 0


async def test_another_endpoint_opens_a_closed_lane_and_plans_what_it_parked_again(
    database: Database, lanes: PostgresLanes
) -> None:
    first, second = await plant(database, [1, 2])
    lane, claims = await take(lanes, "anne")
    page = Page(
        lane,
        (refused(claims[0].attempt, "sftp.login_refused"), waiting(claims[1].attempt, timedelta(0))),
        closes=("sftp.login_refused", first),
    )
    await lanes.conclude("anne", [page])
    assert await serve(lanes) == []
    await switch(database, "sftp", password_of="another")
    assert (await standing(database, first)).sending == 2
    assert {claim.attempt.delivery for _, claim in await serve(lanes)} == {first, second}
    detail = f"{subscriber(1)}, sftp: its partner has another endpoint"
    assert [line[2] for line in await journal(database, "lane.opened")] == [detail]


async def test_another_name_or_vendor_opens_nothing_and_another_pace_lets_it_be_looked_at_again(
    database: Database, lanes: PostgresLanes
) -> None:
    await plant(database, [1])
    lane, claims = await take(lanes, "anne")
    page = Page(lane, (refused(claims[0].attempt, "x.y"),), closes=("x.y", claims[0].attempt.delivery))
    await lanes.conclude("anne", [page])
    await plant(database, [2])
    paced = Partner(subscriber(1), "Autre nom", Endpoint("sftp", {}), "éditeur", read_pace({"rate": 6}))
    await PostgresPartners(database).keep([(paced, None, None)])
    assert await PostgresPartners(database).get(subscriber(1)) == (paced, None, None)
    assert [row["closed_cause"] for row in await rows(database, "SELECT closed_cause FROM lane")] == ["x.y"]
    await execute(
        database, "UPDATE lane SET closed_at = NULL, rests_until = clock_timestamp() + interval '1 h'"
    )
    await PostgresPartners(database).keep([(partner(1), None, None)])
    assert len(await serve(lanes)) == 1
