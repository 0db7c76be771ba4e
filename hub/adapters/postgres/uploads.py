"""The store's part of uploads: which files lie ready for a deposit.

Business of this file: rows of an upload that come and go together. Taking one over is part of accepting (`intake`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from hub.adapters.postgres.database import Connection, Database
from hub.ports.uploads import Upload, UploadedFile


class PostgresUploads:
    """Implements `hub.ports.uploads.Uploads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, upload: Upload) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(
                """
                INSERT INTO upload (id, number, sender, location, size, digest, wrapped)
                SELECT $1, number, $2, location, size, digest, $3
                FROM unnest($4::text[], $5::bigint[], $6::bytea[])
                  WITH ORDINALITY AS told (location, size, digest, number)
                """,
                upload.id,
                upload.sender,
                upload.wrapped_key,
                [file.location for file in upload.files],
                [file.size for file in upload.files],
                [file.digest for file in upload.files],
            )

        await self._database.once(work)

    async def find(self, sender: str, id: UUID) -> Upload | None:
        async def work(connection: Connection) -> Upload | None:
            rows = await connection.fetch(
                """
                SELECT location, size, digest, wrapped FROM upload WHERE id = $1 AND sender = $2
                ORDER BY number
                """,
                id,
                sender,
            )
            if not rows:
                return None
            files = [UploadedFile(row["location"], row["size"], row["digest"]) for row in rows]
            return Upload(id, sender, rows[0]["wrapped"], files)

        return await self._database.once(work)

    async def newest_older_than(self, age: timedelta) -> Mapping[str, datetime]:
        async def work(connection: Connection) -> Mapping[str, datetime]:
            rows = await connection.fetch(
                """
                SELECT sender, max(created_at) AS newest FROM upload
                WHERE created_at < clock_timestamp() - $1::interval GROUP BY sender ORDER BY sender
                """,
                age,
            )
            return {row["sender"]: row["newest"] for row in rows}

        return await self._database.once(work)

    async def forget(self, sender: str, until: datetime) -> int:
        async def work(connection: Connection) -> int:
            # In the order of the key, as accepting takes them.
            rows = await connection.fetch(
                """
                DELETE FROM upload USING (
                    SELECT id, number FROM upload WHERE sender = $1 AND created_at <= $2
                    ORDER BY id, number FOR UPDATE
                ) AS old
                WHERE upload.id = old.id AND upload.number = old.number
                RETURNING 1
                """,
                sender,
                until,
            )
            return len(rows)

        return await self._database.run(work)
