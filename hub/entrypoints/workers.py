"""Workers: the rooms that nobody knocks at, each in a loop that outlives its faults.

A fault (the database is away, a bug) is logged once, waited out, and the loop goes on: what was half done
is done again, which is harmless. Stopping lets the page at hand end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

from hub.domain.errors import LeaseLost, SettingsError, Unavailable
from hub.ports.clock import Clock
from hub.ports.deposits import Deposits
from hub.ports.log import Log, LogReader, Topic
from hub.ports.rule_books import RuleBooks
from hub.services import registration, routing, shelf
from hub.services.alarms import AlarmRoom
from hub.services.collecting import CollectingRoom
from hub.services.deposits import DepositRoom
from hub.services.library import Library
from hub.services.outgoing import NewsRoom, OutgoingRoom
from hub.services.recall import RecallRoom
from hub.services.reconciliation import ReconciliationRoom
from hub.services.registration import RegistrationRoom
from hub.services.replay import ReplayRoom
from hub.services.routing import RoutingRoom
from hub.services.shelf import ShelfRoom
from hub.services.sweep import SweepRoom, UploadSweep

IDLE = 1.0
_SWEEP_EVERY = 3600.0
_PRUNE_EVERY = 3600.0
# Far longer than any acceptance takes to be committed, and time enough to go back to what was in force.
_UNUSED_FOR = timedelta(days=7)
_TRIM_EVERY = 10.0
_LOOK_AT_LIFE_EVERY = 10.0
_SEARCH_EVERY = 3600.0
_GRANTED_EVERY = 5.0
_REFRESH_EVERY = 2.0
_FOLD_EVERY = 10.0
_LOOK_EVERY = 300.0
_CHECK_EVERY = 60.0
_COLLECT_EVERY = 5.0
_LONGEST_PAUSE = 10.0

log = structlog.get_logger()

Stopping = asyncio.Event


async def keep(name: str, life: Callable[[], Awaitable[None]], stopping: Stopping) -> None:
    """Run `life` until it ends by itself or `stopping` is set; begin it again after a fault."""
    pause = 0.1
    while not stopping.is_set():
        started = asyncio.get_running_loop().time()
        try:
            await life()
            return
        except LeaseLost:
            log.info("worker.lease_lost", worker=name)
        except (SettingsError, Unavailable) as error:
            # Its sentence is written for operators, and quotes nobody.
            log.error("worker.waits", worker=name, reason=str(error), exc_info=error)
        except Exception as error:
            log.error("worker.failed", worker=name, error=type(error).__name__, exc_info=error)
        if asyncio.get_running_loop().time() - started > 60:
            pause = 0.1
        await rest(stopping, pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def carry_letters(room: OutgoingRoom, stopping: Stopping) -> None:
    while not stopping.is_set():
        await room.run_once(IDLE)


async def route(room: RoutingRoom, journey: Log, stopping: Stopping) -> None:
    async with journey.reader(Topic.SUBMISSIONS, routing.GROUP) as reader:
        await _pages(room.run_once, reader, stopping)


async def register(room: RegistrationRoom, journey: Log, stopping: Stopping) -> None:
    async with journey.reader(Topic.ROUTINGS, registration.GROUP) as reader:
        await _pages(room.run_once, reader, stopping)


async def take_deposits(room: DepositRoom, deposits: Deposits, sender: str, stopping: Stopping) -> None:
    async with deposits.reader(sender) as reader:
        while not stopping.is_set():
            granted = await room.granted(sender)
            if granted is None:
                await rest(stopping, _GRANTED_EVERY)
            else:
                await room.run_once(sender, granted, reader, IDLE)


async def trim_deposits(deposits: Deposits, stopping: Stopping) -> None:
    while not stopping.is_set():
        for sender in sorted(deposits.senders):
            await deposits.trim(sender)
        await rest(stopping, _TRIM_EVERY)


async def keep_shelf(room: ShelfRoom, journey: Log, stopping: Stopping) -> None:
    async with journey.reader(Topic.SET_ASIDE, shelf.GROUP) as reader:
        await _pages(room.run_once, reader, stopping)


async def replay(room: ReplayRoom, stopping: Stopping) -> None:
    while not stopping.is_set():
        await room.run_once(IDLE)


async def refresh(library: Library, stopping: Stopping) -> None:
    while not stopping.is_set():
        await library.refresh()
        await rest(stopping, _REFRESH_EVERY)


async def trim(journey: Log, stopping: Stopping) -> None:
    while not stopping.is_set():
        for topic in Topic:
            await journey.trim(topic)
        await rest(stopping, _TRIM_EVERY)


async def sweep(room: SweepRoom | UploadSweep, stopping: Stopping) -> None:
    while not stopping.is_set():
        await room.run_once()
        await rest(stopping, _SWEEP_EVERY)


async def prune(rule_books: RuleBooks, stopping: Stopping) -> None:
    while not stopping.is_set():
        gone = await rule_books.prune(_UNUSED_FOR)
        if gone:
            log.info("rule_book.pruned", editions=list(gone))
        await rest(stopping, _PRUNE_EVERY)


async def fold(room: ReconciliationRoom, stopping: Stopping) -> None:
    while not stopping.is_set():
        await room.fold()
        await rest(stopping, _FOLD_EVERY)


async def reconcile(room: ReconciliationRoom, clock: Clock, stopping: Stopping) -> None:
    while not stopping.is_set():
        await room.check(datetime.fromtimestamp(clock.now(), UTC))
        await rest(stopping, _CHECK_EVERY)


async def look(room: AlarmRoom, stopping: Stopping) -> None:
    while not stopping.is_set():
        await room.run_once()
        await rest(stopping, _LOOK_EVERY)


async def collect(room: CollectingRoom, grace: float, stopping: Stopping) -> None:
    """Looks under way have `grace` seconds to end when stopping."""
    try:
        while not stopping.is_set():
            if not await room.run_once():
                await rest(stopping, _COLLECT_EVERY)
    finally:
        await room.close(grace if stopping.is_set() else 0)


async def carry_news(room: NewsRoom, stopping: Stopping) -> None:
    while not stopping.is_set():
        if not await room.run_once():
            await rest(stopping, IDLE)


async def recall(room: RecallRoom, stopping: Stopping) -> None:
    searched = float("-inf")
    while not stopping.is_set():
        await room.follow_life()
        now = asyncio.get_running_loop().time()
        if now - searched > _SEARCH_EVERY and await room.find_lost() is not None:
            searched = now
        await rest(stopping, _LOOK_AT_LIFE_EVERY)


async def rest(stopping: Stopping, seconds: float) -> None:
    """That long, or until stopping."""
    with contextlib.suppress(asyncio.TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


async def _pages(
    page: Callable[[LogReader, float], Awaitable[int]], reader: LogReader, stopping: Stopping
) -> None:
    while not stopping.is_set():
        await page(reader, IDLE)
