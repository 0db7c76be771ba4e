"""The embedded log: the log's port in tables of the store's database.

Business of this file: giving offsets so that a record becomes readable in the order of its partition, which
groups there are, and forgetting what all of them have done. Reading is in `log_reader`; what records mean is
not known here.

An append takes the rows of its partitions in `log_partition`, in the order of their numbers, gives offsets
from them, writes, and commits. Whoever appends later to the same partition waits, so whoever sees
`next_offset` sees every record below it, and no offset is ever left out.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.log_reader import PostgresLogReader, channel, lock_key
from hub.adapters.postgres.migrations import store_id
from hub.domain.errors import SettingsError
from hub.ports.log import LogReader, Record, Topic

_TRIMMED_AT_ONCE = 20_000


class PostgresLog:
    """Implements `hub.ports.log.Log`. An append is all or nothing. `partitions` is how many each topic
    has; it is fixed when a topic is first used, and another number later is refused with SettingsError."""

    def __init__(self, database: Database, partitions: int = 4) -> None:
        if partitions < 1:
            raise SettingsError("a log needs at least one partition")
        self._database = database
        self._partitions = partitions
        self._known: set[Topic] = set()

    async def append(self, topic: Topic, records: Sequence[Record]) -> None:
        if not records:
            return
        await self._fix_partitions(topic)
        placed = [(self._partition_of(record.key), record) for record in records]

        async def work(connection: Connection) -> None:
            await _append(connection, topic, placed)

        await self._database.run(work)

    @asynccontextmanager
    async def reader(self, topic: Topic, group: str) -> AsyncIterator[LogReader]:
        await self._fix_partitions(topic)
        lives = await self._introduce(topic, group)
        async with self._database.alone() as connection:
            reader = PostgresLogReader(connection, topic, group, lives)
            await reader.open()
            yield reader

    async def remove_group(self, topic: Topic, group: str) -> None:
        async def work(connection: Connection) -> None:
            await _among_groups(connection, topic)
            await connection.execute(_REMOVE, topic, group)

        await self._database.run(work)

    async def trim(self, topic: Topic) -> int:
        async def work(connection: Connection) -> int:
            await _among_groups(connection, topic)
            return _count(await connection.execute(_TRIM, topic, _TRIMMED_AT_ONCE))

        # In parts, so that one that has much to do neither runs out of time nor keeps a new group waiting.
        gone = 0
        while page := await self._database.run(work):
            gone += page
        return gone

    async def backlog(self, topic: Topic) -> dict[str, int]:
        async def work(connection: Connection) -> dict[str, int]:
            return {row["name"]: row["backlog"] for row in await connection.fetch(_BACKLOG, topic)}

        return await self._database.run(work)

    async def incarnation(self, topic: Topic) -> str:
        # Its records lie in the store, and are lost with it only.
        return await store_id(self._database)

    def _partition_of(self, key: bytes) -> int:
        return zlib.crc32(key) % self._partitions

    async def _fix_partitions(self, topic: Topic) -> None:
        if topic in self._known:
            return

        async def work(connection: Connection) -> int:
            # Two that are the first at once, with different numbers, would else make a mixture.
            await _among_groups(connection, topic)
            found: int = await connection.fetchval(_COUNT_PARTITIONS, topic)
            if not found:
                await connection.execute(_MAKE_PARTITIONS, topic, self._partitions)
            return found or self._partitions

        found = await self._database.run(work)
        if found != self._partitions:
            raise SettingsError(
                f"the log of {topic} has {found} partitions and the settings say {self._partitions}:"
                " the number of an existing topic cannot change"
            )
        self._known.add(topic)

    async def _introduce(self, topic: Topic, group: str) -> dict[int, UUID]:
        """Make the group known if it is not, so that from now on nothing is trimmed that it has not done."""

        async def work(connection: Connection) -> dict[int, UUID]:
            await _among_groups(connection, topic)
            await connection.execute(_INTRODUCE, topic, group)
            return {row["partition"]: row["life"] for row in await connection.fetch(_LIVES, topic, group)}

        return await self._database.run(work)


async def _among_groups(connection: Connection, topic: Topic) -> None:
    """Until the end of the transaction, no group of this topic comes or goes and nobody else trims."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_key(topic, "groups"))


def _count(status: str) -> int:
    """How many rows a statement touched, by the status the server answers with."""
    return int(status.rpartition(" ")[2])


# --- appending ----------------------------------------------------------------------------------------


async def _append(connection: Connection, topic: Topic, placed: Sequence[tuple[int, Record]]) -> None:
    counts = Counter(partition for partition, _ in placed)
    rows = await connection.fetch(_TAKE_PARTITIONS, topic, list(counts))
    next_offset: dict[int, int] = {row["partition"]: row["next_offset"] for row in rows}
    lines = []
    for partition, record in placed:
        offset = next_offset[partition]
        next_offset[partition] = offset + 1
        lines.append((topic, partition, offset, record.key, record.schema, record.value))
    await connection.copy_records_to_table("log_record", records=lines, columns=_COLUMNS)
    await connection.execute(
        _GIVE_OFFSETS, topic, list(next_offset), list(next_offset.values()), channel(topic)
    )


_COLUMNS = ("topic", "partition", "offset", "key", "schema", "value")

_TAKE_PARTITIONS = """
    SELECT partition, next_offset FROM log_partition
    WHERE topic = $1 AND partition = ANY($2::integer[])
    ORDER BY partition
    FOR UPDATE
"""

_GIVE_OFFSETS = """
    WITH moved AS (
        UPDATE log_partition SET next_offset = given.next_offset
        FROM unnest($2::integer[], $3::bigint[]) AS given (partition, next_offset)
        WHERE log_partition.topic = $1 AND log_partition.partition = given.partition
    )
    SELECT pg_notify($4, '')
"""

_COUNT_PARTITIONS = "SELECT count(*) FROM log_partition WHERE topic = $1"

_MAKE_PARTITIONS = """
    INSERT INTO log_partition (topic, partition) SELECT $1, generate_series(0, $2::integer - 1)
"""

# --- groups -------------------------------------------------------------------------------------------

_INTRODUCE = """
    INSERT INTO log_group (topic, name, partition, done)
    SELECT topic, $2, partition, COALESCE(
        (SELECT min("offset") FROM log_record
         WHERE log_record.topic = $1 AND log_record.partition = log_partition.partition),
        next_offset
    )
    FROM log_partition WHERE topic = $1
    ON CONFLICT DO NOTHING
"""

_LIVES = "SELECT partition, life FROM log_group WHERE topic = $1 AND name = $2"

# In the order in which a reader takes these rows.
_REMOVE = """
    WITH taken AS MATERIALIZED (
        SELECT partition FROM log_group WHERE topic = $1 AND name = $2 ORDER BY partition FOR UPDATE
    )
    DELETE FROM log_group USING taken
    WHERE log_group.topic = $1 AND log_group.name = $2 AND log_group.partition = taken.partition
"""

# Offsets have no gaps, so a range of them is a number of records.
_TRIM = """
    WITH finished AS MATERIALIZED (
        SELECT partition, min(done) AS done FROM log_group WHERE topic = $1 GROUP BY partition
    ), part AS MATERIALIZED (
        SELECT finished.partition, LEAST(finished.done, earliest."offset" + $2) AS until
        FROM finished CROSS JOIN LATERAL (
            SELECT min("offset") AS "offset" FROM log_record
            WHERE log_record.topic = $1 AND log_record.partition = finished.partition
        ) AS earliest
        WHERE earliest."offset" < finished.done
    )
    DELETE FROM log_record USING part
    WHERE log_record.topic = $1 AND log_record.partition = part.partition AND log_record."offset" < part.until
"""

_BACKLOG = """
    SELECT name, sum(next_offset - done)::bigint AS backlog
    FROM log_group JOIN log_partition USING (topic, partition)
    WHERE topic = $1
    GROUP BY name
    ORDER BY name
"""
