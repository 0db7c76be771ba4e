"""What every store must hold of its accounts: both equations, and every row that came or went unseen."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from hub.adapters.postgres.database import Database
from hub.domain.decisions import SetAside, Unroutable
from hub.domain.lifecycle import State
from hub.ports.store import (
    Accounts,
    DeliveryAccount,
    Intake,
    Ledger,
    Partners,
    Registry,
    SubmissionAccount,
)
from tests.conformance.samples import (
    decided,
    delivery,
    execute,
    partner,
    routed,
    submission,
    submissions,
)


@pytest.fixture
async def journey(intake: Intake, registry: Registry, partners: Partners) -> None:
    """Ten submissions of one procedure and one of another: six routed, one of them to two partners."""
    await partners.keep([(partner(1, "sftp"), None, None), (partner(2, "webhook"), None, None)])
    await intake.accept([*submissions(10), submission(10, procedure="JourneeCitoyenne")])
    await registry.register([routed(number, [1]) for number in range(5)])
    await registry.register([routed(5, [1, 2]), decided(6, Unroutable(())), decided(7, SetAside("word"))])
    await registry.register([routed(10, [2])])


def balanced(accounts: Accounts) -> bool:
    return all(one.named == sum(one.states.values()) for one in accounts.deliveries) and all(
        one.accepted == one.routed + one.unroutable + one.set_aside + one.undecided
        for one in accounts.submissions
    )


async def test_an_empty_store_has_empty_accounts(ledger: Ledger) -> None:
    assert await ledger.accounts() == Accounts((), (), (), (), 0)


@pytest.mark.usefixtures("journey")
async def test_when_all_is_well_both_equations_hold(ledger: Ledger) -> None:
    accounts = await ledger.accounts()
    assert accounts == Accounts(
        (
            SubmissionAccount("EtatCivil", 10, 6, 1, 1, 2),
            SubmissionAccount("JourneeCitoyenne", 1, 1, 0, 0, 0),
        ),
        (
            DeliveryAccount("EtatCivil", "sftp", 6, {State.PLANNED: 6}),
            DeliveryAccount("EtatCivil", "webhook", 1, {State.PLANNED: 1}),
            DeliveryAccount("JourneeCitoyenne", "webhook", 1, {State.PLANNED: 1}),
        ),
        (),
        (),
        0,
    )
    assert balanced(accounts)


@pytest.mark.usefixtures("journey")
async def test_each_delivery_is_counted_in_the_state_it_is_in(ledger: Ledger, database: Database) -> None:
    for number, state in enumerate(("delivered", "parked", "acknowledged", "withdrawn", "returned")):
        await execute(
            database,
            f"UPDATE delivery SET state = '{state}', due_at = NULL WHERE id = '{delivery(number, 1)}'",
        )
    await execute(database, f"UPDATE delivery SET state = 'waiting' WHERE id = '{delivery(5, 1)}'")
    accounts = await ledger.accounts()
    states = (
        State.DELIVERED,
        State.PARKED,
        State.ACKNOWLEDGED,
        State.WITHDRAWN,
        State.RETURNED,
        State.WAITING,
    )
    assert accounts.deliveries[0] == DeliveryAccount("EtatCivil", "sftp", 6, dict.fromkeys(states, 1))
    assert balanced(accounts)


@pytest.mark.usefixtures("journey")
async def test_the_newest_decision_says_where_a_submission_stands(ledger: Ledger, registry: Registry) -> None:
    await registry.register([routed(6, [2], decision=2), decided(5, Unroutable(()), decision=2)])
    accounts = await ledger.accounts()
    assert accounts.submissions[0] == SubmissionAccount("EtatCivil", 10, 6, 1, 1, 2)
    assert accounts.deliveries[1] == DeliveryAccount("EtatCivil", "webhook", 2, {State.PLANNED: 2})
    assert balanced(accounts)


@pytest.mark.usefixtures("journey")
async def test_a_delivery_that_several_decisions_name_is_counted_once(
    ledger: Ledger, registry: Registry
) -> None:
    before = await ledger.accounts()
    await registry.register([routed(5, [1, 2], decision=2)])
    assert await ledger.accounts() == before


@pytest.mark.usefixtures("journey")
async def test_a_delivery_that_was_deleted_is_missing_and_named(ledger: Ledger, database: Database) -> None:
    await execute(database, f"DELETE FROM delivery WHERE id = '{delivery(5, 2)}'")
    accounts = await ledger.accounts()
    assert accounts.missing == (delivery(5, 2),)
    assert accounts.unnamed == ()
    assert DeliveryAccount("EtatCivil", "", 1, {}) in accounts.deliveries
    assert not balanced(accounts)


@pytest.mark.usefixtures("journey")
async def test_a_delivery_that_was_added_is_unnamed_and_named(ledger: Ledger, database: Database) -> None:
    stranger = UUID("00000000-0000-4000-8000-000000000001")
    await execute(
        database,
        "INSERT INTO delivery (id, submission, procedure, subscriber, lane, channel, sequence, kind, revision,"
        f" attachments, due_at) SELECT '{stranger}', submission, procedure, subscriber, lane, channel, 9, kind,"
        f" revision, attachments, due_at FROM delivery WHERE id = '{delivery(5, 2)}'",
    )
    accounts = await ledger.accounts()
    assert accounts.unnamed == (stranger,)
    assert accounts.missing == ()
    assert DeliveryAccount("EtatCivil", "webhook", 1, {State.PLANNED: 2}) in accounts.deliveries
    assert not balanced(accounts)


@pytest.mark.usefixtures("journey")
async def test_when_one_went_and_another_came_both_are_named(ledger: Ledger, database: Database) -> None:
    stranger = UUID("00000000-0000-4000-8000-000000000001")
    await execute(database, f"UPDATE delivery SET id = '{stranger}' WHERE id = '{delivery(5, 2)}'")
    accounts = await ledger.accounts()
    assert (accounts.missing, accounts.unnamed) == ((delivery(5, 2),), (stranger,))
    assert not balanced(accounts)


@pytest.mark.usefixtures("journey")
async def test_a_decision_that_was_deleted_leaves_its_deliveries_undelivery(
    ledger: Ledger, database: Database
) -> None:
    await execute(database, f"DELETE FROM decision WHERE submission = '{submission(5).id}'")
    accounts = await ledger.accounts()
    assert accounts.unnamed == tuple(sorted((delivery(5, 1), delivery(5, 2))))
    assert accounts.submissions[0] == SubmissionAccount("EtatCivil", 10, 5, 1, 1, 3)
    assert not balanced(accounts)


@pytest.mark.usefixtures("journey")
async def test_a_decision_that_was_added_names_a_delivery_that_is_missing(
    ledger: Ledger, database: Database
) -> None:
    await execute(
        database,
        "INSERT INTO decision (submission, number, snapshot, verdict, recipients) VALUES"
        f" ('{submission(8).id}', 1, 1, 'routed', '[{{\"delivery\": \"{delivery(8, 1)}\"}}]')",
    )
    accounts = await ledger.accounts()
    assert accounts.missing == (delivery(8, 1),)
    assert not balanced(accounts)


@pytest.mark.usefixtures("journey")
async def test_a_submission_that_was_deleted_leaves_its_decision_beside_the_accounts(
    ledger: Ledger, database: Database
) -> None:
    await execute(database, f"DELETE FROM submission WHERE id = '{submission(5).id}'")
    accounts = await ledger.accounts()
    assert accounts.strays == 1
    assert accounts.submissions[0] == SubmissionAccount("EtatCivil", 9, 5, 1, 1, 2)
    assert balanced(accounts)


@pytest.mark.usefixtures("journey")
async def test_a_submission_and_its_deliveries_that_were_deleted_are_missing(
    ledger: Ledger, database: Database
) -> None:
    name = submission(5).id
    await execute(
        database,
        f"DELETE FROM submission WHERE id = '{name}'",
        f"DELETE FROM delivery WHERE submission = '{name}'",
    )
    accounts = await ledger.accounts()
    assert accounts.missing == tuple(sorted((delivery(5, 1), delivery(5, 2))))
    assert DeliveryAccount("", "", 2, {}) in accounts.deliveries


@pytest.mark.usefixtures("journey")
async def test_at_most_a_hundred_missing_ones_are_listed_and_all_are_counted(
    ledger: Ledger, intake: Intake, registry: Registry, database: Database
) -> None:
    await intake.accept([submission(number) for number in range(100, 300)])
    await registry.register([routed(number, [1]) for number in range(100, 300)])
    await execute(database, "DELETE FROM delivery WHERE sequence > 6")
    accounts = await ledger.accounts()
    assert len(accounts.missing) == 100
    assert DeliveryAccount("EtatCivil", "", 200, {}) in accounts.deliveries


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
    assert (await ledger.accounts()).strays == 0


async def test_the_accounts_balance_at_any_moment_while_others_accept_and_register(
    ledger: Ledger, intake: Intake, registry: Registry
) -> None:
    async def keep_working(start: int) -> None:
        for first in range(start, start + 400, 40):
            await intake.accept([submission(number) for number in range(first, first + 40)])
            await registry.register([routed(number, [1, 2]) for number in range(first, first + 40)])

    working = asyncio.gather(keep_working(0), keep_working(1000))
    while not working.done():
        accounts = await ledger.accounts()
        assert balanced(accounts)
        assert (accounts.missing, accounts.unnamed) == ((), ())
        # Both equations tell of one moment: each of these submissions is for two partners.
        deliveries = sum(one.named for one in accounts.deliveries)
        assert deliveries == 2 * sum(one.routed for one in accounts.submissions)
    await working
    assert sum(one.named for one in (await ledger.accounts()).deliveries) == 1600
