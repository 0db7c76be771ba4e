"""The webhook channel: one signed HTTP request for each parcel, with links to its files.

Business of this file: requests after Standard Webhooks 1.0 (id, timestamp, HMAC-SHA-256 signature), and
what answers mean. It follows no redirect, keeps no cookie, believes no text. It decides no retry.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from pydantic_core import to_json
from yarl import URL

from connectors.fields import Reading
from connectors.parcels import each, exhausted
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.domain.fields import Field, FieldKind
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector, Parcel, Surroundings

AT_ONCE = 8
"""Requests under way to one partner."""
APIECE = 4
"""Requests that go one after the other over one connection, before another one is opened."""
ANSWER = 64 * 1024
"""Bytes of an answer that are read, only to use the connection again."""

_KEPT_OPEN = 4.0
"""Seconds: shorter than common servers keep an idle connection, so that ours is not cut as we use it."""
_DRAINING = 1.0
_KEPT = 20_000
"""Endpoints that are remembered: more than a country has partners."""
_LONGEST_WAIT = timedelta(days=30)
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})

FIELDS = (
    Field(
        "url",
        FieldKind.URL,
        required=True,
        fr="Adresse appelée, en https (en http sur cette machine seulement, ou avec plain), sans requête.",
        en="Address that is called, of https (http on this machine only, or with plain), without a query.",
    ),
    Field(
        "plain",
        FieldKind.FLAG,
        default=False,
        fr="Accepte http ailleurs que sur cette machine.",
        en="Accepts http elsewhere than on this machine.",
    ),
    Field(
        "secret",
        FieldKind.TEXT,
        secret=True,
        required=True,
        pattern=r"whsec_[A-Za-z0-9+/]+={0,2}",
        must="must be whsec_ and base64 of 24 to 64 bytes",
        fr="Secret de signature (Standard Webhooks) : whsec_ et 24 à 64 octets en base64.",
        en="Signing secret (Standard Webhooks): whsec_ and base64 of 24 to 64 random bytes.",
    ),
    Field(
        "url_query",
        FieldKind.TEXT,
        secret=True,
        # What a query may hold (RFC 3986), percent signs included.
        pattern=r"(?!\?)[!$-;=?-Z_a-z~]+",
        must="must be the URL's query without its question mark, in ASCII",
        fr="Ce qui suit le point d'interrogation de l'adresse : c'est souvent un jeton.",
        en="What follows the question mark of the address: it is often a token.",
    ),
)


def connector(surroundings: Surroundings) -> Connector:
    return WebhookConnector(surroundings)


class WebhookConnector:
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._session: aiohttp.ClientSession | None = None
        self._targets: dict[int, tuple[Endpoint, _Target]] = {}

    @property
    def channel(self) -> str:
        return "webhook"

    @property
    def fields(self) -> Sequence[Field]:
        return FIELDS

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return _read(endpoint)[1]

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        target = self._target(endpoint)
        if target is None:
            return [Refused("webhook.settings", About.ENDPOINT) for _ in parcels]
        visit = _Visit(self._open(), target, self._surroundings, aiohttp.ClientTimeout(total=limit))
        return await each(parcels, AT_ONCE, visit.deliver, APIECE)

    def _target(self, endpoint: Endpoint) -> _Target | None:
        """The hub hands in the same endpoint again and again: it is read once."""
        known = self._targets.get(id(endpoint))
        if known is not None and known[0] is endpoint:
            return known[1]
        target, flaws = _read(endpoint)
        if flaws:
            return None
        if len(self._targets) >= _KEPT:
            self._targets.clear()
        self._targets[id(endpoint)] = (endpoint, target)
        return target

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                # Without a common limit: a hanging partner must not use up the others' connections. What
                # bounds them is the number of lanes under way, each with AT_ONCE.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_OPEN),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"User-Agent": "aiguillage"},
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def judge(answer: int | Exception, retry_after: timedelta | None = None) -> Outcome:
    """What a status, or a fault of the network, of TLS or of HTTP means. Deferred carries `retry_after`
    where the status may."""
    match answer:
        case int():
            return _judge_status(answer, retry_after)
        case TimeoutError():
            return Deferred("webhook.timeout")
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return Deferred("webhook.certificate_invalid")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Deferred("webhook.tls_failed")
        case aiohttp.ClientConnectorError(os_error=fault):
            return exhausted(fault) or _judge_network(fault)
        case aiohttp.ClientResponseError():
            return Deferred("webhook.not_http")
        case _:
            return exhausted(answer) or Deferred("webhook.disconnected")


def _judge_network(fault: OSError) -> Deferred:
    if isinstance(fault, ConnectionRefusedError):
        return Deferred("webhook.connection_refused")
    if isinstance(fault, socket.gaierror):
        return Deferred("webhook.host_unknown")
    if isinstance(fault, TimeoutError):
        return Deferred("webhook.timeout")
    return Deferred("webhook.unreachable")


def _judge_status(status: int, retry_after: timedelta | None) -> Outcome:
    cause = f"webhook.http_{status}" if 100 <= status <= 599 else "webhook.not_http"
    if 200 <= status <= 299:
        return Delivered(f"http {status}")
    if status in (429, 503):
        return Deferred(cause, About.ENDPOINT, retry_after)
    if status in (301, 308, 401, 403, 404, 405, 410):
        return Refused(cause, About.ENDPOINT)
    if 400 <= status <= 499 and status not in (408, 425):
        return Refused(cause, About.PARCEL)
    return Deferred(cause)


def wait_of(header: str | None, now: datetime) -> timedelta | None:
    """Retry-After: whole seconds or an HTTP date, at most thirty days; None for anything else."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=int(text)) if len(text) <= 7 and int(text) <= 2_592_000 else _LONGEST_WAIT
    try:
        until = parsedate_to_datetime(text[:100])
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return max(timedelta(0), min(until - now, _LONGEST_WAIT))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


@dataclass(frozen=True, slots=True)
class _Target:
    """`address`: with the query as it was written: a token means its own signs."""

    address: URL = field(repr=False)
    key: bytes = field(repr=False)


def _read(endpoint: Endpoint) -> tuple[_Target, Sequence[str]]:
    reading = Reading(endpoint, FIELDS)
    url = reading.text("url")
    if (
        url
        and urlsplit(url).scheme == "http"
        and urlsplit(url).hostname not in _HERE
        and not reading.flag("plain")
    ):
        reading.wrong("url", "must be https, unless plain says that http is meant")
    query, key = reading.secret("url_query") or "", _key(reading, reading.secret("secret"))
    flaws = reading.flaws
    return _Target(URL() if flaws else _address(url, query), key), flaws


def _address(url: str, query: str) -> URL:
    told = URL(url)
    return URL(f"{told}?{query}", encoded=True) if query else told


def _key(reading: Reading, secret: str | None) -> bytes:
    if secret is None:
        return b""
    try:
        coded = secret.removeprefix("whsec_")
        # Some generators leave the padding out.
        key = base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        reading.wrong("secret", "must be whsec_ and base64 of 24 to 64 bytes")
        return b""
    return key


@dataclass(slots=True)
class _Visit:
    """A page of parcels for one partner. Once its server proved away or silent, whatever is still to do
    shares that outcome: nobody waits for it one parcel after the other."""

    session: aiohttp.ClientSession
    target: _Target
    surroundings: Surroundings
    patience: aiohttp.ClientTimeout
    away: Outcome | None = None

    async def deliver(self, parcel: Parcel) -> Outcome:
        if self.away is not None:
            return self.away
        sent = body(parcel, [self.surroundings.link(parcel, file.number) for file in parcel.files])
        told = headers(parcel, sent, self.target.key, self.surroundings.now())
        try:
            outcome = await self._post(sent, told)
        except (aiohttp.ClientError, OSError) as fault:
            outcome = judge(fault)
            if isinstance(fault, TimeoutError | aiohttp.ClientConnectorError):
                self.away = outcome
        if isinstance(outcome, Deferred) and outcome.retry_after is not None:
            self.away = outcome
        return outcome

    async def _post(self, sent: bytes, told: Mapping[str, str]) -> Outcome:
        async with self.session.post(
            self.target.address,
            # As bytes, it would be asked of every kind of payload there is whether it is one.
            data=aiohttp.BytesPayload(sent),
            headers=told,
            allow_redirects=False,
            timeout=self.patience,
        ) as response:
            outcome = judge(response.status, self._asked(response))
            if not response.content.at_eof():
                await _drain(response)
            return outcome

    def _asked(self, response: aiohttp.ClientResponse) -> timedelta | None:
        asked = response.headers.get("Retry-After")
        return None if asked is None else wait_of(asked, datetime.fromtimestamp(self.surroundings.now(), UTC))


async def _drain(response: aiohttp.ClientResponse) -> None:
    """A short answer is read to its end, so that the connection can be used again. The status has been
    said: whatever happens here changes no outcome."""
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(_DRAINING):
            read = 0
            async for chunk in response.content.iter_chunked(8192):
                read += len(chunk)
                if read > ANSWER:
                    break
            else:
                return
    response.close()


def body(parcel: Parcel, links: Sequence[str]) -> bytes:
    """What is sent: from the delivery alone, but for the links, which are fresh for each attempt.

    `links`: where each file can be fetched, in the order of `parcel.files`.
    """
    told = {
        "type": f"parcel.{parcel.kind.value}",
        "timestamp": _rfc3339(parcel.received_at),
        "data": {
            "delivery": str(parcel.attempt.delivery),
            "subscriber": str(parcel.subscriber),
            "sequence": parcel.sequence,
            "procedure": parcel.procedure,
            "external_id": parcel.external_id,
            "sender": parcel.sender,
            "kind": parcel.kind.value,
            "revision": parcel.revision,
            "files": [
                {
                    "number": file.number,
                    "name": file.name,
                    "type": file.type,
                    "media_type": file.media_type,
                    "size": file.size,
                    "sha256": file.sha256,
                    "url": link,
                }
                for file, link in zip(parcel.files, links, strict=True)
            ],
        },
    }
    return to_json(told)


def headers(parcel: Parcel, sent: bytes, key: bytes, now: float) -> dict[str, str]:
    """Standard Webhooks 1.0: the id is the delivery's, the same for every attempt."""
    name, at = str(parcel.attempt.delivery), str(int(now))
    digest = hmac.digest(key, b".".join((name.encode(), at.encode(), sent)), "sha256")
    return {
        "Content-Type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        "aiguillage-attempt": f"{parcel.attempt.sending}.{parcel.attempt.number}",
    }


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
