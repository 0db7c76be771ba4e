"""Access: whose token this is, and what it opens.

No token, a wrong one and an expired one get one and the same answer. What belongs to somebody else is
answered exactly as what does not exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hub.entrypoints.http.problems import Problem
from hub.entrypoints.http.rooms import InDoor, InRooms
from hub.ports.tokens import Identity, OperatorIdentity, PartnerIdentity, Role, SenderIdentity

_LONGEST_TOKEN = 512

_BEARER = HTTPBearer(
    scheme_name="token",
    description="A token of a sender, a partner or an operator, as `hub` gave it.",
    auto_error=False,
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]


async def identity_of(rooms: InRooms, credentials: Credentials) -> Identity:
    """Raises Problem 401."""
    if credentials is None or not 0 < len(credentials.credentials) <= _LONGEST_TOKEN:
        raise unknown()
    identity = await rooms.tokens.identify(credentials.credentials)
    if identity is None:
        raise unknown()
    return identity


def unknown() -> Problem:
    return Problem(
        401, "unauthorized", "a valid token is needed", headers={"WWW-Authenticate": 'Bearer realm="hub"'}
    )


Knocking = Annotated[Identity, Depends(identity_of)]


async def a_sender(identity: Knocking) -> SenderIdentity:
    if not isinstance(identity, SenderIdentity):
        raise _forbidden("only a sender's token opens this")
    return identity


async def a_partner(identity: Knocking) -> PartnerIdentity:
    if not isinstance(identity, PartnerIdentity):
        raise _forbidden("only a partner's token opens this")
    return identity


async def an_operator(identity: Knocking) -> OperatorIdentity:
    if not isinstance(identity, OperatorIdentity):
        raise _forbidden("only an operator's token opens this")
    return identity


async def one_who_replays(operator: Annotated[OperatorIdentity, Depends(an_operator)]) -> OperatorIdentity:
    if operator.role is Role.READER:
        raise _forbidden("this operator may read only")
    return operator


async def one_who_approves(operator: Annotated[OperatorIdentity, Depends(an_operator)]) -> OperatorIdentity:
    if operator.role is not Role.APPROVER:
        raise _forbidden("this operator may not approve what others ordered")
    return operator


async def one_who_posts(
    door: InDoor, sender: Annotated[SenderIdentity, Depends(a_sender)]
) -> AsyncIterator[SenderIdentity]:
    """A sender within its limits; its post is counted until its answer is sent. Raises Problem 429."""
    door.turnstile.enter(sender.sender)
    try:
        yield sender
    finally:
        door.turnstile.leave(sender.sender)


async def one_who_reports(
    door: InDoor, partner: Annotated[PartnerIdentity, Depends(a_partner)]
) -> AsyncIterator[PartnerIdentity]:
    """The same for a partner that posts."""
    name = f"partner {partner.subscriber}"
    door.turnstile.enter(name)
    try:
        yield partner
    finally:
        door.turnstile.leave(name)


Partner = Annotated[PartnerIdentity, Depends(a_partner)]
Sender = Annotated[SenderIdentity, Depends(a_sender)]
Operator = Annotated[OperatorIdentity, Depends(an_operator)]
Replayer = Annotated[OperatorIdentity, Depends(one_who_replays)]
Approver = Annotated[OperatorIdentity, Depends(one_who_approves)]
Poster = Annotated[SenderIdentity, Depends(one_who_posts)]
Reporter = Annotated[PartnerIdentity, Depends(one_who_reports)]


def _forbidden(detail: str) -> Problem:
    return Problem(403, "forbidden", detail)
