"""Deciding a past period anew, on a real store: what would differ, for whom, and that nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.received import PostgresReceived
from hub.adapters.postgres.registry import PostgresRegistry
from hub.domain.identity import submission_id
from hub.domain.matching import decide
from hub.domain.partner import Endpoint, Partner
from hub.domain.rule_book import RuleBook, Snapshot
from hub.domain.submission import AttachmentFacts, StoredAttachment, Submission
from hub.services.simulation import SimulationRoom, Tally
from tests.conformance.samples import sizes
from tests.unit.samples import BONNEVILLE, MARIGNIER, MINISTRY, book, procedure, subscription

EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
TABLES = ("submission", "decision", "delivery", "ledger_slip", "journal", "tray", "rule_book")


@pytest.fixture
async def database(fresh_database: Callable[[], str]) -> AsyncIterator[Database]:
    opened = await Database.open(fresh_database())
    await PostgresPartners(opened).keep(
        [
            (Partner(subscriber, "Essai", Endpoint("mailbox", {})), None, None)
            for subscriber in (BONNEVILLE, MARIGNIER, MINISTRY)
        ]
    )
    yield opened
    await opened.close()


def _name(number: int) -> UUID:
    return submission_id("psl", f"A-{number}")


async def _receive(database: Database, communes: Sequence[str], code: str = "CERTDC") -> None:
    batch = [
        Submission(
            id=_name(number),
            sender="psl",
            external_id=f"A-{number}",
            procedure=code,
            facts={"commune": commune},
            digest=b"",
            sealed=b"",
            wrapped_key=b"",
            attachments=(StoredAttachment(AttachmentFacts(1, "VA"), 10, f"{number}-1"),),
        )
        for number, commune in enumerate(communes, start=1)
    ]
    for one in batch:  # one by one: each has a receipt time of its own
        await PostgresIntake(database).accept([one])


async def _decide(database: Database, by: RuleBook) -> None:
    received = await PostgresReceived(database).received(*EVER, None, None, 1000)
    snapshot = Snapshot(7, EVER[0], by)
    await PostgresRegistry(database).register([decide(one.facts, snapshot) for one in received])


WITH_BONNEVILLE = book(subscription(BONNEVILLE, "commune:74042"))
WITH_BOTH = book(subscription(BONNEVILLE, "commune:74042"), subscription(MARIGNIER, "commune:74164"))


def _room(database: Database) -> SimulationRoom:
    return SimulationRoom(PostgresReceived(database), examples=2, page=2)


async def test_the_same_rule_book_decides_everything_as_it_was(database: Database) -> None:
    await _receive(database, ["74042", "74164", "74010", "00000", "74092"])
    await _decide(database, WITH_BONNEVILLE)
    before = await sizes(database, *TABLES)
    found = await _room(database).run(WITH_BONNEVILLE, *EVER)
    assert (found.compared, found.differ, found.undecided) == (5, 0, 0)
    assert (found.outcomes, found.partners) == ({}, {})
    assert await sizes(database, *TABLES) == before


async def test_what_a_partner_would_gain_and_lose_is_counted_with_a_few_examples(database: Database) -> None:
    await _receive(database, ["74042", "74164", "74164", "74164"])
    await _decide(database, WITH_BONNEVILLE)
    with_marignier = book(subscription(MARIGNIER, "commune:74164"))
    found = await _room(database).run(with_marignier, *EVER)
    assert (found.compared, found.differ) == (4, 4)
    assert set(found.partners) == {BONNEVILLE, MARIGNIER}
    assert found.partners[BONNEVILLE].lost == Tally(1, [_name(1)])
    assert found.partners[MARIGNIER].gained == Tally(3, [_name(2), _name(3)])
    assert found.partners[MARIGNIER].count == 3


async def test_what_would_become_unroutable_or_be_set_aside_is_counted_by_reason(database: Database) -> None:
    await _receive(database, ["74042", "74042"])
    await _decide(database, WITH_BONNEVILLE)
    nobody = book(procedures=(replace(procedure(), rules=procedure().rules[1:]),))
    found = await _room(database).run(nobody, *EVER)
    assert found.outcomes == {("routed", "unroutable"): Tally(2, [_name(1), _name(2)])}
    other = book(procedures=(replace(procedure(), code="AUTRE"),))
    found = await _room(database).run(other, *EVER)
    assert list(found.outcomes) == [("routed", "unknown_procedure")]


async def test_only_the_period_and_the_procedure_asked_for_are_looked_at(database: Database) -> None:
    await _receive(database, ["74042", "74042", "74042", "74042"])
    await _decide(database, WITH_BONNEVILLE)
    instants = [
        one.facts.received_at for one in await PostgresReceived(database).received(*EVER, None, None, 9)
    ]
    assert instants == sorted(instants)
    room = _room(database)
    assert (await room.run(WITH_BOTH, instants[1], instants[3])).compared == 2
    assert (await room.run(WITH_BOTH, instants[3] + timedelta(microseconds=1), EVER[1])).compared == 0
    assert (await room.run(WITH_BOTH, *EVER, "CERTDC")).compared == 4
    assert (await room.run(WITH_BOTH, *EVER, "AUTRE")).compared == 0


async def test_what_is_not_decided_yet_is_counted_apart(database: Database) -> None:
    await _receive(database, ["74042", "74042"])
    found = await _room(database).run(WITH_BONNEVILLE, *EVER)
    assert (found.compared, found.differ, found.undecided) == (0, 0, 2)


async def test_one_submission_is_found_with_its_first_decision(database: Database) -> None:
    await _receive(database, ["74042"])
    received = PostgresReceived(database)
    assert await received.one(_name(9)) is None
    before = await received.one(_name(1))
    assert before is not None
    assert (before.snapshot, before.verdict) == (None, None)
    await _decide(database, WITH_BONNEVILLE)
    after = await received.one(_name(1))
    assert after is not None
    assert after.facts == before.facts
    assert (after.snapshot, after.verdict) == (
        7,
        decide(after.facts, Snapshot(7, EVER[0], WITH_BONNEVILLE)).verdict,
    )
