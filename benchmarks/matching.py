"""Matching at national scale: what one match takes, a batch, building the index, and the memory of it all.

The registers are invented, on the real territory (`register`), the submissions in stated shares (`traffic`). One
match is `hub.domain.matching.match`, timed by `time.perf_counter_ns` around the single call, the making and
dropping of its verdict included; nothing is subtracted, and the timer's own cost is a row. The submissions are
held in memory, tens of thousands of them, each read from a record of its own; a run passes through all of them
several times, so most find what was chosen for one before that said the same, as after an hour at a router that
has seen the country. `asked for the first time` is the first pass through a rule book that remembers nothing.
`just read` passes once, through pages that were read from their records the moment before, as in the router:
what reading leaves in the processor's caches, and strings that nobody hashed yet, are in it.
The collector is set as in a running hub. Each figure is the best of three runs; a row beside it says the worst.
"""

from __future__ import annotations

import gc
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import routing_rules
from benchmarks import stored as storing
from benchmarks.procedures import NOW
from benchmarks.register import Register, register
from benchmarks.rows import Row, at_least, at_most, measured, run
from benchmarks.traffic import mix
from hub.adapters.rules.territory import load_territory
from hub.domain.matching import MOST_CHOICES, decide, match, match_all
from hub.domain.rule_book import RuleBook, Snapshot
from hub.domain.rules import Subscription
from hub.domain.submission import RoutingFacts
from hub.domain.territory import Territory
from hub.ports.log import Record
from hub.wire import (
    read_submission_record,
    write_submission,
)

RUNS = 3
PAGE = 500
"""As many as the router reads at once."""
Ground = TypeVar("Ground")

PARTNERS, SUBSCRIPTIONS = 9_000, 45_000


def measure(short: bool) -> list[Row]:
    distinct, rounds = (20_000, 3) if short else (50_000, 4)
    territory = _territory()
    rows = _national(territory, distinct, rounds)
    gc.unfreeze()
    return [*rows, *_tenfold(territory, distinct, rounds)]


def _national(territory: Territory, distinct: int, rounds: int) -> list[Row]:
    national, build = _built(territory, PARTNERS, SUBSCRIPTIONS)
    memory = _memory(national.register)
    traffic = Traffic.of(national, distinct, rounds)
    snapshot = Snapshot(1, NOW, national.book)
    _settle_memory()
    return [
        measured("the timer alone, median", _timer(), "µs"),
        *_first(traffic, national),
        *_single("match", traffic.held, match, national.book, median=3, most=15),
        *_single("match, just read", traffic.just_read, match, national.book),
        *_single("decide, with the names of deliveries", traffic.held, decide, snapshot),
        *_batch(traffic, national),
        *_least("building the index, 9,000 partners", build, "s", 2),
        *memory,
    ]


def _tenfold(territory: Territory, distinct: int, rounds: int) -> list[Row]:
    national, build = _built(territory, 10 * PARTNERS, 10 * SUBSCRIPTIONS)
    traffic = Traffic.of(national, distinct, rounds)
    _settle_memory()
    return [
        *_single("match, 90,000 partners", traffic.held, match, national.book, median=5),
        *_least("building the index, 90,000 partners", build, "s", None),
    ]


@dataclass(frozen=True, slots=True)
class National:
    register: Register
    book: RuleBook


def _built(territory: Territory, partners: int, subscriptions: int) -> tuple[National, list[float]]:
    """With the seconds that each building took."""
    made = register(territory, partners, subscriptions=subscriptions)
    took = []
    for _ in range(RUNS):
        gc.collect()
        started = time.perf_counter()
        book = made.book()
        took.append(time.perf_counter() - started)
    return National(made, book), took


# --- one by one ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Traffic:
    """Submissions in memory, and the records they were read from."""

    submissions: Sequence[RoutingFacts]
    records: Sequence[Record]
    rounds: int

    @classmethod
    def of(cls, national: National, distinct: int, rounds: int) -> Traffic:
        drawn = mix(national.register, distinct, book=national.book)
        records = [write_submission(one) for one in drawn]
        return cls([read_submission_record(record) for record in records], records, rounds)

    def held(self) -> Iterator[Sequence[RoutingFacts]]:
        for _ in range(self.rounds):
            for start in range(0, len(self.submissions), PAGE):
                yield self.submissions[start : start + PAGE]

    def just_read(self) -> Iterator[Sequence[RoutingFacts]]:
        for start in range(0, len(self.records), PAGE):
            yield [read_submission_record(record) for record in self.records[start : start + PAGE]]


Pages = Callable[[], Iterator[Sequence[RoutingFacts]]]


def _single(
    name: str,
    pages: Pages,
    decided: Callable[[RoutingFacts, Ground], object],
    ground: Ground,
    median: float | None = None,
    most: float | None = None,
) -> list[Row]:
    """`median` and `most` are bars, in µs: `most` for 99 calls of 100."""
    medians, slow = [], []
    for _ in range(RUNS):
        took = _times(pages, decided, ground)
        medians.append(statistics.median(took) / 1e3)
        slow.append(statistics.quantiles(took, n=100)[98] / 1e3)
    return [
        *_least(f"{name}, median of {len(took):,}", medians, "µs", median),
        *_least(f"{name}, 99 of 100 within", slow, "µs", most),
    ]


def _first(traffic: Traffic, national: National) -> list[Row]:
    """The book was built anew, and nothing was decided by it."""
    fresh = National(national.register, national.register.book())
    took = _times(traffic.just_read, match, fresh.book)
    return [
        measured(
            f"match, asked for the first time, median of {len(took):,}", statistics.median(took) / 1e3, "µs"
        ),
        measured(
            "match, asked for the first time, 99 of 100 within",
            statistics.quantiles(took, n=100)[98] / 1e3,
            "µs",
        ),
    ]


def _times(pages: Pages, decided: Callable[[RoutingFacts, Ground], object], ground: Ground) -> list[int]:
    clock = time.perf_counter_ns
    took = []
    for page in pages():
        for submission in page:
            started = clock()
            decided(submission, ground)
            took.append(clock() - started)
    return took


def _timer() -> float:
    clock = time.perf_counter_ns
    took = []
    for _ in range(200_000):
        started = clock()
        took.append(clock() - started)
    return statistics.median(took) / 1e3


# --- in a batch, and the floor ------------------------------------------------------------------------


def _batch(traffic: Traffic, national: National) -> list[Row]:
    """The floor is one look-up of who subscribes at exactly the place written, and nothing else."""
    table: dict[tuple[str, str], list[Subscription]] = {}
    for one in national.register.subscriptions:
        table.setdefault((one.procedure, one.place.code), []).append(one)

    def look_up(page: Sequence[RoutingFacts]) -> object:
        return [table.get((one.procedure, one.facts["commune"])) for one in page]

    def decide_all(page: Sequence[RoutingFacts]) -> object:
        return match_all(page, national.book)

    floor = [_rate(traffic.held, look_up) for _ in range(RUNS)]
    batch = [_rate(traffic.held, decide_all) for _ in range(RUNS)]
    read = [_rate(traffic.just_read, decide_all) for _ in range(RUNS)]
    return [
        measured("a bare look-up (floor)", max(floor), "submissions/s"),
        at_least("match_all, one core", max(batch), "submissions/s", 300_000),
        measured("match_all, one core, worst of three runs", min(batch), "submissions/s"),
        measured("match_all, just read", max(read), "submissions/s"),
        measured("match_all / floor", max(batch) / max(floor), "ratio"),
    ]


def _rate(pages: Pages, work: Callable[[Sequence[RoutingFacts]], object]) -> float:
    """Reading pages is not counted, dropping the verdicts is."""
    took, count = 0.0, 0
    for page in pages():
        started = time.perf_counter()
        work(page)
        took += time.perf_counter() - started
        count += len(page)
    return count / took


def _least(name: str, runs: Sequence[float], unit: str, bar: float | None) -> list[Row]:
    best = measured(name, min(runs), unit) if bar is None else at_most(name, min(runs), unit, bar)
    return [best, measured(f"{name}, worst of three runs", max(runs), unit)]


# --- memory -------------------------------------------------------------------------------------------


def _memory(register: Register) -> list[Row]:
    """In a process of its own, which reads what the store would give it."""
    with tempfile.TemporaryDirectory(prefix="hub-benchmark-") as folder:
        stored = Path(folder) / "register.json"
        storing.write(register, stored)
        program = "import sys; from benchmarks.matching import load; load(sys.argv[1])"
        ended = subprocess.run(
            [sys.executable, "-c", program, stored], check=True, stdout=subprocess.PIPE, text=True
        )
    figures = json.loads(ended.stdout)
    return [
        measured("a fresh process has loaded it all after", figures["seconds"], "s"),
        at_most("a fresh process with it all, memory", figures["loaded"], "MB", 300),
        at_most("a fresh process with it all, memory at most", figures["peak"], "MB", 300),
        at_most("the same, remembering as many choices as it may", figures["full"], "MB", 300),
    ]


def load(stored: str) -> None:
    """What a router loads: the code of the hub, territory, rules, subscriptions, successions, index."""
    started = time.perf_counter()
    importlib.import_module("hub.assembly")
    territory = _territory()
    book = storing.read(Path(stored), territory)
    took = time.perf_counter() - started
    _settle_memory()
    loaded, peak = _status("VmRSS"), _status("VmHWM")
    _ask_for_many_places(book)
    full = _status("VmRSS")
    print(json.dumps({"seconds": took, "loaded": loaded, "peak": peak, "full": full}))


def _ask_for_many_places(book: RuleBook) -> None:
    """Until the rule book remembers as many choices as it may."""
    for place, code in product(book.territory.communes(), book.procedures):
        facts = {"commune": place.code, "motif": "ordinaire", "montant": "100", "date": "2026-07-01"}
        match(RoutingFacts(UUID(int=0), "benchmark", code, facts, (), NOW), book)
        if book.memory.choices == MOST_CHOICES:
            break
    assert sum(len(known) for plan in book.plans.values() for known in plan.known.values()) == MOST_CHOICES


def _status(name: str) -> float:
    """MB of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"this system does not tell {name}")


def _settle_memory() -> None:
    """As `hub.assembly` does once a hub is ready."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _territory() -> Territory:
    assert routing_rules.__file__ is not None
    return load_territory(Path(routing_rules.__file__).parent / "territory" / "2026.tsv.gz")


if __name__ == "__main__":
    run("matching", measure)
