"""What a store must hold when an endpoint fails for longer than its partner bears: the mailbox takes over, the
partner is told once, and the channel comes back by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from hub.adapters.postgres import fallbacks
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lane_orders import PostgresLaneOrders
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.views import PostgresViews
from hub.domain.circuit import Standing
from hub.domain.errors import LeaseLost
from hub.domain.identity import ParcelKind
from hub.domain.pace import read_pace
from hub.domain.partner import Endpoint, Partner
from hub.ports.lanes import Claim, Page
from hub.services.reconciliation import differences
from tests.conformance.motion import (
    MINUTE,
    conclude,
    delivered,
    journal,
    lane_due_in,
    refused,
    waiting,
)
from tests.conformance.samples import delivery, execute, routed, rows, submission, subscriber

NOTICE = {"host": "smtp.essai.test", "sender": "hub@essai.test", "recipients": ["mairie@essai.test"]}


@pytest_asyncio.fixture
async def lanes(database: Database, lanes: PostgresLanes) -> AsyncIterator[PostgresLanes]:
    yield lanes
    assert differences(await PostgresLedger(database).accounts()) == []


async def declare(database: Database, notice: bool = True) -> None:
    told = {"fallback": {"after": 86400, **({"notice": NOTICE} if notice else {})}}
    one = Partner(subscriber(1), "Mairie", Endpoint("webhook", {}), None, read_pace(told))
    await PostgresPartners(database).keep([(one, None, None)])


async def register(database: Database, *numbers: int) -> None:
    await PostgresIntake(database).accept([submission(number) for number in numbers])
    await PostgresRegistry(database).register([routed(number, [1]) for number in numbers])


async def try_and_fail(database: Database, lanes: PostgresLanes, *, falls: bool = True) -> None:
    """A page of the webhook's lane whose one row fails at the endpoint."""
    await _due(database, "webhook")
    leased = {one.endpoint.channel: one for one in await lanes.lease("anne", 10, MINUTE)}
    lane = leased.pop("webhook")
    for other in leased.values():
        await conclude(lanes, "anne", other.id, [])
    claims = await lanes.claim("anne", lane.id, 1)
    if falls:
        await lanes.fall_back("anne", lane.id)
    await conclude(
        lanes, "anne", lane.id, [waiting(one.attempt, MINUTE) for one in claims], MINUTE, Standing(1, 2)
    )


async def _due(database: Database, channel: str) -> None:
    await execute(
        database,
        f"UPDATE lane SET due_at = CASE channel WHEN '{channel}' THEN clock_timestamp() END, rests_until = NULL"
        f" WHERE channel = '{channel}'",
        f"UPDATE delivery SET due_at = clock_timestamp() FROM lane WHERE lane.id = lane AND lane.channel ="
        f" '{channel}' AND delivery.due_at IS NOT NULL",
    )


async def serve(lanes: PostgresLanes) -> list[tuple[str, Claim]]:
    """All that is due; what was claimed is delivered. Each with the channel it left by."""
    claimed: list[tuple[str, Claim]] = []
    for lane in await lanes.lease("berta", 100, MINUTE):
        claims = await lanes.claim("berta", lane.id, 100)
        claimed += [(lane.endpoint.channel, claim) for claim in claims]
        await conclude(lanes, "berta", lane.id, [delivered(claim.attempt) for claim in claims])
    return claimed


async def by_lane(database: Database) -> dict[str, list[int]]:
    """The numbers of what is in each lane."""
    found = await rows(
        database,
        "SELECT lane.channel, array_agg(sequence ORDER BY sequence) AS numbers FROM delivery"
        " JOIN lane ON lane.id = lane GROUP BY lane.channel",
    )
    return {row["channel"]: row["numbers"] for row in found}


async def test_what_waits_goes_into_the_mailbox_but_one_and_the_partner_is_told_once(
    database: Database, lanes: PostgresLanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallbacks, "_PAGE", 2)
    await declare(database)
    await register(database, 1, 2, 3, 4, 5, 6)
    for _ in range(2):
        await try_and_fail(database, lanes)
    assert await by_lane(database) == {"webhook": [1], "mailbox": [2, 3, 4, 5, 6], "notice": [-1]}
    await register(database, 7)
    assert (await by_lane(database))["mailbox"] == [2, 3, 4, 5, 6, 7]
    found = await serve(lanes)
    assert sorted((channel, claim.sequence) for channel, claim in found) == [
        ("mail", -1),
        *(("mailbox", number) for number in range(2, 8)),
    ]
    seen = await PostgresViews(database).submission(submission(1).id)
    assert seen is not None
    assert [one.sequence for one in seen.deliveries] == [1]
    [notice] = [claim for channel, claim in found if channel == "mail"]
    assert (notice.kind, notice.attachments) == (ParcelKind.NOTICE, ())
    assert (
        len(await journal(database, "lane.fell_back")) == len(await journal(database, "notice.planned")) == 1
    )


async def test_a_notice_leaves_by_the_settings_of_its_own_and_never_with_the_partners_secrets(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare(database)
    await execute(database, "UPDATE partner SET secrets = 'x', secrets_key = 'y'")
    await register(database, 1)
    await try_and_fail(database, lanes)
    [lane] = [one for one in await lanes.lease("berta", 10, MINUTE) if one.endpoint.channel == "mail"]
    assert (lane.endpoint.settings, lane.sealed_secrets) == (NOTICE, None)
    [claim] = await lanes.claim("berta", lane.id, 10)
    await conclude(lanes, "berta", lane.id, [delivered(claim.attempt)])


async def test_the_channel_is_used_again_when_what_tried_it_arrives(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare(database, notice=False)
    await register(database, 1, 2)
    await try_and_fail(database, lanes)
    await _due(database, "webhook")
    assert [(channel, claim.sequence) for channel, claim in sorted(await serve(lanes), key=str)] == [
        ("mailbox", 2),
        ("webhook", 1),
    ]
    await register(database, 3)
    assert [(channel, claim.sequence) for channel, claim in await serve(lanes)] == [("webhook", 3)]
    assert (await by_lane(database))["mailbox"] == [2]


async def test_when_what_tried_it_is_gone_the_next_one_tries_it(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare(database)
    await register(database, 1, 2)
    await try_and_fail(database, lanes)
    await PostgresMailboxes(database).acknowledge(subscriber(1), [delivery(1, 1)])
    await execute(database, "UPDATE lane SET due_at = NULL, rests_until = NULL WHERE channel = 'webhook'")
    await register(database, 3)
    await register(database, 4)
    assert await by_lane(database) == {"webhook": [1, 3], "mailbox": [2, 4], "notice": [-1]}
    await try_and_fail(database, lanes)
    assert len(await journal(database, "notice.planned")) == 1
    await serve(lanes)


async def test_whoever_lost_the_lane_changes_nothing(database: Database, lanes: PostgresLanes) -> None:
    await declare(database)
    await register(database, 1, 2)
    [lane] = await lanes.lease("anne", 10, MINUTE)
    with pytest.raises(LeaseLost):
        await lanes.fall_back("berta", lane.id)
    assert await by_lane(database) == {"webhook": [1, 2]}
    await conclude(lanes, "anne", lane.id, [])


async def test_a_switch_while_it_fell_back_goes_on_by_the_new_channel(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare(database)
    await register(database, 1, 2)
    await try_and_fail(database, lanes)
    one = Partner(subscriber(1), "Mairie", Endpoint("sftp", {}))
    await PostgresPartners(database).keep([(one, None, None)])
    await register(database, 3)
    taken = await lanes.take("berta", 10, 10, 10, MINUTE)
    for one_lane in taken:
        claims = (
            one_lane.claims
            if one_lane.claims is not None
            else await lanes.claim("berta", one_lane.lane.id, 9)
        )
        await conclude(lanes, "berta", one_lane.lane.id, [delivered(claim.attempt) for claim in claims])
    await serve(lanes)
    assert await by_lane(database) == {"sftp": [1, 3], "mailbox": [2], "notice": [-1]}


async def test_a_closed_lane_is_looked_at_when_it_is_to_fall_back_if_that_is_before_its_daily_reminder(
    database: Database, lanes: PostgresLanes
) -> None:
    for number, after, due_in in ((1, 3600, 3600), (2, 7 * 86400, 86400)):
        told = read_pace({"fallback": {"after": after}})
        one = Partner(subscriber(number), "Mairie", Endpoint("webhook", {}), None, told)
        await PostgresPartners(database).keep([(one, None, None)])
        await PostgresIntake(database).accept([submission(number)])
        await PostgresRegistry(database).register([routed(number, [number])])
        [lane] = await lanes.lease("anne", 10, MINUTE)
        [claim] = await lanes.claim("anne", lane.id, 1)
        refusal = refused(claim.attempt, "webhook.http_401")
        page = Page(
            lane.id, (refusal,), standing=Standing(1, 1), closes=("webhook.http_401", claim.attempt.delivery)
        )
        await PostgresIntake(database).accept([submission(10 + number)])
        await PostgresRegistry(database).register([routed(10 + number, [number])])
        await lanes.conclude("anne", [page])
        assert await lane_due_in(database, lane.id) == pytest.approx(due_in, abs=60)


async def test_a_closed_lane_falls_back_too_and_is_used_again_when_it_is_opened(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare(database, notice=False)
    await register(database, 1, 2, 3)
    [leased] = await lanes.lease("anne", 10, MINUTE)
    claims = await lanes.claim("anne", leased.id, 1)
    first = claims[0].attempt
    refusal = Page(leased.id, (refused(first, "webhook.gone"),), closes=("webhook.gone", first.delivery))
    await lanes.conclude("anne", [refusal])
    await execute(
        database,
        "UPDATE lane SET closed_at = closed_at - interval '2 days', due_at = clock_timestamp()",
    )
    [closed] = await lanes.lease("anne", 10, MINUTE)
    assert closed.failing is not None
    assert closed.failing > timedelta(days=1)
    await lanes.fall_back("anne", closed.id)
    await conclude(lanes, "anne", closed.id, [])
    assert await by_lane(database) == {"webhook": [1, 2], "mailbox": [3]}
    await PostgresLaneOrders(database).open_lane(closed.id, "operator:agent", "service rétabli")
    await register(database, 4)
    assert sorted((channel, claim.sequence) for channel, claim in await serve(lanes)) == [
        ("mailbox", 3),
        ("webhook", 1),
        ("webhook", 2),
        ("webhook", 4),
    ]
