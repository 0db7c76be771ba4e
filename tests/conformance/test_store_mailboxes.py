"""What the mailbox's part of the store must hold: a partner finds, holds and acknowledges its own, and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from hub.adapters.postgres import entries
from hub.adapters.postgres.alarms import PostgresAlarms
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.reads import PostgresReads
from hub.domain.alarms import AlarmKind, Patience
from hub.domain.lifecycle import IN_MOTION, MOVES, State
from hub.domain.mailbox import KEPT, Drawer, drawer, may_be_leased
from hub.ports.mailboxes import Entry
from hub.ports.reads import Read
from tests.conformance.motion import (
    MINUTE,
    assert_nothing_is_forgotten,
    attempts,
    conclude,
    delivered,
    journal,
    plant,
    standing,
    take,
    waiting,
)
from tests.conformance.samples import execute, rows, sizes, subscriber


@pytest_asyncio.fixture
async def mailboxes(database: Database) -> AsyncIterator[PostgresMailboxes]:
    yield PostgresMailboxes(database)
    await assert_nothing_is_forgotten(database)


async def test_a_partner_acknowledges_what_lies_in_its_mailbox(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    first, second = await plant(database, [1, 2])
    assert await mailboxes.acknowledge(subscriber(1), [second, first]) == [second, first]
    for name in (first, second):
        stands = await standing(database, name)
        assert (stands.state, stands.due_in) == (State.ACKNOWLEDGED, None)
    lines = await journal(database, "delivery.acknowledged")
    assert sorted(lines) == sorted(
        (name, f"partner:{subscriber(1)}", "was planned") for name in (first, second)
    )


async def test_acknowledging_again_says_the_same_and_writes_nothing(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    [name] = await plant(database, [1])
    await mailboxes.acknowledge(subscriber(1), [name])
    before = await rows(database, "SELECT changed_at FROM delivery")
    assert await mailboxes.acknowledge(subscriber(1), [name, name]) == [name]
    assert await rows(database, "SELECT changed_at FROM delivery") == before
    assert len(await journal(database, "delivery.acknowledged")) == 1


async def test_a_partner_acknowledges_nothing_of_another_s(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    first, second = await plant(database, [1], to=[1, 2])
    assert await mailboxes.acknowledge(subscriber(2), [first, second, uuid4()]) == [second]
    assert (await standing(database, first)).state is State.PLANNED


@pytest.mark.parametrize("state", list(State))
async def test_the_table_of_states_says_what_can_be_acknowledged(
    database: Database, mailboxes: PostgresMailboxes, state: State
) -> None:
    [name] = await plant(database, [1])
    if state not in (State.PLANNED, State.IN_FLIGHT, State.WAITING):
        await execute(database, "UPDATE delivery SET due_at = NULL, state = 'parked', cause = 'sftp.denied'")
    await execute(database, f"UPDATE delivery SET state = '{state}'")
    may = (state, State.ACKNOWLEDGED) in MOVES or state is State.ACKNOWLEDGED
    assert await mailboxes.acknowledge(subscriber(1), [name]) == ([name] if may else [])
    assert (await standing(database, name)).state is (State.ACKNOWLEDGED if may else state)


async def test_late_news_of_what_was_acknowledged_in_flight_is_refused_and_its_attempt_ends(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    first, second = await plant(database, [1, 2])
    lanes = PostgresLanes(database)
    lane, claims = await take(lanes, "anne")
    await mailboxes.acknowledge(subscriber(1), [first, second])
    news = [delivered(claims[0].attempt), waiting(claims[1].attempt)]
    assert await conclude(lanes, "anne", lane, news) == [first, second]
    assert (await standing(database, first)).state is State.ACKNOWLEDGED
    assert (await standing(database, second)).state is State.ACKNOWLEDGED
    assert await attempts(database, first) == [(1, 1, "delivered", True)]
    assert await lanes.next_due() is None


async def test_a_lane_whose_rows_were_all_acknowledged_wakes_once_and_then_sleeps(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    [name] = await plant(database, [1])
    await mailboxes.acknowledge(subscriber(1), [name])
    lanes = PostgresLanes(database)
    lane, claims = await take(lanes, "anne")
    assert not claims
    await conclude(lanes, "anne", lane, [])
    assert await lanes.next_due() is None


async def test_one_who_acknowledges_while_a_worker_claims_is_never_overtaken(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    names = await plant(database, range(60))
    lanes = PostgresLanes(database)

    async def dispatch() -> None:
        while leased := await lanes.lease("anne", 1, MINUTE):
            claims = await lanes.claim("anne", leased[0].id, 7)
            await conclude(lanes, "anne", leased[0].id, [delivered(claim.attempt) for claim in claims])

    async def fetch() -> None:
        for place in range(len(names) - 1, -1, -5):
            page = names[max(0, place - 4) : place + 1]
            assert await mailboxes.acknowledge(subscriber(1), page) == page

    await asyncio.gather(dispatch(), fetch())
    assert {(await standing(database, name)).state for name in names} == {State.ACKNOWLEDGED}


# --- what is found where ------------------------------------------------------------------------------


async def put(database: Database, state: State, channel: str) -> None:
    """Everything, as if it had come there."""
    due = "clock_timestamp()" if state in IN_MOTION else "NULL"
    cause = "'test.no'" if state is State.PARKED else "NULL"
    await execute(
        database,
        f"UPDATE delivery SET state = '{state}', channel = '{channel}', due_at = {due}, cause = {cause}",
    )


async def opened(mailboxes: PostgresMailboxes, number: int = 1, after: int = 0) -> list[int]:
    page = await mailboxes.look(subscriber(number), Drawer.OPEN, after, 1000)
    return [entry.sequence for entry in page.entries]


async def test_the_table_of_drawers_says_where_a_delivery_is_found(database: Database) -> None:
    mailboxes = PostgresMailboxes(database)
    [name] = await plant(database, [1])
    for state in State:
        for channel in ("sftp", "mailbox"):
            await put(database, state, channel)
            found = [
                (one, entry.delivery, entry.state, entry.channel)
                for one in Drawer
                for entry in (await mailboxes.look(subscriber(1), one, None, 10)).entries
            ]
            wanted = drawer(state, channel)
            assert found == ([] if wanted is None else [(wanted, name, state, channel)])
            held = await mailboxes.lease(subscriber(1), "lecteur", MINUTE, 10)
            leased = [entry.delivery for entry in held.entries]
            assert leased == ([name] if may_be_leased(state, channel) else []), (state, channel)
            await mailboxes.release(subscriber(1), "lecteur")


async def test_a_mailbox_lists_its_partner_s_own_by_their_numbers_from_every_lane(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    await plant(database, [1, 2, 3], to=[1, 2], channel="sftp")
    await plant(database, [4, 5], to=[1, 2], channel="mailbox")
    await plant(database, [6], channel="sftp")
    first = await mailboxes.look(subscriber(1), Drawer.OPEN, None, 4)
    assert [entry.sequence for entry in first.entries] == [1, 2, 3, 4]
    assert first.next == 4
    last = await mailboxes.look(subscriber(1), Drawer.OPEN, first.next, 4)
    assert [entry.sequence for entry in last.entries] == [5, 6]
    assert last.next is None
    assert {entry.channel for entry in first.entries} == {"sftp", "mailbox"}
    assert await opened(mailboxes, 2) == [1, 2, 3, 4, 5]
    assert await opened(mailboxes, 3) == []


async def test_an_entry_says_what_is_known_of_a_delivery_and_another_s_is_not_there(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    [name] = await plant(database, [1], channel="mailbox")
    entry = await mailboxes.entry(subscriber(1), name)
    assert entry is not None
    [row] = await rows(
        database,
        "SELECT submission.*, delivery.changed_at FROM submission JOIN delivery"
        " ON delivery.submission = submission.id",
    )
    assert entry == Entry(
        name, row["id"], 1, row["sender"], row["external_id"], row["procedure"], row["received_at"],
        State.PLANNED, "mailbox", row["changed_at"], entry.files, entry.size, False, None, False,
    )  # fmt: skip
    assert await mailboxes.entry(subscriber(2), name) is None
    assert await mailboxes.entry(subscriber(1), uuid4()) is None
    await PostgresReads(database).fetched(Read(row["id"], name, "partner:1", "file 1"))
    await execute(database, "DELETE FROM submission_key")
    entry = await mailboxes.entry(subscriber(1), name)
    assert entry is not None
    assert (entry.fetched, entry.purged) == (True, True)


async def test_lasting_drawers_are_read_backwards_a_stretch_of_numbers_at_a_time(
    database: Database, mailboxes: PostgresMailboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.adapters.postgres.entries._STRETCH", 3)
    names = await plant(database, range(8), channel="mailbox")
    await mailboxes.acknowledge(subscriber(1), [names[0], names[1], names[6], names[7]])
    seen, looks, begin = [], 0, None
    while True:
        page = await mailboxes.look(subscriber(1), Drawer.ACKNOWLEDGED, begin, 2)
        seen += [entry.sequence for entry in page.entries]
        looks += 1
        begin = page.next
        if begin is None:
            break
    assert seen == [8, 7, 2, 1]
    # Pages of 8 and 7; of none, from 6 to 4; of 2, of 3 to 1; and no more of them.
    assert looks == 4


# --- what programs hold -------------------------------------------------------------------------------


async def take_all(
    mailboxes: PostgresMailboxes, reader: str, limit: int = 100, length: timedelta = MINUTE
) -> list[int]:
    leased = await mailboxes.lease(subscriber(1), reader, length, limit)
    return [entry.sequence for entry in leased.entries]


async def test_a_parcel_is_found_by_reference_or_number_in_every_drawer_and_by_its_partner_alone(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    await plant(database, [1, 2], to=[1, 2])
    [reference] = [
        row["external_id"]
        for row in await rows(
            database,
            "SELECT external_id FROM submission JOIN delivery ON submission = submission.id"
            " WHERE subscriber = $1 AND sequence = 2",
            str(subscriber(1)),
        )
    ]
    for state in State:
        for channel in ("sftp", "mailbox"):
            await put(database, state, channel)
            wanted = [] if drawer(state, channel) is None else [2]
            for text in (reference, "2"):
                found = await mailboxes.find(subscriber(1), text, 10)
                assert [entry.sequence for entry in found] == wanted, (state, channel, text)
                assert await mailboxes.find(subscriber(3), text, 10) == ()
    for text in ("", "0", "-1", "9" * 30, "\0", "%", reference[1:]):
        assert await mailboxes.find(subscriber(1), text, 10) == ()


async def test_the_beginning_of_a_reference_finds_those_of_the_latest_numbers_of_its_partner(
    database: Database, mailboxes: PostgresMailboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plant(database, range(5), channel="mailbox")
    await plant(database, [5], to=[2], channel="mailbox")
    await execute(
        database,
        "UPDATE submission SET external_id = 'Ab%_' || CASE WHEN sequence = 1 THEN '' ELSE sequence::text END"
        " FROM delivery WHERE submission.id = delivery.submission AND subscriber = '"
        + str(subscriber(1))
        + "'",
    )

    async def numbers(text: str, limit: int = 10) -> list[int]:
        return [entry.sequence for entry in await mailboxes.find(subscriber(1), text, limit)]

    assert await numbers("aB%") == [5, 4, 3, 2, 1]
    assert await numbers("aB%", 2) == [5, 4]
    # Whole, it is the only one, whatever begins with it.
    assert await numbers("Ab%_") == [1]
    await execute(database, "UPDATE delivery SET state = 'withdrawn', due_at = NULL WHERE sequence = 5")
    assert await numbers("ab") == [4, 3, 2, 1]
    monkeypatch.setattr("hub.adapters.postgres.entries.LATEST", 3)
    assert await numbers("ab") == [4, 3]


async def test_two_readers_of_a_partner_never_hold_the_same(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    names = await plant(database, range(40), channel="mailbox")
    taken = await asyncio.gather(*(take_all(mailboxes, f"poste-{number}", 7) for number in range(6)))
    assert sorted(sequence for some in taken for sequence in some) == list(range(1, 41))
    assert sorted(map(len, taken)) == [5, 7, 7, 7, 7, 7]
    assert await take_all(mailboxes, "un autre") == []
    # Looking changes nothing, and shows what is held.
    page = await mailboxes.look(subscriber(1), Drawer.OPEN, None, 100)
    assert len(page.entries) == 40
    assert all(entry.leased_until for entry in page.entries)
    assert {one.delivery for one in page.entries} == set(names)


async def test_what_is_held_no_longer_is_given_to_who_asks_next(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    await plant(database, range(4), channel="mailbox")
    assert await take_all(mailboxes, "poste-1", 3) == [1, 2, 3]
    assert await take_all(mailboxes, "poste-2") == [4]
    await execute(
        database,
        "UPDATE mailbox_lease SET until = clock_timestamp() - interval '1 second' WHERE reader = 'poste-1'",
    )
    assert await take_all(mailboxes, "poste-3", 2) == [1, 2]
    assert await mailboxes.release(subscriber(1), "poste-3") == 2
    assert await mailboxes.release(subscriber(1), "poste-3") == 0
    assert await mailboxes.release(subscriber(2), "poste-2") == 0
    assert await take_all(mailboxes, "poste-4") == [1, 2, 3]


async def test_a_reader_whose_answer_was_lost_gets_the_same_again_and_longer(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    await plant(database, range(4), channel="mailbox")
    first = await mailboxes.lease(subscriber(1), "poste-1", MINUTE, 2)
    again = await mailboxes.lease(subscriber(1), "poste-1", 2 * MINUTE, 2)
    assert [one.delivery for one in again.entries] == [one.delivery for one in first.entries]
    assert again.until > first.until
    assert {one.leased_until for one in again.entries} == {again.until}
    assert await take_all(mailboxes, "poste-1", 3) == [1, 2, 3]


async def test_what_is_acknowledged_is_held_no_more_whoever_says_it(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    names = await plant(database, range(3), channel="mailbox")
    assert await take_all(mailboxes, "poste-1") == [1, 2, 3]
    assert await mailboxes.acknowledge(subscriber(1), names[:2]) == names[:2]
    assert await sizes(database, "mailbox_lease") == {"mailbox_lease": 1}
    assert await take_all(mailboxes, "poste-1") == [3]


async def test_the_programs_of_a_partner_hold_so_many_and_no_more(
    database: Database, mailboxes: PostgresMailboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.adapters.postgres.mailboxes.MOST_LEASED", 5)
    await plant(database, range(9), channel="mailbox")
    assert await take_all(mailboxes, "poste-1", 3) == [1, 2, 3]
    assert await take_all(mailboxes, "poste-2", 3) == [4, 5]
    full = await mailboxes.lease(subscriber(1), "poste-3", MINUTE, 3)
    assert (full.entries, full.full) == ((), True)
    await mailboxes.release(subscriber(1), "poste-1")
    assert await take_all(mailboxes, "poste-3", 9) == [1, 2, 3]


async def test_what_can_be_read_no_more_keeps_no_reader_from_the_rest(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    names = await plant(database, range(7), channel="mailbox")
    await execute(
        database,
        "DELETE FROM submission_key WHERE submission IN"
        " (SELECT submission FROM delivery WHERE sequence IN (1, 2, 3, 5))",
    )
    assert await take_all(mailboxes, "poste-1", 1) == [4]
    assert await take_all(mailboxes, "poste-2", 5) == [6, 7]
    assert len(await opened(mailboxes)) == len(names)


async def test_what_is_held_and_never_acknowledged_is_an_alarm_like_anything_else(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    [read, unread] = await plant(database, [1, 2], channel="mailbox")
    lanes = PostgresLanes(database)
    lane, claims = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [delivered(claim.attempt) for claim in claims])
    assert await take_all(mailboxes, "poste-1") == [1, 2]
    [row] = await rows(database, "SELECT submission FROM delivery WHERE id = $1", read)
    await PostgresReads(database).fetched(Read(row["submission"], read, f"partner:{subscriber(1)}", "file 0"))
    now = Patience(*[timedelta(0)] * 5)
    _, found = await PostgresAlarms(database).look(now)
    assert sorted((alarm.kind, alarm.number) for alarm in found) == [
        (AlarmKind.UNACKNOWLEDGED, 1),
        (AlarmKind.UNFETCHED, 1),
    ]
    await mailboxes.acknowledge(subscriber(1), [read, unread])
    assert (await PostgresAlarms(database).look(now))[1] == []


async def test_a_former_partner_s_reader_keeps_nothing_from_its_successor(
    database: Database, mailboxes: PostgresMailboxes
) -> None:
    [name] = await plant(database, [1], channel="mailbox")
    assert await take_all(mailboxes, "poste-1") == [1]
    # As if it had followed.
    await execute(
        database,
        f"UPDATE lane SET subscriber = '{subscriber(2)}'",
        f"UPDATE delivery SET subscriber = '{subscriber(2)}'",
    )
    held = await mailboxes.lease(subscriber(2), "poste-1", MINUTE, 5)
    assert [entry.delivery for entry in held.entries] == [name]
    assert await opened(mailboxes) == []
    await execute(database, f"UPDATE partner SET sequence = 1 WHERE subscriber = '{subscriber(2)}'")


async def test_looking_and_holding_cost_a_page_however_much_lies_there(database: Database) -> None:
    """Counted in blocks that the database looks at: what lies behind the page, and what was acknowledged before it, is
    not among them."""
    await plant(database, [1], channel="mailbox")
    for first, state in ((2, "acknowledged"), (10_000, "delivered")):
        await execute(
            database,
            f"""
            INSERT INTO delivery (id, submission, procedure, subscriber, lane, channel, sequence, kind, revision,
                                  attachments, state, hour)
            SELECT gen_random_uuid(), submission, procedure, subscriber, lane, channel, number, kind, revision,
                   attachments, '{state}', hour
            FROM delivery, generate_series({first}, {first} + 9997) AS number WHERE sequence = 1
            """,
        )
    await execute(database, "ANALYZE delivery")
    for statement, asked in (
        (entries._OPEN, (0, 50)),
        (entries._OPEN, (15_000, 50)),
        (entries.LEASABLE, (0, 50)),
    ):
        [row] = await rows(
            database, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", str(subscriber(1)), *asked
        )
        plan = json.loads(row[0])[0]["Plan"]
        assert plan["Actual Rows"] == 50
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 2_000


async def test_a_search_costs_a_step_for_each_sender_however_much_was_sent(database: Database) -> None:
    await plant(database, [1, 2])
    names = ", ".join(
        row["column_name"]
        for row in await rows(
            database,
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'submission'"
            " AND column_name NOT IN ('id', 'sender', 'external_id') AND is_generated = 'NEVER'",
        )
    )
    await execute(
        database,
        f"INSERT INTO submission (id, sender, external_id, {names})"
        f" SELECT gen_random_uuid(), 'sender-' || number % 3, number, {names} FROM submission,"
        " generate_series(1, 10000) AS number WHERE id = (SELECT min(id::text)::uuid FROM submission)",
        "ANALYZE submission",
    )
    kept = [str(state) for state in KEPT]
    [row] = await rows(
        database,
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {entries._NAMED}",
        str(subscriber(1)),
        "5000",
        2,
        kept,
        25,
    )
    plan = json.loads(row[0])[0]["Plan"]
    assert plan["Actual Rows"] == 1
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200
    [row] = await rows(
        database,
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {entries._BEGINNING}",
        str(subscriber(1)),
        "1",
        2_000,
        kept,
        25,
    )
    plan = json.loads(row[0])[0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200


async def test_a_mailbox_is_no_dearer_to_who_never_looks_into_it(database: Database) -> None:
    """What is delivered on another channel enters none of the mailbox's indexes, and no index of deliveries names what
    a claim writes: so claiming a row changes none."""
    await plant(database, range(5))
    lanes = PostgresLanes(database)
    lane, claims = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [delivered(claim.attempt) for claim in claims])
    sizes = await rows(
        database,
        "SELECT pg_relation_size('delivery_lying') + pg_relation_size('delivery_stuck') AS bytes,"
        " current_setting('block_size')::int AS block",
    )
    assert sizes[0]["bytes"] == 2 * sizes[0]["block"]
    defined = await rows(database, "SELECT indexdef FROM pg_indexes WHERE tablename = 'delivery'")
    assert len(defined) > 5
    for [definition] in defined:
        assert not re.search(r"\b(state|attempt|sending|changed_at|withdrawing)\b", definition), definition
