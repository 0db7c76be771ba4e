"""What is said to a mail server: a mail, to each address of a partner.

Business of this file: which addresses took a mail, and what it means when some did not. A mail is delivered once one
address has taken it. Where mails can come back, each address gets the mail in a transaction of its own, under a return
address of its own: so what comes back says from where.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast
from uuid import UUID

import aiosmtplib
from aiosmtplib import SMTP

from connectors.mail.connections import Line
from connectors.mail.judging import FAULTS, as_evidence, judge, least_bad
from connectors.mail.settings import Target
from connectors.parcels import patience
from hub.domain.bounces import MailReceipt
from hub.domain.delivery import Deferred, Delivered, Refused

_LOOKING = 0.25

Returns = Callable[[UUID, int, int, str], str]


@dataclass(frozen=True, slots=True)
class Mail:
    """`name` and `sending` of the delivery, or of the issue and 0. `to`: the places (from 1) of the addresses it is
    written to. `utf8`: its headers are in UTF-8. `announces`: it says that there is something, and carries no way to it
    but the mailbox."""

    name: UUID
    sending: int
    content: bytes = field(repr=False)
    to: tuple[int, ...]
    utf8: bool
    announces: bool


def reachable(smtp: SMTP, target: Target) -> tuple[int, ...]:
    """The places of the addresses that this server can be given: one that is not of ASCII alone, only if it says that
    it knows such (RFC 6531)."""
    return tuple(
        place
        for place, address in enumerate(target.recipients, 1)
        if address.isascii() or smtp.supports_extension("smtputf8")
    )


async def transmit(
    line: Line, mail: Mail, target: Target, returns: Returns | None, limit: float
) -> Delivered:
    """Raises what `judge` understands when no address took it; then, and when one did and the next one broke the
    connection, the line is broken unless the server answers still."""
    if returns is None:
        rounds = [(target.sender, mail.to)]
    else:
        rounds = [
            (returns(mail.name, mail.sending, place, target.recipients[place - 1]), (place,))
            for place in mail.to
        ]
    accepted: list[int] = []
    answers: list[str] = []
    faults: list[Exception] = []
    for sender, places in rounds:
        try:
            async with asyncio.timeout(patience(len(mail.content), limit)):
                taken, answer = await _round(
                    line.smtp, mail, target, sender, places, limit, verp=returns is not None
                )
        except FAULTS as fault:
            faults.append(fault)
            if not _answered(fault) or not await start_over(line):
                line.broken = True
                break
            continue
        accepted += taken
        answers.append(answer)
    if not accepted:
        raise Untaken([judge(fault) for fault in faults])
    receipt = MailReceipt(mail.name, tuple(accepted), len(target.recipients))
    refused = tuple(place for place in range(1, receipt.number + 1) if place not in accepted)
    domain = target.sender.partition("@")[2]
    return Delivered(receipt.written(domain), refused, mail.announces, as_evidence("\n".join(answers)))


class Untaken(Exception):
    """No address took the mail; what that means."""

    def __init__(self, outcomes: list[Deferred | Refused]) -> None:
        super().__init__()
        worst = least_bad(outcomes)
        told = [one.answer for one in outcomes if one.answer is not None]
        self.outcome: Deferred | Refused = replace(worst, answer=b"\n".join(told)[:2000] if told else None)


async def _round(
    smtp: SMTP,
    mail: Mail,
    target: Target,
    sender: str,
    places: tuple[int, ...],
    limit: float,
    *,
    verp: bool,
) -> tuple[list[int], str]:
    """The places of those who took it, and the server's answer."""
    options = [f"SIZE={len(mail.content)}"] if smtp.supports_extension("size") else []
    encoding = "utf-8" if mail.utf8 else "ascii"
    if mail.utf8:
        options.append("SMTPUTF8")
    wishes: list[str] = []
    if verp and smtp.supports_extension("dsn"):
        # What comes back need not bring the whole mail, and nobody waits for good news.
        options += ["RET=HDRS", f"ENVID={mail.name.hex}"]
        wishes.append("NOTIFY=FAILURE")
    await smtp.mail(sender, options=options, encoding=encoding)
    taken: list[int] = []
    refusals: list[aiosmtplib.SMTPRecipientRefused] = []
    for place in places:
        try:
            await smtp.rcpt(target.recipients[place - 1], options=wishes, encoding=encoding)
        except aiosmtplib.SMTPRecipientRefused as refusal:
            refusals.append(refusal)
        else:
            taken.append(place)
    if not taken:
        raise aiosmtplib.SMTPRecipientsRefused(refusals)
    response = await _content(smtp, mail.content, limit)
    told = [f"{refusal.code} {refusal.message}" for refusal in refusals]
    return taken, "\n".join((*told, response))


async def _content(smtp: SMTP, content: bytes, limit: float) -> str:
    """The server's answer. A long mail on a slow line may take long; a server that takes no byte for `limit` seconds is
    silent all the same."""
    sending = asyncio.ensure_future(smtp.data(content, timeout=None))
    loop = asyncio.get_running_loop()
    unsent, since = -1, loop.time()
    try:
        while not sending.done():
            await asyncio.wait({sending}, timeout=min(_LOOKING, limit))
            left = _unsent(smtp)
            if left != unsent:
                unsent, since = left, loop.time()
            elif loop.time() - since >= limit and not sending.done():
                raise TimeoutError
        response = await sending
    finally:
        sending.cancel()
    return f"{response.code} {response.message}"


def _unsent(smtp: SMTP) -> int:
    if smtp.transport is None:
        return 0
    # Not asked by isinstance: the faster event loop's transports are of no common class.
    return cast(asyncio.WriteTransport, smtp.transport).get_write_buffer_size()


def _answered(fault: Exception) -> bool:
    return isinstance(fault, aiosmtplib.SMTPResponseException | aiosmtplib.SMTPRecipientsRefused)


async def start_over(line: Line) -> bool:
    """Whether the connection can serve what is next: the server answers RSET. Else it is broken."""
    try:
        await line.smtp.rset()
    except FAULTS:
        line.broken = True
    else:
        line.broken = not line.smtp.is_connected
    return not line.broken
