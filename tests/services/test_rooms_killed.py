"""A small journey, killed before and after each call that a room makes, then gone on with: nothing is lost,
and each partner has each delivery under one name."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.shelf import PostgresShelf
from hub.adapters.system.clock import SystemClock
from hub.domain.identity import submission_id
from hub.ports.log import Log, Topic
from hub.services.reconciliation import ReconciliationRoom
from hub.services.shelf import Shelf, ShelfRoom
from hub.wire import read_unreadable, write_unreadable
from tests.services.http_world import World, offer, open_world
from tests.services.room_world import (
    Killed,
    Ports,
    ScriptedPartner,
    all_in,
    column,
    decide_all,
    dispatch,
    ports,
    serve_lanes,
)

LEASE = 1.0


class Axe:
    """Falls before or after the `fall`-th call of any port."""

    def __init__(self, fall: int, when: str) -> None:
        self.fall = fall
        self.when = when
        self.calls: list[str] = []

    def over(self, port: Any) -> Any:
        return _Axed(port, self)

    async def around(self, name: str, call: Callable[[], Any]) -> Any:
        self.calls.append(name)
        number = len(self.calls)
        if number == self.fall and self.when == "before":
            raise Killed(name)
        if number > self.fall:
            # The process is dead: what other tasks of it do is never begun.
            raise Killed(name)
        result = call()
        if inspect.isawaitable(result):
            result = await result
        if number == self.fall:
            raise Killed(name)
        return result


class _Axed:
    def __init__(self, port: Any, axe: Axe) -> None:
        self._port = port
        self._axe = axe

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name == "reader":
            return self._reader
        if not inspect.iscoroutinefunction(found):
            return found

        async def called(*arguments: Any, **named: Any) -> Any:
            return await self._axe.around(name, lambda: found(*arguments, **named))

        return called

    @asynccontextmanager
    async def _reader(self, topic: Topic, group: str) -> AsyncIterator[Any]:
        async with cast(Log, self._port).reader(topic, group) as reader:
            yield self._axe.over(reader)


def _axed(through: Ports, axe: Axe) -> Ports:
    return Ports(
        *(
            axe.over(port)
            for port in (through.tray, through.log, through.registry, through.lanes, through.partner)
        )
    )


async def _go(world: World, through: Ports, worker: str) -> None:
    """The journey from the tray to the partner, until all is delivered or the process dies."""
    await decide_all(world, through)
    room = dispatch(world, through.lanes, {"mailbox": through.partner}, worker=worker, lease=LEASE)
    await serve_lanes(room, lambda: all_in(world, "delivered"))


async def _calls_of_a_whole_journey(database: str, folder: Path) -> list[str]:
    async with open_world(database, folder) as world:
        await _accept(world)
        axe = Axe(10**9, "never")
        await _go(world, _axed(ports(world, ScriptedPartner()), axe), "whole")
        return axe.calls


async def _accept(world: World) -> None:
    for number in range(2):
        files = [b"premier", b"second"]
        assert (await world.post_parts(offer(files, external_id=f"d-{number}"), files)).status == 202


@pytest.mark.parametrize(
    ("when", "first", "step"),
    [
        # Before one call is nearly after the one before it: every second is enough each day.
        pytest.param("before", 1, 2, id="before"),
        pytest.param("after", 2, 2, id="after"),
        pytest.param("before", 1, 1, id="before-each", marks=pytest.mark.slow),
        pytest.param("after", 1, 1, id="after-each", marks=pytest.mark.slow),
    ],
)
async def test_wherever_the_process_dies_the_next_one_ends_the_journey(
    database: str, tmp_path: Path, when: str, first: int, step: int, fresh_database: Callable[[], str]
) -> None:
    calls = await _calls_of_a_whole_journey(database, tmp_path / "whole")
    # From the first look at the due lanes on, calls interleave; each kind of them is met many times over.
    print(f"{len(calls)} calls: {' '.join(calls)}")
    assert {
        "letters",
        "append",
        "discard",
        "read",
        "done",
        "register",
        "lease",
        "claim",
        "deliver",
        "conclude",
    } <= {*calls}
    for fall in range(first, min(len(calls), 28) + 1, step):
        async with open_world(fresh_database(), tmp_path / str(fall)) as world:
            await _accept(world)
            partner = ScriptedPartner()
            axe = Axe(fall, when)
            try:
                async with asyncio.timeout(20):
                    await _go(world, _axed(ports(world, partner), axe), "killed")
            except (Killed, BaseExceptionGroup, TimeoutError):
                pass
            await _go(world, ports(world, partner), "next")
            await _all_is_accounted_for(world, partner, f"killed {when} call {fall} ({axe.calls[-1]})")


async def _all_is_accounted_for(world: World, partner: ScriptedPartner, where: str) -> None:
    accounts, differences = await ReconciliationRoom(PostgresLedger(world.database)).read()
    assert not differences, where
    assert [(line.accepted, line.routed) for line in accounts.submissions] == [(2, 2)], where
    named = await column(world, "SELECT id FROM delivery")
    assert len(named) == 4, where
    # Perhaps twice, and then the same, byte for byte.
    assert set(partner.arrived) == set(named), where
    assert all(len(set(copies)) == 1 for copies in partner.arrived.values()), where
    numbers = await column(world, "SELECT sequence FROM delivery ORDER BY subscriber, sequence")
    assert numbers == [1, 2, 1, 2], where


async def test_a_record_that_cannot_be_read_is_set_aside_and_the_others_go_on(
    database: str, tmp_path: Path
) -> None:
    async with open_world(database, tmp_path) as world:
        await _accept(world)
        through = ports(world, ScriptedPartner())
        [first, _] = await through.tray.letters(2)
        # A poisoned record under an accepted submission's key, and one whose key names nothing at all.
        from hub.ports.log import Record

        await PostgresLog(world.database, 2).append(
            Topic.SUBMISSIONS,
            [
                Record(first.content.submission.bytes, "submission.v1", b"\xff\xfe poison"),
                Record(b"not an id", "submission.v1", b"\x00"),
                Record(submission_id("nobody", "1").bytes, "other.v9", b""),
                Record(bytes(16), "submission.v1", b""),
            ],
        )
        await through.tray.discard([first.position])
        await decide_all(world, through)
        verdicts = await column(world, "SELECT verdict FROM decision ORDER BY verdict")
        assert verdicts == ["routed", "set_aside"]
        accounts, differences = await ReconciliationRoom(PostgresLedger(world.database)).read()
        assert not differences
        assert accounts.strays == 1
        # The same on the embedded log as on Kafka: operators see where each lies, and why.
        rows = PostgresShelf(world.database)
        kept = ShelfRoom(Shelf(through.log, write_unreadable, SystemClock()), rows, read_unreadable)
        async with through.log.reader(Topic.SET_ASIDE, "shelf") as reader:
            while await kept.run_once(reader, 0):
                pass
        reasons = sorted((one.topic, one.reason, one.size) for one in await rows.newest(10))
        assert reasons == [
            ("submissions", "no_avro", 0),
            ("submissions", "no_avro", 1),
            ("submissions", "no_avro", 9),
            ("submissions", "unknown_schema", 0),
        ]
