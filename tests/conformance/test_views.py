"""What the reads of the store must hold: stable pages, filters that combine, and few statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.replays import PostgresReplays
from hub.adapters.postgres.views import PostgresViews
from hub.domain.alarms import AlarmKind
from hub.domain.decisions import Reason, SetAside, Unroutable
from hub.domain.delivery import Attempt
from hub.domain.lifecycle import State
from hub.domain.replays import ReplayOrder, Selection
from hub.ports.views import DeliveryFilter, DeliveryView, Grouping
from hub.services.reconciliation import ENTIRE, RECENT
from tests.conformance.motion import NOW, conclude, park, plant, refused, take, waiting
from tests.conformance.samples import (
    SENDER,
    WatchedDatabase,
    decided,
    execute,
    rows,
    submission,
    subscriber,
)

EVERYTHING = DeliveryFilter()


@pytest.fixture
def views(database: Database) -> PostgresViews:
    return PostgresViews(database)


# --- a submission -------------------------------------------------------------------------------------


async def test_nobody_s_submission_is_none(views: PostgresViews) -> None:
    assert await views.submission(uuid4()) is None


async def test_a_submission_that_is_not_decided_yet_is_accepted(
    database: Database, views: PostgresViews
) -> None:
    told = submission(1)
    await PostgresIntake(database).accept([told])
    found = await views.submission(told.id)
    assert found is not None
    assert (found.id, found.sender, found.external_id) == (told.id, told.sender, told.external_id)
    assert (found.procedure, found.state, found.snapshot) == (told.procedure, "accepted", None)
    assert (found.explanation, found.deliveries) == ((), ())
    assert [line.event for line in found.journal] == ["submission.received"]


@pytest.mark.parametrize(
    ("verdict", "state", "explanation"),
    [
        (Unroutable(("regle-1: nobody subscribes",)), "unroutable", ("regle-1: nobody subscribes",)),
        (SetAside("unknown_procedure"), "set_aside", ("unknown_procedure",)),
    ],
)
async def test_a_submission_that_is_for_nobody_says_why(
    database: Database,
    views: PostgresViews,
    verdict: Unroutable | SetAside,
    state: str,
    explanation: tuple[str, ...],
) -> None:
    await PostgresIntake(database).accept([submission(1)])
    await PostgresRegistry(database).register([decided(1, verdict)])
    found = await views.submission(submission(1).id)
    assert found is not None
    assert (found.state, found.snapshot, found.explanation) == (state, 7, explanation)


async def test_a_routed_submission_tells_its_deliveries_their_attempts_and_reasons(
    database: Database, views: PostgresViews
) -> None:
    [name] = await plant(database, [1])
    lanes = PostgresLanes(database)
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [waiting(claim.attempt, NOW)])
    lane, [claim] = await take(lanes, "anne")
    await conclude(lanes, "anne", lane, [refused(claim.attempt)])
    found = await views.submission(submission(1).id)
    assert found is not None
    [delivery] = found.deliveries
    assert (found.state, found.snapshot) == ("routed", 7)
    assert (delivery.id, delivery.submission, delivery.sender) == (name, found.id, SENDER)
    assert (delivery.subscriber, delivery.partner) == (subscriber(1), "Mairie d'essai 1")
    assert (delivery.channel, delivery.sequence, delivery.attachments) == ("sftp", 1, (1, 2))
    assert (delivery.state, delivery.cause, delivery.due_at) == (State.PARKED, "sftp.denied", None)
    assert delivery.reasons == (
        Reason("regle-1", "mairie", "EtatCivil/commune:64445", ("commune → commune:64445",)),
    )
    assert [(tried.sending, tried.number, tried.outcome, tried.cause) for tried in delivery.attempts] == [
        (1, 1, "deferred", "sftp.timeout"),
        (1, 2, "refused", "sftp.denied"),
    ]
    assert [line.event for line in found.journal] == [
        "submission.received",
        "delivery.planned",
        "delivery.waiting",
        "delivery.parked",
    ]


async def test_the_newest_decision_is_the_one_that_is_told(database: Database, views: PostgresViews) -> None:
    await PostgresIntake(database).accept([submission(1)])
    await PostgresRegistry(database).register([decided(1, Unroutable(("regle-1: nobody",)))])
    await PostgresRegistry(database).register([decided(1, SetAside("unknown_place"), decision=2)])
    found = await views.submission(submission(1).id)
    assert found is not None
    assert (found.state, found.explanation) == ("set_aside", ("unknown_place",))


async def test_a_submission_costs_as_few_statements_with_many_deliveries_as_with_one(fresh_dsn: str) -> None:
    database = await WatchedDatabase.watch(fresh_dsn)
    views = PostgresViews(database)
    costs = []
    for number, to in enumerate(([1], range(1, 31))):
        await plant(database, [number], to=to)
        await park(database)
        database.statements.clear()
        found = await views.submission(submission(number).id)
        assert found is not None
        assert [len(delivery.attempts) for delivery in found.deliveries] == [1] * len(to)
        costs.append(len(database.statements))
    await database.close()
    assert costs[0] == costs[1]


# --- pages of deliveries ------------------------------------------------------------------------------


async def _walk(
    views: PostgresViews, where: DeliveryFilter = EVERYTHING, limit: int = 7
) -> list[DeliveryView]:
    found: list[DeliveryView] = []
    after: tuple[datetime, UUID] | None = None
    while True:
        page = await views.deliveries(where, after, limit)
        assert len(page.items) <= limit
        found.extend(page.items)
        if page.next is None:
            return found
        assert page.items
        after = page.next


def _names(found: Sequence[DeliveryView]) -> list[UUID]:
    return [view.id for view in found]


async def test_pages_show_each_delivery_once_even_when_many_were_made_in_one_instant(
    database: Database, views: PostgresViews
) -> None:
    names = await plant(database, range(20), to=[1, 2])
    await execute(
        database,
        "UPDATE delivery SET created_at = (SELECT min(created_at) FROM delivery) WHERE sequence < 15",
    )
    found = await _walk(views)
    assert sorted(_names(found)) == sorted(names)
    keys = [(view.created_at, view.id) for view in found]
    assert keys == sorted(keys)


@pytest.mark.parametrize("limit", [1, 3, 6, 7])
async def test_the_last_page_says_that_it_is_the_last(
    database: Database, views: PostgresViews, limit: int
) -> None:
    names = await plant(database, range(6))
    assert sorted(_names(await _walk(views, limit=limit))) == sorted(names)
    last = await views.deliveries(EVERYTHING, None, 6)
    assert (len(last.items), last.next) == (6, None)


async def test_what_is_made_while_somebody_turns_pages_comes_later_and_shifts_nothing(
    database: Database, views: PostgresViews
) -> None:
    names = await plant(database, range(6))
    first = await views.deliveries(EVERYTHING, None, 4)
    later = await plant(database, [100])
    rest = await views.deliveries(EVERYTHING, first.next, 10)
    assert sorted(_names([*first.items, *rest.items])) == sorted([*names, *later])
    assert rest.items[-1].id == later[0]


async def test_an_empty_store_has_an_empty_page(views: PostgresViews) -> None:
    page = await views.deliveries(EVERYTHING, None, 10)
    assert (page.items, page.next) == ((), None)


async def test_every_field_of_a_filter_narrows_it_and_they_combine(
    database: Database, views: PostgresViews
) -> None:
    await plant(database, [1, 2], to=[1, 2])
    await park(database, "sftp.denied")
    await plant(database, [3], to=[3], channel="mail")

    async def count(where: DeliveryFilter) -> int:
        return len(await _walk(views, where, limit=2))

    assert await count(EVERYTHING) == 5
    assert await count(DeliveryFilter(sender=SENDER)) == 5
    assert await count(DeliveryFilter(sender="autre-osl")) == 0
    assert await count(DeliveryFilter(subscriber=subscriber(2))) == 2
    assert await count(DeliveryFilter(channel="mail")) == 1
    assert await count(DeliveryFilter(procedure="EtatCivil")) == 5
    assert await count(DeliveryFilter(procedure="Autre")) == 0
    assert await count(DeliveryFilter(state=State.PARKED)) == 4
    assert await count(DeliveryFilter(cause="sftp.denied")) == 4
    assert await count(DeliveryFilter(submission=submission(1).id)) == 2
    everything_at_once = DeliveryFilter(
        sender=SENDER,
        subscriber=subscriber(1),
        channel="sftp",
        procedure="EtatCivil",
        state=State.PARKED,
        cause="sftp.denied",
        submission=submission(2).id,
    )
    assert await count(everything_at_once) == 1
    assert await count(replace(everything_at_once, sender="autre-osl")) == 0
    assert await count(replace(everything_at_once, state=State.PLANNED)) == 0


async def test_pages_of_a_filter_carry_reasons_and_no_attempts(
    database: Database, views: PostgresViews
) -> None:
    await plant(database, [1], to=[1, 2])
    await park(database)
    [view] = await _walk(views, DeliveryFilter(subscriber=subscriber(2)))
    assert [reason.rule for reason in view.reasons] == ["regle-1"]
    assert view.attempts == ()


async def test_a_key_beyond_the_end_gives_an_empty_page(database: Database, views: PostgresViews) -> None:
    await plant(database, [1])
    page = await views.deliveries(EVERYTHING, (datetime(9000, 1, 1, tzinfo=UTC), UUID(int=0)), 10)
    assert (page.items, page.next) == ((), None)


@pytest.mark.parametrize("hostile", ["a\0b", "\ud800", "' OR true --"])
async def test_a_text_no_row_can_hold_matches_nothing(
    database: Database, views: PostgresViews, hostile: str
) -> None:
    await plant(database, [1])
    for where in (
        DeliveryFilter(cause=hostile),
        DeliveryFilter(channel=hostile),
        DeliveryFilter(procedure=hostile),
        DeliveryFilter(sender=hostile),
    ):
        assert (await views.deliveries(where, None, 10)).items == ()


# --- what is parked -----------------------------------------------------------------------------------


async def test_parked_deliveries_are_told_by_cause_and_channel(
    database: Database, views: PostgresViews
) -> None:
    assert await views.parked() == []
    await plant(database, [1, 2], to=[1, 2])
    await park(database, "sftp.denied")
    await plant(database, [3], to=[3], channel="mail")
    await park(database, "mail.bounced")
    denied, bounced = await views.parked()
    assert (denied.cause, denied.channel, denied.deliveries, denied.partners) == ("sftp.denied", "sftp", 4, 2)
    assert (bounced.cause, bounced.channel, bounced.deliveries, bounced.partners) == (
        "mail.bounced",
        "mail",
        1,
        1,
    )
    [changed] = await rows(
        database,
        "SELECT min(changed_at) AS first, max(changed_at) AS last FROM delivery WHERE channel = 'sftp'",
    )
    assert (denied.first_at, denied.last_at) == (changed["first"], changed["last"])
    await execute(database, f"UPDATE partner SET vendor = 'Logiciel' WHERE subscriber <> '{subscriber(1)}'")
    by_vendor = [
        (one.of, one.cause, one.deliveries, one.partners) for one in await views.parked(Grouping.VENDOR)
    ]
    assert by_vendor == [
        ("", "sftp.denied", 2, 1),
        ("Logiciel", "sftp.denied", 2, 1),
        ("Logiciel", "mail.bounced", 1, 1),
    ]
    by_partner = {(one.of, one.cause): one.deliveries for one in await views.parked(Grouping.PARTNER)}
    assert by_partner == {
        (str(subscriber(1)), "sftp.denied"): 2,
        (str(subscriber(2)), "sftp.denied"): 2,
        (str(subscriber(3)), "mail.bounced"): 1,
    }
    await PostgresReplays(database).begin(uuid4(), ReplayOrder(Selection(cause="sftp.denied"), "jeanne", ""))
    await PostgresReplays(database).send_again(10)
    assert [group.cause for group in await views.parked()] == ["mail.bounced"]


# --- parcels ------------------------------------------------------------------------------------------


async def test_parcels_come_in_the_order_asked_and_another_s_are_not_there(
    database: Database, views: PostgresViews
) -> None:
    names = await plant(database, range(4))
    [other] = await plant(database, [9], to=[2])
    asked = [names[2], uuid4(), other, names[0], names[3]]
    found = await views.parcels(asked, subscriber(1))
    assert [item.claim.attempt.delivery for item in found] == [names[2], names[0], names[3]]
    assert found[1].claim.wrapped_key == submission(0).wrapped_key
    assert found[1].claim.sealed == submission(0).sealed
    assert await views.parcel(other, subscriber(1)) is None
    assert await views.parcel(other, subscriber(2)) is not None


async def test_a_parcel_is_what_a_worker_would_claim_and_reading_it_claims_nothing(
    database: Database, views: PostgresViews
) -> None:
    [name] = await plant(database, [1])
    await execute(database, "UPDATE delivery SET attachments = '{1}'")
    seen = await views.parcel(name)
    _, [claim] = await take(PostgresLanes(database), "anne")
    assert seen is not None
    assert seen.state is State.PLANNED
    assert seen.claim.attempt == Attempt(name, 1, 0)
    assert replace(seen.claim, attempt=claim.attempt) == claim
    assert await views.parcel(uuid4()) is None


async def test_a_parcel_of_a_purged_submission_has_an_empty_key(
    database: Database, views: PostgresViews
) -> None:
    [name] = await plant(database, [1])
    await execute(database, "DELETE FROM submission_key")
    parcel = await views.parcel(name)
    assert parcel is not None
    assert parcel.claim.wrapped_key == b""


# --- gauges -------------------------------------------------------------------------------------------


async def test_gauges_count_everything_and_say_zero_where_there_is_nothing(
    database: Database, views: PostgresViews
) -> None:
    empty = await views.counts()
    states = {f"deliveries.{state}" for state in State if state is not State.IN_FLIGHT}
    states |= {f"alarms.{kind}" for kind in AlarmKind} | {
        f"ledger_differences.{check}" for check in (RECENT, ENTIRE)
    }
    single = {"submissions.accepted", "submissions.undecided", "tray.letters", "set_aside.records"}
    assert set(empty) == states | single | {"lag_seconds.undecided", "lag_seconds.due"}
    assert set(empty.values()) == {0}
    await plant(database, [1, 2], to=[1, 2])
    await park(database)
    await plant(database, [3])
    await PostgresIntake(database).accept([submission(4)])
    assert {name: count for name, count in (await views.counts()).items() if count} == {
        "submissions.accepted": 4,
        "submissions.undecided": 1,
        "tray.letters": 4,
        "deliveries.parked": 4,
        "deliveries.planned": 1,
    }
    # The same when it is added up.
    before = await views.counts()
    assert await PostgresLedger(database).fold(100) > 0
    assert await views.counts() == before


async def test_how_long_the_oldest_waits_is_told_and_what_was_looked_at_before_is_not_counted_again(
    database: Database, views: PostgresViews
) -> None:
    await plant(database, [1], to=[1])
    await PostgresIntake(database).accept([submission(2), submission(3)])
    await execute(
        database,
        "UPDATE submission SET received_at = received_at - interval '3 hours'"
        " WHERE id <> (SELECT submission FROM tray ORDER BY position DESC LIMIT 1)",
        "UPDATE lane SET due_at = due_at - interval '2 minutes'",
    )
    told = await views.counts()
    assert told["submissions.undecided"] == 2
    assert 3 * 3600 <= told["lag_seconds.undecided"] < 3 * 3600 + 60
    assert 120 <= told["lag_seconds.due"] < 180
    # Where all that came before is decided, none of it is read.
    await execute(database, "UPDATE log_life SET decided_until = clock_timestamp() - interval '1 hour'")
    told = await views.counts()
    assert told["submissions.undecided"] == 1
    assert told["lag_seconds.undecided"] < 60
