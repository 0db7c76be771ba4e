"""What every store must hold of mails that come back: noted once, and what they delivered is parked once they came back
from every address that took them, by their own latest sending alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from hub.adapters.postgres.alarms import PostgresAlarms
from hub.adapters.postgres.bounces import PostgresBounces
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.replays import PostgresReplays
from hub.domain.alarms import AlarmKind, Patience
from hub.domain.bounces import BounceEffect, MailReceipt, Return
from hub.domain.delivery import Attempt, Conclusion, Delivered
from hub.domain.lifecycle import State
from hub.domain.mailbox import Drawer
from hub.domain.replays import ReplayOrder, Selection
from hub.ports.bounces import AddressFaults
from hub.ports.lanes import IssueClaim
from tests.conformance.motion import (
    NOW,
    assert_sound,
    conclude,
    journal,
    lease_one,
    plant,
    standing,
    take,
    waiting,
)
from tests.conformance.samples import partner, rows, subscriber
from tests.conformance.test_store_successions import serve, succeed

SLOT = datetime(2126, 4, 3, 6, tzinfo=UTC)
ADDRESSES = ["a@mairie.test", "b@mairie.test", "c@mairie.test"]


@pytest_asyncio.fixture
async def lanes(database: Database) -> AsyncIterator[PostgresLanes]:
    lanes = PostgresLanes(database)
    yield lanes
    await lanes.close()


@pytest.fixture
def bounces(database: Database) -> PostgresBounces:
    return PostgresBounces(database)


async def put(database: Database, *numbers: int, frequency: str = "unit") -> list[UUID]:
    settings = {"recipients": ADDRESSES, "frequency": frequency}
    return await plant(database, numbers, channel="mail", settings=settings)


def arrived(attempt: Attempt, *places: int, mail: UUID | None = None) -> Conclusion:
    receipt = MailReceipt(mail or attempt.delivery, places, len(ADDRESSES)).written("hub.test")
    refused = tuple(place for place in (1, 2, 3) if place not in places)
    return Conclusion(attempt, State.DELIVERED, Delivered(receipt, refused))


async def deliver(lanes: PostgresLanes, *places: int) -> None:
    lane, claims = await take(lanes, "anna")
    await conclude(lanes, "anna", lane, [arrived(one.attempt, *places) for one in claims])


async def back(
    bounces: PostgresBounces, mail: UUID, place: int, sending: int = 1, status: str | None = "5.1.1"
) -> BounceEffect:
    def address_of(addresses: Sequence[str]) -> str | None:
        assert addresses == ADDRESSES
        return ADDRESSES[place - 1]

    return await bounces.note(Return(mail, sending, place, b"tag."), status, address_of)


async def test_a_mail_that_came_back_from_everywhere_parks_its_delivery(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    await deliver(lanes, 1, 3)
    assert await back(bounces, name, 1) is BounceEffect.NOTED
    assert (await standing(database, name)).state is State.DELIVERED
    assert await back(bounces, name, 3) is BounceEffect.PARKED
    stands = await standing(database, name)
    assert (stands.state, stands.cause, stands.due_in) == (State.PARKED, "mail.bounced", None)
    assert await journal(database, "delivery.bounced") == [
        (name, "hub", "address 1, 5.1.1"),
        (name, "hub", "address 3, 5.1.1"),
    ]
    assert await journal(database, "delivery.parked") == [(name, "hub", "mail.bounced")]
    await assert_sound(database)


async def test_what_bounces_after_its_partner_was_succeeded_is_found_by_the_successor(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    await deliver(lanes, 1)
    await succeed(database, {1: 2})
    assert await lanes.next_due() != 0
    assert await back(bounces, name, 1) is BounceEffect.PARKED
    assert await serve(lanes) == []
    page = await PostgresMailboxes(database).look(subscriber(2), Drawer.OPEN, None, 10)
    assert [(one.delivery, one.state, one.channel) for one in page.entries] == [(name, State.PARKED, "mail")]
    await assert_sound(database)


async def test_a_bounce_is_noted_with_its_address_beside_the_journal(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    await deliver(lanes, 1, 2, 3)
    await back(bounces, name, 2, status=None)
    [row] = await rows(database, "SELECT mail, sending, place, address, status FROM bounce")
    assert tuple(row) == (name, 1, 2, "b@mairie.test", None)
    [seen] = (await bounces.of(name, "operator:o")).bounced
    assert (seen.sending, seen.place, seen.address, seen.status) == (1, 2, "b@mairie.test", None)
    assert "mairie" not in repr(seen)
    assert await journal(database, "delivery.bounces_read") == [
        (name, "operator:o", "1 bounces, 0 not taken")
    ]
    assert await bounces.of(uuid4(), "operator:o") == AddressFaults()
    told = await rows(database, "SELECT detail FROM journal WHERE detail LIKE '%@mairie%'")
    assert told == []


async def test_an_address_that_did_not_take_a_mail_is_told_as_it_was_listed_then(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    assert await bounces.of(name, "operator:o") == AddressFaults()
    await deliver(lanes, 1)
    found = await bounces.of(name, "operator:o")
    assert [(one.sending, one.attempt, one.place, one.address) for one in found.untaken] == [
        (1, 1, 2, "b@mairie.test"),
        (1, 1, 3, "c@mairie.test"),
    ]
    assert "mairie" not in repr(found)
    assert await journal(database, "delivery.bounces_read") == [
        (name, "operator:o", "0 bounces, 2 not taken")
    ]
    # Another list of addresses: nobody may be blamed by a place in it.
    await PostgresPartners(database).keep(
        [(partner(1, "mail", recipients=ADDRESSES[::-1], frequency="unit"), None, None)]
    )
    found = await bounces.of(name, "operator:o")
    assert [(one.place, one.address) for one in found.untaken] == [(2, None), (3, None)]


async def test_a_bounce_that_is_told_again_changes_nothing(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    await deliver(lanes, 1, 2)
    assert await back(bounces, name, 1) is BounceEffect.NOTED
    assert await back(bounces, name, 1) is BounceEffect.KNOWN
    assert await back(bounces, name, 2) is BounceEffect.PARKED
    assert await back(bounces, name, 2) is BounceEffect.KNOWN
    assert len(await journal(database, "delivery.bounced")) == 2
    await assert_sound(database)


async def test_a_bounce_from_an_address_that_did_not_take_it_parks_nothing(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    await deliver(lanes, 1)
    assert await back(bounces, name, 2) is BounceEffect.NOTED
    assert (await standing(database, name)).state is State.DELIVERED


async def test_a_bounce_of_an_older_sending_changes_nothing(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    await deliver(lanes, 1)
    replays = PostgresReplays(database)
    await replays.begin(uuid4(), ReplayOrder(Selection(state=State.DELIVERED), "paul", "perdu"))
    while await replays.send_again(10):
        pass
    await deliver(lanes, 1)
    assert (await standing(database, name)).sending == 2
    assert await back(bounces, name, 1, sending=1) is BounceEffect.NOTED
    assert (await standing(database, name)).state is State.DELIVERED
    assert await back(bounces, name, 1, sending=2) is BounceEffect.PARKED


async def test_while_nobody_knows_who_took_it_a_bounce_is_to_be_told_again(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    lane, [claim] = await take(lanes, "anna")
    assert await back(bounces, name, 1) is BounceEffect.UNDER_WAY
    assert await rows(database, "SELECT FROM bounce") == []
    await conclude(lanes, "anna", lane, [arrived(claim.attempt, 1)])
    assert await back(bounces, name, 1) is BounceEffect.PARKED


async def test_a_bounce_of_an_attempt_whose_result_was_unknown_counts_when_the_next_one_delivers(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    lane, [claim] = await take(lanes, "anna")
    await conclude(lanes, "anna", lane, [waiting(claim.attempt, NOW)])
    assert await back(bounces, name, 1) is BounceEffect.NOTED
    await deliver(lanes, 1)
    assert await back(bounces, name, 1) is BounceEffect.PARKED, "the second mail came back as well"


async def test_what_its_partner_has_is_not_parked(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    await deliver(lanes, 1)
    await PostgresMailboxes(database).acknowledge(subscriber(1), [name])
    assert await back(bounces, name, 1) is BounceEffect.NOTED
    assert (await standing(database, name)).state is State.ACKNOWLEDGED


async def test_a_mail_that_nobody_sent_is_forgotten(bounces: PostgresBounces) -> None:
    assert await back(bounces, uuid4(), 1) is BounceEffect.FORGOTTEN


async def test_an_issue_that_came_back_parks_all_that_it_delivered_and_nothing_else(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    names = await put(database, 1, 2, 3, frequency="daily")
    lane = await lease_one(lanes, "anna")
    first = await lanes.claim_issue("anna", lane, SLOT, 2)
    assert isinstance(first, IssueClaim)
    await conclude(
        lanes, "anna", lane, [arrived(one.attempt, 1, mail=first.issue.id) for one in first.claims]
    )
    lane = await lease_one(lanes, "anna")
    second = await lanes.claim_issue("anna", lane, SLOT, 2)
    assert isinstance(second, IssueClaim)
    await conclude(
        lanes, "anna", lane, [arrived(one.attempt, 1, mail=second.issue.id) for one in second.claims]
    )
    await PostgresMailboxes(database).acknowledge(subscriber(1), [names[1]])
    assert await back(bounces, first.issue.id, 1, sending=0) is BounceEffect.PARKED
    states = [(await standing(database, name)).state for name in names]
    assert states == [State.PARKED, State.ACKNOWLEDGED, State.DELIVERED]
    assert len(await journal(database, "delivery.bounced")) == 2
    seen = [
        [(one.sending, one.address) for one in (await bounces.of(name, "operator:o")).bounced]
        for name in names
    ]
    assert seen == [[(0, "a@mairie.test")], [(0, "a@mairie.test")], []]
    await assert_sound(database)


async def test_an_issue_that_another_one_took_the_place_of_parks_nothing(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    names = await put(database, 1, 2, frequency="daily")
    lane = await lease_one(lanes, "anna")
    first = await lanes.claim_issue("anna", lane, SLOT, 10)
    assert isinstance(first, IssueClaim)
    await conclude(lanes, "anna", lane, [waiting(one.attempt, NOW) for one in first.claims])
    await PostgresMailboxes(database).acknowledge(subscriber(1), [names[0]])
    lane = await lease_one(lanes, "anna")
    second = await lanes.claim_issue("anna", lane, SLOT, 10)
    assert isinstance(second, IssueClaim)
    await conclude(
        lanes, "anna", lane, [arrived(one.attempt, 1, mail=second.issue.id) for one in second.claims]
    )
    assert await back(bounces, first.issue.id, 1, sending=0) is BounceEffect.NOTED
    assert (await standing(database, names[1])).state is State.DELIVERED


# --- addresses ----------------------------------------------------------------------------------------


async def faults(database: Database) -> list[tuple[int, str | None]]:
    _, now = await PostgresAlarms(database).look(Patience())
    return [(alarm.number, alarm.cause) for alarm in now if alarm.kind is AlarmKind.ADDRESS]


async def test_an_address_that_refused_is_noted_and_alarmed(database: Database, lanes: PostgresLanes) -> None:
    [name] = await put(database, 1)
    await deliver(lanes, 1, 2)
    assert await journal(database, "delivery.delivered") == [(name, "hub", "not taken by address 3")]
    assert await faults(database) == [(1, "mail.address_refused")]


async def test_an_address_that_mails_come_back_from_is_alarmed(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    [name] = await put(database, 1)
    await deliver(lanes, 1, 2, 3)
    assert await faults(database) == []
    await back(bounces, name, 2)
    assert await faults(database) == [(1, "mail.bounced")]


async def test_other_settings_begin_anew(database: Database, lanes: PostgresLanes) -> None:
    await put(database, 1)
    await deliver(lanes, 1)
    assert await faults(database) == [(2, "mail.address_refused")]
    await PostgresPartners(database).keep([(partner(1, "mail", recipients=ADDRESSES[:1]), None, None)])
    assert await faults(database) == []


async def test_what_is_not_heard_of_again_is_no_alarm_after_three_days(
    database: Database, lanes: PostgresLanes
) -> None:
    await put(database, 1)
    await deliver(lanes, 1, 2)
    await rows(database, "UPDATE address_fault SET last_at = last_at - interval '4 days'")
    assert await faults(database) == []


async def test_what_a_mail_only_announced_lies_in_the_mailbox_until_it_is_fetched_and_bounces_by_mail(
    database: Database, lanes: PostgresLanes, bounces: PostgresBounces
) -> None:
    mailboxes, alarms = PostgresMailboxes(database), PostgresAlarms(database)
    carried, announced = await put(database, 1, 2)
    lane, claims = await take(lanes, "anna")
    told = [arrived(one.attempt, 1, 2, 3) for one in claims]
    told = [
        replace(one, outcome=replace(one.outcome, announced=True))
        if one.attempt.delivery == announced and isinstance(one.outcome, Delivered)
        else one
        for one in told
    ]
    await conclude(lanes, "anna", lane, told)

    async def drawn(one: Drawer) -> list[UUID]:
        return [entry.delivery for entry in (await mailboxes.look(subscriber(1), one, None, 10)).entries]

    assert await drawn(Drawer.OPEN) == [announced]
    assert await drawn(Drawer.HANDED_OVER) == [carried]
    _, found = await alarms.look(Patience(unfetched=NOW))
    [alarm] = [one for one in found if one.kind is AlarmKind.UNFETCHED]
    assert (alarm.subscriber, alarm.channel, alarm.number) == (str(subscriber(1)), "mailbox", 1)
    for place in (1, 2, 3):
        await back(bounces, announced, place)
    [row] = await rows(database, "SELECT state, channel FROM delivery WHERE id = $1", announced)
    assert tuple(row) == ("parked", "mail")
    await assert_sound(database)
