"""How long it takes to compare the ledger with millions of rows: `python -m benchmarks.reconciling [--short]`.

The rows are made by SQL as the hub would have written them, for 9,000 partners and 20 procedures over 10,000 hours, one
submission in four for two partners; then what was counted is added up by the hub itself.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.rows import Row, at_most, measured, run
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.adapters.postgres.gauges import read_gauges
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.migrations import migrate
from hub.domain.ledger import Scope
from hub.services.reconciliation import differences

DELIVERIES, SHORT = 4_000_000, 400_000
_AT_ONCE = 200_000

# One delivery of each submission, and a second one of every fourth.
_SUBMISSIONS = """
    INSERT INTO submission (id, sender, external_id, procedure, facts, digest, sealed, attachments, received_at)
    SELECT md5('s' || n)::uuid, 'essai', n::text, 'Procedure' || n % 20, '{"commune": "64445"}', '\\x00',
           convert_to(repeat(md5(n::text), 20), 'UTF8'), '[]', clock_timestamp() - interval '1 hour' * (n % 10000)
    FROM generate_series($1::integer, $2::integer) AS n
"""
_DELIVERIES = """
    INSERT INTO delivery (id, submission, procedure, subscriber, lane, channel, sequence, kind, revision, attachments,
                          state, attempt, due_at, cause, hour)
    SELECT md5('d' || which || '-' || n)::uuid, submission.id, submission.procedure,
           lpad(((n + which) % 9000)::text, 14, '2') || '-75056', (n + which) % 9000, 'sftp', n * 2 + which,
           'submission', 1, '{}', told.state, 1, CASE WHEN told.state = 'waiting' THEN clock_timestamp() END,
           CASE WHEN told.state <> 'delivered' THEN 'sftp.timeout' END, hour_of(submission.received_at)
    FROM generate_series($1::integer, $2::integer) AS n
    JOIN submission ON submission.id = md5('s' || n)::uuid
    CROSS JOIN LATERAL generate_series(0, (n % 4 = 0)::integer) AS which
    CROSS JOIN LATERAL (
        SELECT CASE n % 50 WHEN 0 THEN 'parked' WHEN 1 THEN 'waiting' ELSE 'delivered' END AS state
    ) AS told
"""
_DECISIONS = """
    INSERT INTO decision (submission, number, snapshot, verdict, recipients, hour, procedure)
    SELECT submission, 1, 1, 'routed',
           jsonb_agg(jsonb_build_object(
               'delivery', id, 'subscriber', subscriber, 'attachments', jsonb_build_array(1, 2), 'reasons',
               jsonb_build_array(jsonb_build_object('rule', 'regle-1', 'recipient', 'mairie', 'subscription',
                   'EtatCivil/commune:64445', 'steps', jsonb_build_array('commune → commune:64445'))))),
           hour, procedure
    FROM delivery WHERE submission IN (
        SELECT md5('s' || n)::uuid FROM generate_series($1::integer, $2::integer) AS n
    )
    GROUP BY submission, hour, procedure
"""
_SLIPS = """
    INSERT INTO ledger_slip (kind, hour, procedure, partner, source, target, number, sum)
    SELECT array_agg(kind), array_agg(hour), array_agg(procedure), array_agg(partner), array_agg(NULL::text),
           array_agg(target), array_agg(number::integer), array_agg(sum)
    FROM (
        SELECT kind, hour, procedure, partner, target, count(*) AS number,
               wrapped(sum(ledger_hash(id, hour, partner))) AS sum
        FROM (
            SELECT '' AS kind, hour, procedure, '' AS partner, target, submission AS id
            FROM decision CROSS JOIN (VALUES ('accepted'), ('routed')) AS side (target)
            UNION ALL
            SELECT kind, hour, procedure, subscriber, target, id
            FROM delivery CROSS JOIN LATERAL (VALUES ('named'), (state)) AS side (target)
        ) AS one
        GROUP BY 1, 2, 3, 4, 5
    ) AS counted
    GROUP BY hour
"""


def measure(short: bool) -> list[Row]:
    return asyncio.run(_measure(SHORT if short else DELIVERIES))


async def _measure(deliveries: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="hub-reconciling-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "database")
        try:
            dsn = await server.start()
            await migrate(dsn)
            database = await Database.open(dsn)
            await _fill(database, deliveries * 4 // 5)
            rows = await _time(database, deliveries)
            await database.close()
            return rows
        finally:
            await server.stop()


async def _fill(database: Database, submissions: int) -> None:
    for first in range(0, submissions, _AT_ONCE):
        last = min(first + _AT_ONCE, submissions) - 1
        for statement in (_SUBMISSIONS, _DELIVERIES, _DECISIONS):
            await _carry_out(database, statement, first, last)
    await _carry_out(database, _SLIPS)
    # As the hub does every hour.
    await _carry_out(database, "UPDATE log_life SET decided_until = clock_timestamp() - interval '1 hour'")
    async with database.alone() as connection:
        await connection.execute("VACUUM (ANALYZE)", timeout=1800)


async def _carry_out(database: Database, statement: str, *values: int) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute(statement, *values, timeout=1800)

    await database.run(work)


async def _time(database: Database, deliveries: int) -> list[Row]:
    ledger = PostgresLedger(database)
    started = time.perf_counter()
    while await ledger.fold(500):
        pass
    rows = [
        measured(
            "added up into buckets, for each delivery",
            (time.perf_counter() - started) / deliveries * 1e6,
            "µs",
        )
    ]
    async with database.alone() as connection:
        await connection.execute("VACUUM (ANALYZE) ledger", timeout=1800)
    seconds = await _reconciled(ledger, Scope(), 0)
    rows.append(at_most(f"reconcile {deliveries:,} deliveries", seconds, "s", 10))
    rows.append(
        measured("reconcile one procedure", await _reconciled(ledger, Scope(procedure="Procedure7"), 0), "s")
    )
    partner = f"{'7'.rjust(14, '2')}-75056"
    rows.append(measured("reconcile one partner", await _reconciled(ledger, Scope(partner=partner), 0), "s"))
    started = time.perf_counter()
    await database.once(read_gauges)
    rows.append(measured("all gauges of /metrics", time.perf_counter() - started, "s"))
    await _carry_out(database, "DELETE FROM delivery WHERE id = md5('d0-77')::uuid")
    await _carry_out(database, "UPDATE delivery SET state = 'returned' WHERE id = md5('d0-99')::uuid")
    rows.append(measured("the same, with two that differ named", await _reconciled(ledger, Scope(), 2), "s"))
    return rows


async def _reconciled(ledger: PostgresLedger, scope: Scope, named: int) -> float:
    started = time.perf_counter()
    accounts = await ledger.accounts(scope)
    seconds = time.perf_counter() - started
    if len(accounts.differences) != named:
        raise AssertionError(list(differences(accounts))[:5])
    return seconds


if __name__ == "__main__":
    run("Reconciling", measure)
