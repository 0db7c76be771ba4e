"""The store's part of return folders: which are due, and which of their files nobody can read.

Business of this file: that a folder is looked at by one worker at a time, and that a file which stays unreadable is
told once. What a file says is kept elsewhere, as an event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, write_journal
from hub.domain.identity import Subscriber
from hub.domain.pace import read_maintenance
from hub.ports.returns import DueFolder, LeftFile, NamedDelivery

_PASSED = timedelta(days=1)
"""A file that was told is read again after this: whoever made it unreadable may have gone."""
_FORGOTTEN = timedelta(days=3)


class PostgresReturnFolders:
    """Implements `hub.ports.returns.ReturnFolders`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, limit: int, hold: timedelta) -> Sequence[DueFolder]:
        async def work(connection: Connection) -> Sequence[DueFolder]:
            held = await connection.fetch(_HOLD, limit, hold)
            names = [row["subscriber"] for row in held]
            passed: defaultdict[str, set[bytes]] = defaultdict(set)
            for row in await connection.fetch(_PASSED_OVER, names, _PASSED):
                passed[row["subscriber"]].add(row["mark"])
            planned = {
                row["subscriber"]: row["maintenance"] for row in await connection.fetch(_PLANNED, names)
            }
            return [
                DueFolder(
                    Subscriber.parse(row["subscriber"]),
                    frozenset(passed[row["subscriber"]]),
                    row["failures"],
                    read_maintenance(planned.get(row["subscriber"]) or ()),
                )
                for row in held
            ]

        return await self._database.run(work)

    async def looked(
        self, subscriber: Subscriber, wait: timedelta, cause: str | None, left: Sequence[LeftFile]
    ) -> Sequence[str]:
        partner = str(subscriber)

        async def work(connection: Connection) -> Sequence[str]:
            await connection.execute(_LOOKED, partner, wait, cause)
            if cause is not None:
                return ()
            flaws = {file.mark: file.flaw for file in left}
            marks = sorted(flaws)
            told = await connection.fetch(_TELL, partner, marks)
            await connection.execute(_KEEP, partner, marks, [flaws[mark] for mark in marks])
            await connection.execute(
                "DELETE FROM return_file WHERE subscriber = $1 AND seen_at < clock_timestamp() - $2::interval",
                partner,
                _FORGOTTEN,
            )
            lines = [
                JournalEntry(
                    "return_file.unreadable", detail=f"{partner}, {row['mark'].hex()}, {row['flaw']}"
                )
                for row in told
            ]
            await write_journal(connection, lines)
            return [row["flaw"] for row in told]

        return await self._database.run(work)

    async def named(
        self, subscriber: Subscriber, external_ids: Sequence[str]
    ) -> Mapping[str, Sequence[NamedDelivery]]:
        async def work(connection: Connection) -> Mapping[str, Sequence[NamedDelivery]]:
            found: defaultdict[str, list[NamedDelivery]] = defaultdict(list)
            for row in await connection.fetch(_NAMED, str(subscriber), list(external_ids)):
                found[row["external_id"]].append(
                    NamedDelivery(row["id"], row["submission"], row["procedure"], row["revision"])
                )
            return found

        return await self._database.once(work)


# Whoever comes second finds the time put off.
_HOLD = """
    WITH wanted AS (
        SELECT partner.subscriber
        FROM partner LEFT JOIN return_folder USING (subscriber)
        WHERE partner.settings ? 'return_directory'
          AND (return_folder.due_at IS NULL OR return_folder.due_at <= clock_timestamp())
        ORDER BY return_folder.due_at NULLS FIRST
        LIMIT $1
    )
    INSERT INTO return_folder (subscriber, due_at)
    SELECT subscriber, clock_timestamp() + $2::interval FROM wanted ORDER BY subscriber
    ON CONFLICT (subscriber) DO UPDATE SET due_at = excluded.due_at
    WHERE return_folder.due_at <= clock_timestamp()
    RETURNING subscriber, failures
"""
_PASSED_OVER = """
    SELECT subscriber, mark FROM return_file
    WHERE subscriber = ANY($1) AND told_at IS NOT NULL AND seen_at > clock_timestamp() - $2::interval
"""
_PLANNED = "SELECT subscriber, maintenance FROM partner WHERE subscriber = ANY($1)"
_LOOKED = """
    UPDATE return_folder
    SET due_at = clock_timestamp() + $2::interval, cause = $3,
        failures = CASE WHEN $3::text IS NULL THEN 0 ELSE failures + 1 END,
        failing_since = CASE WHEN $3::text IS NOT NULL THEN COALESCE(failing_since, clock_timestamp()) END
    WHERE subscriber = $1
"""
_TELL = """
    UPDATE return_file SET told_at = clock_timestamp()
    WHERE subscriber = $1 AND mark = ANY($2) AND told_at IS NULL
    RETURNING mark, flaw
"""
_KEEP = """
    INSERT INTO return_file (subscriber, mark, flaw, seen_at)
    SELECT $1, mark, flaw, clock_timestamp() FROM unnest($2::bytea[], $3::text[]) AS left_there (mark, flaw)
    ON CONFLICT (subscriber, mark) DO UPDATE SET flaw = excluded.flaw, seen_at = excluded.seen_at
"""
# A number is its sender's: the senders are walked through, each by one look into the index of their numbers.
_NAMED = """
    WITH RECURSIVE senders AS (
        (SELECT sender FROM submission ORDER BY sender LIMIT 1)
        UNION ALL
        SELECT (SELECT submission.sender FROM submission WHERE submission.sender > senders.sender
                ORDER BY submission.sender LIMIT 1)
        FROM senders WHERE senders.sender IS NOT NULL
    )
    SELECT delivery.id, delivery.submission, delivery.procedure, delivery.revision, submission.external_id
    FROM senders
    JOIN submission ON submission.sender = senders.sender AND submission.external_id = ANY($2)
    JOIN delivery ON delivery.submission = submission.id
    WHERE delivery.subscriber = $1 AND delivery.kind = 'submission'
    ORDER BY delivery.revision DESC, delivery.id
"""
