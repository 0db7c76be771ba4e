"""The hub on a database server that somebody else runs: of the oldest version it supports, with a password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest_asyncio

from tests.debian_postgres import IN_ADDRESS, PASSWORD, Server, serving
from tests.journeys.children import hub as command
from tests.journeys.children import is_a_sentence
from tests.journeys.world import accounts, at_rest, post, stage, submission, total
from tests.ports import free_port

SUBMISSIONS = 20


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    """With an empty database, and its owner, who may do nothing elsewhere."""
    with serving("/tmp", tls=True) as server:
        connection = await asyncpg.connect(server.address("somebody", "postgres"))
        try:
            assert connection.get_server_version().major == 15
            await connection.execute(f"CREATE ROLE hub LOGIN PASSWORD '{PASSWORD}'")
            await connection.execute("CREATE DATABASE hub OWNER hub TEMPLATE template0")
        finally:
            await connection.close()
        yield server


def _tells_the_password(text: str) -> bool:
    return PASSWORD in text or IN_ADDRESS in text or "un-mot-de-passe" in text


async def test_the_hub_works_on_the_oldest_supported_server_over_tls_and_its_password_is_in_no_log(
    server: Server,
) -> None:
    address = server.address("hub", "hub")
    async with stage(HUB_DATABASE_URL=address) as world:
        hub = await world.start()
        assert not (world.folder / "hub" / "postgres").exists()
        token = await hub.token("sender", "site", "--procedure", "CERTDC")
        operator = await hub.token("operator", "o")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            for number in range(SUBMISSIONS):
                await post(session, hub.url, submission(number, "CERTDC", "74042"))
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as session:
            counts = await at_rest(hub, session)
        told = await accounts(hub)
        await hub.stop()
        assert hub.process.returncode == 0
        # Each is for the ministry and the town hall.
        assert counts["deliveries.delivered"] == 2 * SUBMISSIONS == total(told["deliveries"], "named")
        assert total(told["submissions"], "accepted") == total(told["submissions"], "routed") == SUBMISSIONS
        async with asyncio.timeout(30):
            while (await world.receiver.status()).pending:
                await asyncio.sleep(0.1)
        arrived = {(line["partner"], line["delivery"]) for line in world.arrivals()}
        assert len(arrived) == 2 * SUBMISSIONS
        assert not _tells_the_password((world.folder / "hub.log").read_text("utf-8"))
        for path in (world.folder / "hub").rglob("*"):
            assert path.is_dir() or not _tells_the_password(path.read_bytes().decode(errors="replace"))

        wrong = address.replace(IN_ADDRESS, f"{IN_ADDRESS}-x")
        for other in (wrong, address.replace("/hub?", "/rien?"), address.replace("//hub", "//personne")):
            refused = await command({**world.environment, "HUB_DATABASE_URL": other}, "run")
            assert refused.code == 2
            assert is_a_sentence(refused)
            assert not _tells_the_password(refused.text), refused.text


async def test_a_server_that_is_away_is_told_in_a_sentence_without_the_password(tmp_path: Path) -> None:
    environment = {"HUB_FOLDER": str(tmp_path / "hub"), "HUB_PORT": str(free_port())}
    for address in (
        f"postgresql://hub:{IN_ADDRESS}@127.0.0.1:{free_port()}/hub",
        f"postgresql://hub:{IN_ADDRESS}@127.0.0.1:port/hub",
        f"mysql://hub:{IN_ADDRESS}@127.0.0.1/hub",
    ):
        for words in (("run",), ("reconcile",)):
            told = await command({**environment, "HUB_DATABASE_URL": address}, *words)
            assert told.code == 2, told.text
            assert "database" in told.errors
            assert is_a_sentence(told)
            assert not _tells_the_password(told.text), told.text
