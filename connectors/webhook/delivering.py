"""Requests: one for each parcel, over kept connections that the hub's guard opened."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import aiohttp

from connectors.outgoing import guarded
from connectors.parcels import SLOWEST, each
from connectors.targets import Targets
from connectors.trials import webhook as trials
from connectors.webhook.authorising import NoToken, Tokens
from connectors.webhook.judging import judge, wait_of
from connectors.webhook.message import body, weight, with_contents
from connectors.webhook.settings import FIELDS, Target, read
from connectors.webhook.signing import headers
from connectors.webhook.trust import Contexts
from hub.domain.delivery import About, Deferred, Outcome, Refused
from hub.domain.fields import Field
from hub.domain.partner import Endpoint
from hub.domain.trials import Step
from hub.ports.connector import Connector, Parcel, Surroundings

AT_ONCE = 8
"""Requests under way to one partner."""
APIECE = 4
"""Requests that go one after the other over one connection, before another one is opened."""
ANSWER = 64 * 1024
"""Bytes of an answer that are read, only to use the connection again."""
EVIDENCE = 4 * 1024
"""Bytes of it that are kept."""

_KEPT_OPEN = 4.0
"""Seconds: shorter than common servers keep an idle connection, so that ours is not cut as we use it."""
_DRAINING = 1.0
_AT_ONCE_BYTES = 8_000_000
"""Of files that go along, to one partner."""
_IN_HAND = 64 * 1024 * 1024
"""Of all partners, of files that go along; a message takes four times as much memory."""
_UNAUTHORIZED = Refused("webhook.http_401", About.ENDPOINT)


def connector(surroundings: Surroundings) -> Connector:
    return WebhookConnector(surroundings)


class WebhookConnector:
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._session: aiohttp.ClientSession | None = None
        self._targets = Targets(lambda endpoint: read(endpoint)[0])
        self._contexts = Contexts()
        self._tokens = Tokens(self._open, self._contexts, surroundings.now)
        self._weights = _Weights(_IN_HAND)

    @property
    def channel(self) -> str:
        return "webhook"

    @property
    def fields(self) -> Sequence[Field]:
        return FIELDS

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return read(endpoint)[1]

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        target = self._targets.of(endpoint)
        if target is None:
            return [Refused("webhook.settings", About.ENDPOINT) for _ in parcels]
        try:
            trust = True if target.trust is None else await self._contexts.of(target.trust)
        except (ssl.SSLError, ValueError):
            # Imported by a hub whose TLS took them.
            return [Refused("webhook.settings", About.ENDPOINT) for _ in parcels]
        visit = _Visit(
            self._open(),
            target,
            trust,
            self._surroundings,
            self._tokens,
            self._weights,
            limit,
            aiohttp.ClientTimeout(total=limit),
        )
        at_once = AT_ONCE
        if target.most_content:
            at_once = max(1, min(AT_ONCE, _AT_ONCE_BYTES // target.most_content))
        return await each(parcels, at_once, visit.deliver, APIECE)

    async def try_out(self, endpoint: Endpoint, limit: float, send: bool) -> Sequence[Step]:
        target = self._targets.of(endpoint)
        assert target is not None
        trust = True if target.trust is None else await self._contexts.of(target.trust)
        told = self._surroundings
        return await trials.try_out(
            target, trust, self._open, self._tokens, told.outgoing, told.now(), limit, send=send
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=guarded(self._surroundings.outgoing, _KEPT_OPEN),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                # What was packed to become a thousand times as long stays packed.
                auto_decompress=False,
                headers={"User-Agent": "aiguillage"},
            )
        return self._session

    async def close(self) -> None:
        await self._tokens.close()
        if self._session is not None:
            await self._session.close()


@dataclass(slots=True)
class _Weights:
    """Bytes of files that are in memory to go along."""

    most: int
    held: int = 0

    def take(self, weight: int) -> bool:
        if self.held + weight > self.most:
            return False
        self.held += weight
        return True

    def give(self, weight: int) -> None:
        self.held -= weight


@dataclass(slots=True)
class _Visit:
    """A page of parcels for one partner. Once its server proved away or silent, whatever is still to do
    shares that outcome: nobody waits for it one parcel after the other."""

    session: aiohttp.ClientSession
    target: Target
    trust: ssl.SSLContext | bool
    surroundings: Surroundings
    tokens: Tokens
    weights: _Weights
    limit: float
    patience: aiohttp.ClientTimeout
    away: Outcome | None = None

    async def deliver(self, parcel: Parcel) -> Outcome:
        if self.away is not None:
            return self.away
        links = [self.surroundings.link(parcel, file.number) for file in parcel.files]
        most = self.target.most_content
        if most == 0 or (heavy := weight(parcel, most)) == 0:
            return await self._deliver(parcel, body(parcel, links), self.patience)
        if not self.weights.take(heavy):
            # Not waited for: a partner that hangs would hold up the others.
            return Deferred("hub.exhausted", About.PARCEL)
        try:
            sent = await with_contents(parcel, links)
            total = self.limit + len(sent) / SLOWEST
            patience = aiohttp.ClientTimeout(total=total, sock_connect=self.limit, sock_read=self.limit)
            return await self._deliver(parcel, sent, patience)
        finally:
            self.weights.give(heavy)

    async def _deliver(self, parcel: Parcel, sent: bytes, patience: aiohttp.ClientTimeout) -> Outcome:
        try:
            outcome = await self._authorized(parcel, sent, patience)
        except NoToken as fault:
            outcome = self.away = fault.outcome
        except (aiohttp.ClientError, OSError) as fault:
            outcome = judge(fault)
            if isinstance(fault, TimeoutError | aiohttp.ClientConnectorError):
                self.away = outcome
        if _goes_for_all(outcome):
            # The answer was to this parcel, and may say again what it held.
            self.away = replace(outcome, answer=None)
        return outcome

    async def _authorized(self, parcel: Parcel, sent: bytes, patience: aiohttp.ClientTimeout) -> Outcome:
        """A token that is refused is replaced once: its server may have taken it back."""
        request = self.target.token_request
        if request is None:
            return await self._post(parcel, sent, patience, self.target.token)
        token = await self.tokens.token(request, self.limit)
        outcome = await self._post(parcel, sent, patience, token)
        if outcome != _UNAUTHORIZED:
            return outcome
        self.tokens.spoil(request, token)
        return await self._post(parcel, sent, patience, await self.tokens.token(request, self.limit))

    async def _post(
        self, parcel: Parcel, sent: bytes, patience: aiohttp.ClientTimeout, token: str | None
    ) -> Outcome:
        told = headers(parcel, sent, self.target.signers, self.surroundings.now())
        if token is not None:
            told["Authorization"] = f"Bearer {token}"
        async with self.session.post(
            self.target.address,
            # As bytes, it would be asked of every kind of payload there is whether it is one.
            data=aiohttp.BytesPayload(sent),
            headers=told,
            allow_redirects=False,
            ssl=self.trust,
            timeout=patience,
        ) as response:
            outcome = judge(response.status, self._asked(response))
            if response.content.at_eof():
                return outcome
            said = await _drain(response)
            return replace(outcome, answer=_evidence(response, said)) if said else outcome

    def _asked(self, response: aiohttp.ClientResponse) -> timedelta | None:
        asked = response.headers.get("Retry-After")
        return None if asked is None else wait_of(asked, datetime.fromtimestamp(self.surroundings.now(), UTC))


def _goes_for_all(outcome: Outcome) -> bool:
    match outcome:
        case Refused(about=about):
            return about is About.ENDPOINT
        case Deferred(retry_after=asked):
            return asked is not None
        case _:
            return False


async def _drain(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of what the server says. A short answer is read to its end, so that the connection can be used
    again. The status has been said: whatever happens here changes no outcome."""
    said = bytearray()
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(_DRAINING):
            read = 0
            async for chunk in response.content.iter_chunked(8192):
                read += len(chunk)
                said += chunk[: EVIDENCE - len(said)]
                if read > ANSWER:
                    break
            else:
                return bytes(said)
    response.close()
    return bytes(said)


def _evidence(response: aiohttp.ClientResponse, said: bytes) -> bytes:
    """As it came: not unpacked, in whatever signs it was written."""
    kinds = (response.headers.get(name, "")[:200] for name in ("Content-Type", "Content-Encoding"))
    head = "\n".join((f"{response.status} {(response.reason or '')[:200]}", *filter(None, kinds)))
    return head.encode("utf-8", "replace") + b"\n\n" + said
