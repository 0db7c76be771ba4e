"""Sessions of agents' browsers in the store: of each secret only the hash, beside the token it was begun with.

Business of this file: beginning, resuming and ending them, and forgetting those that have ended. A secret is 32
random bytes, so its hash needs no salt.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.tokens import PostgresTokens, public_id
from hub.domain.identity import Subscriber
from hub.ports.sessions import IDLE, LONGEST, Visitor
from hub.ports.tokens import PartnerIdentity

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")

_MOST = 20
"""Sessions of one token; the next one ends the oldest."""

_FORGOTTEN_AT_ONCE = 100


class PostgresSessions:
    """Implements `hub.ports.sessions.Sessions`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tokens = PostgresTokens(database)

    async def begin(self, token: str) -> str | None:
        identity = await self._tokens.identify(token)
        if not isinstance(identity, PartnerIdentity):
            return None
        secret = secrets.token_urlsafe(32)

        async def work(connection: Connection) -> None:
            id = public_id(token)
            # Two who begin at once are both kept: what is too much, the next one ends.
            await connection.execute(_END_OLDEST, id, _MOST - 1)
            await connection.execute(_FORGET, IDLE, _FORGOTTEN_AT_ONCE)
            await connection.execute(
                "INSERT INTO page_session (hash, token) VALUES ($1, $2)", _hash(secret), id
            )

        await self._database.run(work)
        return secret

    async def resume(self, secret: str) -> Visitor | None:
        if _SECRET.fullmatch(secret) is None:
            return None

        # Two statements when its use is news; nothing hangs on their being one transaction.
        async def work(connection: Connection) -> Visitor | None:
            row = await connection.fetchrow(_RESUME, _hash(secret), IDLE, LONGEST)
            if row is None:
                return None
            if row["use_is_news"]:
                await connection.execute(_NOTE_USE, _hash(secret))
            return Visitor(Subscriber.parse(row["owner"]), row["name"])

        return await self._database.once(work)

    async def end(self, secret: str) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute("DELETE FROM page_session WHERE hash = $1", _hash(secret))

        await self._database.once(work)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


_RESUME = """
    SELECT token.owner, COALESCE(partner.name, token.owner) AS name,
           used_at < clock_timestamp() - interval '1 minute' AS use_is_news
    FROM page_session
    JOIN token ON token.id = page_session.token AND token.kind = 'partner'
      AND token.revoked_at IS NULL AND token.expires_at > clock_timestamp()
    LEFT JOIN partner ON partner.subscriber = token.owner
    WHERE page_session.hash = $1 AND used_at > clock_timestamp() - $2::interval
      AND begun_at > clock_timestamp() - $3::interval
"""

_NOTE_USE = "UPDATE page_session SET used_at = clock_timestamp() WHERE hash = $1"

_END_OLDEST = """
    DELETE FROM page_session WHERE hash IN (
        SELECT hash FROM page_session WHERE token = $1 ORDER BY begun_at DESC, hash OFFSET $2
    )
"""

_FORGET = """
    DELETE FROM page_session WHERE hash IN (
        SELECT hash FROM page_session WHERE used_at < clock_timestamp() - $1::interval
        ORDER BY used_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )
"""
