"""From the post to the partner in the embedded mode: every role in one process, at a steady rate, in an open loop.

How long it took is counted from when it was due to be posted to its arrival at the partner's server.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import aiohttp

from benchmarks.country import PARTNERS, PROCEDURE, Country
from benchmarks.rows import Row, at_most, measured
from benchmarks.sink import Sink, check_names
from demo.hub import Hub
from hub.domain.identity import ParcelKind, delivery_id

_RATE = 50
_STORE = "HUB_DATABASE_URL"


async def measure(land: Country, sink: Sink, short: bool) -> list[Row]:
    count = _RATE * (20 if short else 120)
    environment = {name: value for name, value in land.environment.items() if name != _STORE}
    environment |= {
        "HUB_FOLDER": str(land.folder / "embedded"),
        "HUB_PARTNERS": str(land.folder / "partners.json"),
        "HUB_RATE_LIMIT": "10000",
    }
    before = sink.count()
    hub = await Hub.start(environment, land.folder / "embedded.log")
    try:
        token = await hub.token("sender", "benchmark", "--procedure", PROCEDURE)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            due = await _post_all(session, hub.url, land, count)
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
        measured("posted", _RATE, "submissions/s"),
        measured("accepted → received, half of them within", waits[len(waits) // 2] * 1000, "ms"),
        at_most("accepted → received, 99 of 100 within", waits[int(0.99 * len(waits))], "s", 1),
        measured("accepted → received, the slowest", waits[-1] * 1000, "ms"),
    ]


async def _post_all(
    session: aiohttp.ClientSession, url: str, land: Country, count: int
) -> Mapping[UUID, float]:
    """When each delivery's post was due."""
    found, begun = dict[UUID, float](), time.monotonic() + 0.2

    async def post(number: int, at: float) -> None:
        commune, subscriber = land.partners[number * 7 % PARTNERS]
        async with session.post(f"{url}/v1/submissions", json=_form(number, commune)) as answer:
            if answer.status != 202:
                raise RuntimeError(f"a post was answered {answer.status}")
            submission = UUID((await answer.json())["id"])
        found[delivery_id(submission, subscriber, ParcelKind.SUBMISSION, 1)] = at

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            at = begun + number / _RATE
            await asyncio.sleep(at - time.monotonic())
            group.create_task(post(number, at))
    return found


def _form(number: int, commune: str) -> dict[str, Any]:
    content = f"<demande numero='{number}'>{'x' * 900}</demande>".encode()
    return {
        "external_id": f"L-{number}",
        "procedure": PROCEDURE,
        "facts": {"commune_residence": commune},
        "attachments": [
            {
                "name": "demande.xml",
                "type": "formulaire",
                "media_type": "application/xml",
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "content": base64.b64encode(content).decode(),
            }
        ],
    }
