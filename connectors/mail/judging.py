"""What a fault of the network, of TLS, or an answer of an SMTP server means. Pure.

An answer is its code: what a server writes beside it is never looked at. It goes along as evidence.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import replace

import aiosmtplib

from connectors.parcels import exhausted
from hub.domain.delivery import About, Deferred, Refused
from hub.ports.connector import ForbiddenAddress

FAULTS = (aiosmtplib.SMTPException, OSError)
"""What the library and the network raise while they speak to a server."""

_LONGEST = 2000


class Crowded(Exception):
    """The hub speaks to this server already, over as many connections as it opens to one."""


def judge(fault: Exception) -> Deferred | Refused:
    outcome = _judge(fault)
    answer = _answer(fault)
    return outcome if answer is None else replace(outcome, answer=answer)


def _judge(fault: Exception) -> Deferred | Refused:
    match fault:
        case aiosmtplib.SMTPRecipientsRefused(recipients=refusals):
            return _judge_refusals([refusal.code for refusal in refusals])
        case aiosmtplib.SMTPRecipientRefused(code=code):
            return _judge_refusals([code])
        case aiosmtplib.SMTPResponseException(code=code):
            return _judge_code(fault, code)
        case Crowded():
            return Deferred("mail.server_busy")
        case ForbiddenAddress():
            return Refused("mail.address_forbidden", About.ENDPOINT)
        case TimeoutError():
            return Deferred("mail.timeout")
        case aiosmtplib.SMTPConnectError():
            # The library wraps the network's own fault; an empty wrapping is a server that hung up.
            cause = fault.__cause__
            return _judge(cause) if isinstance(cause, OSError) else Deferred("mail.disconnected")
        case ssl.SSLCertVerificationError():
            return Deferred("mail.certificate_invalid")
        case ssl.SSLError():
            return Deferred("mail.tls_failed")
        case ConnectionRefusedError():
            return Deferred("mail.connection_refused")
        case socket.gaierror():
            return Deferred("mail.host_unknown")
        case aiosmtplib.SMTPNotSupported():
            return Refused("mail.address_unsupported", About.ENDPOINT)
        case aiosmtplib.SMTPException() if type(fault) is aiosmtplib.SMTPException:
            # The plain class is the library's word for a server that offers no STARTTLS or no login.
            return Refused("mail.tls_or_login_missing", About.ENDPOINT)
        case ConnectionError() | aiosmtplib.SMTPException():
            return Deferred("mail.disconnected")
        case _:
            return exhausted(fault) or Deferred("mail.unreachable")


def _judge_refusals(codes: Sequence[int]) -> Deferred | Refused:
    """All recipients were refused: for good only if each was. A mailbox that is full says 552, and so do servers
    that take no more recipients (RFC 5321, 4.5.3.1.10)."""
    if all(500 <= code < 600 and code != 552 for code in codes):
        return Refused("mail.mailbox_refused", About.ENDPOINT)
    return Deferred("mail.mailbox_busy")


def _judge_code(fault: aiosmtplib.SMTPResponseException, code: int) -> Deferred | Refused:
    for_good = 500 <= code < 600
    match fault:
        case _ if code == 421:
            return Deferred("mail.server_busy")
        case _ if code == 452:
            return Deferred("mail.no_space")
        case aiosmtplib.SMTPAuthenticationError():
            if for_good:
                return Refused("mail.login_refused", About.ENDPOINT)
            return Deferred("mail.login_deferred")
        case aiosmtplib.SMTPSenderRefused() | aiosmtplib.SMTPDataError() if code == 552:
            return Refused("mail.too_large", About.PARCEL)
        case aiosmtplib.SMTPSenderRefused():
            if for_good:
                return Refused("mail.sender_refused", About.ENDPOINT)
            return Deferred("mail.sender_deferred")
        case aiosmtplib.SMTPDataError():
            if for_good:
                return Refused("mail.content_refused", About.PARCEL)
            return Deferred("mail.content_deferred", About.PARCEL)
        case _:
            return Deferred("mail.server_busy")


_OF_THE_SERVER = frozenset({"mail.login_refused", "mail.tls_or_login_missing", "mail.sender_refused"})


def of_relay(outcome: Deferred | Refused) -> Deferred | Refused:
    """What an outcome means where the server is the hub's own: that it refuses the hub is no partner's fault, and
    closes nobody's lane."""
    if isinstance(outcome, Refused) and outcome.cause in _OF_THE_SERVER:
        return Deferred(outcome.cause, answer=outcome.answer)
    return outcome


def least_bad(outcomes: Sequence[Deferred | Refused]) -> Deferred | Refused:
    """Of what came of the same mail for several addresses, what is worth most hope."""
    return min(outcomes, key=lambda one: (isinstance(one, Refused), one.about is About.PARCEL))


def _answer(fault: Exception) -> bytes | None:
    match fault:
        case aiosmtplib.SMTPRecipientsRefused(recipients=refusals):
            told = "\n".join(f"{one.code} {one.message}" for one in refusals)
        case aiosmtplib.SMTPResponseException(code=code, message=message):
            told = f"{code} {message}"
        case _:
            return None
    return as_evidence(told)


def as_evidence(told: str) -> bytes:
    return told.encode("utf-8", "replace")[:_LONGEST]
