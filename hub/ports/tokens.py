"""Tokens: who knocks. A token belongs to a sender, a partner or a named operator; only its hash is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from hub.domain.identity import Subscriber


class Role(StrEnum):
    """What an operator may do: read; read and replay; also approve what others ordered."""

    READER = "reader"
    OPERATOR = "operator"
    APPROVER = "approver"


@dataclass(frozen=True, slots=True)
class SenderIdentity:
    """`procedures`: those it may post."""

    sender: str
    procedures: frozenset[str]


@dataclass(frozen=True, slots=True)
class PartnerIdentity:
    subscriber: Subscriber


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    name: str
    role: Role


Identity = SenderIdentity | PartnerIdentity | OperatorIdentity


@dataclass(frozen=True, slots=True)
class TokenView:
    """`id` is public; what proves it is known to its owner alone."""

    id: str
    identity: Identity
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class Tokens(Protocol):
    async def create(self, identity: Identity, lifetime: timedelta) -> str:
        """A new token; it can never be read again."""
        ...

    async def identify(self, token: str) -> Identity | None:
        """Whose token this is; None if unknown, wrong, revoked or expired. Compared in constant time; its
        last use is noted (to the minute)."""
        ...

    async def granted(self, sender: str) -> frozenset[str] | None:
        """What this sender may post by all its tokens that are valid now; None if it has none."""
        ...

    async def list(self) -> Sequence[TokenView]: ...

    async def revoke(self, id: str) -> bool:
        """Whether there was such a token."""
        ...
