"""The store's part of intake: accepting submissions, and saying which files they name.

Business of this file: that a submission is durable as a whole or not at all, and that a name belongs for
ever to the content it was first accepted with. It opens nothing that is sealed.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import JournalEntry, attachments_to_json, texts, write_journal
from hub.adapters.postgres.slips import count_accepted
from hub.domain.errors import HubError, Unavailable
from hub.domain.submission import Acceptance, Accepted, Conflict, Submission


class PostgresIntake:
    """Implements `hub.ports.intake.Intake`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accept(self, batch: Sequence[Submission]) -> Sequence[Acceptance]:
        if not batch:
            return []
        # Two batches with the same names wait for each other in one direction only.
        ordered = sorted(batch, key=lambda submission: submission.id)

        async def work(connection: Connection) -> Sequence[Acceptance]:
            fresh = await _insert(connection, ordered)
            await _insert_belongings(connection, [one for one in ordered if one.id in fresh], fresh)
            there = await _what_is_there(connection, [one.id for one in ordered if one.id not in fresh])
            return [_answer(submission, fresh, there) for submission in batch]

        return await self._database.run(work)

    async def recognise(self, id: UUID, digest: bytes) -> Acceptance | None:
        async def work(connection: Connection) -> Acceptance | None:
            there = await _what_is_there(connection, [id])
            return _compared(id, digest, there[id]) if there else None

        return await self._database.once(work)

    async def any_accepted(self) -> bool:
        """Whether anything ever was."""

        async def work(connection: Connection) -> bool:
            found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM submission)")
            return found

        return await self._database.once(work)

    async def named(self, locations: Sequence[str]) -> set[str]:
        async def work(connection: Connection) -> set[str]:
            rows = await connection.fetch(
                # In one statement: what is taken over meanwhile is seen in one of the two.
                """
                SELECT location FROM stored_file WHERE location = ANY($1::text[])
                UNION ALL SELECT location FROM upload WHERE location = ANY($1::text[])
                """,
                list(locations),
            )
            return {row["location"] for row in rows}

        return await self._database.once(work)


def _answer(
    submission: Submission, fresh: dict[UUID, datetime], there: dict[UUID, tuple[bytes, datetime]]
) -> Acceptance:
    if submission.id in fresh:
        return Accepted(submission.id, fresh[submission.id], fresh=True)
    if submission.id not in there:
        raise HubError("a sender's name for a submission is taken under another id")
    return _compared(submission.id, submission.digest, there[submission.id])


def _compared(id: UUID, digest: bytes, there: tuple[bytes, datetime]) -> Acceptance:
    known, received_at = there
    if hmac.compare_digest(known, digest):
        return Accepted(id, received_at, fresh=False)
    return Conflict(id)


async def _insert(connection: Connection, ordered: Sequence[Submission]) -> dict[UUID, datetime]:
    """The receipt time of those that were not there. A name somebody else is accepting right now is waited
    for: once this returns, what stood in the way is committed."""
    # No conflict target on purpose: with one, a race for a name shows as a violation of the other
    # unique constraint (sender, external_id) instead of as a row that is there.
    rows = await connection.fetch(
        """
        INSERT INTO submission (id, sender, external_id, procedure, facts, digest, sealed, attachments)
        SELECT id, sender, external_id, procedure, facts::jsonb, digest, sealed, attachments::jsonb
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[],
                    $8::text[])
          AS offered (id, sender, external_id, procedure, facts, digest, sealed, attachments)
        ON CONFLICT DO NOTHING
        RETURNING id, received_at
        """,
        [one.id for one in ordered],
        [one.sender for one in ordered],
        [one.external_id for one in ordered],
        [one.procedure for one in ordered],
        texts(dict(one.facts) for one in ordered),
        [one.digest for one in ordered],
        [one.sealed for one in ordered],
        texts(attachments_to_json(one.attachments) for one in ordered),
    )
    return {row["id"]: row["received_at"] for row in rows}


async def _insert_belongings(
    connection: Connection, fresh: Sequence[Submission], received: Mapping[UUID, datetime]
) -> None:
    """Key, files, letter, journal line and account of what was inserted just now, and of nothing else."""
    if not fresh:
        return
    # First: of two that name one upload, the second finds it gone, not its files' names taken.
    await _take_over(connection, [one.upload for one in fresh if one.upload is not None])
    files = [(file.location, one.id) for one in fresh for file in one.attachments]
    await connection.execute(
        """
        WITH key AS (
            INSERT INTO submission_key (submission, wrapped) SELECT * FROM unnest($1::uuid[], $2::bytea[])
        ), file AS (
            INSERT INTO stored_file (location, submission) SELECT * FROM unnest($3::text[], $4::uuid[])
        )
        INSERT INTO tray (submission) SELECT * FROM unnest($1::uuid[])
        """,
        [one.id for one in fresh],
        [one.wrapped_key for one in fresh],
        [location for location, _ in files],
        [owner for _, owner in files],
    )
    await write_journal(
        connection,
        [JournalEntry("submission.received", one.id, actor=f"sender:{one.sender}") for one in fresh],
    )
    await count_accepted(connection, [(one.id, received[one.id], one.procedure) for one in fresh])
    await connection.execute("NOTIFY tray")


async def _take_over(connection: Connection, uploads: Sequence[UUID]) -> None:
    """Their rows go in the transaction that names their files. Raises Unavailable for one that is gone, whose
    files may be gone as well."""
    if not uploads:
        return
    rows = await connection.fetch(
        """
        DELETE FROM upload USING (
            SELECT id, number FROM upload WHERE id = ANY($1::uuid[]) ORDER BY id, number FOR UPDATE
        ) AS mine
        WHERE upload.id = mine.id AND upload.number = mine.number
        RETURNING upload.id
        """,
        list(uploads),
    )
    if {row["id"] for row in rows} != set(uploads) or len(set(uploads)) != len(uploads):
        raise Unavailable("an upload was taken over or forgotten meanwhile")


async def _what_is_there(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, tuple[bytes, datetime]]:
    """Digest and receipt time of what was accepted before. A statement of its own, after the insertion:
    only then does it see what the other transaction committed while this one waited for it."""
    if not ids:
        return {}
    rows = await connection.fetch(
        "SELECT id, digest, received_at FROM submission WHERE id = ANY($1::uuid[])", list(ids)
    )
    return {row["id"]: (row["digest"], row["received_at"]) for row in rows}
