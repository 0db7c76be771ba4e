"""Return folders side by side: a look waits for no other. The store and the servers are stand-ins, so that a look lasts
exactly as long as its test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from hub.adapters.keys.local import LocalKeyring
from hub.adapters.system.clock import SystemClock
from hub.domain.delivery import Deferred, Refused
from hub.domain.errors import Unavailable
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner
from hub.entrypoints.workers import collect
from hub.ports.partners import KeptPartner, Partners
from hub.ports.returns import WHOLE, DueFolder, FoundFile, LeftFile, ReturnFolders, Returns
from hub.services.collecting import CollectingRoom, CollectPace
from hub.services.endpoints import EndpointRoom
from hub.services.reporting import ReportRoom
from tests.unit.samples import BONNEVILLE, MARIGNIER

ENDPOINTS = EndpointRoom(LocalKeyring(bytes(range(32))))
SLOW, QUICK = BONNEVILLE, MARIGNIER


class Store:
    """As many folders as it is said, due once each."""

    def __init__(self, *due: Subscriber) -> None:
        self.waiting = list(due)
        self.away = False
        self.asked: list[int] = []
        self.looked_at: list[tuple[Subscriber, str | None]] = []

    async def due(self, limit: int, _: timedelta) -> Sequence[DueFolder]:
        if self.away:
            raise Unavailable
        self.asked.append(limit)
        now, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return [DueFolder(subscriber, frozenset(), 0) for subscriber in now]

    async def looked(
        self, subscriber: Subscriber, wait: timedelta, cause: str | None, left: Sequence[LeftFile]
    ) -> Sequence[str]:
        self.looked_at.append((subscriber, cause))
        return ()

    async def get(self, subscriber: Subscriber) -> KeptPartner:
        endpoint = Endpoint("sftp", {"host": "slow" if subscriber == SLOW else "quick"})
        return ENDPOINTS.seal(Partner(subscriber, "Mairie", endpoint))


class Servers:
    """Of which one says nothing until it is told to."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.cut_off = 0

    async def collect(
        self, endpoint: Endpoint, limit: float, most: int, passed: Collection[bytes] = ()
    ) -> Sequence[FoundFile] | Deferred | Refused:
        if endpoint.settings["host"] == "slow":
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.cut_off += 1
                raise
        return ()

    def read(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("there is no document")


def room_of(store: Store, servers: Servers) -> CollectingRoom:
    channels = {"sftp": cast(Returns, servers)}
    folders, partners, reports = cast(ReturnFolders, store), cast(Partners, store), cast(ReportRoom, None)
    return CollectingRoom(folders, partners, channels, reports, ENDPOINTS, SystemClock(), CollectPace())


async def test_a_server_that_is_slow_holds_up_no_other_partner() -> None:
    store, servers = Store(SLOW, QUICK), Servers()
    room = room_of(store, servers)
    async with asyncio.timeout(30):
        assert await room.run_once() == 2
        assert store.looked_at == [(QUICK, None)]
        # What comes due meanwhile is looked at too.
        store.waiting.append(QUICK)
        await room.run_once()
        assert store.looked_at == [(QUICK, None)] * 2
        servers.let_go.set()
        await room.run_once()
        assert store.looked_at[-1] == (SLOW, None)
        assert await room.run_once() == 0


async def test_as_many_folders_are_looked_at_as_there_are_places() -> None:
    store, servers = Store(*[SLOW] * 30), Servers()
    room = room_of(store, servers)
    async with asyncio.timeout(30):
        assert [await room.run_once() for _ in range(2)] == [20, 20]
        assert store.asked == [20], "there is no place for what it would be asked for"
        servers.let_go.set()
        while await room.run_once():
            pass
    assert len(store.looked_at) == 30


async def test_looks_under_way_have_a_moment_to_end_when_stopping() -> None:
    store, servers = Store(SLOW), Servers()
    room = room_of(store, servers)
    async with asyncio.timeout(30):
        await room.run_once()
        asyncio.get_running_loop().call_soon(servers.let_go.set)
        await room.close(20)
        assert (store.looked_at, servers.cut_off) == ([(SLOW, None)], 0)
        servers.let_go.clear()
        store.waiting.append(SLOW)
        await room.run_once()
        await room.close(0)
        assert (len(store.looked_at), servers.cut_off) == (1, 1)
        assert await room.run_once() == 0


async def test_a_worker_that_ends_leaves_no_look_behind() -> None:
    store, servers = Store(SLOW), Servers()
    room, stopping = room_of(store, servers), asyncio.Event()
    async with asyncio.timeout(30):
        working = asyncio.create_task(collect(room, 0, stopping))
        await asyncio.sleep(0)
        stopping.set()
        await working
    assert servers.cut_off == 1
    stopping.clear()
    store.waiting.append(SLOW)
    await room.run_once()
    store.away = True
    with pytest.raises(Unavailable):
        await collect(room, 0, stopping)
    assert servers.cut_off == 2


async def test_a_look_that_fails_ends_none_of_the_others() -> None:
    class Failing(Servers):
        async def collect(self, endpoint: Endpoint, *given: Any) -> Any:
            if endpoint.settings["host"] == "slow":
                raise RuntimeError
            return await super().collect(endpoint, *given)

    store = Store(SLOW, QUICK)
    room = room_of(store, Failing())
    assert await room.run_once() == 2
    assert store.looked_at == [(QUICK, None)]


async def test_nobody_else_looks_before_a_look_must_have_ended() -> None:
    for pace in (CollectPace(), CollectPace(timedelta(seconds=1), timedelta(seconds=300))):
        assert pace.hold > 2 * WHOLE * pace.limit + pace.documents + pace.limit
