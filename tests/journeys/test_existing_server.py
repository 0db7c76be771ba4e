"""The hub on a database server that somebody else runs: of the oldest version it supports, with a password."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from tests.journeys.children import hub as command
from tests.journeys.children import is_a_sentence
from tests.journeys.world import accounts, at_rest, post, stage, submission, total

OLDEST = Path("/usr/lib/postgresql/15/bin")
# With signs that an address must carry in another form.
PASSWORD = "un-mot-de-passe/+@é"
IN_ADDRESS = "un-mot-de-passe%2F%2B%40%C3%A9"
SUBMISSIONS = 20


def _account() -> str | None:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _carry_out(folder: Path, *words: str) -> None:
    account = _account()
    given = () if account is None else ("--reuid", account, "--regid", str(pwd.getpwnam(account).pw_gid))
    prefix = ("setpriv", *given, "--clear-groups") if given else ()
    ended = subprocess.run(
        [*prefix, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    assert ended.returncode == 0, ended.stdout.decode()


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    """The address of an empty database, as somebody who owns it and no more."""
    folder = Path(tempfile.mkdtemp(prefix="hub-existing-", dir="/tmp"))
    account = _account()
    if account is not None:
        shutil.chown(folder, account)
    data = folder / "data"
    secret = folder / "password"
    secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
    if account is not None:
        shutil.chown(secret, account)
    port = _free_port()
    try:
        initdb = (str(OLDEST / "initdb"), "-D", str(data), "-U", "somebody", "-A", "scram-sha-256")
        making = (*initdb, f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "--no-sync")
        await asyncio.to_thread(_carry_out, folder, *making)
        settings = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        start = (
            str(OLDEST / "pg_ctl"),
            "-D",
            str(data),
            "-w",
            "-l",
            str(folder / "server.log"),
            "-o",
            settings,
        )
        await asyncio.to_thread(_carry_out, folder, *start, "start")
        try:
            address = f"postgresql://somebody:{IN_ADDRESS}@127.0.0.1:{port}"
            await _make_database(f"{address}/postgres")
            yield f"postgresql://hub:{IN_ADDRESS}@127.0.0.1:{port}/hub"
        finally:
            stop = (str(OLDEST / "pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop")
            await asyncio.to_thread(_carry_out, folder, *stop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _make_database(address: str) -> None:
    """As an administrator does it: an owner who may do nothing elsewhere."""
    connection = await asyncpg.connect(address)
    try:
        assert connection.get_server_version().major == 15
        await connection.execute(f"CREATE ROLE hub LOGIN PASSWORD '{PASSWORD}'")
        await connection.execute("CREATE DATABASE hub OWNER hub TEMPLATE template0")
    finally:
        await connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def _tells_the_password(text: str) -> bool:
    return PASSWORD in text or IN_ADDRESS in text or "un-mot-de-passe" in text


async def test_the_hub_works_on_the_oldest_supported_server_and_its_password_is_in_no_log() -> None:
    if not (OLDEST / "initdb").exists():
        pytest.skip("no PostgreSQL 15 server here; run: make system")
    async with _server() as address, stage(HUB_DATABASE_URL=address) as world:
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
        for other in (wrong, address.replace("/hub", "/rien"), address.replace("//hub", "//personne")):
            refused = await command({**world.environment, "HUB_DATABASE_URL": other}, "run")
            assert refused.code == 2
            assert is_a_sentence(refused)
            assert not _tells_the_password(refused.text), refused.text


async def test_a_server_that_is_away_is_told_in_a_sentence_without_the_password(tmp_path: Path) -> None:
    environment = {"HUB_FOLDER": str(tmp_path / "hub"), "HUB_PORT": str(_free_port())}
    for address in (
        f"postgresql://hub:{IN_ADDRESS}@127.0.0.1:{_free_port()}/hub",
        f"postgresql://hub:{IN_ADDRESS}@127.0.0.1:port/hub",
        f"mysql://hub:{IN_ADDRESS}@127.0.0.1/hub",
    ):
        for words in (("run",), ("reconcile",)):
            told = await command({**environment, "HUB_DATABASE_URL": address}, *words)
            assert told.code == 2, told.text
            assert "database" in told.errors
            assert is_a_sentence(told)
            assert not _tells_the_password(told.text), told.text
