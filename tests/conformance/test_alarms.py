"""What a person should look at is found when it has lasted long enough, told once, and gone when it is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from hub.adapters.postgres.alarms import PostgresAlarms
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.reads import PostgresReads
from hub.adapters.postgres.return_folders import PostgresReturnFolders
from hub.adapters.postgres.views import PostgresViews
from hub.adapters.system.clock import SystemClock
from hub.domain.alarms import Alarm, AlarmKind, Patience
from hub.domain.fields import Field, FieldKind
from hub.ports.reads import Read
from hub.ports.returns import LeftFile
from hub.services.alarms import AlarmRoom
from tests.conformance.motion import conclude, delivered, park, plant, take
from tests.conformance.samples import execute, partner, submission, subscriber

LATER = timedelta(days=2, hours=1)


@pytest.fixture
def alarms(database: Database) -> PostgresAlarms:
    return PostgresAlarms(database)


def told(found: list[Alarm] | tuple[Alarm, ...]) -> set[tuple[str, str, str, int]]:
    return {(one.kind.value, one.subscriber, one.channel, one.number) for one in found}


async def look(alarms: PostgresAlarms) -> set[tuple[str, str, str, int]]:
    _, now = await alarms.look(Patience())
    assert list(await alarms.standing()) == sorted(now, key=lambda one: one.place)
    return told(list(now))


async def passed(database: Database, time: timedelta) -> None:
    """As if all that is there had been there so long before."""
    moved = f"- interval '{time.total_seconds()} s'"
    await execute(
        database,
        f"UPDATE delivery SET created_at = created_at {moved}, changed_at = changed_at {moved},"
        f" fetched_at = fetched_at {moved}",
        f"UPDATE submission SET received_at = received_at {moved}",
        f"UPDATE lane SET failing_since = failing_since {moved}",
        f"UPDATE journal SET at = at {moved}",
    )


async def test_what_lies_unread_and_then_unacknowledged_in_a_mailbox_is_told_by_partner(
    database: Database, alarms: PostgresAlarms
) -> None:
    read, unread = await plant(database, [1, 2], channel="mailbox")
    lanes = PostgresLanes(database)
    lane, claims = await take(lanes, "w")
    await conclude(lanes, "w", lane, [delivered(claim.attempt) for claim in claims])
    await PostgresReads(database).fetched(Read(submission(1).id, read, f"partner:{subscriber(1)}", "file 1"))
    assert await look(alarms) == set()
    await passed(database, LATER)
    assert await look(alarms) == {("unfetched", str(subscriber(1)), "mailbox", 1)}
    await passed(database, timedelta(days=1))
    assert await look(alarms) == {
        ("unfetched", str(subscriber(1)), "mailbox", 1),
        ("unacknowledged", str(subscriber(1)), "mailbox", 1),
    }
    await PostgresMailboxes(database).acknowledge(subscriber(1), [read, unread])
    assert await look(alarms) == set()


async def test_submissions_that_nobody_decides_and_deliveries_that_are_long_under_way_are_told(
    database: Database, alarms: PostgresAlarms
) -> None:
    await plant(database, [1, 2], channel="sftp")
    await PostgresIntake(database).accept([submission(3)])
    assert await look(alarms) == set()
    await passed(database, LATER)
    waits = ("waiting", str(subscriber(1)), "sftp", 2)
    assert await look(alarms) == {("undecided", "", "", 1), waits}
    # A new sending begins when it is ordered, however old its delivery is.
    await execute(
        database,
        "UPDATE delivery SET sending = 2",
        "INSERT INTO journal (submission, delivery, event, actor)"
        " SELECT submission, id, 'delivery.sent_again', 'hub' FROM delivery",
    )
    assert await look(alarms) == {("undecided", "", "", 1)}


async def test_lanes_that_are_closed_or_fail_and_what_is_parked_are_told(
    database: Database, alarms: PostgresAlarms
) -> None:
    await plant(database, [1], channel="sftp")
    await park(database, "sftp.denied")
    await plant(database, [2], [2], channel="webhook")
    await plant(database, [3], [3], channel="webhook")
    await execute(
        database,
        "UPDATE lane SET closed_at = clock_timestamp(), closed_cause = 'webhook.http_401', failing_since ="
        f" clock_timestamp() WHERE subscriber = '{subscriber(2)}'",
        f"UPDATE lane SET failures = 3, failing_since = clock_timestamp() WHERE subscriber = '{subscriber(3)}'",
    )
    parked = ("parked", str(subscriber(1)), "sftp", 1)
    closed = ("closed", str(subscriber(2)), "webhook", 1)
    assert await look(alarms) == {parked, closed}
    await execute(database, "UPDATE lane SET failing_since = failing_since - interval '61 minutes'")
    assert await look(alarms) == {parked, closed, ("failing", str(subscriber(3)), "webhook", 1)}
    causes = {one.kind: one.cause for one in await alarms.standing()}
    assert (causes[AlarmKind.PARKED], causes[AlarmKind.CLOSED]) == ("sftp.denied", "webhook.http_401")
    gauges = await PostgresViews(database).counts()
    assert (gauges["alarms.parked"], gauges["alarms.closed"], gauges["alarms.unfetched"]) == (1, 1, 0)


async def test_return_folders_that_are_away_and_files_that_nobody_can_read_are_told(
    database: Database, alarms: PostgresAlarms
) -> None:
    folders = PostgresReturnFolders(database)
    await plant(database, [], [1, 2], channel="sftp", settings={"return_directory": "retour"})
    assert len(await folders.due(10, timedelta(minutes=1))) == 2
    left = [LeftFile(bytes(16), "no_xml"), LeftFile(bytes(range(16)), "unknown")]
    for _ in range(2):
        assert await look(alarms) == set()
        await folders.looked(subscriber(1), timedelta(0), None, left)
        await folders.looked(subscriber(2), timedelta(0), "sftp.timeout", ())
    unreadable = ("unreadable", str(subscriber(1)), "sftp", 2)
    assert await look(alarms) == {unreadable}
    await execute(database, "UPDATE return_folder SET failing_since = failing_since - interval '61 minutes'")
    assert await look(alarms) == {unreadable, ("returns", str(subscriber(2)), "sftp", 1)}


async def test_an_alarm_is_one_line_when_it_begins_and_none_while_it_lasts(
    database: Database, alarms: PostgresAlarms
) -> None:
    room = AlarmRoom(alarms, PostgresPartners(database), {}, Patience(), SystemClock())
    await plant(database, [1, 2], [1, 2], channel="sftp")
    await park(database, "sftp.denied")
    with capture_logs() as lines:
        await asyncio.gather(room.run_once(), room.run_once())
        await room.run_once()
    [line] = lines
    assert (line["event"], line["kind"], line["number"], line["partners"]) == ("alarm.begins", "parked", 4, 2)
    assert line["first"] == [f"{subscriber(one)} sftp sftp.denied" for one in (1, 2)]
    await plant(database, [3], [3], channel="sftp")
    await park(database, "sftp.denied")
    with capture_logs() as lines:
        await room.run_once()
    assert [(line["number"], line["partners"]) for line in lines] == [(1, 1)]


async def test_what_runs_out_is_told_beforehand_and_no_more_when_it_was_renewed(
    database: Database, alarms: PostgresAlarms
) -> None:
    field = Field("pass", FieldKind.TEXT, "Un laissez-passer.", "A pass.", until=datetime.fromisoformat)
    partners, now = PostgresPartners(database), datetime.now(UTC)
    room = AlarmRoom(alarms, partners, {"sftp": [field], "mail": []}, Patience(), SystemClock())

    async def declared(number: int, channel: str, days: float) -> None:
        told = (now + timedelta(days=days)).isoformat()
        await partners.keep([(partner(number, channel, **{"pass": told}), None, None)])

    await declared(1, "sftp", 29)
    await declared(2, "sftp", 31)
    await declared(3, "mail", 1)
    await declared(4, "sftp", -400)
    with capture_logs() as lines:
        await room.run_once()
        await room.run_once()
    first, fourth = await alarms.standing()
    assert told([first, fourth]) == {("expiring", str(subscriber(one)), "sftp", 1) for one in (1, 4)}
    assert first.cause == f"pass until {now + timedelta(days=29):%Y-%m-%d}"
    assert abs(first.since - (now - timedelta(days=1))) < timedelta(seconds=1)
    [line] = lines
    assert (line["kind"], line["partners"]) == ("expiring", 2)
    assert (await PostgresViews(database).counts())["alarms.expiring"] == 2
    await declared(1, "sftp", 365)
    await room.run_once()
    assert told(list(await alarms.standing())) == {("expiring", str(subscriber(4)), "sftp", 1)}
