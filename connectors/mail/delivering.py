"""The mail channel (courriel): one mail for each parcel, or one for all parcels of a digest's issue.

Business of this file: which kind of mail a parcel becomes, and that a page goes over one connection. What is said to
the server is in `conversation`, what its answers mean in `judging`, how a mail is written in `letter`. It decides no
retry and reads no bounces.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from aiosmtplib import SMTP, SMTPNotSupported

from connectors.mail.connections import Connections, Line
from connectors.mail.conversation import Mail, Untaken, reachable, start_over, transmit
from connectors.mail.envelope import in_force
from connectors.mail.judging import FAULTS, Crowded, judge, of_relay
from connectors.mail.letter import (
    Letterhead,
    attached,
    digest,
    enveloped_size,
    linked,
    mail_size,
    notice,
    referred,
)
from connectors.mail.settings import FIELDS, Target, read
from connectors.parcels import own_fault, unforeseen
from connectors.trials import mail as trials
from hub.domain.delivery import About, Deferred, Delivered, Outcome, Refused
from hub.domain.errors import HubError
from hub.domain.fields import Field
from hub.domain.identity import ParcelKind
from hub.domain.partner import Endpoint
from hub.domain.trials import Step
from hub.ports.connector import Connector, Outgoing, Parcel, Surroundings

_EXPIRED = Refused("mail.certificates_expired", About.ENDPOINT)


def connector(surroundings: Surroundings) -> Connector:
    return MailConnector(surroundings)


class MailConnector:
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._connections = Connections()

    @property
    def channel(self) -> str:
        return "mail"

    @property
    def fields(self) -> Sequence[Field]:
        return FIELDS

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        target, flaws = read(endpoint, self._surroundings.relay)
        if not flaws and target.certificates and not in_force(target.certificates, self._surroundings.now()):
            return ["certificates must be in force: none of them is today"]
        return flaws

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        target, flaws = read(endpoint, self._surroundings.relay)
        if flaws:
            return [Refused("mail.settings", About.ENDPOINT) for _ in parcels]
        if not parcels:
            return []
        now = self._surroundings.now()
        certificates = None if target.certificates is None else in_force(target.certificates, now)
        if certificates == ():
            return [_EXPIRED for _ in parcels]
        target = replace(target, certificates=certificates)
        outgoing = self._way(target)
        outcomes: list[Outcome] = []
        try:
            async with self._connections.to(target.server, outgoing, limit) as line:
                visit = _Visit(line, target, self._surroundings, limit)
                if parcels[0].issue is not None:
                    outcomes = [await visit.deliver_issue(parcels)] * len(parcels)
                else:
                    for parcel in parcels:
                        outcomes.append(await visit.deliver(parcel))
        except (*FAULTS, Crowded) as fault:
            if outcomes:
                raise
            return [self._meant(judge(fault), target)] * len(parcels)
        return [self._meant(outcome, target) for outcome in outcomes]

    @staticmethod
    def _meant(outcome: Outcome, target: Target) -> Outcome:
        return of_relay(outcome) if target.server.relay and not isinstance(outcome, Delivered) else outcome

    def _way(self, target: Target) -> Outgoing:
        relay = self._surroundings.relay
        return relay.outgoing if target.server.relay and relay is not None else self._surroundings.outgoing

    async def try_out(self, endpoint: Endpoint, limit: float, send: bool) -> Sequence[Step]:
        target, _ = read(endpoint, self._surroundings.relay)
        return await trials.try_out(target, self._way(target), limit)

    async def close(self) -> None:
        await self._connections.close()


@dataclass(slots=True)
class _Visit:
    """One page over one connection. Once it is broken, whatever is still to do shares that outcome."""

    line: Line
    target: Target
    surroundings: Surroundings
    limit: float
    broken: Deferred | Refused | None = None

    async def deliver(self, parcel: Parcel) -> Outcome:
        return await self._deliver(lambda: self._mail(parcel))

    async def deliver_issue(self, parcels: Sequence[Parcel]) -> Outcome:
        return await self._deliver(lambda: self._issue(parcels))

    async def _deliver(self, composed: Callable[[], Awaitable[Mail]]) -> Outcome:
        if self.broken is not None:
            return self.broken
        try:
            mail = await composed()
            return await transmit(self.line, mail, self.target, self.surroundings.returns, self.limit)
        except HubError as fault:
            return own_fault(fault)
        except Untaken as fault:
            if self.line.broken:
                # The answer was to this mail, and may say again what it held.
                self.broken = replace(fault.outcome, answer=None)
            return fault.outcome
        except SMTPNotSupported as fault:
            return judge(fault)
        except Exception as fault:
            outcome = unforeseen(fault)
            if not await start_over(self.line):
                self.broken = Deferred("mail.disconnected")
            return outcome

    async def _mail(self, parcel: Parcel) -> Mail:
        head, to = self._head()
        content = await self._written(parcel, head)
        announces = self.target.mode == "reference" and parcel.kind is not ParcelKind.NOTICE
        return Mail(parcel.attempt.delivery, parcel.attempt.sending, content, to, head.utf8, announces)

    async def _issue(self, parcels: Sequence[Parcel]) -> Mail:
        head, to = self._head()
        issue = parcels[0].issue
        assert issue is not None
        links = [self._links(parcel) for parcel in parcels] if self.target.mode == "links" else None
        return Mail(issue.id, 0, digest(parcels, head, issue.id, links), to, head.utf8, links is None)

    def _head(self) -> tuple[Letterhead, tuple[int, ...]]:
        """With the addresses that this server can be given, and their places. Raises SMTPNotSupported if none can."""
        to = reachable(self.line.smtp, self.target)
        if not to:
            raise SMTPNotSupported("no address in ASCII")
        addresses = tuple(self.target.recipients[place - 1] for place in to)
        utf8 = not all(address.isascii() for address in addresses)
        told = self.surroundings
        readers = self.target.certificates or ()
        return Letterhead(self.target.sender, addresses, told.now(), told.mailbox, utf8, readers), to

    async def _written(self, parcel: Parcel, head: Letterhead) -> bytes:
        if parcel.kind is ParcelKind.NOTICE:
            return notice(
                parcel, head, (b"".join([one async for one in parcel.files[0].open(0, None)])).decode()
            )
        if self.target.mode == "reference":
            return referred(parcel, head)
        fits = sum(file.size for file in parcel.files) <= self.target.max_size
        size = enveloped_size(parcel, head.certificates) if head.certificates else mail_size(parcel)
        if self.target.mode == "attachments" and fits and size <= _largest(self.line.smtp):
            contents = [b"".join([chunk async for chunk in file.open(0, None)]) for file in parcel.files]
            if sum(map(len, contents)) < _SMALL:
                return attached(parcel, head, contents)
            # Encoding ten megabytes would hold up every other lane of this process.
            return await asyncio.to_thread(attached, parcel, head, contents)
        return linked(parcel, head, self._links(parcel))

    def _links(self, parcel: Parcel) -> list[str]:
        return [self.surroundings.link(parcel, file.number) for file in parcel.files]


_SMALL = 100_000


def _largest(smtp: SMTP) -> float:
    """Bytes of a mail, as the server announces. It may announce 0: no limit that it knows of."""
    announced = smtp.esmtp_extensions.get("size", "")
    return int(announced) if re.fullmatch(r"[1-9][0-9]{0,15}", announced) else float("inf")
