"""What was received, read from the store page by page, as routing knew it.

Business of this file: recorded facts with the first decision, in the order of receipt. Nothing sealed is
read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import attachments_from_json, recipients_from_json
from hub.domain.decisions import Routed, SetAside, Unroutable, Verdict
from hub.domain.submission import RoutingFacts
from hub.ports.views import Received

_BEFORE_ALL = UUID(int=0)


class PostgresReceived:
    """Implements `hub.ports.views.ReceivedViews`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def one(self, submission: UUID) -> Received | None:
        async def work(connection: Connection) -> Received | None:
            row = await connection.fetchrow(f"{_RECEIVED} WHERE submission.id = $1", submission)
            return None if row is None else _received(row)

        return await self._database.once(work)

    async def received(
        self,
        since: datetime,
        until: datetime,
        procedure: str | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[Received]:
        begin = (since, _BEFORE_ALL) if after is None else after

        async def work(connection: Connection) -> Sequence[Received]:
            return [_received(row) for row in await connection.fetch(_PAGE, *begin, until, procedure, limit)]

        return await self._database.once(work)


# The first decision has number 1: later ones are replays, by the rules of their day.
_RECEIVED = """
    SELECT submission.id, submission.sender, submission.procedure, submission.facts, submission.attachments,
           submission.received_at, decision.snapshot, decision.verdict, decision.reasons, decision.recipients
    FROM submission LEFT JOIN decision ON decision.submission = submission.id AND decision.number = 1
"""

_PAGE = f"""
    {_RECEIVED}
    WHERE (submission.received_at, submission.id) > ($1, $2) AND submission.received_at < $3
          AND ($4::text IS NULL OR submission.procedure = $4)
    ORDER BY submission.received_at, submission.id
    LIMIT $5
"""


def _received(row: asyncpg.Record) -> Received:
    attachments = tuple(stored.facts for stored in attachments_from_json(row["attachments"]))
    facts = RoutingFacts(
        row["id"], row["sender"], row["procedure"], row["facts"], attachments, row["received_at"]
    )
    return Received(facts, row["snapshot"], _verdict(row))


def _verdict(row: asyncpg.Record) -> Verdict | None:
    match row["verdict"]:
        case None:
            return None
        case "routed":
            return Routed(recipients_from_json(row["recipients"]))
        case "unroutable":
            return Unroutable(tuple(row["reasons"]))
        case _:
            return SetAside(row["reasons"][0])
