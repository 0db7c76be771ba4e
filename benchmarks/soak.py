"""A steady rate for half an hour: whether memory and open files of the hub stay where they are.

`python -m benchmarks.soak [--minutes 30] [--json FILE]`: one hub with every role, embedded, and 9,000 partners by
webhook, of which a hundred hang and a hundred answer 503; what is for them is tried again and again, so lanes rest and
fail beside the others. Sampled every five seconds while submissions are posted. The medians of the last two thirds are
compared: in the first, caches fill.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple
from uuid import UUID

import aiohttp

from benchmarks.country import PARTNERS, Country, country
from benchmarks.latency import embedded, name_of, partner_of, post_all
from benchmarks.posts import PROCEDURE
from benchmarks.rows import Row, at_most, finish, measured
from benchmarks.sink import ANSWER, BUSY, HANG, Arrival, check_names, sinking

RATE = 40
_EVERY = 5.0
_SPOILT = 100
_LAST = 30.0
"""Seconds for what was posted last to arrive."""


class Sample(NamedTuple):
    at: float
    memory: float
    """MB, resident."""
    files: int


def _sample(process: int, begun: float) -> Sample:
    told = Path(f"/proc/{process}/statm").read_text().split()
    memory = int(told[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2
    return Sample(time.monotonic() - begun, memory, len(os.listdir(f"/proc/{process}/fd")))


async def _sampled(process: int, samples: list[Sample]) -> None:
    begun = time.monotonic()
    while True:
        samples.append(_sample(process, begun))
        await asyncio.sleep(_EVERY)


async def measure(minutes: float) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="hub-benchmark-", dir="/tmp"))  # a short path
    folder.chmod(0o711)
    samples: list[Sample] = []
    try:
        with sinking(PARTNERS) as sink:
            async with country(folder, sink) as land:
                sink.conduct(range(_SPOILT), HANG)
                sink.conduct(range(_SPOILT, 2 * _SPOILT), BUSY)
                hub = await embedded(land, HUB_RETRY_WAITS="5,10,20,30,60,60,60,60,60,60")
                sampling = asyncio.create_task(_sampled(hub.process.pid, samples))
                try:
                    token = await hub.token("sender", "benchmark", "--procedure", PROCEDURE)
                    headers = {"Authorization": f"Bearer {token}"}
                    async with aiohttp.ClientSession(headers=headers) as session:
                        count = int(RATE * 60 * minutes)
                        due = await post_all(session, hub.url, land, count, RATE)
                    sampling.cancel()
                    await asyncio.sleep(_LAST)
                finally:
                    sampling.cancel()
                    await hub.stop()
                return _rows(samples, due, _names(land, count), sink.arrivals())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rows(
    samples: Sequence[Sample],
    due: Mapping[UUID, float],
    spoilt: Collection[UUID],
    arrivals: Sequence[Arrival],
) -> list[Row]:
    check_names(arrivals)
    first = dict[UUID, float]()
    for one in arrivals:
        if one.mode == ANSWER:
            first.setdefault(one.delivery, one.at)
    waits = sorted(first.get(name, float("inf")) - at for name, at in due.items() if name not in spoilt)
    third = len(samples) // 3
    before, after = samples[third : 2 * third], samples[2 * third :]
    memory = median(one.memory for one in after) - median(one.memory for one in before)
    files = median(one.files for one in after) / median(one.files for one in before)
    tenths = [samples[place * (len(samples) - 1) // 10] for place in range(11)]
    return [
        measured("posted", RATE, "submissions/s"),
        measured("for", samples[-1].at / 60, "minutes"),
        *(measured(f"memory after {one.at / 60:.1f} minutes", one.memory, "MB") for one in tenths),
        *(measured(f"open files after {one.at / 60:.1f} minutes", one.files, "files") for one in tenths),
        at_most("memory, the last third beyond the one before", memory, "MB", 5),
        at_most("open files, the last third / the one before", files, "ratio", 1.1),
        at_most("the others' deliveries, 99 of 100 within", waits[int(0.99 * len(waits))], "s", 1),
        at_most(
            "the others' deliveries that did not arrive", sum(one == float("inf") for one in waits), "", 0
        ),
    ]


def _names(land: Country, count: int) -> set[UUID]:
    """Of deliveries to those who hang or are busy."""
    return {
        delivery
        for number in range(count)
        if (whom := partner_of(number)) < 2 * _SPOILT
        for delivery in [name_of(land, number, whom)]
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description="soak")
    arguments.add_argument("--minutes", type=float, default=30)
    arguments.add_argument("--json", type=Path, help="write the rows there too")
    chosen = arguments.parse_args()
    finish("soak", asyncio.run(measure(chosen.minutes)), chosen.json)


if __name__ == "__main__":
    main()
