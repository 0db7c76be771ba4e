"""A whole cluster while its log is away, loses everything, or hangs, and while members of its groups come and go.

One cluster serves all tests here, one after the other: each leaves it at work, with everything accounted for. What
takes its time is played shortly here, and as long as it was meant to be by `make slow`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from hub.ports.log import Topic
from hub.services import registration
from tests.journeys.apart import Town, database_server, on_kafka, town
from tests.kafka.broker import Brokers, one_of_its_own
from tests.kafka.rig import KafkaRig

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def broker() -> Iterator[Brokers]:
    """One that may be paused, killed and emptied: nobody else uses it."""
    with one_of_its_own() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(broker: Brokers) -> AsyncIterator[KafkaRig]:
    made = KafkaRig(broker.bootstrap)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(rig: KafkaRig) -> AsyncIterator[Town]:
    async with database_server() as server, town(server.dsn, **on_kafka(rig)) as found:
        yield found


@pytest.mark.parametrize("seconds", [10, pytest.param(120, marks=SLOW)])
async def test_while_kafka_is_away_the_hub_accepts_and_what_is_decided_is_delivered(
    here: Town, broker: Brokers, seconds: int
) -> None:
    clock = asyncio.get_running_loop().time
    await here.apart.stop("dispatch")
    await here.post(60)
    await here.until("submissions.undecided", 0)
    before = await here.counts()
    assert before["deliveries.planned"] == 40
    broker.kill()
    gone = clock()
    await here.apart.start("dispatch")
    await here.post(60)
    await here.until("deliveries.delivered", before["deliveries.delivered"] + 40)
    assert (await here.counts())["submissions.undecided"] == 60
    await asyncio.sleep(max(gone + seconds - clock(), 0))
    broker.restart()
    await asyncio.to_thread(broker.wait)
    await here.accounted_for(within=30)


async def test_when_kafka_comes_back_empty_what_was_not_decided_is_given_to_it_again(
    here: Town, broker: Brokers, rig: KafkaRig
) -> None:
    await here.apart.stop("registration")
    await here.post(60)
    await rig.waiting(Topic.ROUTINGS, registration.GROUP, 60)
    broker.kill()
    await here.post(30)
    broker.restart_empty()
    await asyncio.to_thread(broker.wait)
    await here.apart.start("registration")
    await here.accounted_for(within=60)


@pytest.mark.parametrize("seconds", [5, pytest.param(20, marks=SLOW)])
async def test_while_a_broker_hangs_the_hub_accepts_and_goes_on_afterwards(
    here: Town, broker: Brokers, seconds: int
) -> None:
    before = len(here.accepted)
    async with here.posting(150, at_once=4):
        await here.reached(before + 50)
        broker.pause()
        await here.reached(before + 150)
        await asyncio.sleep(seconds)
        broker.resume()
    await here.accounted_for(within=30)


@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=SLOW)])
async def test_while_members_come_and_go_every_five_seconds_work_goes_on(here: Town, seconds: int) -> None:
    """A second router and a second registration come, are killed, come again, and are stopped."""
    moves = (
        lambda: here.apart.start_all(("routing", "registration"), "second"),
        lambda: here.apart.kill("routing second"),
        lambda: here.apart.start("routing", "second"),
        lambda: here.apart.kill("registration second"),
        lambda: here.apart.stop("routing second"),
    )
    clock = asyncio.get_running_loop().time
    begun = clock()
    async with here.posting(at_once=4, each=0.15):
        for turn in range(seconds // 5):
            await moves[turn % len(moves)]()
            before = await here.decided()
            # Starting may take its time; a member that was killed is missed for three seconds.
            await asyncio.sleep(max(begun + 5 * (turn + 1) - clock(), 3.5))
            assert await here.decided() > before
    await here.apart.stop(*(name for name in here.apart.running if "second" in name))
    await here.accounted_for(within=30)
