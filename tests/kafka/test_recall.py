"""When Kafka loses the log: what was accepted and not decided is given to it again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.tray import PostgresTray
from hub.domain.decisions import Unroutable
from hub.domain.errors import Unavailable
from hub.ports.log import Topic, places
from hub.services import registration, routing
from hub.services.outgoing import OutgoingRoom
from hub.services.recall import RecallRoom
from hub.wire import read_submission_record, write_submission
from tests.conformance.log_suite import read
from tests.conformance.samples import decided, execute, submission, submissions
from tests.kafka.rig import KafkaRig


@pytest_asyncio.fixture
async def rig(kafka: str) -> AsyncIterator[KafkaRig]:
    made = KafkaRig(kafka)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def opened(database: str) -> AsyncIterator[Database]:
    made = await Database.open(database)
    yield made
    await made.close()


async def test_a_log_that_was_emptied_gets_again_what_is_accepted_and_not_decided(
    rig: KafkaRig, opened: Database
) -> None:
    log, tray = rig.log(), PostgresTray(opened)
    outgoing, recall = OutgoingRoom(tray, log, write_submission), RecallRoom(tray, log)
    assert await recall.follow_life() == 0
    await PostgresIntake(opened).accept(submissions(6))
    assert await outgoing.run_once(1) == 6
    assert await recall.follow_life() == 0
    await PostgresRegistry(opened).register([decided(0, Unroutable(())), decided(1, Unroutable(()))])
    assert await recall.follow_life() == 0
    await rig.delete(Topic.SUBMISSIONS)
    # As a worker does: what is just gone is made anew when it is asked for again.
    with pytest.raises(Unavailable):
        await recall.follow_life()
    assert await recall.follow_life() == 4
    assert await outgoing.run_once(1) == 4
    async with log.reader(Topic.SUBMISSIONS, routing.GROUP) as reader:
        entries = await read(reader, 4)
    assert {read_submission_record(entry.record).submission for entry in entries} == {
        submission(number).id for number in range(2, 6)
    }
    await tray.close()


async def test_a_record_that_is_gone_is_found_once_all_others_have_passed(
    rig: KafkaRig, opened: Database
) -> None:
    log, tray = rig.log(), PostgresTray(opened)
    outgoing, recall = OutgoingRoom(tray, log, write_submission), RecallRoom(tray, log)
    await PostgresIntake(opened).accept(submissions(4))
    await execute(opened, "UPDATE submission SET received_at = received_at - interval '1 hour'")
    assert await outgoing.run_once(1) == 4
    # Nobody has read yet: who knows what will still be decided?
    assert await recall.find_lost() is None
    async with log.reader(Topic.SUBMISSIONS, routing.GROUP) as reader:
        await reader.done(places(await read(reader, 4)))
    # Three of the four decisions came through.
    await PostgresRegistry(opened).register([decided(number, Unroutable(())) for number in range(3)])
    assert await recall.find_lost() is None
    async with log.reader(Topic.ROUTINGS, registration.GROUP):
        pass
    assert await recall.find_lost() == 1
    [letter] = await tray.letters(10)
    assert letter.content.submission == submission(3).id
    await tray.close()
