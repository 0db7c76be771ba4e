"""From the tray to registered deliveries: PostgreSQL, Kafka and three rooms on the same cores.

The submissions are those of `routing`, accepted before the clock starts; a process carries letters to the log, one
decides, and two register. Time ends when the last decision is in the store. Beside it, what share of the CPU each of
them took.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.peer import cpu_of, fields_of
from benchmarks.register import register
from benchmarks.rooms import OUTGOING, REGISTRATION, ROUTING
from benchmarks.routers import territory
from benchmarks.routing import Broker, Stand, started
from benchmarks.rows import Row, at_least, measured, run
from benchmarks.traffic import mix
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.migrations import migrate
from hub.domain.submission import RoutingFacts, StoredAttachment, Submission

_SHARING = 6.0
"""Seconds in which two that came one after the other have shared the partitions."""

_SEALED = 600
"""Bytes of a sealed document without its files."""


def measure(short: bool) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="hub-benchmark-", dir="/tmp"))  # a short path
    folder.chmod(0o711)
    try:
        return asyncio.run(_measure(folder, 20_000 if short else 200_000))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path, count: int) -> list[Row]:
    with started() as broker:
        async with EmbeddedPostgres(folder / "store") as server:
            await migrate(server.dsn)
            database = await Database.open(server.dsn)
            try:
                await _declare_partners(database)
                await _accept(database, mix(register(territory()), count))
                return await _carried(database, server.dsn, broker, count)
            finally:
                await database.close()


async def _carried(database: Database, dsn: str, broker: Broker, count: int) -> list[Row]:
    with ExitStack() as stack:
        rooms = [
            (room, Stand([sys.executable, "-m", "benchmarks.rooms", room, dsn, broker.bootstrap, str(count)]))
            for room in (OUTGOING, ROUTING, REGISTRATION, REGISTRATION)
        ]
        for _, stand in rooms:
            stack.callback(stand.end)
            stand.hear()
        await asyncio.sleep(_SHARING)
        servers = {"PostgreSQL": await postmaster(database), "Kafka": broker.process}
        before = {name: family(process) for name, process in servers.items()}
        for _, stand in rooms:
            stand.say("go")
        told = [(room, stand.hear()) for room, stand in rooms]
        seconds = max(one["seconds"] for _, one in told)
        used = {name: family(process) - before[name] for name, process in servers.items()}
        deliveries = await _counts(database, count)
    for room, one in told:
        used[room] = used.get(room, 0) + one["cpu"]
    return [
        at_least("tray → registered", count / seconds, "submissions/s", 10_000),
        measured("deliveries planned", deliveries / seconds, "deliveries/s"),
        *(measured(f"CPU of {name}", taken / count * 1e6, "µs each") for name, taken in sorted(used.items())),
    ]


async def postmaster(database: Database) -> int:
    """The process above all of the server's."""

    async def ask(connection: Connection) -> int:
        process: int = await connection.fetchval("SELECT pg_backend_pid()")
        return int(fields_of(process)[_PARENT])

    return await database.once(ask)


def family(process: int) -> float:
    """Seconds that a process, those below it and those that were below it took so far."""
    below = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
    family = [one for one in below if one == process or _parent(one) == process]
    gone = sum(int(fields_of(process)[place]) for place in _GONE) / os.sysconf("SC_CLK_TCK")
    return sum(map(cpu_of, family)) + gone


_PARENT, _GONE = 1, (13, 14)
"""Places in what the system tells of a process: its parent; what its children took that have ended."""


def _parent(process: int) -> int:
    try:
        return int(fields_of(process)[_PARENT])
    except OSError:
        return 0


async def _counts(database: Database, count: int) -> int:
    """Every submission has its decision, and every delivery is named by one."""

    async def ask(connection: Connection) -> int:
        decided = await connection.fetchval("SELECT count(*) FROM decision")
        named = await connection.fetchval("SELECT sum(jsonb_array_length(recipients)) FROM decision")
        planned: int = await connection.fetchval("SELECT count(*) FROM delivery")
        if decided != count or named != planned:
            raise RuntimeError(
                f"{count:,} submissions, {decided:,} decisions; {named:,} named, {planned:,} planned"
            )
        return planned

    return await database.once(ask)


async def _declare_partners(database: Database) -> None:
    partners = sorted(map(str, register(territory()).partners()))

    async def work(connection: Connection) -> None:
        await connection.execute(
            "INSERT INTO partner (subscriber, name, channel)"
            " SELECT one, one, 'webhook' FROM unnest($1::text[]) AS one",
            partners,
        )

    await database.run(work)


async def _accept(database: Database, drawn: Sequence[RoutingFacts]) -> None:
    intake = PostgresIntake(database)
    for start in range(0, len(drawn), 500):
        await intake.accept([_submission(facts) for facts in drawn[start : start + 500]])

    async def analyze(connection: Connection) -> None:
        await connection.execute("ANALYZE")

    await database.once(analyze)


def _submission(facts: RoutingFacts) -> Submission:
    name = facts.submission
    files = tuple(StoredAttachment(file, 1000, f"{name}-{file.number}") for file in facts.attachments)
    sealed, key = bytes(_SEALED), bytes(48)
    return Submission(
        name, facts.sender, str(name), facts.procedure, facts.facts, name.bytes * 2, sealed, key, files
    )


if __name__ == "__main__":
    run("tray → registered deliveries", measure)
