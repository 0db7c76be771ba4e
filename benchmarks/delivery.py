"""Delivery by webhook to 9,000 partners: `python -m benchmarks.delivery MODE`.

Each mode is one question: `rate` (beside a bare loop that posts the same), `isolation` (what some that hang or refuse
cost the others), `backlog` (what failed, once the servers are healed), `store` (what a delivery costs the store),
`latency` (from the post to the partner, in the embedded mode). The hub is `hub run` in a process of its own; partners'
servers are one compiled process (`sink`). Names are checked in every mode: no partner gets two for one delivery.
"""

from __future__ import annotations

import asyncio
import pickle
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import isolation, latency
from benchmarks.country import PARTNERS, WORKERS, Country, country
from benchmarks.peer import cpu_of
from benchmarks.registering import family, postmaster
from benchmarks.routers import peak_of
from benchmarks.routing import Stand
from benchmarks.rows import Row, at_least, at_most, measured, run_one_of
from benchmarks.sink import ANSWER, BUSY, Arrival, Sink, check_names, sinking
from benchmarks.store_costs import Costs, costs_between, costs_of, statements_in, telling_statements
from hub.domain.decisions import Decision

AT_ONCE = 400
"""Posts under way in the bare loop, and lanes that the hub serves side by side."""
PATIENCE = 600
"""Seconds without an arrival after which something is wrong."""
_LOOK = 0.05


@asynccontextmanager
async def _stage() -> AsyncIterator[tuple[Country, Sink]]:
    folder = Path(tempfile.mkdtemp(prefix="hub-benchmark-", dir="/tmp"))  # a short path
    folder.chmod(0o711)
    try:
        with sinking(PARTNERS) as sink:
            async with country(folder, sink) as land:
                yield land, sink
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _planned(land: Country, each: int) -> list[Decision]:
    """So many deliveries for each partner, registered."""
    partners = list(range(PARTNERS)) * each
    Random(land.posted).shuffle(partners)
    land.kept.clear()
    decisions = land.decided(await land.accepted(partners))
    await land.registered(decisions)
    await land.settled()
    return decisions


# --- rate ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """Deliveries per second; microseconds of CPU for each; MB at most."""

    rate: float
    cpu: float
    sink: float
    store: float
    peak: float


async def _rate(short: bool) -> list[Row]:
    ours, bare = list[Turn](), list[Turn]()
    async with _stage() as (land, sink):
        for _ in range(2 if short else 5):
            decisions = await _planned(land, 2 if short else 5)
            turn, arrivals = await _delivered(land, sink, len(decisions))
            ours.append(turn)
            bare.append(await _posted(land, sink, decisions, arrivals))
    rate, floor = (statistics.median(turn.rate for turn in turns) for turns in (ours, bare))
    return [
        _spread("webhooks", ours),
        _spread("bare aiohttp and uvloop (floor)", bare),
        at_least("webhooks / floor", rate / floor, "ratio", 0.6),
        measured("CPU of the hub", _median(ours, "cpu"), "µs each"),
        measured("CPU of PostgreSQL", _median(ours, "store"), "µs each"),
        measured("CPU of the floor", _median(bare, "cpu"), "µs each"),
        measured("CPU of the sink beside the hub", _median(ours, "sink"), "µs each"),
        measured(
            "CPU of the sink, share of its time beside the hub", _median(ours, "sink") * rate / 1e6, "cores"
        ),
        measured(
            "CPU of the sink, share of its time beside the floor",
            _median(bare, "sink") * floor / 1e6,
            "cores",
        ),
        at_most("memory with 9,000 lanes, at most", max(turn.peak for turn in ours), "MB", 500),
    ]


def _median(turns: Sequence[Turn], name: str) -> float:
    figures: list[float] = [getattr(turn, name) for turn in turns]
    return statistics.median(figures)


def _spread(name: str, turns: Sequence[Turn]) -> Row:
    rates = [turn.rate for turn in turns]
    note = f"{min(rates):,.0f}–{max(rates):,.0f}"
    return Row(name, round(statistics.median(rates), 2), "deliveries/s", note=note)


async def _delivered(
    land: Country, sink: Sink, count: int, *, together: bool = True
) -> tuple[Turn, list[Arrival]]:
    """What is planned goes out: from the first arrival until the store knows of the last."""
    before, server = sink.count(), await postmaster(land.database)
    sink.conduct(range(PARTNERS), ANSWER)
    each = str(AT_ONCE // WORKERS)
    async with land.crew(WORKERS, together=together, HUB_LANES_AT_ONCE=each) as crew:
        hubs = [hub.process.pid for hub in crew]
        used = await _first(sink, before, hubs, server)
        while sink.count() < before + count:
            await asyncio.sleep(_LOOK)
        while await land.open_deliveries():
            await asyncio.sleep(_LOOK)
        ended = time.monotonic()
        spent = [now - then for now, then in zip(_used(sink, hubs, server), used, strict=True)]
        peak = sum(map(peak_of, hubs))
    arrivals = sink.arrivals(before)
    check_names(arrivals)
    if len({one.delivery for one in arrivals}) != count:
        raise RuntimeError(f"{count} deliveries, and other names arrived")
    mine, sinks, stores = (seconds / count * 1e6 for seconds in spent)
    return Turn(count / (ended - arrivals[0].at), mine, sinks, stores, peak), arrivals


async def _first(sink: Sink, before: int, hubs: Sequence[int], server: int) -> tuple[float, float, float]:
    """What was used until the first arrival."""
    until = time.monotonic() + PATIENCE
    while sink.count() == before:
        if time.monotonic() > until:
            raise RuntimeError("nothing arrives")
        await asyncio.sleep(0.005)
    return _used(sink, hubs, server)


def _used(sink: Sink, hubs: Sequence[int], server: int) -> tuple[float, float, float]:
    return sum(map(cpu_of, hubs)), sink.cpu, family(server)


async def _posted(
    land: Country, sink: Sink, decisions: Sequence[Decision], arrivals: Sequence[Arrival]
) -> Turn:
    """The same posts in the same order, by the bare loop."""
    posts = land.posts(decisions, arrivals, sink)
    file = land.folder / "posts.pickle"
    file.write_bytes(pickle.dumps(posts))
    stand = Stand([sys.executable, "-m", "benchmarks.bare", str(file), str(AT_ONCE)])
    try:
        used = sink.cpu
        stand.say("go")
        told = await asyncio.to_thread(stand.hear)
        sinks = sink.cpu - used
    finally:
        stand.end()
    count = len(posts)
    return Turn(count / told["seconds"], told["cpu"] / count * 1e6, sinks / count * 1e6, 0, told["peak"])


# --- backlog ------------------------------------------------------------------------------------------

_WAITS = ",".join(["5"] * 24)
"""Seconds. With the usual waits lanes come back over more than a minute, and the hub waits for them, not they for it:
what is measured here is how fast it drains those that are back."""


async def _backlog(short: bool) -> list[Row]:
    async with _stage() as (land, sink):
        rate, _ = await _delivered(land, sink, len(await _planned(land, 2 if short else 5)))
        decisions = await _planned(land, 2 if short else 22)
        before = sink.count()
        sink.conduct(range(PARTNERS), BUSY)
        each = str(AT_ONCE // WORKERS)
        async with land.crew(WORKERS, HUB_LANES_AT_ONCE=each, HUB_RETRY_WAITS=_WAITS) as hubs:
            while len({one.partner for one in sink.arrivals(before)}) < PARTNERS:
                await asyncio.sleep(0.5)
            failed = sink.count() - before
            sink.conduct(range(PARTNERS), ANSWER)
            healed = time.monotonic()
            while await land.open_deliveries():
                await asyncio.sleep(1)
            peak = sum(peak_of(hub.process.pid) for hub in hubs)
        arrivals = sink.arrivals(before)
    check_names(arrivals)
    good = [one for one in arrivals if one.mode == ANSWER]
    if {one.delivery for one in good} != {one.deliveries[0] for one in decisions}:
        raise RuntimeError("not every delivery of the backlog arrived")
    busy = _busy(good)
    return [
        measured("webhooks, nothing failing", rate.rate, "deliveries/s"),
        measured("of the backlog, tried while the servers were busy", failed, "requests"),
        measured("healed → the last delivery arrived", good[-1].at - healed, "s"),
        measured("of that, some endpoint was being drained", busy, "s"),
        measured("drained", len(decisions) / busy, "deliveries/s"),
        at_least("drained / webhooks", len(decisions) / busy / rate.rate, "ratio", 0.8),
        measured("memory at most", peak, "MB"),
    ]


def _busy(good: Sequence[Arrival]) -> float:
    """Seconds in which some endpoint was between its first success and its last: whoever waits for all endpoints'
    next probe drains nothing meanwhile."""
    first, last = dict[int, float](), dict[int, float]()
    for one in good:
        first.setdefault(one.partner, one.at)
        last[one.partner] = one.at
    total, until = 0.0, 0.0
    for partner in sorted(first, key=first.__getitem__):
        begun, ended = max(first[partner], until), last[partner]
        if ended > begun:
            total, until = total + ended - begun, ended
    return total


# --- store --------------------------------------------------------------------------------------------


async def _store(short: bool) -> list[Row]:
    each = 2 if short else 5
    async with _stage() as (land, sink):
        # The first of a fresh table costs pages that are written whole.
        await _delivered(land, sink, len(await _planned(land, 1)))
        partners = list(range(PARTNERS)) * each
        decisions = land.decided(await land.accepted(partners))
        await land.settled()
        async with telling_statements(land.dsn, land.folder / "store"):
            begun = await _costs(land)
            await land.registered(decisions)
            planned = await _costs(land)
            await _delivered(land, sink, len(decisions), together=False)
            done = await _costs(land)
    count = len(decisions)
    rows = list[Row]()
    for name, costs in (
        ("registered", costs_between(begun, planned, count)),
        ("delivered", costs_between(planned, done, count)),
    ):
        rows += [measured(f"{name}: {what}", value, unit) for (what, unit), value in costs.items()]
    whole = costs_between(begun, done, count)
    written = sum(value for (what, _), value in whole.items() if what.startswith("rows of "))
    wal = whole["WAL", "bytes"]
    return [*rows, at_most("rows, in all", written, "rows", 7), at_most("WAL, in all", wal, "bytes", 3_000)]


async def _costs(land: Country) -> Costs:
    return {**await costs_of(land.dsn), **statements_in(land.folder / "store")}


# --- the others ---------------------------------------------------------------------------------------


async def _isolation(short: bool) -> list[Row]:
    async with _stage() as (land, sink):
        turn, _ = await _delivered(land, sink, len(await _planned(land, 2)))
        return await isolation.measure(land, sink, 0.6 * turn.rate, short)


async def _latency(short: bool) -> list[Row]:
    async with _stage() as (land, sink):
        return await latency.measure(land, sink, short)


_MODES: Mapping[str, Callable[[bool], Coroutine[Any, Any, list[Row]]]] = {
    "rate": _rate,
    "isolation": _isolation,
    "backlog": _backlog,
    "store": _store,
    "latency": _latency,
}


def _whole(work: Callable[[bool], Coroutine[Any, Any, list[Row]]]) -> Callable[[bool], list[Row]]:
    return lambda short: asyncio.run(work(short))


if __name__ == "__main__":
    run_one_of("delivery", {name: _whole(work) for name, work in _MODES.items()})
