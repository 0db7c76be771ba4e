"""Importing partners: what is there afterwards, what stays, and what a kill or a neighbour in between does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hub.adapters.keys.local import LocalKeyring
from hub.adapters.partners.written import ExportForm
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.errors import RuleBookError, Superseded
from hub.domain.partner import Endpoint, Partner
from hub.domain.rules import SubscriptionState, Succession
from hub.ports.partners import KeptPartner
from hub.services.endpoints import EndpointRoom
from hub.services.onboarding import StateChange
from hub.wire import midnight
from tests.services.onboarding_world import (
    BONNEVILLE,
    MARIGNIER,
    SECRET,
    THIRD,
    Onboarding,
    listed,
    record,
    sftp,
    webhook,
)

BOTH = listed(
    record(BONNEVILLE, "commune:74042", **webhook()),
    record(MARIGNIER, "commune:74164", **sftp()),
)


@pytest_asyncio.fixture
async def world(fresh_database: Callable[[], str], tmp_path: Path) -> AsyncIterator[Onboarding]:
    database = await Database.open(fresh_database())
    yield await Onboarding.begin(database, tmp_path)
    await database.close()


async def rows(world: Onboarding) -> Sequence[KeptPartner]:
    return await world.partners.list()


# --- the same again -----------------------------------------------------------------------------------


async def test_an_import_makes_partners_and_one_edition(world: Onboarding) -> None:
    done = await world.import_(BOTH)
    assert (done.edition, done.partners, done.subscriptions) == (2, 2, 2)
    assert [one.id for one in await world.subscriptions()] == [
        f"EtatCivil/commune:74042/{BONNEVILLE}",
        f"EtatCivil/commune:74164/{MARIGNIER}",
    ]
    assert await world.secrets_of(MARIGNIER) == {"password": SECRET}
    assert (await world.editions.editions(1))[0].author == "test"


async def test_the_same_file_again_changes_no_row_and_makes_no_edition(world: Onboarding) -> None:
    await world.import_(BOTH)
    before = await rows(world)
    plan = await world.plan(BOTH)
    assert plan.changes_nothing
    assert (plan.partners.unchanged, plan.subscriptions.unchanged) == (2, 2)
    assert (await world.room.carry_out(plan, "test", "again")).edition == 2
    # Sealed anew, a secret would be other bytes.
    assert await rows(world) == before


@pytest.mark.parametrize("form", ExportForm)
async def test_an_export_read_again_changes_nothing_and_tells_no_secret(
    world: Onboarding, form: ExportForm
) -> None:
    wish = {"procedure": "RCO", "place": "commune:74042", "state": "Suspendu"}
    dated = {"procedure": "RCO", "place": "epci:200000172", "since": "2026-01-01", "until": "2026-12-31"}
    strange = record(THIRD, name="=cmd|' /C calc'!A0")
    await world.import_(
        listed(
            record(BONNEVILLE, "commune:74042", wish, dated, **webhook(), name="'=1+1"),
            record(MARIGNIER, "commune:74164", **sftp()),
            strange,
            successions=[{"former": str(THIRD), "subscriber": str(MARIGNIER), "since": "2026-05-01"}],
        )
    )
    path = await world.export(form)
    text = path.read_text("utf-8")
    assert SECRET not in text
    assert "whsec" not in text
    assert text.count("has_secrets") == (3 if form is ExportForm.JSON else 2)
    plan = await world.plan(path.read_bytes(), path.name)
    assert plan.refused == ()
    assert plan.changes_nothing
    assert (plan.partners.unchanged, plan.subscriptions.unchanged) == (3, 4)


@pytest.mark.parametrize("form", list(ExportForm))
async def test_what_its_channel_calls_a_secret_is_no_setting_in_an_export(
    world: Onboarding, form: ExportForm
) -> None:
    """As an older hub may have kept it."""
    await world.import_(BOTH)
    old = Endpoint("sftp", {"host": "sftp.example", "password": SECRET, "of_old": SECRET})
    await world.partners.keep([(Partner(THIRD, "Ancienne", old), None, None)])
    told = (await world.export(form)).read_text("utf-8-sig")
    assert "sftp.example" in told
    assert SECRET not in told


async def test_no_cell_of_an_exported_table_begins_like_a_formula(world: Onboarding) -> None:
    names = ["=1+1", "+33 4", "-2", "@SUM(A1)", "'=x", "＝1"]
    await world.import_(listed(*(record(THIRD, name=name) for name in names[:1])))
    for name in names:
        await world.import_(listed(record(THIRD, name=name)))
        text = (await world.export(ExportForm.CSV)).read_text("utf-8-sig")
        assert text.splitlines()[1].split(";")[2] == "'" + name
        assert (await world.plan(text)).changes_nothing


# --- what a file does not say stays -------------------------------------------------------------------


async def test_a_line_that_says_nothing_of_the_endpoint_leaves_channel_settings_and_secrets(
    world: Onboarding,
) -> None:
    await world.import_(BOTH)
    told = f"siret;guichet;nom;canal\n{MARIGNIER.siret};{MARIGNIER.branch};Un autre nom;mailbox\n"
    plan = await world.plan(told)
    assert [note.field for note in plan.notes] == ["canal"]
    await world.room.carry_out(plan, "test", "a name")
    kept = await world.partners.get(MARIGNIER)
    assert kept is not None
    assert (kept[0].name, kept[0].endpoint.channel) == ("Un autre nom", "sftp")
    assert kept[0].endpoint.settings["directory"] == "arrivees"
    assert await world.secrets_of(MARIGNIER) == {"password": SECRET}


async def test_settings_may_change_while_the_secrets_stay(world: Onboarding) -> None:
    await world.import_(BOTH)
    changed = {name: value for name, value in sftp("ailleurs").items() if name != "secrets"}
    done = await world.import_(listed(record(MARIGNIER, **changed)))
    assert (done.edition, done.partners) == (2, 1)
    assert await world.secrets_of(MARIGNIER) == {"password": SECRET}


async def test_a_new_secret_replaces_the_old_and_none_takes_it_away(world: Onboarding) -> None:
    await world.import_(BOTH)
    await world.import_(listed(record(MARIGNIER, **{**sftp(), "secrets": {"password": "another"}})))
    assert await world.secrets_of(MARIGNIER) == {"password": "another"}
    await world.import_(listed(record(MARIGNIER, channel="mailbox", secrets={})))
    assert await world.secrets_of(MARIGNIER) == {}


async def test_who_is_not_in_the_file_stays(world: Onboarding) -> None:
    await world.import_(BOTH)
    await world.import_(listed(record(THIRD, "commune:74164")))
    assert len(await rows(world)) == 3
    assert len(await world.subscriptions()) == 3


async def test_a_state_and_days_that_are_not_said_stay_as_they_are(world: Onboarding) -> None:
    wish = {"procedure": "RCO", "place": "commune:74042"}
    await world.import_(listed(record(BONNEVILLE, {**wish, "state": "refused", "until": "2026-12-31"})))
    assert (await world.plan(listed(record(BONNEVILLE, wish)))).changes_nothing
    await world.import_(listed(record(BONNEVILLE, {**wish, "until": None, "since": "2026-03-01"})))
    (one,) = await world.subscriptions()
    assert one.state is SubscriptionState.REFUSED
    # Midnight in France, an hour before midnight in Greenwich.
    assert one.period.since == datetime(2026, 2, 28, 23, tzinfo=UTC)
    assert one.period.until.year == 9999


async def test_stored_secrets_that_do_not_open_are_asked_for_again(world: Onboarding) -> None:
    await world.import_(BOTH)
    other = Onboarding.over(
        world.partners, world.editions, EndpointRoom(LocalKeyring(bytes(32))), world.folder
    )
    silent = {name: value for name, value in sftp("ailleurs").items() if name != "secrets"}
    plan = await other.plan(listed(record(MARIGNIER, **silent)))
    assert [remark.field for remark in plan.refused] == ["secrets"]
    await other.import_(listed(record(MARIGNIER, **sftp("ailleurs"))))
    assert await other.secrets_of(MARIGNIER) == {"password": SECRET}


# --- two in one folder --------------------------------------------------------------------------------


async def test_of_two_new_partners_in_one_folder_both_are_refused(world: Onboarding) -> None:
    plan = await world.plan(
        listed(
            record(BONNEVILLE, "commune:74042", **sftp("./arrivees/", host="SFTP.example.")),
            record(MARIGNIER, "commune:74164", **sftp()),
            record(THIRD, "commune:74042", **sftp(username="another")),
        )
    )
    assert {remark.where for remark in plan.refused} == {"partner 1", "partner 2"}
    assert [step.partner.subscriber for step in plan.partners.added] == [THIRD]
    assert [one.subscriber for one in plan.subscriptions.added] == [THIRD]


async def test_who_was_first_in_a_folder_stays_and_may_make_room(world: Onboarding) -> None:
    await world.import_(BOTH)
    plan = await world.plan(listed(record(THIRD, **sftp())))
    assert [remark.field for remark in plan.refused] == ["settings"]
    plan = await world.plan(listed(record(THIRD, **sftp()), record(MARIGNIER, **sftp("autre"))))
    assert plan.refused == ()
    # Whoever cannot move away because it would be in another's way is still in the way where it is.
    await world.import_(listed(record(BONNEVILLE, **sftp("autre"))))
    plan = await world.plan(listed(record(THIRD, **sftp()), record(MARIGNIER, **sftp("autre"))))
    assert {remark.where for remark in plan.refused} == {"partner 1", "partner 2"}


# --- killed, and others at the same time --------------------------------------------------------------


class Killed(Exception):
    """The process ended here."""


class DyingEditions:
    """Dies when it is to publish."""

    def __init__(self, editions: Any) -> None:
        self._editions = editions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._editions, name)

    async def publish(self, *told: Any) -> int:
        raise Killed


async def test_killed_between_partners_and_edition_it_ends_right_when_it_is_run_again(
    world: Onboarding,
) -> None:
    dying = Onboarding.over(world.partners, DyingEditions(world.editions), world.endpoints, world.folder)
    with pytest.raises(Killed):
        await dying.import_(BOTH)
    assert len(await rows(world)) == 2
    assert await world.subscriptions() == []
    before = await rows(world)
    plan = await world.plan(BOTH)
    assert (plan.partners.unchanged, len(plan.subscriptions.added)) == (2, 2)
    assert (await world.room.carry_out(plan, "test", "again")).edition == 2
    assert await rows(world) == before


async def test_an_import_that_others_overtook_is_planned_again_on_what_they_left(world: Onboarding) -> None:
    mine = await world.plan(listed(record(BONNEVILLE, "commune:74042", name="Mon nom")))
    theirs = record(BONNEVILLE, {"procedure": "RCO", "place": "commune:74042"}, **webhook())
    await world.import_(listed(theirs))
    done = await world.room.carry_out(mine, "test", "late")
    assert done.edition == 3
    assert len(await world.subscriptions()) == 2
    kept = await world.partners.get(BONNEVILLE)
    assert kept is not None
    assert (kept[0].name, kept[0].endpoint.channel) == ("Mon nom", "webhook")
    assert "secret" in await world.secrets_of(BONNEVILLE)


async def test_imports_at_the_same_time_all_arrive(world: Onboarding) -> None:
    files = [
        listed(record(BONNEVILLE, "commune:74042", name="A")),
        listed(record(MARIGNIER, "commune:74164")),
        listed(record(THIRD, "epci:200000172")),
    ]
    plans = [await world.plan(file) for file in files]
    await asyncio.gather(*(world.room.carry_out(plan, "test", "at once") for plan in plans))
    assert len(await rows(world)) == len(await world.subscriptions()) == 3
    assert (await world.editions.editions(1))[0].number == 4


async def test_a_partner_that_was_changed_since_it_was_seen_is_not_overwritten(world: Onboarding) -> None:
    await world.import_(BOTH)
    seen = await world.partners.get(MARIGNIER)
    fresh = await world.partners.get(BONNEVILLE)
    assert seen is not None
    assert fresh is not None
    await world.import_(listed(record(MARIGNIER, name="Meanwhile")))
    with pytest.raises(Superseded):
        await world.partners.replace([(fresh, fresh), (seen, seen)])
    with pytest.raises(Superseded):
        await world.partners.replace([(None, fresh)])
    assert (await rows(world))[1][0].name == "Meanwhile"


async def test_nothing_is_written_when_the_rule_book_would_contradict_itself(world: Onboarding) -> None:
    circle = [
        {"former": str(one), "subscriber": str(other)}
        for one, other in ((BONNEVILLE, MARIGNIER), (MARIGNIER, BONNEVILLE))
    ]
    with pytest.raises(RuleBookError, match="succeed each other for ever"):
        await world.plan(listed(record(BONNEVILLE), record(MARIGNIER), successions=circle))
    assert await rows(world) == []
    assert len(await world.editions.editions(9)) == 1


# --- states and successions ---------------------------------------------------------------------------


async def test_suspending_and_activating_changes_the_states_of_one_partner(world: Onboarding) -> None:
    await world.import_(
        listed(
            record(BONNEVILLE, "commune:74042", {"procedure": "RCO", "place": "commune:74042"}),
            record(MARIGNIER, "commune:74164"),
        )
    )
    suspended = SubscriptionState.SUSPENDED
    done = await world.room.suspend(BONNEVILLE, ["RCO"], "test", "a move")
    assert done == StateChange(3, 1, 0, {})
    done = await world.room.suspend(BONNEVILLE, (), "test", "a move")
    assert done == StateChange(4, 1, 1, {})
    done = await world.room.suspend(BONNEVILLE, (), "test", "again")
    assert done == StateChange(4, 0, 2, {})
    assert [one.state for one in await world.subscriptions()] == [
        suspended,
        SubscriptionState.ACTIVE,
        suspended,
    ]
    until = midnight(date(2027, 1, 1))
    await world.room.activate(BONNEVILLE, ["RCO"], "test", "back", until=until)
    (rco,) = [one for one in await world.subscriptions() if one.procedure == "RCO"]
    assert (rco.state, rco.period.until) == (SubscriptionState.ACTIVE, until)


async def test_a_suspension_taken_back_leaves_what_was_refused_or_inactive_as_it_was(
    world: Onboarding,
) -> None:
    wishes = [
        {"procedure": "RCO", "place": "commune:74042", "state": "refused"},
        {"procedure": "RCO", "place": "commune:74164", "state": "inactive"},
        {"procedure": "EtatCivil", "place": "commune:74042", "state": "active"},
    ]
    await world.import_(listed(record(BONNEVILLE, *wishes)))
    before = await world.subscriptions()
    rest = {SubscriptionState.REFUSED: 1, SubscriptionState.INACTIVE: 1}
    assert await world.room.suspend(BONNEVILLE, (), "test", "a move") == StateChange(3, 1, 0, rest)
    assert await world.room.activate(BONNEVILLE, (), "test", "back") == StateChange(4, 1, 0, rest)
    assert await world.subscriptions() == before
    assert await world.room.activate(BONNEVILLE, (), "test", "again") == StateChange(4, 0, 1, rest)
    assert (await world.room.activate(BONNEVILLE, ["RCO"], "test", "meant")).changed == 2
    assert {one.state for one in await world.subscriptions()} == {SubscriptionState.ACTIVE}


async def test_the_state_of_what_nobody_subscribes_to_cannot_be_set(world: Onboarding) -> None:
    await world.import_(BOTH)
    for subscriber, procedures in ((THIRD, ()), (BONNEVILLE, ("EtatCivil", "RCO"))):
        with pytest.raises(RuleBookError, match="does not subscribe"):
            await world.room.activate(subscriber, procedures, "test", "no")
    assert len(await world.editions.editions(9)) == 2


async def test_a_succession_needs_two_that_are_known_and_no_circle(world: Onboarding) -> None:
    await world.import_(BOTH)
    for former, successor, why in (
        (BONNEVILLE, THIRD, "is no partner"),
        (THIRD, BONNEVILLE, "neither is a partner"),
        (BONNEVILLE, BONNEVILLE, "for ever"),
    ):
        with pytest.raises(RuleBookError, match=why):
            await world.room.succeed(Succession(former, successor), "test", "no")
    since = midnight(date(2026, 6, 1))
    for _ in range(2):
        done = await world.room.succeed(Succession(BONNEVILLE, MARIGNIER, since), "test", "a merger")
        assert done.edition == 3
    assert (await world.book()).successions[BONNEVILLE].since == since


async def test_without_a_rule_book_nothing_can_be_imported(
    fresh_database: Callable[[], str], tmp_path: Path, world: Onboarding
) -> None:
    database = await Database.open(fresh_database())
    empty = Onboarding.over(world.partners, PostgresRuleBooks(database), world.endpoints, tmp_path)
    with pytest.raises(RuleBookError, match="no rule book was published yet"):
        await empty.plan(BOTH)
    await database.close()
