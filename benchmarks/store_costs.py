"""What work costs a store, by its own counters: rows by table, transactions, WAL; and statements, by its log, for the
embedded server has no extension that counts them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from hub.adapters.postgres.embedded_cluster import KEEPER, USER

Costs = Mapping[tuple[str, str], float]
"""By what is counted, and its unit."""

_HEARD = 1.5
"""Seconds after which every connection goes by new settings."""
_TOLD = 11.0
"""Seconds within which a connection that fell silent has told what it did."""


_STATEMENT = re.compile(rb"LOG:  (?:execute|statement)\b")
_FRAME = re.compile(rb"LOG:  statement: (?:BEGIN|COMMIT|ROLLBACK)\b")


@asynccontextmanager
async def telling_statements(dsn: str, home: Path) -> AsyncIterator[None]:
    """The embedded server in this folder writes every statement to its log meanwhile."""
    settings = home / "settings" / "postgresql.conf"
    told = settings.read_text()
    try:
        settings.write_text(f"{told}\nlog_statement = all\n")
        await _reload(dsn)
        yield
    finally:
        settings.write_text(told)
        await _reload(dsn)


async def _reload(dsn: str) -> None:
    connection = await asyncpg.connect(dsn.replace(f"//{USER}@", f"//{KEEPER}@", 1))
    try:
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()
    await asyncio.sleep(_HEARD)


def statements_in(home: Path) -> Costs:
    """Those in the log so far, without what begins and ends transactions."""
    text = b"".join(log.read_bytes() for log in sorted((home / "log").iterdir()))
    return {("statements", "statements"): len(_STATEMENT.findall(text)) - len(_FRAME.findall(text))}


async def costs_of(dsn: str) -> Costs:
    """Of all that was done in this database so far; WAL is the whole server's."""
    await asyncio.sleep(_TOLD)
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
