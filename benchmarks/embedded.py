"""The embedded mode: submissions a second from the post to the delivery, and what each room takes of it.

Rooms are measured alone on the embedded PostgreSQL, in pages of their own size; `intake, bare` is the floor
of accepting: the same rows in the same pages by plain INSERTs. The whole way goes through `hub run` in a
process of its own, over HTTP, to mailboxes (so that no partner's server is measured).
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import importlib.util
import json
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from benchmarks.kept import kept_bytes, record_bytes, relocated_in
from benchmarks.posts import PROCEDURE, form
from benchmarks.rows import Row, at_most, measured, run
from demo.hub import Hub
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.migrations import migrate
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.rules.files import read_rules
from hub.adapters.rules.territory import load_territory
from hub.domain.circuit import next_standing
from hub.domain.decisions import Decision
from hub.domain.delivery import Conclusion, Delivered
from hub.domain.document import Document
from hub.domain.identity import submission_id
from hub.domain.lifecycle import State
from hub.domain.matching import decide
from hub.domain.partner import made_up_siret
from hub.domain.rule_book import Snapshot
from hub.domain.submission import RoutingFacts, Submission
from hub.domain.territory import Territory
from hub.ports.lanes import Page
from hub.ports.log import Topic, places
from hub.ports.outgoing import Letter
from hub.wire import rule_book, write_decision, write_submission
from schemas.models.rules import SubscriptionIn

PAGE = 500
GIGABYTE = 10**9

Item = TypeVar("Item")


def measure(short: bool) -> list[Row]:
    return asyncio.run(_measure(4_000 if short else 40_000, 2_000 if short else 20_000))


async def _measure(rooms: int, journeys: int) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="hub-benchmark-", dir="/tmp"))  # a short path
    folder.chmod(0o711)
    try:
        return [*await _rooms(folder, rooms), *await _whole_way(folder, journeys)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- each room alone ----------------------------------------------------------------------------------


async def _rooms(folder: Path, count: int) -> list[Row]:
    territory = load_territory(_rules() / "territory" / "2026.tsv.gz")
    submissions = _submissions(territory, folder, count)
    snapshot = _snapshot(territory)
    async with EmbeddedPostgres(folder / "rooms") as server:
        await migrate(server.dsn)
        database = await Database.open(server.dsn)
        try:
            bare = await _bare(database, submissions)
            accepted = await _accept(database, submissions)
            letters = await PostgresTray(database).letters(count)
            carried, read = await _carry(database, letters)
            decided, decisions = _decide([letter.content for letter in letters], snapshot)
            registered = await _register(database, decisions)
            delivered = await _deliver(database)
            kept = await kept_bytes(database, log=False)
            logged = await kept_bytes(database, log=True)
            relocated = await relocated_in(database, server.dsn)
        finally:
            await database.close()
    return [
        measured("intake, bare INSERTs (floor)", count / bare, "submissions/s"),
        measured("intake", count / accepted, "submissions/s"),
        measured("intake / floor", bare / accepted, "ratio"),
        measured("log, append", count / carried, "records/s"),
        measured("log, read and done", count / read, "records/s"),
        measured("deciding", decided / count * 1e6, "µs each"),
        measured("registration", count / registered, "decisions/s"),
        measured("taken and concluded, 200 lanes at once", count / delivered, "deliveries/s"),
        measured("store, of each submission, delivered once, without files", kept / count, "bytes"),
        measured("its content in it, sealed", sum(len(one.sealed) for one in submissions) / count, "bytes"),
        measured("embedded log, of each record until it is trimmed", logged / count, "bytes"),
        measured("a record of a submission", record_bytes(letters), "bytes"),
        measured("relocated to another database of the same server", count / relocated, "submissions/s"),
    ]


async def _bare(database: Database, submissions: Sequence[Submission]) -> float:
    async def prepare(connection: Connection) -> None:
        await connection.execute("CREATE TABLE bare (LIKE submission INCLUDING ALL)")

    await database.run(prepare)
    started = time.perf_counter()
    for page in _pages(submissions):

        async def insert(connection: Connection, page: Sequence[Submission] = page) -> None:
            await connection.executemany(
                "INSERT INTO bare (id, sender, external_id, procedure, facts, digest, sealed, attachments)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, '[]')",
                [
                    (s.id, s.sender, s.external_id, s.procedure, dict(s.facts), s.digest, s.sealed)
                    for s in page
                ],
            )

        await database.run(insert)
    return time.perf_counter() - started


async def _accept(database: Database, submissions: Sequence[Submission]) -> float:
    intake = PostgresIntake(database)
    started = time.perf_counter()
    for page in _pages(submissions):
        await intake.accept(page)
    return time.perf_counter() - started


async def _carry(database: Database, letters: Sequence[Letter]) -> tuple[float, float]:
    journey = PostgresLog(database)
    started = time.perf_counter()
    for page in _pages(letters):
        await journey.append(Topic.SUBMISSIONS, [write_submission(letter.content) for letter in page])
    appended = time.perf_counter()
    async with journey.reader(Topic.SUBMISSIONS, "benchmark") as reader:
        left = len(letters)
        while left:
            entries = await reader.read(PAGE, 1)
            await reader.done(places(entries))
            left -= len(entries)
    return appended - started, time.perf_counter() - appended


def _decide(facts: Sequence[RoutingFacts], snapshot: Snapshot) -> tuple[float, list[Decision]]:
    # As a role does once it has read the rules: else one walk over the territory falls among a few thousand decisions.
    gc.collect()
    gc.freeze()
    started = time.perf_counter()
    decisions = [decide(one, snapshot) for one in facts]
    took = time.perf_counter() - started
    assert all(write_decision(decision) for decision in decisions[:10])
    return took, decisions


async def _register(database: Database, decisions: Sequence[Decision]) -> float:
    registry = PostgresRegistry(database)
    started = time.perf_counter()
    for page in _pages(decisions):
        await registry.register(page)
    return time.perf_counter() - started


async def _deliver(database: Database) -> float:
    """The store's part of dispatch, as one worker does it."""
    lanes = PostgresLanes(database)
    length = timedelta(seconds=60)
    started = time.perf_counter()

    while taken := await lanes.take("benchmark", 200, 0, 20, length):
        pages = []
        for one in taken:
            done = [Conclusion(claim.attempt, State.DELIVERED, Delivered("x")) for claim in one.claims or ()]
            pages.append(Page(one.lane.id, tuple(done), standing=next_standing(one.lane.standing, done, 20)))
        await lanes.conclude("benchmark", pages)
    took = time.perf_counter() - started
    await lanes.close()
    return took


def _submissions(territory: Territory, folder: Path, count: int) -> list[Submission]:
    keyring = LocalKeyring.from_file(folder / "benchmark.key", create=True)
    communes = [place.code for place in territory.communes_of("74")]
    made = []
    for number in range(count):
        facts = {"commune_residence": communes[number % len(communes)]}
        text = Document(PROCEDURE, facts, {"last_name": "Exemple"}, {"motif": "x" * 500}, ()).canonical()
        key = keyring.fresh()
        name = submission_id("benchmark", str(number))
        made.append(
            Submission(
                name,
                "benchmark",
                str(number),
                PROCEDURE,
                facts,
                keyring.digest(text),
                keyring.seal(key, text, name.bytes),
                key.wrapped,
                (),
            )
        )
    return made


def _subscriptions(territory: Territory) -> list[SubscriptionIn]:
    return [
        SubscriptionIn(
            procedure=PROCEDURE,
            subscriber=f"{made_up_siret(territory.siren(place) or '217400423', 9001)}-{place.code}",
            place=str(place),
        )
        for place in territory.communes_of("74")
    ]


def _snapshot(territory: Territory) -> Snapshot:
    book = rule_book(read_rules(_rules()).procedures, _subscriptions(territory), territory)
    return Snapshot(1, datetime(2026, 1, 1, tzinfo=UTC), book)


def _rules() -> Path:
    spec = importlib.util.find_spec("routing_rules")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _pages(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + PAGE] for start in range(0, len(items), PAGE)]


# --- the whole way ------------------------------------------------------------------------------------


async def _whole_way(folder: Path, count: int) -> list[Row]:
    territory = load_territory(_rules() / "territory" / "2026.tsv.gz")
    partners = folder / "partners.json"
    partners.write_text(json.dumps({"partners": [_mailbox(told) for told in _subscriptions(territory)]}))
    async with _hub(folder, partners) as hub:
        token = await hub.token("sender", "benchmark", "--procedure", PROCEDURE)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            started = time.perf_counter()
            await _post_all(session, hub.url, [place.code for place in territory.communes_of("74")], count)
            posted = time.perf_counter() - started
            while (await hub.counts(session)).get("deliveries.delivered", 0) < count:
                await asyncio.sleep(0.05)
            delivered = time.perf_counter() - started
            before = _peak(hub.process.pid)
            seconds = await _upload(session, hub.url)
            grown = _peak(hub.process.pid)
    return [
        measured("posted over HTTP, one file each", count / posted, "submissions/s"),
        measured("posted and delivered", count / delivered, "submissions/s"),
        measured("1 GB file, posted", GIGABYTE / seconds / 1e6, "MB/s"),
        measured("hub process after the others, peak", before, "MB"),
        at_most("1 GB file, memory it costs beyond that", grown - before, "MB", 200),
    ]


@asynccontextmanager
async def _hub(folder: Path, partners: Path) -> AsyncIterator[Hub]:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    environment = {
        "HUB_FOLDER": str(folder / "hub"),
        "HUB_HOST": "127.0.0.1",
        "HUB_PORT": str(port),
        "HUB_PARTNERS": str(partners),
        "HUB_RULES_LEAD": "0",
        "HUB_RATE_LIMIT": "100000",
        "HUB_DISK_RESERVE": "0",
        "HUB_LOG_FORMAT": "json",
        "HUB_OUTGOING_ALLOW": "127.0.0.0/8",
    }
    hub = await Hub.start(environment, folder / "hub.log")
    try:
        yield hub
    finally:
        await hub.stop()


async def _post_all(session: aiohttp.ClientSession, url: str, communes: Sequence[str], count: int) -> None:
    numbers = iter(range(count))

    async def clerk() -> None:
        for number in numbers:
            async with session.post(
                f"{url}/v1/submissions", json=form(f"B-{number}", communes[number % len(communes)])
            ) as answer:
                if answer.status != 202:
                    raise RuntimeError(f"a post answered {answer.status}")

    await asyncio.gather(*(clerk() for _ in range(16)))


async def _upload(session: aiohttp.ClientSession, url: str) -> float:
    block = bytes(range(256)) * 4096
    blocks = GIGABYTE // len(block) + 1
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(block)

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield block

    described = {
        "external_id": "B-large",
        "procedure": PROCEDURE,
        "facts": {"commune_residence": "74042"},
        "attachments": [
            {
                "name": "scan.bin",
                "type": "formulaire",
                "media_type": "application/octet-stream",
                "size": blocks * len(block),
                "sha256": digest.hexdigest(),
            }
        ],
    }
    body = aiohttp.MultipartWriter("form-data")
    part = body.append_json(described)
    part.set_content_disposition("form-data", name="submission")
    large = body.append(stream())
    large.set_content_disposition("form-data", name="file", filename="scan.bin")
    started = time.perf_counter()
    async with session.post(
        f"{url}/v1/submissions", data=body, timeout=aiohttp.ClientTimeout(total=600)
    ) as answer:
        if answer.status != 202:
            raise RuntimeError(f"the large post answered {answer.status}: {await answer.text()}")
    return time.perf_counter() - started


def _mailbox(told: SubscriptionIn) -> dict[str, Any]:
    return {
        "subscriber": told.subscriber,
        "name": told.subscriber,
        "channel": "mailbox",
        "subscriptions": [{"procedure": told.procedure, "place": told.place}],
    }


def _peak(pid: int) -> float:
    """Peak resident memory of a process, in MB (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    run("benchmarks.embedded", measure)
