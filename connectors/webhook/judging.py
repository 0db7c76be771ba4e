"""What answers mean, and faults of the network, of TLS and of HTTP. Pure; no text of a server is looked at."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp

from connectors.parcels import exhausted
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.ports.connector import ForbiddenAddress

_LONGEST_WAIT = timedelta(days=30)
_CHANNEL, _TOKEN = "webhook.", "webhook.token_"


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
        case ForbiddenAddress() | ConnectionRefusedError() | socket.gaierror():
            # Of a connection that was not the library's.
            return _judge_network(answer)
        case aiohttp.ClientResponseError():
            return Deferred("webhook.not_http")
        case aiohttp.InvalidURL():
            # Of what may stand in the settings: an address that the library reads in one way only.
            return Refused("webhook.settings", About.ENDPOINT)
        case _:
            return exhausted(answer) or Deferred("webhook.disconnected")


def judge_token(answer: int | Exception | None, retry_after: timedelta | None = None) -> Outcome:
    """The same of the server that gives tokens, and never about one parcel. None: it said yes, and nothing that is a
    token."""
    if answer is None:
        return Deferred("webhook.token_unreadable")
    outcome = judge(answer, retry_after)
    match outcome:
        case Delivered():
            return Deferred("webhook.token_unreadable")
        case Refused(cause=cause):
            return Refused(_of_token(cause), About.ENDPOINT)
        case Deferred(cause=cause):
            return replace(outcome, cause=_of_token(cause))


def _of_token(cause: str) -> str:
    return cause.replace(_CHANNEL, _TOKEN, 1)


def _judge_network(fault: OSError) -> Outcome:
    match fault:
        case ForbiddenAddress():
            return Refused("webhook.address_forbidden", About.ENDPOINT)
        case ConnectionRefusedError():
            return Deferred("webhook.connection_refused")
        case socket.gaierror():
            return Deferred("webhook.host_unknown")
        case TimeoutError():
            return Deferred("webhook.timeout")
        case _:
            return Deferred("webhook.unreachable")


def _judge_status(status: int, retry_after: timedelta | None) -> Outcome:
    cause = f"webhook.http_{status}" if 100 <= status <= 599 else "webhook.not_http"
    if 200 <= status <= 299:
        return Delivered(f"http {status}")
    if status in (429, 503):
        return Deferred(cause, About.ENDPOINT, retry_after)
    if status in (301, 308, 401, 403, 404, 405, 410):
        return Refused(cause, About.ENDPOINT)
    if status in (409, 413, 422):
        return Refused(cause, About.PARCEL)
    if 400 <= status <= 499 and status not in (408, 425):
        # 400 is also what servers say of a certificate or signature that they do not believe.
        return Refused(cause, About.EITHER)
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
