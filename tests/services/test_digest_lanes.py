"""Digests, as dispatch makes them: a lane rests until its hour, one mail goes then, and whatever fails of it is tried
as the same mail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.partners import PostgresPartners
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.domain.digests import USUAL_HOURS, slots_around
from hub.domain.pace import ChannelFallback, PartnerPace
from hub.domain.partner import Endpoint, Partner
from hub.domain.retry import Policies
from hub.ports.connector import Parcel
from tests.conformance.motion import assert_sound, plant
from tests.conformance.samples import rows, subscriber
from tests.services.mail_world import DAY, Bare, all_are, serving, states, until
from tests.services.room_world import ScriptedPartner

DAILY = {"recipients": ["a@mairie.test"], "frequency": "daily"}


@pytest_asyncio.fixture
async def store(fresh_database: Callable[[], str]) -> AsyncIterator[Database]:
    database = await Database.open(fresh_database())
    yield database
    await database.close()


class Town(ScriptedPartner):
    """Notes what each call brought: the issue's name and the numbers in it."""

    def __init__(self, *answers: Outcome) -> None:
        super().__init__("mail", conduct=self._conduct)
        self.answers = list(answers)
        self.calls: list[tuple[UUID | None, list[int]]] = []

    async def _conduct(self, parcels: Sequence[Parcel]) -> Sequence[Outcome]:
        issues = {parcel.issue for parcel in parcels}
        assert len(issues) == 1
        issue = issues.pop()
        self.calls.append((None if issue is None else issue.id, [parcel.sequence for parcel in parcels]))
        answer = self.answers.pop(0) if self.answers else Delivered("here")
        return [answer] * len(parcels)


async def put(database: Database, *numbers: int) -> list[UUID]:
    return await plant(database, numbers, channel="mail", settings=DAILY)


async def test_a_lane_rests_until_its_hour_and_then_one_mail_goes(store: Database) -> None:
    await put(store, 1, 2, 3)
    town = Town()

    async def rests() -> bool:
        return bool(await rows(store, "SELECT FROM lane WHERE rests_until > clock_timestamp()"))

    async with serving(town, PostgresLanes(store)):
        await until(rests)
    _, following = slots_around(USUAL_HOURS.daily, datetime.now(UTC))
    [lane] = await rows(store, "SELECT due_at FROM lane")
    assert abs(lane["due_at"] - following) < timedelta(minutes=1)
    assert town.calls == []
    await rows(store, "UPDATE lane SET due_at = clock_timestamp(), rests_until = NULL")
    async with serving(town, PostgresLanes(store), "berta", DAY):
        await until(all_are(store, *["delivered"] * 3))
    assert [numbers for _, numbers in town.calls] == [[1, 2, 3]]
    await assert_sound(store)


async def test_a_mail_that_fails_is_tried_as_the_same_mail_until_it_is_parked_whole(store: Database) -> None:
    await put(store, 1, 2)
    town = Town(*[Deferred("mail.content_deferred", About.PARCEL)] * 9)
    policies = Policies((timedelta(0), timedelta(0)), timedelta(seconds=5), {}, {})
    async with serving(town, PostgresLanes(store), ahead=DAY, policies=policies):
        await until(all_are(store, "parked", "parked"))
    assert [numbers for _, numbers in town.calls] == [[1, 2]] * 3
    assert len({name for name, _ in town.calls}) == 1
    await assert_sound(store)


async def test_an_endpoint_that_refuses_a_digest_closes_its_lane_and_parks_one(store: Database) -> None:
    await put(store, 1, 2, 3)
    town = Town(Refused("mail.mailbox_refused", About.ENDPOINT))
    async with serving(town, PostgresLanes(store), ahead=DAY):
        await until(all_are(store, "parked", "waiting", "waiting"))
    [lane] = await rows(store, "SELECT closed_cause FROM lane")
    assert lane["closed_cause"] == "mail.mailbox_refused"
    assert len(town.calls) == 1
    await assert_sound(store)


async def test_what_cannot_be_opened_is_parked_and_the_next_issue_goes_without_it(store: Database) -> None:
    await put(store, 1, 2, 3)
    town = Town()
    async with serving(town, PostgresLanes(store), ahead=DAY, parcels=Bare(frozenset({2}))):
        await until(all_are(store, "delivered", "parked", "delivered"))
    assert [numbers for _, numbers in town.calls] == [[1, 3]], "nothing went before the list was right"
    [row] = await rows(store, "SELECT count(*) AS n FROM digest_issue")
    assert row["n"] == 2
    await assert_sound(store)


async def test_an_issue_that_fails_for_longer_than_its_partner_bears_falls_back_but_for_one(
    store: Database,
) -> None:
    pace = PartnerPace(fallback=ChannelFallback(timedelta(minutes=1)))
    town = Town(*[Deferred("mail.timeout")] * 999)
    await put(store, 1, 2, 3)
    partner = Partner(subscriber(1), "Mairie d'essai 1", Endpoint("mail", DAILY), pace=pace)
    await PostgresPartners(store).keep([(partner, None, None)])
    async with serving(town, PostgresLanes(store), ahead=DAY):

        async def tried() -> bool:
            return len(town.calls) >= 2

        await until(tried)
    await rows(
        store,
        "UPDATE lane SET failing_since = failing_since - interval '1 hour', failures = GREATEST(failures, 1),"
        " due_at = clock_timestamp(), lease_until = NULL, holder = NULL, rests_until = NULL"
        " WHERE channel = 'mail'",
    )
    async with serving(town, PostgresLanes(store), "berta", DAY):

        async def fell_back() -> bool:
            found = await rows(
                store, "SELECT FROM delivery JOIN lane ON lane.id = lane WHERE lane.channel = 'mailbox'"
            )
            return len(found) == 2

        await until(fell_back)

        async def one_goes_on() -> bool:
            return town.calls[-1][1] == [1]

        await until(one_goes_on)
    assert len(await states(store)) == 3
