"""Tokens in the store: `hub_<id>_<secret>`, of which only the secret's hash is kept.

Business of this file: making tokens and telling whose one is, at the same cost whether it is known or not.
What its owner may do is not decided here. A secret is 32 random bytes: nothing slower than SHA-256 is
needed to protect its hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import assert_never

import asyncpg

from hub.adapters.postgres.database import Connection, Database
from hub.domain.identity import Subscriber
from hub.ports.tokens import (
    Identity,
    OperatorIdentity,
    PartnerIdentity,
    Role,
    SenderIdentity,
    TokenView,
)

_ID = re.compile(r"[0-9a-f]{12}")
_TOKEN = re.compile(r"hub_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = bytes(32)
"""The hash that an unknown token is compared with, so that its refusal takes as long as another's."""


class PostgresTokens:
    """Implements `hub.ports.tokens.Tokens`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, identity: Identity, lifetime: timedelta) -> str:
        id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        kind, owner, procedures, role = _columns(identity)

        async def work(connection: Connection) -> None:
            await connection.execute(
                """
                INSERT INTO token (id, hash, kind, owner, procedures, role, expires_at)
                VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7::interval)
                """,
                id,
                _hash(secret),
                kind,
                owner,
                procedures,
                role,
                lifetime,
            )

        await self._database.run(work)
        return f"hub_{id}_{secret}"

    async def identify(self, token: str) -> Identity | None:
        """What does not have a token's shape is nobody's, and no statement is made of it."""
        shape = _TOKEN.fullmatch(token)
        if shape is None:
            return None
        id, secret = shape.groups()

        # Two statements when its use is news; nothing hangs on their being one transaction.
        async def work(connection: Connection) -> Identity | None:
            row = await connection.fetchrow(_IDENTIFY, id)
            right = hmac.compare_digest(_hash(secret), _NOBODY if row is None else row["hash"])
            if row is None or not right or not row["valid"]:
                return None
            if row["use_is_news"]:
                await connection.execute(_NOTE_USE, id)
            return _identity(row)

        return await self._database.once(work)

    async def granted(self, sender: str) -> frozenset[str] | None:
        async def work(connection: Connection) -> frozenset[str] | None:
            rows = await connection.fetch(
                """
                SELECT procedures FROM token WHERE kind = 'sender' AND owner = $1
                  AND revoked_at IS NULL AND expires_at > clock_timestamp()
                """,
                sender,
            )
            return frozenset(code for row in rows for code in row["procedures"]) if rows else None

        return await self._database.once(work)

    async def list(self) -> Sequence[TokenView]:
        async def work(connection: Connection) -> Sequence[TokenView]:
            rows = await connection.fetch(
                """
                SELECT id, kind, owner, procedures, role, created_at, expires_at, last_used_at, revoked_at
                FROM token ORDER BY created_at, id
                """
            )
            return [_view(row) for row in rows]

        return await self._database.once(work)

    async def revoke(self, id: str) -> bool:
        if _ID.fullmatch(id) is None:
            return False

        async def work(connection: Connection) -> bool:
            return bool(
                await connection.fetchval(
                    """
                    UPDATE token SET revoked_at = COALESCE(revoked_at, clock_timestamp()) WHERE id = $1
                    RETURNING true
                    """,
                    id,
                )
            )

        return await self._database.once(work)


def public_id(token: str) -> str:
    """Of a token that has the shape of one."""
    shape = _TOKEN.fullmatch(token)
    assert shape is not None
    return shape[1]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


_IDENTIFY = """
    SELECT hash, kind, owner, procedures, role,
           revoked_at IS NULL AND expires_at > clock_timestamp() AS valid,
           last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute' AS use_is_news
    FROM token WHERE id = $1
"""

# The condition again, for those who saw the same old time at once: one of them writes.
_NOTE_USE = """
    UPDATE token SET last_used_at = clock_timestamp()
    WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
"""


def _columns(identity: Identity) -> tuple[str, str, Sequence[str], str | None]:
    match identity:
        case SenderIdentity(sender=sender, procedures=procedures):
            return "sender", sender, sorted(procedures), None
        case PartnerIdentity(subscriber=subscriber):
            return "partner", str(subscriber), (), None
        case OperatorIdentity(name=name, role=role):
            return "operator", name, (), role
        case _:
            assert_never(identity)


def _identity(row: asyncpg.Record) -> Identity:
    match row["kind"]:
        case "sender":
            return SenderIdentity(row["owner"], frozenset(row["procedures"]))
        case "partner":
            return PartnerIdentity(Subscriber.parse(row["owner"]))
        case "operator":
            return OperatorIdentity(row["owner"], Role(row["role"]))
        case kind:
            raise AssertionError(f"the table allows no token of kind {kind}")


def _view(row: asyncpg.Record) -> TokenView:
    return TokenView(
        id=row["id"],
        identity=_identity(row),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )
