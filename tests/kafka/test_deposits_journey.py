"""From a form site's topic to the partner's door: a whole hub in a process of its own, killed in the middle, and the
published example as the form site."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from demo.hub import Hub
from tests.journeys.world import Stage, accounts, at_rest, fetched, kill, stage, submission, total

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "deposits.py"
PROCEDURE = "recensementCitoyen"
DEPOSITS = 16


async def example(*words: str) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), *words),
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return [json.loads(line) for line in told.splitlines()]


async def test_deposits_of_the_example_reach_their_partners_though_the_hub_is_killed(
    kafka: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"j{secrets.token_hex(4)}."
    told = {
        "HUB_DATABASE_URL": database,
        "HUB_KAFKA": kafka,
        "HUB_KAFKA_PREFIX": prefix,
        "HUB_KAFKA_PARTITIONS": "2",
        "HUB_KAFKA_REPLICAS": "1",
        "HUB_KAFKA_SESSION": "3",
        "HUB_DEPOSITS": "site",
    }
    async with stage(**told) as world:
        hub = await world.start()
        try:
            token = await hub.token("sender", "site", "--procedure", PROCEDURE)
            operator = {"Authorization": f"Bearer {await hub.token('operator', 'o')}"}
            site = {"KAFKA": kafka, "SENDER": "site", "PREFIX": prefix, "HUB": hub.url, "TOKEN": token}
            for name, value in site.items():
                monkeypatch.setenv(name, value)
            await example("write", *_described(world, os.urandom(2_000_000)))
            async with aiohttp.ClientSession(headers=operator) as session:
                await asyncio.gather(_many(), _killed_when_some_are_accepted(hub, session))
                hub = await world.start()
                await _accepted(hub, session, DEPOSITS + 1)
                await at_rest(hub, session)
                deliveries = await hub.deliveries(session)
            await fetched(world)
            assert total((await accounts(hub))["submissions"], "accepted") == DEPOSITS + 1
            assert len({one["submission"] for one in deliveries}) == len(deliveries) == DEPOSITS + 1
            assert {one["state"] for one in deliveries} == {"delivered"}
            arrived = {(line["partner"], line["delivery"]) for line in world.arrivals()}
            assert arrived == {(one["subscriber"], one["id"]) for one in deliveries}
            assert {(one["external_id"], one["flaws"][0]["field"]) for one in await example("refused")} == {
                ("nulle-part", "/facts/commune_residence")
            }
        finally:
            await hub.stop()


def _described(world: Stage, content: bytes) -> tuple[str, str]:
    """Two files: what a site says of a submission, and the submission's own file."""
    described, _ = submission(DEPOSITS, PROCEDURE, "74042")
    paths = world.folder / "submission.json", world.folder / "file"
    paths[0].write_text(json.dumps(described))
    paths[1].write_bytes(content)
    return str(paths[0]), str(paths[1])


async def _many() -> None:
    """Each of them twice, by the example's own verb, and one for nowhere."""
    spec = importlib.util.spec_from_file_location("example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    nowhere, contents = submission(0, PROCEDURE, "00000")
    await own.write({**nowhere, "external_id": "nulle-part"}, contents)
    forms = [submission(n, PROCEDURE, ("74042", "74164")[n % 2]) for n in range(DEPOSITS)]
    for described, contents in [*forms, *forms]:
        await own.write(described, contents)


async def _killed_when_some_are_accepted(hub: Hub, session: aiohttp.ClientSession) -> None:
    await _accepted(hub, session, DEPOSITS // 2)
    kill(hub)
    await hub.process.wait()


async def _accepted(hub: Hub, session: aiohttp.ClientSession, count: int) -> None:
    async with asyncio.timeout(60):
        while (await hub.counts(session)).get("submissions.accepted", 0) < count:
            await asyncio.sleep(0.05)
