"""The mail channel (courriel): one mail for each parcel, its files attached or linked.

Business of this file: the conversation with the partner's SMTP server and what its answers mean. How a
mail is written is in `letter`. It decides no retry and reads no bounces.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

import aiosmtplib
from aiosmtplib import SMTP

from connectors.fields import Reading
from connectors.letter import Letterhead, attached, linked, mail_size, message_id, notice
from connectors.parcels import exhausted, own_fault, patience, unforeseen
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.domain.errors import HubError
from hub.domain.fields import Field, FieldKind
from hub.domain.identity import ParcelKind
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector, Parcel, Surroundings

MAX_SIZE = 10_000_000
LARGEST_MAX_SIZE = 25_000_000
"""A mail is composed in memory: no setting may make it larger than this."""

_UNDER_WAY = 128 * 1024
_LEAVING = 1.0
_LOOKING = 0.25
_FAULTS = (aiosmtplib.SMTPException, OSError)
_PORTS = {"starttls": 587, "tls": 465, "none": 25}

FIELDS = (
    Field(
        "host",
        FieldKind.HOST,
        required=True,
        fr="Nom ou adresse du serveur SMTP.",
        en="Name or address of the SMTP server.",
    ),
    Field(
        "port",
        FieldKind.NUMBER,
        least=1,
        most=65535,
        fr="Port du serveur ; sans indication, 587 (starttls), 465 (tls) ou 25 (none).",
        en="Port of the server; where it is not said, 587 (starttls), 465 (tls) or 25 (none).",
    ),
    Field(
        "tls",
        FieldKind.CHOICE,
        choices=tuple(_PORTS),
        default="starttls",
        fr="Chiffrement exigé : starttls, tls dès la connexion, ou none, qui doit être écrit.",
        en="Encryption that is required: starttls, tls from the first byte, or none, which must be written.",
    ),
    Field(
        "ca",
        FieldKind.BLOCK,
        must="must be certificates in PEM",
        fr="Certificats (PEM) de l'autorité qui a signé celui du serveur ; sinon ceux du système.",
        en="Certificates (PEM) of who signed the server's; else those of the system.",
    ),
    Field(
        "sender",
        FieldKind.MAIL,
        required=True,
        fr="Adresse d'expédition.",
        en="Address the mails come from.",
    ),
    Field(
        "recipients",
        FieldKind.MAILS,
        required=True,
        fr="Adresses de destination.",
        en="Addresses the mails go to.",
    ),
    Field(
        "mode",
        FieldKind.CHOICE,
        choices=("attachments", "links"),
        default="attachments",
        fr="Fichiers joints (attachments) ou liens vers le concentrateur (links).",
        en="Files attached (attachments), or links to the hub (links).",
    ),
    Field(
        "max_size",
        FieldKind.NUMBER,
        default=MAX_SIZE,
        least=0,
        most=LARGEST_MAX_SIZE,
        fr="Octets de fichiers joints à un courriel, au plus ; au-delà, des liens.",
        en="Bytes of files attached to one mail, at most; beyond, links.",
    ),
    Field(
        "username",
        FieldKind.TEXT,
        secret=True,
        needs=("password",),
        fr="Compte sur le serveur SMTP, s'il en demande un.",
        en="Account on the SMTP server, if it asks for one.",
    ),
    Field(
        "password",
        FieldKind.TEXT,
        secret=True,
        needs=("username",),
        fr="Mot de passe de ce compte.",
        en="Password of that account.",
    ),
)


def connector(surroundings: Surroundings) -> Connector:
    return MailConnector(surroundings)


class MailConnector:
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    @property
    def channel(self) -> str:
        return "mail"

    @property
    def fields(self) -> Sequence[Field]:
        return FIELDS

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return _read(endpoint)[1]

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        target, flaws = _read(endpoint)
        if flaws:
            return [Refused("mail.settings", About.ENDPOINT) for _ in parcels]
        try:
            smtp = await _enter(target, limit)
        except _FAULTS as fault:
            return [judge(fault) for _ in parcels]
        visit = _Visit(smtp, target, self._surroundings, limit)
        try:
            return [await visit.deliver(parcel) for parcel in parcels]
        finally:
            await visit.leave()

    async def close(self) -> None:
        """Nothing stays open between two calls."""


def judge(fault: Exception) -> Deferred | Refused:
    """What a fault of the network, of TLS or an answer of the SMTP server means. An answer is its code;
    its text is never looked at."""
    match fault:
        case aiosmtplib.SMTPRecipientsRefused(recipients=refusals):
            return _judge_refusals([refusal.code for refusal in refusals])
        case aiosmtplib.SMTPResponseException(code=code):
            return _judge_code(fault, code)
        case TimeoutError():
            return Deferred("mail.timeout")
        case aiosmtplib.SMTPConnectError():
            # The library wraps the network's own fault; an empty wrapping is a server that hung up.
            cause = fault.__cause__
            return judge(cause) if isinstance(cause, OSError) else Deferred("mail.disconnected")
        case ssl.SSLCertVerificationError():
            return Deferred("mail.certificate_invalid")
        case ssl.SSLError():
            return Deferred("mail.tls_failed")
        case ConnectionRefusedError():
            return Deferred("mail.connection_refused")
        case socket.gaierror():
            return Deferred("mail.host_unknown")
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


@dataclass(frozen=True, slots=True)
class _Target:
    host: str
    port: int
    tls: str
    ca: str | None
    sender: str
    recipients: tuple[str, ...]
    mode: str
    max_size: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)


def _read(endpoint: Endpoint) -> tuple[_Target, Sequence[str]]:
    reading = Reading(endpoint, FIELDS)
    tls = reading.text("tls")
    target = _Target(
        host=reading.text("host"),
        port=reading.number("port", _PORTS.get(tls, 587)),
        tls=tls,
        ca=reading.block("ca"),
        sender=reading.text("sender"),
        recipients=reading.texts("recipients"),
        mode=reading.text("mode"),
        max_size=reading.number("max_size"),
        username=reading.secret("username"),
        password=reading.secret("password"),
    )
    if target.username is not None and tls == "none":
        reading.wrong("tls", "must not be none when there is a password to send")
    if target.ca is not None and _trust(target.ca) is None:
        reading.wrong("ca", "must be certificates in PEM")
    return target, reading.flaws


@lru_cache(maxsize=256)
def _trust(ca: str | None) -> ssl.SSLContext | None:
    """The certificates to believe: those given, else the system's, as they were when first asked for
    (reading them takes longer than a mail). None if they cannot be read."""
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        return None


async def _enter(target: _Target, limit: float) -> SMTP:
    """Raises what `judge` understands; leaves nothing open then."""
    smtp = SMTP(
        hostname=target.host,
        port=target.port,
        use_tls=target.tls == "tls",
        start_tls=target.tls == "starttls",
        tls_context=None if target.tls == "none" else _trust(target.ca),
        username=target.username,
        password=target.password,
        # The library would ask the name service for a name of this machine.
        local_hostname=target.sender.partition("@")[2],
        timeout=limit,
    )
    async with asyncio.timeout(limit):
        try:
            await smtp.connect()
            # What the system holds for us looks sent: the less it may hold, the sooner silence is seen.
            smtp.get_transport_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNDER_WAY)
            await smtp.ehlo()
        except BaseException:
            smtp.close()
            raise
    return smtp


@dataclass(slots=True)
class _Visit:
    """One connection to one server. Once it is broken, whatever is still to do shares that outcome."""

    smtp: SMTP
    target: _Target
    surroundings: Surroundings
    limit: float
    broken: Deferred | Refused | None = None

    async def deliver(self, parcel: Parcel) -> Outcome:
        if self.broken is not None:
            return self.broken
        try:
            mail = await self._compose(parcel)
            async with asyncio.timeout(patience(len(mail), self.limit)):
                await self._send(mail)
            return Delivered(message_id(parcel, self.target.sender))
        except HubError as fault:
            return own_fault(fault)
        except _FAULTS as fault:
            outcome = judge(fault)
            if not await self._start_over(fault):
                self.broken = outcome
            return outcome
        except Exception as fault:
            return unforeseen(fault)

    async def _compose(self, parcel: Parcel) -> bytes:
        head = Letterhead(self.target.sender, self.target.recipients, self.surroundings.now())
        if parcel.kind is ParcelKind.NOTICE:
            return notice(
                parcel, head, (b"".join([one async for one in parcel.files[0].open(0, None)])).decode()
            )
        size = mail_size(parcel)
        announced = self.smtp.esmtp_extensions.get("size", "")
        # A server may announce 0: no limit that it knows of.
        largest = int(announced) if re.fullmatch(r"[1-9][0-9]{0,15}", announced) else size
        fits = sum(file.size for file in parcel.files) <= self.target.max_size and size <= largest
        if self.target.mode == "attachments" and fits:
            contents = [b"".join([chunk async for chunk in file.open(0, None)]) for file in parcel.files]
            # Encoding ten megabytes would hold up every other lane of this process.
            return await asyncio.to_thread(attached, parcel, head, contents)
        links = [self.surroundings.link(parcel, file.number) for file in parcel.files]
        return linked(parcel, head, links)

    async def _send(self, mail: bytes) -> None:
        """Returns when the server took the mail for at least one recipient."""
        size = [f"SIZE={len(mail)}"] if self.smtp.supports_extension("size") else []
        await self.smtp.mail(self.target.sender, options=size)
        refusals: list[aiosmtplib.SMTPRecipientRefused] = []
        for recipient in self.target.recipients:
            try:
                await self.smtp.rcpt(recipient)
            except aiosmtplib.SMTPRecipientRefused as refusal:
                refusals.append(refusal)
        if len(refusals) == len(self.target.recipients):
            raise aiosmtplib.SMTPRecipientsRefused(refusals)
        await self._content(mail)

    async def _content(self, mail: bytes) -> None:
        """A long mail on a slow line may take long; a server that takes no byte for `limit` seconds is
        silent all the same."""
        sending = asyncio.ensure_future(self.smtp.data(mail, timeout=None))
        loop = asyncio.get_running_loop()
        unsent, since = -1, loop.time()
        try:
            while not sending.done():
                await asyncio.wait({sending}, timeout=min(_LOOKING, self.limit))
                left = self._unsent()
                if left != unsent:
                    unsent, since = left, loop.time()
                elif loop.time() - since >= self.limit and not sending.done():
                    raise TimeoutError
            await sending
        finally:
            sending.cancel()

    def _unsent(self) -> int:
        if self.smtp.transport is None:
            return 0
        # Not asked by isinstance: the faster event loop's transports are of no common class.
        return cast(asyncio.WriteTransport, self.smtp.transport).get_write_buffer_size()

    async def _start_over(self, fault: Exception) -> bool:
        """Whether the connection can serve the next parcel: the server answered, and answers RSET."""
        if not isinstance(fault, aiosmtplib.SMTPResponseException | aiosmtplib.SMTPRecipientsRefused):
            return False
        try:
            await self.smtp.rset()
        except _FAULTS:
            return False
        return self.smtp.is_connected

    async def leave(self) -> None:
        if self.broken is None:
            with suppress(*_FAULTS):
                await self.smtp.quit(timeout=_LEAVING)
        self.smtp.close()
