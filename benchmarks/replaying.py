"""How long an operator waits for what a replay would match: `python -m benchmarks.replaying [--short]`.

Four million deliveries of a year, made by SQL; 40,000 of them are chosen by two criteria, beside the state, with
count, bytes and ten examples: each time on a connection that was just opened.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.rows import Row, at_most, measured, run
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.adapters.postgres.migrations import migrate
from hub.adapters.postgres.replays import PostgresReplays
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.domain.replays import ReplayOrder, Selection

DELIVERIES, SHORT = 4_000_000, 400_000
_AT_ONCE = 500_000
_BAR = 2.0
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_YEAR = timedelta(days=365)

_PARTNERS = """
    INSERT INTO partner (subscriber, name, channel, vendor)
    SELECT lpad(n::text, 14, '0') || '-75056', 'Essai', 'sftp', 'Logiciel ' || n % 10
    FROM generate_series(0, 8999) AS n
"""
# Each field by itself holds for a tenth (of partners: for one, the national one), whatever the others say.
_DELIVERIES = """
    INSERT INTO delivery (id, submission, procedure, subscriber, lane, channel, sequence, kind, revision, attachments,
                          state, attempt, due_at, cause, created_at, changed_at, size)
    SELECT md5('d' || n)::uuid, md5('s' || n)::uuid, 'Procedure' || n % 10,
           lpad((CASE WHEN n / 10 % 10 = 0 THEN 0 ELSE 1 + n / 1000 % 8999 END)::text, 14, '0') || '-75056', n % 9000,
           (ARRAY['sftp', 'mail', 'webhook', 'mailbox', 'sftp', 'mail', 'webhook', 'mailbox', 'sftp', 'rare'])
             [1 + n / 100 % 10],
           n, 'submission', 1, '{1}', told.state, 1, NULL, CASE WHEN told.state = 'parked' THEN told.cause END,
           $3::timestamptz + $4::interval * n / $5::bigint, $3::timestamptz + $4::interval * n / $5::bigint, 1000
    FROM generate_series($1::bigint, $2::bigint) AS n
    CROSS JOIN LATERAL (
        SELECT CASE WHEN n / 10000 % 10 = 3 THEN 'parked' ELSE 'delivered' END AS state,
               (ARRAY['sftp.denied', 'sftp.timeout', 'mail.bounced'])[1 + n / 100000 % 3] AS cause
    ) AS told
"""


def _criteria(state: State) -> dict[str, dict[str, Any]]:
    """Each by itself: a tenth, or so."""
    since = _BEGIN + _YEAR / 2
    told: dict[str, dict[str, Any]] = {
        "partner": {"subscriber": Subscriber.parse(f"{'0' * 14}-75056")},
        "vendor": {"vendor": "Logiciel 0"},
        "procedure": {"procedure": "Procedure7"},
        "channel": {"channel": "rare"},
        "created": {"created_since": since, "created_until": since + _YEAR / 10},
        "changed": {"changed_since": since, "changed_until": since + _YEAR / 10},
    }
    if state is State.PARKED:
        told["cause"] = {"cause": "mail.bounced"}
    return told


def _pairs() -> Iterator[tuple[str, Selection]]:
    for state in (State.DELIVERED, State.PARKED):
        for one, other in combinations(_criteria(state).items(), 2):
            yield f"{state}, {one[0]}, {other[0]}", Selection(**one[1], **other[1], state=state)
        for name, fields in _criteria(state).items():
            if state is State.PARKED:
                yield f"{state}, {name}", Selection(**fields, state=state)


def measure(short: bool) -> list[Row]:
    return asyncio.run(_measure(SHORT if short else DELIVERIES))


async def _measure(deliveries: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="hub-replaying-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "database")
        try:
            dsn = await server.start()
            await migrate(dsn)
            await _fill(dsn, deliveries)
            rows = [await _looked(dsn, name, selection) for name, selection in _pairs()]
            seconds = sorted(row.value or 0.0 for row in rows)
            rows.append(at_most("the slowest of these", seconds[-1], "s", _BAR))
            rows.append(await _begun(dsn))
            return rows
        finally:
            await server.stop()


async def _fill(dsn: str, deliveries: int) -> None:
    database = await Database.open(dsn)
    try:
        await _carry_out(database, _PARTNERS)
        for first in range(0, deliveries, _AT_ONCE):
            last = min(first + _AT_ONCE, deliveries) - 1
            await _carry_out(database, _DELIVERIES, first, last, _BEGIN, _YEAR, deliveries)
        async with database.alone() as connection:
            await connection.execute("VACUUM (ANALYZE)", timeout=1800)
    finally:
        await database.close()


async def _carry_out(database: Database, statement: str, *values: object) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute(statement, *values, timeout=1800)

    await database.run(work)


async def _looked(dsn: str, name: str, selection: Selection) -> Row:
    started = time.perf_counter()
    database = await Database.open(dsn)
    try:
        found = await PostgresReplays(database).preview(selection)
        return measured(f"{name}: {found.matched:,}", time.perf_counter() - started, "s")
    finally:
        await database.close()


async def _begun(dsn: str) -> Row:
    """With its items written."""
    database = await Database.open(dsn)
    try:
        started = time.perf_counter()
        order = ReplayOrder(Selection(cause="mail.bounced", channel="mail"), "banc", "mesure")
        begun = await PostgresReplays(database).begin(uuid4(), order)
        return measured(f"an order of {begun.matched:,} given", time.perf_counter() - started, "s")
    finally:
        await database.close()


if __name__ == "__main__":
    run("Replaying", measure)
