"""A submission's first decision is the same for ever: whoever decides, whenever, after whatever happened."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from uuid import UUID

import pytest
import pytest_asyncio

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.decisions import SetAside, Verdict
from hub.domain.errors import RuleBookError, Unavailable
from hub.domain.rule_book import RuleBook
from hub.entrypoints import workers
from hub.ports.log import Record, Topic
from hub.ports.rule_books import Change, Item, ItemKind
from hub.services.library import Library
from hub.wire import read_decision_record, read_submission_record, write_submission
from tests.conformance.samples import Obstacle, execute, rows, sizes
from tests.services.room_world import Killed
from tests.services.rules_world import (
    AT_ONCE,
    COMMUNES,
    LONG_AGO,
    Desk,
    Press,
    desk,
    partner,
    read,
    wish,
)


@pytest_asyncio.fixture
async def hall(database: str) -> AsyncIterator[Desk]:
    opened = await Database.open(database)
    yield desk(opened)
    await opened.close()


@pytest.fixture
def press(hall: Desk) -> Press:
    return Press(PostgresRuleBooks(hall.database))


# --- faults -------------------------------------------------------------------------------------------


class DeadlyLog(PostgresLog):
    """Whoever appends a decision has it in the log, and dies before it can say that its page is done."""

    async def append(self, topic: Topic, records: Sequence[Record]) -> None:
        await super().append(topic, records)
        raise Killed


async def test_a_router_killed_before_its_page_is_done_decides_the_same_again_under_newer_rules(
    hall: Desk, press: Press
) -> None:
    await press.publish_for(1)
    received = [(await hall.receive()).submission for _ in range(3)]
    await hall.carry()
    with pytest.raises(Killed):
        await hall.route(hall.router(log=DeadlyLog(hall.database, 2)))
    await press.publish_for(2)
    later = (await hall.receive()).submission
    await hall.carry()
    await hall.route(hall.router())
    one, two = (1, partner(1)), (2, partner(2))
    assert await hall.decided() == {**{name: [one, one] for name in received}, later: [two]}
    await hall.register()
    decided = await rows(hall.database, "SELECT submission, snapshot FROM decision")
    assert {row["submission"]: row["snapshot"] for row in decided} == {
        **dict.fromkeys(received, 1),
        later: 2,
    }
    delivered = await rows(hall.database, "SELECT subscriber, count(*) FROM delivery GROUP BY 1")
    assert dict(map(tuple, delivered)) == {str(partner(1)): 3, str(partner(2)): 1}


async def test_routers_that_read_an_edition_late_or_early_agree(hall: Desk, press: Press) -> None:
    await press.publish_for(1)
    early = hall.library()
    await early.refresh()
    before = await hall.receive()
    await press.publish_for(2)
    between = await hall.receive()
    await press.publish_for(3)
    after = await hall.receive()
    await hall.carry()
    backwards = hall.library()
    for receipt in (after, between, before):
        await backwards.at(receipt.received_at)
    # One knew the first edition only, one read them from the newest to the oldest, one knows none.
    for number, library in enumerate((early, backwards, hall.library())):
        await hall.route(hall.router(library), f"routers {number}")
    assert await hall.decided() == {
        answer.submission: [(number, partner(number))] * 3
        for number, answer in enumerate((before, between, after), start=1)
    }


async def test_rules_committed_after_they_took_force_delay_decisions_and_change_none(
    hall: Desk, press: Press
) -> None:
    await press.publish_for(1)
    before = await hall.receive()
    await hall.carry()
    living = hall.library()
    await hall.route(hall.router(living), "living")
    async with Obstacle.before(hall.database, "rule_book") as obstacle:
        applying = asyncio.create_task(press.publish([wish(2)], lead=timedelta(milliseconds=20)))
        await obstacle.reached()
        await asyncio.sleep(0.1)
        # By now the new rules are in force, and nobody can see them.
        after = await hall.receive()
        await hall.carry()
        routing = asyncio.create_task(hall.route(hall.router(living), "living"))
        assert not (await asyncio.wait([routing, applying], timeout=0.4))[0]
        assert (await living.at(before.received_at)).number == 1
        await obstacle.remove()
        assert await applying == 2
    await routing
    await hall.route(hall.router(), "late")
    start = dict((await press.books.confirm(0)).editions)[2]
    assert start < after.received_at
    assert await hall.decided() == {
        before.submission: [(1, partner(1))] * 2,
        after.submission: [(2, partner(2))] * 2,
    }


async def test_a_router_whose_rules_die_uncommitted_goes_on_with_those_before(
    hall: Desk, press: Press
) -> None:
    await press.publish_for(1)
    async with Obstacle.before(hall.database, "rule_book") as obstacle:
        applying = asyncio.create_task(press.publish_for(2))
        process = await obstacle.reached()
        received = await hall.receive()
        await hall.carry()
        routing = asyncio.create_task(hall.route(hall.router()))
        assert not (await asyncio.wait([routing], timeout=0.2))[0]
        await obstacle.kill(process)
        await asyncio.wait([applying])
        assert applying.exception() is not None
        await routing
    assert await hall.decided() == {received.submission: [(1, partner(1))]}


@contextmanager
def clocks_wrong_by(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """Whatever of the hub asks this process for the time is told another one."""
    truly, truly_ns = time.time, time.time_ns

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> datetime:  # type: ignore[override]
            return datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=seconds)

    with monkeypatch.context() as patches:
        patches.setattr(time, "time", lambda: truly() + seconds)
        patches.setattr(time, "time_ns", lambda: truly_ns() + int(seconds * 1e9))
        for name, module in list(sys.modules.items()):
            if name.startswith("hub.") and getattr(module, "datetime", None) is datetime:
                patches.setattr(module, "datetime", Wrong)
        yield


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_router_whose_own_clock_is_an_hour_wrong_decides_the_same(
    hall: Desk, press: Press, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    await press.publish_for(1)
    before = await hall.receive()
    await press.publish_for(2)
    after = await hall.receive()
    await press.publish([wish(3)], lead=timedelta(minutes=30))
    await hall.carry()
    await hall.route(hall.router(), "right")
    with clocks_wrong_by(monkeypatch, hours * 3600):
        await hall.route(hall.router(), "wrong")
        assert (await hall.library().newest()).number == 2
        # Its submissions are received by the store's clock too.
        later = await hall.receive()
        await hall.carry()
        await hall.route(hall.router(), "wrong")
    await hall.route(hall.router(), "right")
    assert await hall.decided() == {
        before.submission: [(1, partner(1))] * 2,
        after.submission: [(2, partner(2))] * 2,
        later.submission: [(2, partner(2))] * 2,
    }


async def test_a_router_waits_for_what_is_not_certain_yet_and_goes_on_by_itself(
    hall: Desk, press: Press
) -> None:
    await press.publish_for(1)
    early, received = await hall.receive(), await hall.receive()
    # The store's clock ran ahead when it was received, and was set right again.
    await execute(
        hall.database,
        "UPDATE submission SET received_at = received_at + interval '4 seconds'"
        f" WHERE id = '{received.submission}'",
    )
    await hall.carry()
    with pytest.raises(Unavailable):
        await hall.route(hall.router(), "another")
    assert await hall.decided() == {early.submission: [(1, partner(1))]}
    stopping = asyncio.Event()
    room = hall.router()
    working = asyncio.create_task(
        workers.keep("routing", lambda: workers.route(room, hall.log, stopping), stopping)
    )
    try:
        async with asyncio.timeout(20):
            while received.submission not in await hall.decided():
                await asyncio.sleep(0.05)
    finally:
        stopping.set()
        await working
    assert await hall.decided() == {
        early.submission: [(1, partner(1))] * 2,
        received.submission: [(1, partner(1))],
    }


# --- records whose edition cannot be had --------------------------------------------------------------


async def test_a_record_whose_edition_is_gone_is_set_aside_and_stops_no_other(
    hall: Desk, press: Press
) -> None:
    await press.publish_for(1)
    await press.publish_for(2)
    good = await hall.receive()
    assert await press.books.prune(AT_ONCE) == [1]
    await hall.carry()
    # A stray: of no accepted submission, received long ago.
    async with hall.log.reader(Topic.SUBMISSIONS, "copyists") as reader:
        facts = read_submission_record((await reader.read(1, 5))[0].record)
    stray = replace(facts, submission=UUID(int=0), received_at=LONG_AGO)
    await hall.log.append(Topic.SUBMISSIONS, [write_submission(stray)])
    await hall.route(hall.router())
    decided = await verdicts(hall)
    assert decided[stray.submission] == [(0, SetAside("rule_book_pruned"))]
    assert [number for number, _ in decided[good.submission]] == [2]
    assert await hall.log.backlog(Topic.SUBMISSIONS) == {"routing": 0, "copyists": 2}


async def verdicts(hall: Desk) -> dict[UUID, list[tuple[int, Verdict]]]:
    """Of each submission, every decision in the log: by which edition, and what."""
    found: dict[UUID, list[tuple[int, Verdict]]] = {}
    async with hall.log.reader(Topic.ROUTINGS, "readers") as reader:
        for entry in await reader.read(100, 5):
            decision = read_decision_record(entry.record)
            found.setdefault(decision.submission, []).append((decision.snapshot, decision.verdict))
    return found


async def test_what_only_a_newer_hub_can_read_waits_for_it_and_keeps_nothing_else_undecided(
    hall: Desk, press: Press
) -> None:
    await press.publish_for(1)
    before = await hall.receive()
    newer = Item(ItemKind.PROCEDURE, "P00", b"of a later hub")
    press.number = await press.books.publish(Change((newer,)), 1, AT_ONCE, "agent", "essai")
    unreadable = await hall.receive()
    press.held[ItemKind.PROCEDURE, "P00"] = newer
    await press.publish_for(3)
    after = await hall.receive()
    await hall.carry()
    older = hall.router()
    for _ in range(3):
        with pytest.raises(RuleBookError):
            await hall.route(older)
    readable = {before.submission: [(1, partner(1))], after.submission: [(3, partner(3))]}
    assert await hall.decided() == readable
    assert await hall.log.backlog(Topic.SUBMISSIONS) == {"routing": 3}
    await hall.register()
    assert await sizes(hall.database, "decision") == {"decision": 2}

    def read_newer(book: RuleBook | None, change: Change) -> RuleBook:
        put = tuple(plainly if item == newer else item for item in change.put)
        return read(book, Change(put, change.dropped))

    plainly = press.held[ItemKind.PROCEDURE, "P00"]
    await hall.route(hall.router(Library(press.books, read_newer)))
    decided = await hall.decided()
    assert decided.pop(unreadable.submission) == [(2, partner(1))]
    # Decided again by another process, and the same.
    assert decided == {name: them * 2 for name, them in readable.items()}
    assert await hall.log.backlog(Topic.SUBMISSIONS) == {"routing": 0}


async def test_before_any_rules_are_published_submissions_wait(hall: Desk, press: Press) -> None:
    received = await hall.receive()
    await hall.carry()
    with pytest.raises(Exception, match="none was published"):
        await hall.route(hall.router())
    await press.publish_for(1)
    await hall.route(hall.router())
    assert await hall.decided() == {received.submission: [(1, partner(1))]}


# --- many editions ------------------------------------------------------------------------------------


async def test_a_day_of_small_changes_costs_what_changed_and_no_copies(hall: Desk, press: Press) -> None:
    codes = [f"P{number:02}" for number in range(20)]
    wishes = [wish(1, code, commune) for code in codes for commune in COMMUNES]
    await press.publish(wishes, codes)
    there = await sizes(hall.database, "rule_book_item")
    assert there["rule_book_item"] == len(wishes) + len(codes) + 1
    for number in range(2, 62):
        one = wish(number, "P00", COMMUNES[number % 100])
        item = Item(
            ItemKind.SUBSCRIPTION,
            f"P00/{one.place}/{one.subscriber}",
            one.model_dump_json(exclude_defaults=True).encode(),
        )
        assert await press.books.publish(Change((item,)), number - 1, AT_ONCE, "agent", "essai") == number
    assert await sizes(hall.database, "rule_book_item") == {"rule_book_item": there["rule_book_item"] + 60}
    library = hall.library()
    starts = [start for _, start in (await press.books.confirm(0)).editions]
    first, middle, last = [await library.at(starts[number]) for number in (0, 29, 60)]
    assert [len(one.book.subscriptions) for one in (first, middle, last)] == [2000, 2029, 2060]
    for code in codes[1:]:
        assert first.book.plans[code] is middle.book.plans[code] is last.book.plans[code]
    for name, subscription in first.book.subscriptions.items():
        assert last.book.subscriptions[name] is subscription


async def test_what_is_undecided_is_decided_by_its_edition_after_any_pruning(
    hall: Desk, press: Press
) -> None:
    await press.publish_for(1)
    received = await hall.receive()
    for number in (2, 3, 4):
        await press.publish_for(number)
    assert await press.books.prune(AT_ONCE) == [2, 3]
    await hall.carry()
    await hall.route(hall.router())
    assert await hall.decided() == {received.submission: [(1, partner(1))]}
    await hall.register()
    assert await press.books.prune(AT_ONCE) == []
    assert (await hall.library().at(received.received_at)).number == 1


async def test_workers_take_a_new_edition_up_and_let_old_ones_go_without_a_restart(
    hall: Desk, press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_REFRESH_EVERY", 0.2)
    await press.publish_for(1)
    library = hall.library()
    assert (await library.newest()).number == 1
    stopping = asyncio.Event()
    loops = [
        asyncio.create_task(workers.refresh(library, stopping)),
        asyncio.create_task(workers.prune(press.books, stopping)),
    ]
    try:
        # They have all looked once, and go on by themselves.
        await asyncio.sleep(0.1)
        await press.publish_for(2)
        async with asyncio.timeout(10):
            while (await library.newest()).number != 2:
                await asyncio.sleep(0.05)
    finally:
        stopping.set()
        await asyncio.gather(*loops)
    assert not any(edition.pruned for edition in await press.books.editions(10))
    # Superseded long enough ago that nobody will want to go back to it.
    await execute(
        hall.database,
        "UPDATE rule_book SET effective_from = clock_timestamp() - interval '100 days' WHERE number = 2",
    )
    stopping = asyncio.Event()
    pruning = asyncio.create_task(workers.prune(press.books, stopping))
    async with asyncio.timeout(10):
        while [edition.number for edition in await press.books.editions(10) if edition.pruned] != [1]:
            await asyncio.sleep(0.02)
    stopping.set()
    await pruning
