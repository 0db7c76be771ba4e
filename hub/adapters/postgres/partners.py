"""What the store knows of partners: name, channel, settings, sealed secrets, pace, and their running number.

Business of this file: keeping what the operator declared, and what that does to lanes, in the same transaction.
A partner that is served on another channel leaves the lane of the one before (but never its mailbox's); another
endpoint opens what was closed. Sealing and opening secrets is not here, nor is moving what waits in a lane.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import asyncpg

from hub.adapters.postgres.database import Connection, Database, to_json
from hub.adapters.postgres.rows import texts
from hub.adapters.postgres.turning import lock_turning, turn
from hub.domain.errors import Superseded
from hub.domain.identity import Subscriber
from hub.domain.pace import pace_to_json, read_pace
from hub.domain.partner import Endpoint, Partner
from hub.ports.partners import KeptPartner

_COLUMNS = "subscriber, name, channel, settings, secrets, secrets_key, vendor, pace, sender"


class PostgresPartners:
    """Implements `hub.ports.partners.Partners`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, partners: Sequence[KeptPartner]) -> None:
        async def work(connection: Connection) -> None:
            turns = await lock_turning(connection, partners)
            await _write(connection, partners)
            await turn(connection, turns)

        await self._database.run(work)

    async def replace(self, changes: Sequence[tuple[KeptPartner | None, KeptPartner]]) -> None:
        seen = {
            str(partner.subscriber): None if before is None else before for before, (partner, _, _) in changes
        }

        async def work(connection: Connection) -> None:
            turns = await lock_turning(connection, [after for _, after in changes])
            # Locked until the end: nobody changes one of them between this look and the writing.
            rows = await connection.fetch(
                f"SELECT {_COLUMNS} FROM partner WHERE subscriber = ANY($1) ORDER BY subscriber FOR UPDATE",
                list(seen),
            )
            there = {row["subscriber"]: _kept(row) for row in rows}
            if any(there.get(subscriber) != before for subscriber, before in seen.items()):
                raise Superseded("a partner was changed meanwhile: look again")
            # One that is not there cannot be locked: if it comes now, its row is not overwritten.
            came = await _write(connection, [after for before, after in changes if before is None], new=True)
            if came:
                raise Superseded("a partner was declared meanwhile: look again")
            await _write(connection, [after for before, after in changes if before is not None])
            await turn(connection, turns)

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

    async def having(self, settings: Collection[str]) -> Sequence[tuple[Subscriber, Endpoint]]:
        async def work(connection: Connection) -> Sequence[tuple[Subscriber, Endpoint]]:
            rows = await connection.fetch(
                "SELECT subscriber, channel, settings FROM partner WHERE settings ?| $1 ORDER BY subscriber",
                list(settings),
            )
            return [
                (Subscriber.parse(row["subscriber"]), Endpoint(row["channel"], row["settings"]))
                for row in rows
            ]

        return await self._database.once(work)


async def _write(connection: Connection, partners: Sequence[KeptPartner], *, new: bool = False) -> int:
    """`new`: only those that are not there. How many were left as they are."""
    ordered = sorted(partners, key=lambda kept: str(kept[0].subscriber))
    written = await connection.fetchval(
        f"""
        WITH written AS (
            INSERT INTO partner ({_COLUMNS})
            SELECT subscriber, name, channel, settings::jsonb, secrets, secrets_key, vendor, pace::jsonb, sender
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[],
                        $7::text[], $8::text[], $9::text[])
              AS kept ({_COLUMNS})
            ON CONFLICT (subscriber) {"DO NOTHING" if new else _OVERWRITE}
            RETURNING 1)
        SELECT count(*) FROM written
        """,
        [str(partner.subscriber) for partner, _, _ in ordered],
        [partner.name for partner, _, _ in ordered],
        [partner.endpoint.channel for partner, _, _ in ordered],
        texts(dict(partner.endpoint.settings) for partner, _, _ in ordered),
        [secrets for _, secrets, _ in ordered],
        [key for _, _, key in ordered],
        [partner.vendor for partner, _, _ in ordered],
        [None if partner.pace is None else to_json(pace_to_json(partner.pace)) for partner, _, _ in ordered],
        [partner.sender for partner, _, _ in ordered],
    )
    return len(ordered) - int(written)


# A row that would stay as it is is not written again: its lanes and its number wait for nobody.
_OVERWRITE = """DO UPDATE
SET name = excluded.name, channel = excluded.channel, settings = excluded.settings,
    secrets = excluded.secrets, secrets_key = excluded.secrets_key, vendor = excluded.vendor,
    pace = excluded.pace, sender = excluded.sender
WHERE (partner.name, partner.channel, partner.settings, partner.secrets, partner.secrets_key, partner.vendor,
       partner.pace, partner.sender)
   IS DISTINCT FROM
      (excluded.name, excluded.channel, excluded.settings, excluded.secrets, excluded.secrets_key,
       excluded.vendor, excluded.pace, excluded.sender)"""


def _kept(row: asyncpg.Record) -> KeptPartner:
    endpoint = Endpoint(row["channel"], row["settings"])
    pace = None if row["pace"] is None else read_pace(row["pace"])
    partner = Partner(
        Subscriber.parse(row["subscriber"]), row["name"], endpoint, row["vendor"], pace, row["sender"]
    )
    return partner, row["secrets"], row["secrets_key"]
