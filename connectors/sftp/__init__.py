"""The SFTP channel: parcels placed in a partner's directory, each appearing whole, and acknowledgements read from its
return folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import TypeVar

from connectors.layouts import folder_name
from connectors.parcels import each
from connectors.sftp import returning
from connectors.sftp.algorithms import CIPHERS
from connectors.sftp.fields import FIELDS
from connectors.sftp.judging import FAULTS, is_answer, judge
from connectors.sftp.placing import Visit
from connectors.sftp.sessions import KEPT, Session, Sessions
from connectors.sftp.settings import Target, read
from connectors.targets import Targets
from connectors.trials import sftp as trials
from hub.domain.delivery import About, Deferred, Outcome, Refused
from hub.domain.fields import Field
from hub.domain.partner import Endpoint
from hub.domain.trials import Step
from hub.ports.connector import Connector, Parcel, Surroundings
from hub.ports.returns import WHOLE, DocumentAway, FoundFile, SeenFile

__all__ = ["CIPHERS", "FIELDS", "SftpConnector", "connector", "folder_name", "judge"]

AT_ONCE = 4
"""Parcels under way on one connection: enough to hide the round trips, gentle to a small server."""

_SETTINGS = Refused("sftp.settings", About.ENDPOINT)

T = TypeVar("T")


def connector(surroundings: Surroundings) -> Connector:
    return SftpConnector(surroundings)


class SftpConnector:
    """Also a `hub.ports.returns.Returns`. `kept`: seconds that an idle connection is kept."""

    def __init__(self, surroundings: Surroundings, kept: float = KEPT) -> None:
        self._outgoing = surroundings.outgoing
        self._sessions = Sessions(surroundings.outgoing, kept)
        self._targets = Targets(lambda endpoint: read(endpoint)[0])

    @property
    def channel(self) -> str:
        return "sftp"

    @property
    def fields(self) -> Sequence[Field]:
        return FIELDS

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return read(endpoint)[1]

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        target = self._targets.of(endpoint)
        if target is None:
            return [_SETTINGS for _ in parcels]
        try:
            session = await self._sessions.enter(endpoint, target, limit)
        except FAULTS as fault:
            return [judge(fault) for _ in parcels]
        visit = Visit(session, target)
        try:
            await visit.prepare(parcels)
            outcomes = await each(parcels, AT_ONCE, visit.deliver)
        except BaseException:
            session.abort()
            raise
        self._sessions.give_back(endpoint, session)
        return outcomes

    async def try_out(self, endpoint: Endpoint, limit: float, send: bool) -> Sequence[Step]:
        target = self._targets.of(endpoint)
        assert target is not None
        return await trials.try_out(endpoint, target, self._sessions, self._outgoing, limit)

    # --- the way back ---

    async def collect(
        self, endpoint: Endpoint, limit: float, most: int, passed: Collection[bytes] = ()
    ) -> Sequence[FoundFile] | Deferred | Refused:
        async def asked(session: Session, target: Target, until: float) -> Sequence[FoundFile]:
            return await returning.collect(session, target, most, passed, until)

        return await self._ask(endpoint, limit, asked)

    async def read(self, endpoint: Endpoint, document: SeenFile, limit: float) -> AsyncIterator[bytes]:
        target = self._targets.of(endpoint)
        if target is None:
            raise DocumentAway(_SETTINGS.cause)
        try:
            session = await self._sessions.enter(endpoint, target, limit)
        except FAULTS as fault:
            raise DocumentAway(judge(fault).cause) from None
        try:
            async with aclosing(returning.read(session, target, document)) as given:
                async for piece in given:
                    yield piece
        except FAULTS as fault:
            if not is_answer(fault):
                session.abort()
            raise DocumentAway(judge(fault).cause) from None
        except DocumentAway:
            raise
        except BaseException:
            session.abort()
            raise
        finally:
            self._sessions.give_back(endpoint, session)

    async def done(
        self, endpoint: Endpoint, files: Sequence[SeenFile], limit: float
    ) -> Deferred | Refused | None:
        async def asked(session: Session, target: Target, until: float) -> None:
            await returning.take_away(session, target, files, until)

        return await self._ask(endpoint, limit, asked)

    async def _ask(
        self,
        endpoint: Endpoint,
        limit: float,
        asked: Callable[[Session, Target, float], Awaitable[T]],
    ) -> T | Deferred | Refused:
        """A fault of the server is an outcome; the connection is kept if it is still good. What is asked ends by a time
        of the loop."""
        target = self._targets.of(endpoint)
        if target is None:
            return _SETTINGS
        until = asyncio.get_running_loop().time() + WHOLE * limit
        try:
            async with asyncio.timeout_at(until):
                session = await self._sessions.enter(endpoint, target, limit)
        except FAULTS as fault:
            return judge(fault)
        try:
            answer = await asked(session, target, until)
        except FAULTS as fault:
            outcome = judge(fault)
            if not is_answer(fault) and not isinstance(fault, NotADirectoryError):
                session.abort()
            self._sessions.give_back(endpoint, session)
            return outcome
        except BaseException:
            session.abort()
            raise
        self._sessions.give_back(endpoint, session)
        return answer

    async def close(self) -> None:
        await self._sessions.close()
