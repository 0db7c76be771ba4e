"""From the post to the partner in the embedded mode: every role in one process, at a steady rate, in an open loop.

How long it took is counted from when it was due to be posted to its arrival at the partner's server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from uuid import UUID

import aiohttp

from benchmarks.country import PARTNERS, Country
from benchmarks.posts import PROCEDURE, form
from benchmarks.rows import Row, at_most, measured
from benchmarks.sink import Sink, check_names
from demo.hub import Hub
from hub.domain.identity import ParcelKind, delivery_id, submission_id

RATE = 50
_SENDER = "benchmark"
_STORE = "HUB_DATABASE_URL"


async def measure(land: Country, sink: Sink, short: bool) -> list[Row]:
    count = RATE * (20 if short else 120)
    before = sink.count()
    hub = await embedded(land)
    try:
        token = await hub.token("sender", _SENDER, "--procedure", PROCEDURE)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            due = await post_all(session, hub.url, land, count, RATE)
        until = time.monotonic() + 30
        while sink.count() < before + count and time.monotonic() < until:
            await asyncio.sleep(0.05)
    finally:
        await hub.stop()
    arrivals = sink.arrivals(before)
    check_names(arrivals)
    first = dict[UUID, float]()
    for one in arrivals:
        first.setdefault(one.delivery, one.at)
    waits = sorted(first.get(name, float("inf")) - at for name, at in due.items())
    return [
        measured("posted", RATE, "submissions/s"),
        measured("accepted → received, half of them within", waits[len(waits) // 2] * 1000, "ms"),
        at_most("accepted → received, 99 of 100 within", waits[int(0.99 * len(waits))], "s", 1),
        measured("accepted → received, the slowest", waits[-1] * 1000, "ms"),
    ]


async def embedded(land: Country, **settings: str) -> Hub:
    """A hub with every role and a store of its own, for the same partners."""
    environment = {name: value for name, value in land.environment.items() if name != _STORE}
    environment |= {
        "HUB_FOLDER": str(land.folder / "embedded"),
        "HUB_PARTNERS": str(land.folder / "partners.json"),
        "HUB_RATE_LIMIT": "10000",
        **settings,
    }
    return await Hub.start(environment, land.folder / "embedded.log")


async def post_all(
    session: aiohttp.ClientSession, url: str, land: Country, count: int, rate: float
) -> Mapping[UUID, float]:
    """When each delivery's post was due."""
    found, begun = dict[UUID, float](), time.monotonic() + 0.2

    async def post(number: int, at: float) -> None:
        commune, _ = land.partners[partner_of(number)]
        async with session.post(f"{url}/v1/submissions", json=form(f"L-{number}", commune)) as answer:
            if answer.status != 202:
                raise RuntimeError(f"a post was answered {answer.status}")
        found[name_of(land, number, partner_of(number))] = at

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            at = begun + number / rate
            await asyncio.sleep(at - time.monotonic())
            group.create_task(post(number, at))
    return found


def partner_of(number: int) -> int:
    return number * 7 % PARTNERS


def name_of(land: Country, number: int, partner: int) -> UUID:
    """Of the delivery of the `number`-th post."""
    _, subscriber = land.partners[partner]
    return delivery_id(submission_id(_SENDER, f"L-{number}"), subscriber, ParcelKind.SUBMISSION, 1)
