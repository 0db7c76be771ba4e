"""A whole cluster, all roles on Kafka and a bucket: processes killed, the store restarted, the log's memory lost.

One cluster serves all tests here, one after the other: each leaves it at work, with everything accounted for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.ports.log import Topic
from hub.services import registration, routing
from tests.conformance.attachment_server import ACCESS_KEY, SECRET_KEY, serving
from tests.journeys.apart import Town, database_server, each_killed, on_kafka, town
from tests.journeys.doors import assert_each_has_one_door_on_loopback
from tests.kafka.broker import Brokers, one_of_its_own
from tests.kafka.rig import KafkaRig

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def broker() -> Iterator[Brokers]:
    """One that forgets after a minute how far a group was that nobody is in."""
    with one_of_its_own("offsets.retention.minutes=1\noffsets.retention.check.interval.ms=1000") as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(broker: Brokers) -> AsyncIterator[KafkaRig]:
    made = KafkaRig(broker.bootstrap)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[EmbeddedPostgres]:
    async with database_server() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(rig: KafkaRig, server: EmbeddedPostgres) -> AsyncIterator[Town]:
    with serving() as bucket:
        attachments = {
            "HUB_ATTACHMENTS": f"s3://{bucket.bucket().name}/pieces",
            "HUB_S3_ENDPOINT": bucket.endpoint,
            "HUB_S3_ACCESS_KEY": ACCESS_KEY,
            "HUB_S3_SECRET_KEY": SECRET_KEY,
        }
        async with town(server.dsn, **attachments, **on_kafka(rig)) as found:
            yield found


@pytest.mark.parametrize(
    "count", [2000, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
async def test_whichever_role_is_killed_in_the_middle_everything_is_accounted_for(
    here: Town, count: int
) -> None:
    await assert_each_has_one_door_on_loopback(here.apart)
    await each_killed(here, count)
    await here.accounted_for(within=30)


async def test_the_database_may_be_restarted_in_the_middle(here: Town, server: EmbeddedPostgres) -> None:
    before = len(here.accepted)
    async with here.posting(300):
        await here.reached(before + 100)
        await server.stop()
        assert len(here.accepted) < before + 300
        await asyncio.sleep(1)
        await server.start()
    await here.accounted_for(within=30)


@pytest.mark.parametrize(
    "how", ["removed", pytest.param("stopped too long", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_a_group_whose_place_is_lost_begins_at_the_earliest_record_left(
    here: Town, rig: KafkaRig, how: str
) -> None:
    """In the long form the roles are stopped until Kafka itself has forgotten how far they were."""
    log = rig.log()
    groups = {Topic.ROUTINGS: registration.GROUP, Topic.SUBMISSIONS: routing.GROUP}
    await here.apart.stop("registration")
    await here.post(60)
    await rig.waiting(Topic.ROUTINGS, registration.GROUP, 60)
    await here.apart.stop("routing")
    await here.post(60)
    await rig.waiting(Topic.SUBMISSIONS, routing.GROUP, 60)
    for topic, group in groups.items():
        if how == "removed":
            await log.remove_group(topic, group)
        await rig.forgotten(topic, group)
    await here.post(60)
    await here.apart.start_all(("routing", "registration"))
    await here.accounted_for(within=30)


async def test_topics_that_are_deleted_and_made_anew_get_again_what_was_not_decided(
    here: Town, rig: KafkaRig
) -> None:
    await here.apart.stop("registration")
    await here.post(60)
    await rig.waiting(Topic.ROUTINGS, registration.GROUP, 60)
    before = await rig.log().incarnation(Topic.SUBMISSIONS)
    async with here.posting(60, at_once=2):
        await rig.remove(*Topic)
        await here.apart.start("registration")
    await here.accounted_for(within=60)
    assert await rig.log().incarnation(Topic.SUBMISSIONS) != before
