"""Submissions, decisions and partners to try a store with, and ways to look at and to disturb it.

Every name and number in here is invented.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from hub.adapters.postgres.database import Connection, Database, Result
from hub.domain.decisions import Decision, Reason, Recipient, Routed, Verdict
from hub.domain.identity import ParcelKind, Subscriber, delivery_id, submission_id
from hub.domain.partner import Endpoint, Partner
from hub.domain.submission import AttachmentFacts, StoredAttachment, Submission

SENDER = "essai-osl"


def submission(
    number: int, *, digest: bytes = b"same", copy: str = "a", procedure: str = "EtatCivil"
) -> Submission:
    """The `number`-th submission of a sender. `copy` tells apart two posts of one name: each has files and
    sealed bytes of its own."""
    external = f"dossier-{number}"
    return Submission(
        id=submission_id(SENDER, external),
        sender=SENDER,
        external_id=external,
        procedure=procedure,
        facts={"commune": "64445"},
        digest=digest,
        sealed=f"sealed-{number}-{copy}".encode(),
        wrapped_key=f"key-{number}-{copy}".encode(),
        attachments=(
            StoredAttachment(AttachmentFacts(1, "acte", None), 10, f"{number}-{copy}-1"),
            StoredAttachment(AttachmentFacts(2, "photo", ("mairie", "police")), 20, f"{number}-{copy}-2"),
        ),
    )


def submissions(count: int, *, copy: str = "a") -> list[Submission]:
    return [submission(number, copy=copy) for number in range(count)]


def subscriber(number: int) -> Subscriber:
    return Subscriber(f"{number:014d}", f"{number:05d}")


def recipient(to: int, *, mailbox: bool = False) -> Recipient:
    reason = Reason("regle-1", "mairie", "EtatCivil/commune:64445", ("commune → commune:64445",))
    return Recipient(subscriber(to), (1, 2), (reason,), mailbox)


def delivery(number: int, to: int) -> UUID:
    """The name of what this subscriber gets of the `number`-th submission."""
    return delivery_id(submission(number).id, subscriber(to), ParcelKind.SUBMISSION, 1)


def routed(number: int, to: Sequence[int], *, decision: int = 1, mailbox: bool = False) -> Decision:
    """A decision about the `number`-th submission that names these subscribers."""
    verdict = Routed(tuple(recipient(one, mailbox=mailbox) for one in to))
    return decided(number, verdict, decision=decision)


def decided(number: int, verdict: Verdict, *, decision: int = 1) -> Decision:
    name = submission(number).id
    recipients = verdict.recipients if isinstance(verdict, Routed) else ()
    named = (delivery_id(name, one.subscriber, ParcelKind.SUBMISSION, 1) for one in recipients)
    return Decision(name, decision, 7, verdict, tuple(named))


def partner(number: int, channel: str = "sftp", **settings: object) -> Partner:
    return Partner(subscriber(number), f"Mairie d'essai {number}", Endpoint(channel, settings))


async def rows(database: Database, query: str, *arguments: object) -> list[asyncpg.Record]:
    async def work(connection: Connection) -> list[asyncpg.Record]:
        return list(await connection.fetch(query, *arguments))

    return await database.run(work)


async def execute(database: Database, *statements: str) -> None:
    async def work(connection: Connection) -> None:
        for statement in statements:
            await connection.execute(statement)

    await database.run(work)


async def sizes(database: Database, *tables: str) -> dict[str, int]:
    """How many rows each table has."""
    return {
        table: (await rows(database, f"SELECT count(*) AS count FROM {table}"))[0]["count"]
        for table in tables
    }


async def counted(database: Database, query: str) -> int:
    """What the server counted of this database, which is closed by this: connections tell what they counted
    when they end, and perhaps not before."""
    await database.close()
    async with database.alone() as last, asyncio.timeout(10):
        while await last.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ):
            await asyncio.sleep(0.01)
        return int(await last.fetchval(query))


class WatchedDatabase(Database):
    """Counts the statements of each run."""

    statements: list[str]

    @classmethod
    async def watch(cls, dsn: str) -> WatchedDatabase:
        opened = await cls.open(dsn)
        assert isinstance(opened, cls)
        opened.statements = []
        return opened

    async def run(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        async def watched(connection: Connection) -> Result:
            with connection.query_logger(self._note):
                return await work(connection)

        return await super().run(watched)

    async def deadlocks(self) -> int:
        """All that the server broke here, also those at a commit, where no run sees them. Closes this."""
        return await counted(
            self, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )

    def _note(self, query: Any) -> None:
        self.statements.append(query.query)


class Obstacle:
    """Stops whoever writes the first row into a table, in the middle of its transaction."""

    _LOCK = 77

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def reached(self) -> int:
        """The server process that stands before it, once there is one."""
        for _ in range(1000):
            found = await self._connection.fetchval(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                self._LOCK,
            )
            if found is not None:
                return int(found)
            await asyncio.sleep(0.01)
        raise AssertionError("nobody came to the obstacle")

    async def remove(self) -> None:
        await self._connection.execute("SELECT pg_advisory_unlock_all()")

    async def kill(self, process: int) -> None:
        await self._connection.execute("SELECT pg_terminate_backend($1)", process)
        await self.gone(process)

    async def gone(self, process: int) -> None:
        for _ in range(1000):
            if not await self._connection.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", process):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the server process did not end")

    @classmethod
    @asynccontextmanager
    async def before(cls, database: Database, table: str) -> AsyncIterator[Obstacle]:
        """In the way of those who write into `table`, as long as this lasts or until removed."""
        await execute(
            database,
            "CREATE FUNCTION obstacle() RETURNS trigger LANGUAGE plpgsql AS"
            f" 'BEGIN PERFORM pg_advisory_xact_lock_shared({cls._LOCK}); RETURN NULL; END'",
            f"CREATE TRIGGER obstacle AFTER INSERT OR UPDATE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION obstacle()",
        )
        async with database.alone() as connection:
            await connection.execute("SELECT pg_advisory_lock($1)", cls._LOCK)
            yield cls(connection)


async def stopped_by_a_lock(database: Database, kind: str) -> None:
    """Once somebody waits for a lock of this kind, as `pg_locks` names it (a row's is of its transaction)."""
    async with asyncio.timeout(10):
        while not await rows(
            database,
            "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE datname = current_database() AND locktype = $1 AND NOT granted",
            kind,
        ):
            await asyncio.sleep(0.01)


async def numbers_by_partner(database: Database) -> dict[str, list[int]]:
    """The running numbers of each partner's deliveries, in order, with those of what moved away."""
    found: dict[str, list[int]] = {}
    for row in await rows(
        database,
        "SELECT subscriber, sequence FROM delivery UNION ALL SELECT subscriber, sequence FROM moved"
        " ORDER BY subscriber, sequence",
    ):
        found.setdefault(row["subscriber"], []).append(row["sequence"])
    return found


def repeated(items: Sequence[object]) -> list[object]:
    return [item for item, times in Counter(items).items() if times > 1]
