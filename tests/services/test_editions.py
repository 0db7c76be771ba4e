"""Changing the rule book in force, on a real store: proposed, checked whole, published, taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.errors import Pruned, RuleBookError, Superseded
from hub.ports.rule_books import Change, Item, ItemKey
from hub.services.editions import EditionRoom
from hub.wire import difference, items, read_change
from schemas.models.rules import ProcedureIn, SubscriptionIn
from tests.conformance.samples import execute
from tests.unit.samples import BONNEVILLE, MARIGNIER, MINISTRY, territory

LITTLE = territory()


def _procedure(title: str = "Certificat", **rule: Any) -> ProcedureIn:
    return ProcedureIn.model_validate(
        {
            "procedure": "CERTDC",
            "title": title,
            "facts": {"commune": {"type": "place", "required": True}},
            "rules": [
                {
                    "id": "mairie",
                    "recipient": "mairie",
                    "competent": {"place": "commune", "levels": ["commune"]},
                    **rule,
                },
                {"id": "national", "recipient": "national", "partner": str(MINISTRY)},
            ],
        }
    )


def _wish(subscriber: object, place: str, procedure: str = "CERTDC") -> SubscriptionIn:
    return SubscriptionIn(procedure=procedure, subscriber=str(subscriber), place=place)


def _rules(*procedures: ProcedureIn) -> dict[ItemKey, Item]:
    return items(procedures or (_procedure(),), (), (), ("2026", b"essai"))


@pytest.fixture
async def database(fresh_database: Callable[[], str]) -> AsyncIterator[Database]:
    opened = await Database.open(fresh_database())
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> PostgresRuleBooks:
    return PostgresRuleBooks(database)


@pytest.fixture
def room(store: PostgresRuleBooks) -> EditionRoom:
    return EditionRoom(
        store,
        lambda book, change: read_change(book, change, lambda _: LITTLE),
        difference,
        timedelta(0),
    )


async def _apply(room: EditionRoom, *procedures: ProcedureIn) -> int:
    proposal = await room.propose(_rules(*procedures))
    return (await room.publish(proposal, "operator:essai", "pour voir")).number


async def _subscribe(store: PostgresRuleBooks, based_on: int, *wishes: SubscriptionIn) -> int:
    told = items((), wishes, (), ("2026", b"essai"))
    change = Change(tuple(told.values()))
    return await store.publish(change, based_on, timedelta(0), "operator:essai", "abonnements")


async def test_the_first_rules_are_in_force_for_all_that_came_before(room: EditionRoom) -> None:
    proposal = await room.propose(_rules())
    assert (proposal.based_on, proposal.changes_nothing) == (0, False)
    edition = await room.publish(proposal, "operator:essai", "premier plan")
    assert (edition.number, edition.author, edition.reason) == (1, "operator:essai", "premier plan")
    assert edition.effective_from.year == 1
    snapshot = await room.snapshot()
    assert (snapshot.number, set(snapshot.book.procedures)) == (1, {"CERTDC"})


async def test_rules_are_applied_to_the_subscriptions_in_force(
    room: EditionRoom, store: PostgresRuleBooks
) -> None:
    assert await _apply(room) == 1
    assert await _subscribe(store, 1, _wish(BONNEVILLE, "commune:74042")) == 2
    proposal = await room.propose(_rules(_procedure("Acte de décès")))
    assert [(one.key, one.where) for one in proposal.differences] == [("CERTDC", ("title",))]
    assert (await room.publish(proposal, "operator:essai", "titre")).number == 3
    book = (await room.snapshot()).book
    assert book.procedures["CERTDC"].title == "Acte de décès"
    assert set(book.subscriptions) == {f"CERTDC/commune:74042/{BONNEVILLE}"}


async def test_applying_what_is_in_force_makes_no_edition(room: EditionRoom) -> None:
    assert await _apply(room) == 1
    proposal = await room.propose(_rules())
    assert (proposal.changes_nothing, proposal.differences) == (True, ())
    assert (await room.publish(proposal, "operator:essai", "rien")).number == 1


async def test_rules_that_leave_a_subscription_without_procedure_are_refused_whole(
    room: EditionRoom, store: PostgresRuleBooks
) -> None:
    await _apply(room)
    await _subscribe(store, 1, _wish(BONNEVILLE, "commune:74042"))
    other = _procedure().model_copy(update={"procedure": "AUTRE"})
    with pytest.raises(RuleBookError, match="no such procedure"):
        await room.propose(_rules(other))
    assert [edition.number for edition in await room.history(10)] == [2, 1]


async def test_who_proposed_before_another_published_must_look_again(room: EditionRoom) -> None:
    await _apply(room)
    mine = await room.propose(_rules(_procedure("Un titre")))
    await _apply(room, _procedure("Un autre"))
    with pytest.raises(Superseded):
        await room.publish(mine, "operator:essai", "trop tard")
    assert (await room.snapshot()).book.procedures["CERTDC"].title == "Un autre"


async def test_going_back_publishes_a_new_edition_that_holds_what_the_earlier_one_held(
    room: EditionRoom, store: PostgresRuleBooks
) -> None:
    await _apply(room)
    await _apply(room, _procedure("Acte"))
    await _subscribe(store, 2, _wish(BONNEVILLE, "commune:74042"))
    await _subscribe(store, 3, _wish(MARIGNIER, "commune:74164"))

    proposal = await room.propose_back()
    assert (await room.publish(proposal, "operator:essai", "retour")).number == 5
    assert await room.items(5) == await room.items(3)

    proposal = await room.propose_back(1)
    assert (await room.publish(proposal, "operator:essai", "retour")).number == 6
    assert await room.items(6) == await room.items(1)


async def test_going_back_with_the_rules_alone_leaves_the_subscriptions(
    room: EditionRoom, store: PostgresRuleBooks
) -> None:
    await _apply(room)
    await _subscribe(store, 1, _wish(BONNEVILLE, "commune:74042"))
    await _apply(room, _procedure("Acte"))
    await room.publish(await room.propose_back(1, rules_only=True), "operator:essai", "retour")
    book = (await room.snapshot()).book
    assert book.procedures["CERTDC"].title == "Certificat"
    assert len(book.subscriptions) == 1


async def test_there_is_no_going_back_to_what_was_never_there_or_is_gone(
    room: EditionRoom, database: Database
) -> None:
    with pytest.raises(RuleBookError):
        await room.propose_back()
    await _apply(room)
    for number in (None, 0, 2):
        with pytest.raises(RuleBookError):
            await room.propose_back(number)
    await _apply(room, _procedure("Acte"))
    await execute(database, "UPDATE rule_book SET pruned_at = clock_timestamp() WHERE number = 1")
    with pytest.raises(Pruned):
        await room.propose_back()


async def test_what_differs_between_two_editions_is_read_in_either_direction(
    room: EditionRoom, store: PostgresRuleBooks
) -> None:
    await _apply(room)
    await _apply(room, _procedure("Acte", priority=3))
    await _subscribe(store, 2, _wish(BONNEVILLE, "commune:74042"))
    there = await room.between(1, 3)
    assert [(one.kind, one.where, one.before, one.after) for one in there] == [
        ("procedure", ("rules", "mairie", "priority"), None, 3),
        ("procedure", ("title",), "Certificat", "Acte"),
        ("subscription", (), None, _wish(BONNEVILLE, "commune:74042").model_dump(exclude_defaults=True)),
    ]
    back = await room.between(3, 1)
    assert [(one.where, one.before, one.after) for one in back] == [
        (one.where, one.after, one.before) for one in there
    ]
    with pytest.raises(RuleBookError):
        await room.between(1, 9)


async def test_files_are_compared_with_the_newest_edition_without_its_subscriptions(
    room: EditionRoom, store: PostgresRuleBooks
) -> None:
    await _apply(room)
    await _subscribe(store, 1, _wish(BONNEVILLE, "commune:74042"))
    assert await room.rules_differ(_rules()) == (2, ())
    number, found = await room.rules_differ(_rules(_procedure("Acte")))
    assert (number, [one.where for one in found]) == (2, [("title",)])
    newer = items([_procedure()], (), (), ("2027", b"autre"))
    assert [(one.kind, one.key) for one in (await room.rules_differ(newer))[1]] == [
        ("territory", "2026"),
        ("territory", "2027"),
    ]
