"""What every store must hold of events: each is kept once and whole, numbered for its sender without a gap, and told to
nobody before all smaller ones; where the sender has an endpoint, its parcel comes with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.events import PostgresEvents
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.replays import PostgresReplays
from hub.domain.cases import USUAL, CaseStatus
from hub.domain.errors import Unavailable
from hub.domain.events import NewEvent
from hub.domain.identity import ParcelKind
from hub.domain.lifecycle import State
from hub.domain.replays import ReplayOrder, Selection
from hub.domain.reports import Declined, Kept, NotTaken, ReportAnswer
from hub.ports.events import Event
from hub.ports.lanes import Page
from tests.conformance.motion import (
    MINUTE,
    assert_sound,
    delivered,
    plant,
    refused,
    standing,
)
from tests.conformance.samples import (
    SENDER,
    Obstacle,
    partner,
    rows,
    stopped_by_a_lock,
    submission,
    subscriber,
)
from tests.conformance.test_numbers import Broken, Fickle

DESK = 9
"""The partner that is a sender's own endpoint."""


def said(delivery: UUID, status: CaseStatus | None = CaseStatus.DONE, text: str = "") -> NewEvent:
    named = f"{status} {text}".encode()
    return NewEvent(delivery, "api", status, named, bool(text), None, named, b"sealed " + named)


async def keep(database: Database, *new: NewEvent, by: int = 1) -> Sequence[ReportAnswer]:
    return await PostgresEvents(database).keep(subscriber(by), new, {"EtatCivil": USUAL}, 7)


async def all_of(database: Database) -> Sequence[Event]:
    return await PostgresEvents(database).since(SENDER, 0, 500)


async def declare_desk(database: Database) -> None:
    desk = replace(partner(DESK, "webhook", url="https://formulaires.example"), sender=SENDER)
    await PostgresPartners(database).keep([(desk, None, None)])


async def test_an_event_its_case_its_file_and_its_line_come_together(database: Database) -> None:
    [delivery] = await plant(database, [0])
    [kept] = await keep(database, replace(said(delivery), location="a-file", size=3))
    assert isinstance(kept, Kept)
    [event] = await all_of(database)
    assert (event.id, event.number, event.status, event.location) == (
        kept.event,
        1,
        CaseStatus.DONE,
        "a-file",
    )
    assert (event.submission, event.subscriber) == (submission(0).id, subscriber(1))
    assert (event.sealed, event.wrapped_key) == (said(delivery).sealed, submission(0).wrapped_key)
    assert await PostgresEvents(database).one(SENDER, kept.event) == event
    assert await PostgresEvents(database).one("autre", kept.event) is None
    [case] = await rows(database, "SELECT status, number, event FROM delivery_case")
    assert tuple(case) == ("DONE", 1, kept.event)
    assert await rows(database, "SELECT FROM stored_file WHERE location = 'a-file'")
    [line] = await rows(database, "SELECT actor, detail FROM journal WHERE event = 'event.kept'")
    assert line["actor"] == f"partner:{subscriber(1)}"
    assert (await standing(database, delivery)).state is State.ACKNOWLEDGED
    await assert_sound(database)


async def test_two_that_say_the_same_at_once_are_one_event(database: Database) -> None:
    [delivery] = await plant(database, [0])
    answers = await asyncio.gather(*(keep(database, said(delivery), said(delivery)) for _ in range(6)))
    told = [answer for (first, second) in answers for answer in (first, second)]
    assert {answer.event for answer in told if isinstance(answer, Kept)} == {
        event.id for event in await all_of(database)
    }
    assert sum(isinstance(answer, Kept) and answer.fresh for answer in told) == 1
    assert len(told) == 12


async def test_a_number_is_told_when_all_smaller_ones_are_and_one_that_failed_is_given_again(
    database: Database,
) -> None:
    first, second, third = await plant(database, range(3))
    async with Obstacle.before(database, "event") as obstacle:
        slow = asyncio.create_task(keep(database, said(first)))
        backend = await obstacle.reached()
        behind = asyncio.create_task(keep(database, said(second)))
        await stopped_by_a_lock(database, "transactionid")
        assert await all_of(database) == []
        await obstacle.kill(backend)
        with pytest.raises(Unavailable):
            await slow
        await obstacle.remove()
        await behind
    await keep(database, said(third), said(first))
    assert [(event.number, event.delivery) for event in await all_of(database)] == [
        (1, second),
        (2, third),
        (3, first),
    ]


async def test_whoever_asks_for_events_since_misses_none_and_meets_none_twice(
    fresh_dsn: str, database: Database
) -> None:
    fickle = await Fickle.open(fresh_dsn)
    assert isinstance(fickle, Fickle)
    fickle.dice = random.Random(3)
    deliveries = await plant(database, range(15))

    async def report(delivery: UUID) -> None:
        while True:
            try:
                await keep(fickle, said(delivery))
                return
            except Broken:
                await asyncio.sleep(0)

    met: list[Event] = []
    reading = asyncio.gather(*(report(delivery) for delivery in deliveries))
    while len(met) < len(deliveries):
        met += await PostgresEvents(database).since(SENDER, met[-1].number if met else 0, 7)
        await asyncio.sleep(0)
    await reading
    await fickle.close()
    assert [event.number for event in met] == list(range(1, 16))
    assert {event.delivery for event in met} == set(deliveries)


async def test_what_moved_away_or_is_another_s_takes_nothing(database: Database) -> None:
    [delivery] = await plant(database, [0])
    [answer] = await keep(database, said(delivery), by=2)
    assert isinstance(answer, Declined)
    assert answer.why is NotTaken.MOVED
    assert await PostgresEvents(database).reported(subscriber(2), [delivery]) == {}
    found = await PostgresEvents(database).reported(subscriber(1), [delivery])
    assert found[delivery].state is State.PLANNED
    assert await PostgresEvents(database).moved_away(subscriber(2), [delivery]) == set()
    assert await all_of(database) == []


# --- the sender's endpoint ----------------------------------------------------------------------------


async def test_an_event_goes_to_its_sender_s_endpoint_under_its_own_name_and_in_order(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare_desk(database)
    one, two = await plant(database, range(2), channel="mailbox")
    kept = await keep(database, said(one, CaseStatus.IN_PROGRESS), said(one), said(two), said(two))
    names = [answer.event for answer in kept if isinstance(answer, Kept) and answer.fresh]
    assert len(names) == 3
    taken = await lanes.take("worker", 10, 10, 10, MINUTE)
    [page] = [one for one in taken if one.lane.subscriber == subscriber(DESK)]
    assert page.claims is not None
    assert [claim.attempt.delivery for claim in page.claims] == names
    assert [claim.sequence for claim in page.claims] == [1, 2, 3]
    events: Mapping[UUID, Event] = {event.id: event for event in await all_of(database)}
    for claim in page.claims:
        assert claim.kind is ParcelKind.NEWS
        assert claim.event == events[claim.attempt.delivery]
        assert claim.attachments == ()
    await lanes.conclude(
        "worker",
        [Page(page.lane.id, tuple(delivered(claim.attempt) for claim in page.claims))]
        + [Page(one.lane.id) for one in taken if one is not page],
    )
    await assert_sound(database)


async def test_news_that_was_refused_is_sent_again_on_an_operator_s_order(
    database: Database, lanes: PostgresLanes
) -> None:
    await declare_desk(database)
    [delivery] = await plant(database, [0], channel="mailbox")
    [kept] = await keep(database, said(delivery))
    assert isinstance(kept, Kept)
    taken = await lanes.take("worker", 10, 10, 10, MINUTE)
    [page] = [one for one in taken if one.lane.subscriber == subscriber(DESK)]
    assert page.claims is not None
    await lanes.conclude(
        "worker", [Page(page.lane.id, tuple(refused(claim.attempt) for claim in page.claims))]
    )
    assert (await standing(database, kept.event)).state is State.PARKED
    replays = PostgresReplays(database)
    delivered_only = Selection(state=State.ACKNOWLEDGED)
    assert (await replays.preview(delivered_only)).matched == 1
    await replays.begin(UUID(int=5), ReplayOrder(Selection(), "exploitante", "remis en service"))
    assert await replays.send_again(10) == 1
    found = await standing(database, kept.event)
    assert (found.state, found.sending) == (State.PLANNED, 2)
    await assert_sound(database)


@pytest.mark.parametrize("table", ["event", "delivery_case", "delivery", "journal"])
async def test_a_process_killed_anywhere_in_it_leaves_no_event_and_no_news(
    database: Database, table: str
) -> None:
    await declare_desk(database)
    [delivery] = await plant(database, [0], channel="mailbox")
    new = replace(said(delivery), location="a-file", size=3)
    async with Obstacle.before(database, table) as obstacle:
        asked = asyncio.create_task(keep(database, new))
        await obstacle.kill(await obstacle.reached())
        with pytest.raises(Unavailable):
            await asked
        await obstacle.remove()
    for rest in ("event", "delivery_case", "sender", "delivery WHERE kind = 'news'"):
        assert await rows(database, f"SELECT FROM {rest}") == []
    assert not await rows(database, "SELECT FROM stored_file WHERE location = 'a-file'")
    assert (await standing(database, delivery)).state is State.PLANNED
    await keep(database, replace(new, location="another-file"))
    assert [event.location for event in await all_of(database)] == ["another-file"]
    assert len(await rows(database, "SELECT FROM delivery WHERE kind = 'news'")) == 1
    await assert_sound(database)


async def test_a_sender_without_an_endpoint_gets_no_parcel(database: Database) -> None:
    [delivery] = await plant(database, [0])
    await keep(database, said(delivery))
    assert await rows(database, "SELECT FROM delivery WHERE kind = 'news'") == []
