"""The ledger: the two equations, counted from the rows themselves.

Business of this file: reading both sides of each equation apart, so that a row that came or went behind
the hub's back shows. It repairs nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.domain.lifecycle import State
from hub.ports.store import Accounts, DeliveryAccount, SubmissionAccount

_LISTED = 100

# Counting years of submissions takes longer than any other statement of the hub may.
_PATIENCE = 900.0

# A delivery that several decisions name is named once.
_NAMED = """
    named AS (
        SELECT DISTINCT ON (id) (recipient ->> 'delivery')::uuid AS id, submission
        FROM decision, jsonb_array_elements(recipients) AS recipient
        ORDER BY id, submission
    )
"""


class PostgresLedger:
    """Implements `hub.ports.store.Ledger`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accounts(self) -> Accounts:
        async def work(connection: Connection) -> Accounts:
            # One snapshot for all that follows: what is counted twice is the same twice.
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return await read_accounts(connection)

        return await self._database.run(work)


async def read_accounts(connection: Connection) -> Accounts:
    """In the caller's transaction, which sees one snapshot."""
    return Accounts(
        submissions=await _submissions(connection),
        deliveries=await _deliveries(connection),
        missing=await _missing(connection),
        unnamed=await _unnamed(connection),
        strays=await _strays(connection),
    )


async def _submissions(connection: Connection) -> tuple[SubmissionAccount, ...]:
    """The newest decision of a submission says which term it stands in."""
    rows = await connection.fetch(
        """
        SELECT procedure,
               count(*) AS accepted,
               count(*) FILTER (WHERE verdict = 'routed') AS routed,
               count(*) FILTER (WHERE verdict = 'unroutable') AS unroutable,
               count(*) FILTER (WHERE verdict = 'set_aside') AS set_aside,
               count(*) FILTER (WHERE verdict IS NULL) AS undecided
        FROM submission LEFT JOIN (
            SELECT DISTINCT ON (submission) submission, verdict
            FROM decision ORDER BY submission, number DESC
        ) AS newest ON newest.submission = submission.id
        GROUP BY procedure ORDER BY procedure
        """,
        timeout=_PATIENCE,
    )
    return tuple(SubmissionAccount(**dict(row)) for row in rows)


async def _deliveries(connection: Connection) -> tuple[DeliveryAccount, ...]:
    """An id that is named and not registered has no channel: it is counted under the channel ''."""
    rows = await connection.fetch(
        f"""
        WITH {_NAMED}
        SELECT coalesce(delivery.procedure, submission.procedure, '') AS procedure,
               coalesce(delivery.channel, '') AS channel,
               delivery.state,
               count(named.id) AS named,
               count(delivery.id) AS registered
        FROM named
        FULL JOIN delivery ON delivery.id = named.id
        LEFT JOIN submission ON submission.id = named.submission
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """,
        timeout=_PATIENCE,
    )
    return _delivery_accounts(rows)


def _delivery_accounts(rows: Sequence[asyncpg.Record]) -> tuple[DeliveryAccount, ...]:
    named: Counter[tuple[str, str]] = Counter()
    states: defaultdict[tuple[str, str], dict[State, int]] = defaultdict(dict)
    for row in rows:
        place = (row["procedure"], row["channel"])
        named[place] += row["named"]
        if row["state"] is not None:
            states[place][State(row["state"])] = row["registered"]
    return tuple(
        DeliveryAccount(procedure, channel, count, states[procedure, channel])
        for (procedure, channel), count in named.items()
    )


async def _missing(connection: Connection) -> tuple[UUID, ...]:
    rows = await connection.fetch(
        f"""
        WITH {_NAMED}
        SELECT id FROM named WHERE NOT EXISTS (SELECT FROM delivery WHERE delivery.id = named.id)
        ORDER BY id LIMIT $1
        """,
        _LISTED,
        timeout=_PATIENCE,
    )
    return tuple(row["id"] for row in rows)


async def _unnamed(connection: Connection) -> tuple[UUID, ...]:
    rows = await connection.fetch(
        f"""
        WITH {_NAMED}
        SELECT id FROM delivery WHERE NOT EXISTS (SELECT FROM named WHERE named.id = delivery.id)
        ORDER BY id LIMIT $1
        """,
        _LISTED,
        timeout=_PATIENCE,
    )
    return tuple(row["id"] for row in rows)


async def _strays(connection: Connection) -> int:
    """Records that name no accepted submission: those kept as such, and decisions whose submission went."""
    count: int = await connection.fetchval(
        """
        SELECT count(*) FROM (
            SELECT submission, number FROM stray UNION SELECT submission, number FROM decision
        ) AS record
        WHERE NOT EXISTS (SELECT FROM submission WHERE submission.id = record.submission)
        """,
        timeout=_PATIENCE,
    )
    return count
