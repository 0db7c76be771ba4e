"""A trial of a mail endpoint: encryption, the login, whether each address would be taken. No mail is sent: after the
addresses, the server is told to forget it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import aiosmtplib
from cryptography import x509

from connectors.mail.connections import open_connection
from connectors.mail.envelope import addresses_in, in_force
from connectors.mail.judging import FAULTS, judge
from connectors.mail.mime import one_line
from connectors.mail.settings import Server, Target
from connectors.trials.steps import SOON, Steps, certificate, reach
from hub.domain.trials import Step
from hub.ports.connector import Outgoing

_OF_TLS = frozenset({"mail.certificate_invalid", "mail.tls_failed", "mail.tls_or_login_missing"})


async def try_out(target: Target, outgoing: Outgoing, limit: float) -> list[Step]:
    """`limit`: seconds to wait for a silent server, at each step."""
    steps = Steps(judge)
    for place, one in enumerate(target.certificates or (), 1):
        _reader(steps, place, one, target.recipients)
    async with steps.within(limit):
        await _conversation(steps, target, outgoing, limit)
    return steps.noted


async def _conversation(steps: Steps, target: Target, outgoing: Outgoing, limit: float) -> None:
    server = target.server
    door = await reach(steps, outgoing, server.host, server.port, limit)
    if door is None:
        return
    door.close()
    try:
        smtp = await open_connection(replace(server, username=None, password=None), outgoing, limit)
    except FAULTS as fault:
        name = "encryption" if judge(fault).cause in _OF_TLS else "greeting"
        steps.fault(name, fault, "Ouverture de la session SMTP", "Opening the session of SMTP")
        return
    try:
        if server.tls == "none":
            steps.note("encryption", "La session n'est pas chiffrée.", "The session is not encrypted.")
        else:
            certificate(steps, smtp.get_transport_info("ssl_object"))
        if await _login(steps, smtp, server):
            await _addresses(steps, smtp, target)
    finally:
        try:
            await smtp.quit(timeout=1.0)
        except FAULTS:
            smtp.close()


def _reader(steps: Steps, place: int, certificate: x509.Certificate, recipients: Sequence[str]) -> None:
    until = certificate.not_valid_after_utc
    if in_force((certificate,), datetime.now(UTC).timestamp()):
        steps.well(
            "reader",
            f"Les courriels sont chiffrés pour le certificat {place}, valable jusqu'au {until:%d/%m/%Y}.",
            f"Mails are encrypted to certificate {place}, which is good until {until:%Y-%m-%d}.",
        )
    else:
        steps.note(
            "reader",
            f"Le certificat {place} n'est pas en vigueur (fin le {until:%d/%m/%Y}) : rien n'est chiffré pour lui.",
            f"Certificate {place} is not in force (its end: {until:%Y-%m-%d}): nothing is encrypted to it.",
        )
    left = (until - datetime.now(UTC)).days
    if 0 <= left < SOON:
        steps.note(
            "reader",
            f"Le certificat {place} expire dans {left} jours : sans un autre, plus aucun courriel ne partira.",
            f"Certificate {place} expires in {left} days: without another one, no mail will leave any more.",
        )
    named = addresses_in(certificate)
    if named and not {address.casefold() for address in recipients}.intersection(named):
        whose = one_line(", ".join(named))
        steps.note(
            "reader",
            f"Le certificat {place} est celui de {whose}, qui n'est pas destinataire.",
            f"Certificate {place} is that of {whose}, to whom no mail goes.",
        )


async def _login(steps: Steps, smtp: aiosmtplib.SMTP, server: Server) -> bool:
    if server.username is None or server.password is None:
        return True
    try:
        await smtp.login(server.username, server.password)
    except FAULTS as fault:
        steps.fault("login", fault, "Identification", "Login")
        return False
    steps.well("login", "Le compte est admis.", "The account is let in.")
    return True


async def _addresses(steps: Steps, smtp: aiosmtplib.SMTP, target: Target) -> None:
    try:
        await smtp.mail(target.sender, encoding="utf-8")
    except FAULTS as fault:
        steps.fault("sender", fault, f"Expéditeur {target.sender}", f"Sender {target.sender}")
        return
    taken = 0
    for address in target.recipients:
        if not (address.isascii() or smtp.supports_extension("smtputf8")):
            steps.note(
                "address",
                f"Le serveur ne connaît pas d'adresse comme {address} (SMTPUTF8).",
                f"The server knows no address such as {address} (SMTPUTF8).",
            )
            continue
        try:
            await smtp.rcpt(address, encoding="utf-8")
        except FAULTS as fault:
            steps.fault("address", fault, f"Adresse {address}", f"Address {address}")
            if not smtp.is_connected:
                return
        else:
            taken += 1
            steps.well("address", f"{address} serait accepté.", f"{address} would be taken.")
    try:
        await smtp.rset()
    except FAULTS:
        return
    steps.note(
        "sending",
        "Rien n'a été envoyé ; un serveur peut encore refuser un courriel à sa réception.",
        "Nothing was sent; a server may still refuse a mail when it comes.",
    )
