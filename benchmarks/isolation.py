"""What partners that hang or refuse cost the others, at a steady rate of arrivals: ours, and Bento beside it.

Business of this file: the open loop. What comes at a moment is due at that moment, whether or not what came before is
done; how long it took is counted from then to its first arrival at a partner that answers. Each case is measured beside
a run without, with the same partners counted. Bento posts the same bodies to the same addresses from its standard
input, with `http_client`, which keeps nothing on disk and asks no store.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import IO, Any
from uuid import UUID

from benchmarks import peer
from benchmarks.country import PARTNERS, WORKERS, Country
from benchmarks.rows import Row, at_least, at_most, measured
from benchmarks.sink import ANSWER, HANG, HOSTS, Arrival, Sink, check_names

_TICK = 0.02
_SETTLING = 5.0
"""Seconds at the beginning that are not counted: connections are made, lanes found hanging."""
_AFTER = 3.0
_BEFORE = 25.0
"""Seconds until the first is due: what is planned is written, and the roles have begun."""
_LIMIT = 30
"""Seconds after which a silent partner is given up, as the hub does."""
AT_ONCE = 2_500
"""Requests under way at most: as many as the hub serves lanes, by its own settings (2,000, and 500 that fail)."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    begin: Callable[[Sink], None]
    bad: frozenset[int]
    """Partners that are not counted."""


def _hanging(count: int) -> Case:
    return Case(
        f"{count * 100 // PARTNERS} % hanging",
        lambda sink: sink.conduct(range(count), HANG),
        frozenset(range(count)),
    )


def _refusing() -> Case:
    half = range(HOSTS // 2, HOSTS)
    bad = frozenset(one for one in range(PARTNERS) if one % HOSTS in half)
    return Case("50 % refusing", lambda sink: sink.shut(half), bad)


CASES = (_hanging(PARTNERS // 100), _hanging(PARTNERS // 10), _refusing())
HEALTHY = Case("all answer", lambda sink: None, frozenset())


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due when (seconds from the beginning), in order of time: partners by number."""

    whom: tuple[int, ...]
    rate: float

    @classmethod
    def of(cls, rate: float, seconds: float, seed: int) -> Plan:
        dice = Random(seed)
        return cls(tuple(dice.randrange(PARTNERS) for _ in range(ceil(rate * seconds))), rate)

    def due(self, place: int) -> float:
        """In steps, as registration has it."""
        return int(place / self.rate / _TICK) * _TICK


@dataclass(frozen=True, slots=True)
class Seen:
    """How long each that is counted took, in seconds (infinite: it did not arrive), and how many came a second."""

    waits: Sequence[float]
    throughput: float

    @property
    def p99(self) -> float:
        return sorted(self.waits)[int(0.99 * len(self.waits))]


Run = tuple[float, Sequence[UUID], Sequence[Arrival]]
"""When it began, the name of each that was due, and what arrived."""


def _seen(plan: Plan, told: Run, bad: Collection[int]) -> Seen:
    begun, names, arrivals = told
    check_names(arrivals)
    first = dict[UUID, float]()
    for one in arrivals:
        if one.mode == ANSWER:
            first.setdefault(one.delivery, one.at)
    counted = [
        (begun + plan.due(place), first.get(names[place], float("inf")))
        for place, partner in enumerate(plan.whom)
        if partner not in bad and plan.due(place) >= _SETTLING
    ]
    length = plan.due(len(plan.whom) - 1) - _SETTLING
    until = begun + _SETTLING + length
    came = sum(at <= until + _TICK for _, at in counted)
    return Seen([at - due for due, at in counted], came / length)


async def measure(land: Country, sink: Sink, rate: float, short: bool) -> list[Row]:
    """At this many arrivals a second."""
    seconds = 20.0 if short else 60.0
    rows = [measured("arrivals", rate, "deliveries/s")]
    contenders: dict[str, Callable[[Plan, Case], Any]] = {
        "hub": lambda plan, case: _through_hub(land, sink, plan, case)
    }
    if peer.binary():
        contenders["Bento"] = lambda plan, case: _through_bento(land, sink, plan, case)
    else:
        rows.append(Row("Bento", None, "ratio", note="not measured: `make peers` builds it"))
    for seed, case in enumerate(CASES):
        for name, through in contenders.items():
            plan = Plan.of(rate, seconds, seed)
            without = _seen(plan, await through(plan, HEALTHY), case.bad)
            with_them = _seen(plan, await through(plan, case), case.bad)
            rows += _rows(f"{name}, {case.name}", without, with_them, promised=name == "hub")
    return rows


def _rows(name: str, without: Seen, with_them: Seen, *, promised: bool) -> list[Row]:
    p99 = with_them.p99 / without.p99
    throughput = with_them.throughput / without.throughput
    return [
        measured(f"{name}: the others' p99 without them", without.p99 * 1000, "ms"),
        measured(f"{name}: the others' p99", with_them.p99 * 1000, "ms"),
        at_most(f"{name}: p99", p99, "ratio", 1.2) if promised else measured(f"{name}: p99", p99, "ratio"),
        at_least(f"{name}: throughput", throughput, "ratio", 0.95)
        if promised
        else measured(f"{name}: throughput", throughput, "ratio"),
    ]


# --- ours ---------------------------------------------------------------------------------------------


async def _through_hub(land: Country, sink: Sink, plan: Plan, case: Case) -> Run:
    """Registered beforehand, and due when it is: registration would take of the same cores, and the rate that this
    one is a share of was taken without."""
    land.kept.clear()
    decisions = land.decided(await land.accepted(plan.whom))
    await land.registered(decisions)
    await land.settled()
    names, before = [one.deliveries[0] for one in decisions], sink.count()
    case.begin(sink)
    try:
        begun = time.monotonic() + _BEFORE
        due = [(name, plan.due(place)) for place, name in enumerate(names)]
        async with land.crew(WORKERS, lambda: [(name, begun - time.monotonic() + at) for name, at in due]):
            length = plan.due(len(names) - 1)
            await asyncio.sleep(begun + length + _AFTER - time.monotonic())
    finally:
        sink.heal()
    told = begun, names, sink.arrivals(before)
    # What is left goes out before the next is measured.
    async with land.crew(WORKERS, HUB_RETRY_WAITS="1,1,1,1"):
        while await land.open_deliveries():
            await asyncio.sleep(0.2)
    return told


# --- Bento --------------------------------------------------------------------------------------------


def _configuration() -> dict[str, Any]:
    return {
        "http": {"enabled": False},
        "logger": {"level": "OFF"},
        "input": {"stdin": {"scanner": {"lines": {}}}},
        "pipeline": {
            "processors": [
                {
                    "mapping": "meta url = this.url\n"
                    "meta name = this.name\nmeta at = this.at\nmeta signature = this.signature\n"
                    "root = this.body"
                }
            ]
        },
        "output": {
            "http_client": {
                "url": "${! @url }",
                "verb": "POST",
                "headers": {
                    "Content-Type": "application/json",
                    "webhook-id": "${! @name }",
                    "webhook-timestamp": "${! @at }",
                    "webhook-signature": "${! @signature }",
                },
                "timeout": f"{_LIMIT}s",
                "max_in_flight": AT_ONCE,
            }
        },
    }


@asynccontextmanager
async def _bento() -> Any:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(_configuration(), file)
        file.flush()
        process = subprocess.Popen(  # noqa: ASYNC220
            [str(peer.binary()), "-c", file.name], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        try:
            await asyncio.sleep(1)
            yield process
        finally:
            process.kill()
            process.wait()


async def _through_bento(land: Country, sink: Sink, plan: Plan, case: Case) -> Run:
    names = [UUID(int=Random(place).getrandbits(128), version=4) for place in range(len(plan.whom))]
    lines = [_line(sink, partner, place, names[place]) for place, partner in enumerate(plan.whom)]
    before = sink.count()
    case.begin(sink)
    try:
        async with _bento() as process:
            begun = time.monotonic() + 0.5
            feeding = asyncio.create_task(asyncio.to_thread(_feed, process.stdin, lines, plan, begun))
            await asyncio.wait({feeding}, timeout=plan.due(len(lines) - 1) + 0.5 + _AFTER)
            if feeding.done():
                await asyncio.sleep(_AFTER)
        # Its end breaks the pipe under a feeder that was still held up.
        with suppress(OSError):
            await feeding
    finally:
        sink.heal()
    return begun, names, sink.arrivals(before)


def _feed(pipe: IO[bytes], lines: Sequence[bytes], plan: Plan, begun: float) -> None:
    for place, line in enumerate(lines):
        if (early := begun + plan.due(place) - time.monotonic()) > 0:
            time.sleep(early)
        # Straight to the pipe: what waits in a buffer of ours would not be held up.
        os.write(pipe.fileno(), line)


def _line(sink: Sink, partner: int, place: int, name: UUID) -> bytes:
    """As long as a parcel of the hub's."""
    body = json.dumps({"data": {"sequence": place + 1, "delivery": str(name), "filling": "x" * 1100}})
    told = {
        "url": sink.url(partner),
        "name": str(name),
        "at": "1770000000",
        "signature": "v1," + "x" * 44,
        "body": body,
    }
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"
