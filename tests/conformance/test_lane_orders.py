"""What a store must hold of operators' orders about lanes: which are closed or fail, opening, maintenance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lane_orders import PostgresLaneOrders
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.partners import PostgresPartners
from hub.domain.circuit import Standing
from hub.domain.errors import Invalid
from hub.domain.lifecycle import State
from hub.domain.pace import Maintenance
from hub.domain.partner import Endpoint, Partner
from hub.ports.lane_orders import LaneFilter
from hub.ports.lanes import Page
from tests.conformance.motion import (
    MINUTE,
    assert_nothing_is_forgotten,
    journal,
    plant,
    refused,
    standing,
    waiting,
)
from tests.conformance.samples import execute, rows, subscriber

HOUR = timedelta(hours=1)


async def break_two(database: Database) -> None:
    """Partner 1 refuses and is closed, partner 2 fails, partner 3 is well; two deliveries for each."""
    await plant(database, [1, 2], to=[1, 2, 3])
    two = Partner(subscriber(2), "Mairie d'essai 2", Endpoint("sftp", {}), "éditeur")
    await PostgresPartners(database).keep([(two, None, None)])
    lanes = PostgresLanes(database)
    for lane in await lanes.lease("anne", 10, MINUTE):
        claims = await lanes.claim("anne", lane.id, 10)
        first, second = (claim.attempt for claim in claims)
        page = Page(lane.id, (waiting(first, HOUR), waiting(second, HOUR)))
        if lane.subscriber == subscriber(1):
            closes = ("sftp.login_refused", first.delivery)
            page = Page(lane.id, (refused(first, "sftp.login_refused"), waiting(second)), closes=closes)
        elif lane.subscriber == subscriber(2):
            page = Page(lane.id, page.conclusions, HOUR, Standing(1, 3))
        await lanes.conclude("anne", [page])
    await lanes.close()


async def test_lanes_that_are_closed_or_fail_are_told_with_why_and_what_waits(database: Database) -> None:
    await break_two(database)
    orders = PostgresLaneOrders(database)
    closed, failing = await orders.lanes(LaneFilter(), 0, 10)
    assert (closed.subscriber, closed.closed, closed.cause, closed.waiting) == (
        subscriber(1),
        True,
        "sftp.login_refused",
        1,
    )
    assert (failing.subscriber, failing.closed, failing.failures, failing.waiting, failing.cause) == (
        subscriber(2),
        False,
        3,
        2,
        "sftp.timeout",
    )
    assert closed.parked is not None
    assert (await standing(database, closed.parked)).state is State.PARKED
    asked = {
        "closed": LaneFilter(closed=True),
        "failing": LaneFilter(failing=True),
        "of one": LaneFilter(subscriber=subscriber(1)),
        "of a vendor": LaneFilter(vendor="éditeur"),
        "of nobody": LaneFilter(subscriber=subscriber(3)),
    }
    found = {name: [one.id for one in await orders.lanes(where, 0, 10)] for name, where in asked.items()}
    assert found == {
        "closed": [closed.id],
        "failing": [failing.id],
        "of one": [closed.id],
        "of a vendor": [failing.id],
        "of nobody": [],
    }
    assert [one.id for one in await orders.lanes(LaneFilter(), closed.id, 1)] == [failing.id]
    assert len(await orders.find(subscriber(3), "sftp")) == 1
    assert await orders.find(subscriber(3), "mail") == []


async def test_opening_a_lane_plans_what_it_parked_again_and_serves_all_at_once(database: Database) -> None:
    await break_two(database)
    orders, lanes = PostgresLaneOrders(database), PostgresLanes(database)
    closed, failing = await orders.lanes(LaneFilter(), 0, 10)
    assert await orders.open_lane(closed.id, "operator:agent", "mot de passe changé") is True
    assert await orders.open_lane(closed.id, "operator:agent", "encore") is False
    assert await orders.open_lane(10**9, "operator:agent", "rien") is None
    assert closed.parked is not None
    told = await standing(database, closed.parked)
    assert (told.state, told.sending, told.attempt, told.cause) == (State.PLANNED, 2, 0, None)
    assert [line[1:] for line in await journal(database, "lane.opened")] == [
        ("operator:agent", f"{subscriber(1)}, sftp: mot de passe changé")
    ]
    assert await journal(database, "delivery.sent_again") == [
        (closed.parked, "operator:agent", "its lane was opened")
    ]
    await orders.open_lane(failing.id, "operator:agent", "réparé")
    leased = await lanes.lease("berta", 10, MINUTE)
    assert {lane.subscriber for lane in leased} == {subscriber(1), subscriber(2)}
    assert all((lane.closed, lane.standing.failures) == (None, 0) for lane in leased)
    await assert_nothing_is_forgotten(database)
    await lanes.close()


async def test_what_was_parked_and_taken_care_of_otherwise_is_not_planned_again(database: Database) -> None:
    await break_two(database)
    orders = PostgresLaneOrders(database)
    [closed] = await orders.lanes(LaneFilter(closed=True), 0, 10)
    assert closed.parked is not None
    await execute(database, f"UPDATE delivery SET state = 'acknowledged' WHERE id = '{closed.parked}'")
    assert await orders.open_lane(closed.id, "operator:agent", "réparé") is True
    assert (await standing(database, closed.parked)).state is State.ACKNOWLEDGED


async def test_maintenance_is_planned_shown_and_ended(database: Database) -> None:
    await plant(database, [1])
    orders, lanes = PostgresLaneOrders(database), PostgresLanes(database)
    now = datetime.now(UTC)
    first = Maintenance(now - HOUR, now + HOUR, "serveur remplacé")
    later = Maintenance(now + 2 * HOUR, now + 3 * HOUR, "nouvelle version")
    for planned in (later, first, first):
        assert await orders.plan_maintenance(subscriber(1), planned, "operator:agent")
    assert await orders.maintenance(subscriber(1)) == [first, later]
    [taken] = await lanes.take("anne", 10, 10, 10, MINUTE)
    assert taken.claims is None
    assert taken.lane.maintenance is not None
    await lanes.conclude("anne", [Page(taken.lane.id, rest=HOUR)])
    assert await lanes.take("anne", 10, 10, 10, MINUTE) == []
    assert await orders.end_maintenance(subscriber(1), "operator:agent") == 2
    assert await orders.maintenance(subscriber(1)) == []
    [taken] = await lanes.take("anne", 10, 10, 10, MINUTE)
    assert len(taken.claims or ()) == 1
    assert len(await journal(database, "maintenance.planned")) == 3
    await lanes.close()


async def test_maintenance_that_cannot_be_names_its_field_and_writes_nothing(database: Database) -> None:
    await plant(database, [1])
    orders = PostgresLaneOrders(database)
    now = datetime.now(UTC)
    for begin, end in ((now, now - HOUR), (now - 2 * HOUR, now - HOUR)):
        with pytest.raises(Invalid) as refusal:
            await orders.plan_maintenance(subscriber(1), Maintenance(begin, end, "x"), "operator:agent")
        assert [flaw.field for flaw in refusal.value.flaws] == ["/until"]
    ahead = Maintenance(now, now + HOUR, "x")
    assert await orders.plan_maintenance(subscriber(9), ahead, "operator:agent") is False
    assert await orders.maintenance(subscriber(9)) is None
    assert await orders.end_maintenance(subscriber(9), "operator:agent") is None
    [row] = await rows(database, "SELECT maintenance FROM partner")
    assert row["maintenance"] is None
