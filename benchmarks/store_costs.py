"""What work costs a store, by its own counters: rows by table, transactions, WAL. Statements are not counted: the
embedded server has no extension for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import asyncpg

Costs = Mapping[tuple[str, str], float]
"""By what is counted, and its unit."""

_FLUSHED = 1.5
"""Seconds within which an idle connection has told what it did."""


async def costs_of(dsn: str) -> Costs:
    """Of all that was done in this database so far; WAL is the whole server's."""
    await asyncio.sleep(_FLUSHED)
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch(
            "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del AS written, n_tup_upd AS updated,"
            " n_tup_hot_upd AS hot FROM pg_stat_user_tables"
        )
        wal = await connection.fetchrow("SELECT wal_records, wal_fpi, wal_bytes FROM pg_stat_wal")
        commits = await connection.fetchval(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
    finally:
        await connection.close()
    assert wal is not None
    found: dict[tuple[str, str], float] = {}
    for row in tables:
        found[f"rows of {row['relname']}", "rows"] = row["written"]
        found[f"updates of {row['relname']} that touch an index", "rows"] = row["updated"] - row["hot"]
    found["transactions", "commits"] = commits
    found["WAL", "bytes"] = float(wal["wal_bytes"])
    found["WAL, pages written whole", "pages"] = wal["wal_fpi"]
    return found


def costs_between(before: Costs, after: Costs, count: int) -> Costs:
    """For each of so many; what nothing happened to is left out."""
    return {
        what: (value - before.get(what, 0)) / count
        for what, value in after.items()
        if value > before.get(what, 0)
    }
