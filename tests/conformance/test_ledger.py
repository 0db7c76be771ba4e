"""What every store must hold of its accounts: both equations, and every row that came, went or moved unseen: it is
named."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.slips import count_registered
from hub.domain.decisions import SetAside, Unroutable
from hub.domain.ledger import Scope, Term
from hub.ports.accounts import Accounts, DeliveryAccount, Ledger, StandingAccount, SubmissionAccount
from hub.ports.intake import Intake
from hub.ports.partners import Partners
from hub.ports.registry import Registry
from hub.services.reconciliation import differences
from tests.conformance.motion import conclude, delivered, park, plant, refused, take, waiting
from tests.conformance.samples import (
    decided,
    delivery,
    execute,
    partner,
    routed,
    rows,
    submission,
    submissions,
    subscriber,
)


@pytest.fixture
async def journey(intake: Intake, registry: Registry, partners: Partners) -> None:
    """Ten submissions of one procedure and one of another: six routed, one of them to two partners."""
    await partners.keep([(partner(1, "sftp"), None, None), (partner(2, "webhook"), None, None)])
    await intake.accept([*submissions(10), submission(10, procedure="JourneeCitoyenne")])
    await registry.register([routed(number, [1]) for number in range(5)])
    await registry.register([routed(5, [1, 2]), decided(6, Unroutable(())), decided(7, SetAside("word"))])
    await registry.register([routed(10, [2])])


def named(accounts: Accounts) -> list[tuple[UUID | None, str]]:
    return [(one.id, one.what) for one in accounts.differences]


async def all_is_well(ledger: Ledger) -> Accounts:
    """Before the slips are added up and after, for each scope."""
    accounts = await ledger.accounts()
    assert (differences(accounts), accounts.unopened) == ([], 0)
    while await ledger.fold(100):
        pass
    assert await ledger.accounts() == accounts
    return accounts


async def test_an_empty_store_has_empty_accounts(ledger: Ledger) -> None:
    assert await ledger.accounts() == Accounts((), (), (), (), 0, 0)


@pytest.mark.usefixtures("journey")
async def test_when_all_is_well_both_equations_hold_and_nothing_differs(ledger: Ledger) -> None:
    accounts = await all_is_well(ledger)
    assert accounts == Accounts(
        (
            SubmissionAccount("EtatCivil", 10, 6, 1, 1, 2),
            SubmissionAccount("JourneeCitoyenne", 1, 1, 0, 0, 0),
        ),
        (
            DeliveryAccount("EtatCivil", "submission", 7, {Term.PLANNED: 7}),
            DeliveryAccount("JourneeCitoyenne", "submission", 1, {Term.PLANNED: 1}),
        ),
        (
            StandingAccount("submission", "EtatCivil", "", "sftp", {Term.PLANNED: 6}),
            StandingAccount("submission", "EtatCivil", "", "webhook", {Term.PLANNED: 1}),
            StandingAccount("submission", "JourneeCitoyenne", "", "webhook", {Term.PLANNED: 1}),
        ),
        (),
        0,
        0,
    )


@pytest.mark.usefixtures("journey")
async def test_hours_a_procedure_and_a_partner_narrow_what_is_compared(
    ledger: Ledger, database: Database
) -> None:
    [row] = await rows(database, "SELECT hour FROM decision LIMIT 1")
    hour: int = row["hour"]
    assert (await ledger.accounts(Scope(first=hour + 1))).deliveries == ()
    assert (await ledger.accounts(Scope(end=hour))).submissions == ()
    assert await ledger.accounts(Scope(hour, hour + 1)) == await ledger.accounts()
    one = await ledger.accounts(Scope(procedure="JourneeCitoyenne"))
    assert [line.procedure for line in one.submissions] == ["JourneeCitoyenne"]
    assert [line.procedure for line in one.deliveries] == ["JourneeCitoyenne"]
    theirs = await ledger.accounts(Scope(partner=str(subscriber(2))))
    assert theirs.submissions == ()
    assert [(line.procedure, line.named) for line in theirs.deliveries] == [
        ("EtatCivil", 1),
        ("JourneeCitoyenne", 1),
    ]
    assert {line.partner for line in theirs.standing} == {str(subscriber(2))}
    # What is wrong elsewhere is none of it.
    await execute(database, f"DELETE FROM delivery WHERE id = '{delivery(5, 1)}'")
    for scope in (
        Scope(first=hour + 1),
        Scope(procedure="JourneeCitoyenne"),
        Scope(partner=str(subscriber(2))),
    ):
        assert differences(await ledger.accounts(scope)) == []
    for scope in (Scope(hour), Scope(procedure="EtatCivil"), Scope(partner=str(subscriber(1)))):
        found = named(await ledger.accounts(scope))
        assert found == [(delivery(5, 1), "is named by a decision and not registered")]


async def test_attempts_replays_and_acknowledgements_move_what_they_move(
    ledger: Ledger, database: Database
) -> None:
    """Every transaction that changes a term, one after the other; an attempt under way is none of its own."""
    names = await plant(database, range(6))
    lanes = PostgresLanes(database)
    lane, claims = await take(lanes, "w")
    attempt = {claim.attempt.delivery: claim.attempt for claim in claims}
    assert (await all_is_well(ledger)).deliveries[0].terms == {Term.PLANNED: 6}
    await conclude(
        lanes,
        "w",
        lane,
        [
            delivered(attempt[names[0]]),
            waiting(attempt[names[1]], timedelta(0)),
            refused(attempt[names[2]]),
            waiting(attempt[names[3]], timedelta(0)),
        ],
    )
    terms = {Term.PLANNED: 2, Term.WAITING: 2, Term.PARKED: 1, Term.DELIVERED: 1}
    assert (await all_is_well(ledger)).deliveries[0].terms == terms
    # Whose worker died: a first attempt that was lost is one that waits, when the next one begins.
    await execute(database, "UPDATE lane SET lease_until = NULL, due_at = clock_timestamp()")
    await take(lanes, "x")
    terms = {Term.WAITING: 4, Term.PARKED: 1, Term.DELIVERED: 1}
    assert (await all_is_well(ledger)).deliveries[0].terms == terms
    mailbox = PostgresMailboxes(database)
    assert len(await mailbox.acknowledge(subscriber(1), [names[0], names[1], names[2]])) == 3
    terms = {Term.WAITING: 3, Term.ACKNOWLEDGED: 3}
    assert (await all_is_well(ledger)).deliveries[0].terms == terms


@pytest.mark.usefixtures("journey")
async def test_the_newest_decision_says_where_a_submission_stands(ledger: Ledger, registry: Registry) -> None:
    await registry.register([routed(6, [2], decision=2), decided(5, Unroutable(()), decision=2)])
    accounts = await all_is_well(ledger)
    assert accounts.submissions[0] == SubmissionAccount("EtatCivil", 10, 6, 1, 1, 2)
    assert accounts.deliveries[0] == DeliveryAccount("EtatCivil", "submission", 8, {Term.PLANNED: 8})


@pytest.mark.usefixtures("journey")
async def test_a_delivery_that_several_decisions_name_is_counted_once(
    ledger: Ledger, registry: Registry
) -> None:
    before = await ledger.accounts()
    await registry.register([routed(5, [1, 2], decision=2)])
    await registry.register([routed(5, [1, 2], decision=4), routed(5, [2], decision=3)])
    assert await all_is_well(ledger) == before


async def test_a_decision_that_comes_after_a_newer_one_names_nobody(
    ledger: Ledger, intake: Intake, registry: Registry
) -> None:
    await intake.accept(submissions(2))
    await registry.register([routed(0, [1], decision=2)])
    await registry.register([routed(0, [3]), routed(1, [4]), decided(1, Unroutable(()), decision=2)])
    accounts = await all_is_well(ledger)
    assert accounts.submissions == (SubmissionAccount("EtatCivil", 2, 1, 1, 0, 0),)
    assert accounts.deliveries == (DeliveryAccount("EtatCivil", "submission", 1, {Term.PLANNED: 1}),)


STRANGER = UUID("00000000-0000-4000-8000-000000000001")
COPIED = (
    "INSERT INTO delivery (id, submission, procedure, subscriber, lane, channel, sequence, kind, revision, hour,"
    f" attachments, due_at) SELECT '{STRANGER}', submission, procedure, subscriber, lane, channel, 9, kind,"
    f" revision, hour, attachments, due_at FROM delivery WHERE id = '{delivery(5, 2)}'"
)


@pytest.mark.usefixtures("journey")
@pytest.mark.parametrize("folded", [False, True])
async def test_one_deleted_one_added_and_one_moved_behind_the_hubs_back_are_each_named(
    ledger: Ledger, database: Database, folded: bool
) -> None:
    if folded:
        await all_is_well(ledger)
    await execute(
        database,
        f"DELETE FROM delivery WHERE id = '{delivery(0, 1)}'",
        COPIED,
        f"UPDATE delivery SET state = 'delivered', due_at = NULL WHERE id = '{delivery(3, 1)}'",
    )
    accounts = await ledger.accounts()
    assert sorted(named(accounts), key=str) == sorted(
        [
            (delivery(0, 1), "is named by a decision and not registered"),
            (STRANGER, "is registered and named by no decision"),
            (delivery(3, 1), "is delivered, and planned by the ledger"),
        ],
        key=str,
    )
    told = differences(accounts)
    assert all(any(str(name) in line for line in told) for name in (delivery(0, 1), STRANGER, delivery(3, 1)))


@pytest.mark.usefixtures("journey")
async def test_when_one_went_and_another_came_both_are_named(ledger: Ledger, database: Database) -> None:
    await execute(database, f"UPDATE delivery SET id = '{STRANGER}' WHERE id = '{delivery(5, 2)}'")
    assert named(await ledger.accounts()) == [
        (delivery(5, 2), "is named by a decision and not registered"),
        (STRANGER, "is registered and named by no decision"),
    ]


@pytest.mark.usefixtures("journey")
async def test_several_that_were_moved_are_told_by_their_journal(ledger: Ledger, database: Database) -> None:
    moved = [delivery(number, 1) for number in range(3)]
    listed = ", ".join(f"'{name}'" for name in moved)
    await execute(database, f"UPDATE delivery SET state = 'parked', due_at = NULL WHERE id IN ({listed})")
    assert named(await ledger.accounts()) == [
        (name, "is parked, and planned by the ledger") for name in sorted(moved)
    ]


@pytest.mark.usefixtures("journey")
async def test_one_that_is_another_partners_in_its_row_is_named(ledger: Ledger, database: Database) -> None:
    """As many there, as many here, and the same ids: only whose they are differs."""
    await execute(
        database,
        f"UPDATE delivery SET named = '{subscriber(2)}', sequence = 20 WHERE id = '{delivery(5, 1)}'",
        f"UPDATE delivery SET named = '{subscriber(1)}', sequence = 20 WHERE id = '{delivery(5, 2)}'",
    )
    assert {id for id, _ in named(await ledger.accounts())} == {delivery(5, 1), delivery(5, 2)}


@pytest.mark.usefixtures("journey")
async def test_a_decision_that_was_deleted_leaves_its_deliveries_unnamed(
    ledger: Ledger, database: Database
) -> None:
    await execute(database, f"DELETE FROM decision WHERE submission = '{submission(5).id}'")
    accounts = await ledger.accounts()
    assert set(named(accounts)) == {
        (submission(5).id, "is undecided, and routed by the ledger"),
        (delivery(5, 1), "is registered and named by no decision"),
        (delivery(5, 2), "is registered and named by no decision"),
    }
    assert accounts.submissions[0] == SubmissionAccount("EtatCivil", 10, 5, 1, 1, 3)


@pytest.mark.usefixtures("journey")
async def test_a_decision_that_was_added_names_a_delivery_that_is_missing(
    ledger: Ledger, database: Database
) -> None:
    await execute(
        database,
        "INSERT INTO decision (submission, number, snapshot, verdict, recipients) VALUES"
        f" ('{submission(8).id}', 1, 1, 'routed',"
        f' \'[{{"delivery": "{delivery(8, 1)}", "subscriber": "{subscriber(1)}"}}]\')',
    )
    found = named(await ledger.accounts())
    assert (delivery(8, 1), "is named by a decision and not registered") in found


@pytest.mark.usefixtures("journey")
async def test_submissions_that_were_deleted_are_named(ledger: Ledger, database: Database) -> None:
    decision, undecided = submission(5).id, submission(9).id
    await execute(database, f"DELETE FROM submission WHERE id = '{undecided}'")
    assert named(await ledger.accounts()) == [(undecided, "was accepted and is gone")]
    await execute(
        database,
        f"DELETE FROM submission WHERE id = '{decision}'",
        f"DELETE FROM delivery WHERE submission = '{decision}'",
    )
    assert set(named(await ledger.accounts())) == {
        (undecided, "was accepted and is gone"),
        (decision, "was accepted and is gone"),
        (delivery(5, 1), "is named by a decision and not registered"),
        (delivery(5, 2), "is named by a decision and not registered"),
    }


@pytest.mark.usefixtures("journey")
async def test_a_delivery_that_is_gone_with_its_decision_is_known_by_its_journal(
    ledger: Ledger, database: Database
) -> None:
    await execute(
        database,
        f"DELETE FROM delivery WHERE id = '{delivery(4, 1)}'",
        f"DELETE FROM decision WHERE submission = '{submission(4).id}'",
    )
    assert (delivery(4, 1), "is gone, with the decision that named it") in named(await ledger.accounts())


@pytest.mark.usefixtures("journey")
async def test_a_bucket_that_was_changed_is_told(ledger: Ledger, database: Database) -> None:
    await all_is_well(ledger)
    await execute(database, "UPDATE ledger SET planned_number = planned_number + 3 WHERE kind = 'submission'")
    assert {(id, what) for id, what in named(await ledger.accounts())} == {
        (None, "is not as it was counted: by the ledger, 3 more planned")
    }


@pytest.mark.usefixtures("journey")
async def test_what_no_decision_names_by_its_kind_is_counted_beside(
    ledger: Ledger, database: Database
) -> None:
    await execute(database, COPIED.replace("9, kind", "9, 'notice'"))
    found = named(await ledger.accounts())
    assert found == [(None, "is not as it was counted: by the ledger, 1 fewer planned")]

    async def counted(connection: Connection) -> None:
        await count_registered(connection, [STRANGER])

    await database.run(counted)
    accounts = await all_is_well(ledger)
    assert DeliveryAccount("EtatCivil", "notice", 0, {Term.PLANNED: 1}) in accounts.deliveries


@pytest.mark.usefixtures("journey")
async def test_a_record_of_nobody_is_beside_the_accounts_until_its_submission_is_accepted(
    ledger: Ledger, intake: Intake, registry: Registry
) -> None:
    before = await ledger.accounts()
    await registry.register([routed(50, [1])])
    accounts = await ledger.accounts()
    assert accounts.strays == 1
    assert (accounts.submissions, accounts.deliveries) == (before.submissions, before.deliveries)
    await intake.accept([submission(50)])
    assert (await all_is_well(ledger)).strays == 0


async def test_the_accounts_balance_at_any_moment_while_others_accept_register_deliver_and_fold(
    ledger: Ledger, database: Database, intake: Intake, registry: Registry
) -> None:
    async def keep_working(start: int) -> None:
        for first in range(start, start + 200, 40):
            await intake.accept([submission(number) for number in range(first, first + 40)])
            await registry.register([routed(number, [1, 2]) for number in range(first, first + 40)])
            await park(database)

    working = asyncio.gather(keep_working(0), keep_working(1000))
    while not working.done():
        accounts = await ledger.accounts()
        assert (differences(accounts), accounts.unopened) == ([], 0)
        # Both equations tell of one moment: each of these submissions is for two partners.
        deliveries = sum(one.named for one in accounts.deliveries)
        assert deliveries == 2 * sum(one.routed for one in accounts.submissions)
        await asyncio.gather(ledger.fold(3), ledger.fold(3))
    await working
    assert sum(one.named for one in (await all_is_well(ledger)).deliveries) == 800


async def test_what_a_check_found_is_kept_with_its_time(ledger: Ledger) -> None:
    await ledger.note("whole", 3)
    first = (await ledger.noted())["whole"]
    await ledger.note("whole", 0)
    assert list(await ledger.noted()) == ["whole"]
    assert (await ledger.noted())["whole"] > first
