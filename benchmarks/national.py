"""A year of a country through one router: four million submissions, and the disk they need.

The broker, the router and the submissions are those of `routing`; 400,000 are drawn, and come ten times with ids of
their own. Every one of them has one decision at the end. Minutes, and some gigabytes of memory or disk.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.routers import Order
from benchmarks.routing import OURS, SOURCE, Traffic, standing, started
from benchmarks.rows import Row, at_most, measured, run

TIMES = 10


def measure(short: bool) -> list[Row]:
    return asyncio.run(_measure(40_000 if short else 400_000))


async def _measure(drawn: int) -> list[Row]:
    with started() as broker, tempfile.TemporaryDirectory() as folder:
        traffic, count = Traffic.drawn(drawn, Path(folder)), drawn * TIMES
        await broker.fill(traffic.records(TIMES))
        with standing(OURS, broker, Path(folder)) as ours:
            turn = await broker.timed([ours], Order(SOURCE, "national", count))
        await broker.check("national", traffic.ids(TIMES))
        return [
            measured(f"{count:,} submissions routed", turn.rate, "records/s"),
            measured("CPU", turn.cpu, "s per million"),
            measured("CPU of the broker", turn.broker, "s per million"),
            at_most("memory at most", turn.peak, "MB", 300),
            measured("disk: submissions and decisions", broker.disk() / 1e6, "MB"),
        ]


if __name__ == "__main__":
    run("a year of a country, routed", measure)
