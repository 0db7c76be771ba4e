"""What the store knows of partners: name, channel, settings, sealed secrets, and their running number.

Business of this file: keeping what the operator declared. Sealing and opening secrets is not here, nor is
moving what already waits in a lane to another channel: a partner whose channel changes keeps its lanes for
the rows that are in them, and what is registered from then on goes to the new one.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.rows import texts
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner
from hub.ports.store import KeptPartner

_COLUMNS = "subscriber, name, channel, settings, secrets, secrets_key"


class PostgresPartners:
    """Implements `hub.ports.store.Partners`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, partners: Sequence[KeptPartner]) -> None:
        ordered = sorted(partners, key=lambda kept: str(kept[0].subscriber))

        async def work(connection: Connection) -> None:
            await connection.execute(
                """
                INSERT INTO partner (subscriber, name, channel, settings, secrets, secrets_key)
                SELECT subscriber, name, channel, settings::jsonb, secrets, secrets_key
                FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[])
                  AS kept (subscriber, name, channel, settings, secrets, secrets_key)
                ON CONFLICT (subscriber) DO UPDATE
                SET name = excluded.name, channel = excluded.channel, settings = excluded.settings,
                    secrets = excluded.secrets, secrets_key = excluded.secrets_key
                """,
                [str(partner.subscriber) for partner, _, _ in ordered],
                [partner.name for partner, _, _ in ordered],
                [partner.endpoint.channel for partner, _, _ in ordered],
                texts(dict(partner.endpoint.settings) for partner, _, _ in ordered),
                [secrets for _, secrets, _ in ordered],
                [key for _, _, key in ordered],
            )

        await self._database.run(work)

    async def get(self, subscriber: Subscriber) -> KeptPartner | None:
        async def work(connection: Connection) -> KeptPartner | None:
            row = await connection.fetchrow(
                f"SELECT {_COLUMNS} FROM partner WHERE subscriber = $1", str(subscriber)
            )
            return None if row is None else _kept(row)

        return await self._database.once(work)

    async def list(self) -> Sequence[KeptPartner]:
        async def work(connection: Connection) -> Sequence[KeptPartner]:
            rows = await connection.fetch(f"SELECT {_COLUMNS} FROM partner ORDER BY subscriber")
            return [_kept(row) for row in rows]

        return await self._database.once(work)


def _kept(row: asyncpg.Record) -> KeptPartner:
    endpoint = Endpoint(row["channel"], row["settings"])
    partner = Partner(Subscriber.parse(row["subscriber"]), row["name"], endpoint)
    return partner, row["secrets"], row["secrets_key"]
