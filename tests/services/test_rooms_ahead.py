"""Rooms that read further while what they read before is on its way: nothing is said done before it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast
from uuid import UUID, uuid4

import pytest

from hub.domain.decisions import Decision, SetAside
from hub.domain.errors import Unavailable
from hub.domain.rule_book import RuleBook, Snapshot
from hub.domain.submission import RoutingFacts
from hub.ports.log import Entry, Log, Position, Record, Topic
from hub.ports.registry import Registered, Registry
from hub.services.library import Library
from hub.services.registration import RegistrationRoom
from hub.services.routing import RoutingRoom
from hub.services.shelf import Shelf, Unread
from hub.wire import DecisionWriter, SubmissionReader, read_decision_record, write_decision, write_submission

RECEIVED = datetime(2026, 3, 1, tzinfo=UTC)


class Pages:
    """A reader with some pages; `done` is what was said done of them."""

    def __init__(self, records: Sequence[Record], page: int) -> None:
        entries = [Entry(Position(0, offset), record) for offset, record in enumerate(records)]
        self._pages = [entries[start : start + page] for start in range(0, len(entries), page)]
        self.done_: list[Position] = []

    async def read(self, limit: int, wait: float) -> Sequence[Entry]:
        return self._pages.pop(0) if self._pages else []

    async def done(self, positions: Sequence[Position]) -> None:
        self.done_ += positions


class Shelved:
    async def put(self, topic: Topic, unread: Sequence[Unread]) -> None:
        assert not unread


class OneBook:
    async def in_force(self, receipts: Sequence[datetime]) -> Sequence[Snapshot]:
        return [Snapshot(1, RECEIVED, cast(RuleBook, Empty()))] * len(receipts)


class Empty:
    plans: dict[str, object] = {}  # noqa: RUF012


class Brokers:
    """An append ends when it is let; the `fails`-th never well."""

    def __init__(self, fails: int | None = None) -> None:
        self.begun: list[list[Record]] = []
        self.ended = 0
        self.let = asyncio.Semaphore(0)
        self._fails = fails

    async def append(self, topic: Topic, records: Sequence[Record]) -> None:
        self.begun.append(list(records))
        number = len(self.begun)
        if number == self._fails:
            raise Unavailable("not acknowledged")
        async with self.let:
            self.ended += 1


def submissions(count: int) -> list[Record]:
    return [write_submission(RoutingFacts(uuid4(), "psl", "P", {}, (), RECEIVED)) for _ in range(count)]


def router(log: Brokers, ahead: int) -> RoutingRoom:
    read, writer = SubmissionReader().read, DecisionWriter()
    library, shelf = cast(Library, OneBook()), cast(Shelf, Shelved())
    return RoutingRoom(cast(Log, log), library, read, writer, shelf, page=10, ahead=ahead)


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0)


async def test_pages_are_on_their_way_at_once_in_order_and_said_done_when_all_are_acknowledged() -> None:
    log, records = Brokers(), submissions(60)
    reader = Pages(records, 10)
    turn = asyncio.create_task(router(log, 4).run_once(reader, 0))
    await until(lambda: len(log.begun) == 4)
    await asyncio.sleep(0.05)
    assert (len(log.begun), log.ended, reader.done_) == (4, 0, [])
    for _ in range(6):
        log.let.release()
    assert await turn == 60
    assert [record.key for page in log.begun for record in page] == [record.key for record in records]
    assert reader.done_ == [Position(0, offset) for offset in range(60)]


async def test_when_one_append_fails_nothing_of_the_turn_is_said_done_and_none_is_left_on_its_way() -> None:
    log = Brokers(fails=2)
    reader = Pages(submissions(60), 10)
    turn = asyncio.create_task(router(log, 4).run_once(reader, 0))
    await until(lambda: len(log.begun) == 4)
    log.let.release()
    with pytest.raises(Unavailable):
        await turn
    assert reader.done_ == []
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in left if "append" in repr(task)]


class Store:
    """Registers when it is let; the `fails`-th page never."""

    def __init__(self, fails: int | None = None) -> None:
        self.begun: list[list[UUID]] = []
        self.at_work = 0
        self.let = asyncio.Semaphore(0)
        self._fails = fails

    async def register(self, decisions: Sequence[Decision]) -> Registered:
        self.begun.append([decision.submission for decision in decisions])
        self.at_work += 1
        assert self.at_work == 1
        if len(self.begun) == self._fails:
            raise Unavailable("the store is away")
        await self.let.acquire()
        self.at_work -= 1
        return Registered(len(decisions), 0, 0)


def decisions(count: int) -> list[Record]:
    return [write_decision(Decision.first(uuid4(), 1, SetAside("unknown_procedure"))) for _ in range(count)]


def registrar(store: Store) -> RegistrationRoom:
    return RegistrationRoom(cast(Registry, store), read_decision_record, cast(Shelf, Shelved()), page=10)


async def test_a_page_is_read_while_the_store_works_on_the_one_before_and_registered_after_it() -> None:
    store, records = Store(), decisions(30)
    reader = Pages(records, 10)
    turn = asyncio.create_task(registrar(store).run_once(reader, 0))
    await until(lambda: len(reader._pages) == 1 and store.at_work)
    assert (len(store.begun), reader.done_) == (1, [])
    for _ in range(3):
        store.let.release()
    assert await turn == 30
    assert [name.bytes for page in store.begun for name in page] == [record.key for record in records]
    assert len(reader.done_) == 30


async def test_when_the_store_is_away_for_one_page_nothing_of_the_turn_is_said_done() -> None:
    store = Store(fails=2)
    reader = Pages(decisions(30), 10)
    store.let.release()
    with pytest.raises(Unavailable):
        await registrar(store).run_once(reader, 0)
    assert reader.done_ == []
