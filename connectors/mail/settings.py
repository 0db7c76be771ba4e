"""What the mail channel asks of an endpoint, and what that comes to.

Business of this file: the fields, and the hub's own relay in place of a server that is not named.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from connectors.fields import Reading
from connectors.lifetimes import until_all_end
from connectors.mail.envelope import Certificates, read_certificates, until_one_cannot_read
from hub.domain.digests import Frequency
from hub.domain.fields import Field, FieldKind
from hub.domain.partner import Endpoint
from hub.ports.connector import Relay

MAX_SIZE = 10_000_000
LARGEST_MAX_SIZE = 25_000_000
"""A mail is composed in memory: no setting may make it larger than this."""

MOST_RECIPIENTS = 50

PORTS = {"starttls": 587, "tls": 465, "none": 25}

FIELDS = (
    Field(
        "recipients",
        FieldKind.MAILS,
        required=True,
        most=MOST_RECIPIENTS,
        fr="Adresses de destination ; un courriel est remis dès que l'une d'elles l'accepte.",
        en="Addresses the mails go to; a mail is delivered once one of them accepts it.",
    ),
    Field(
        "mode",
        FieldKind.CHOICE,
        choices=("reference", "links", "attachments"),
        default="reference",
        fr="Avis avec la référence seule (reference), liens vers les fichiers (links), fichiers joints (attachments).",
        en="A notification with the reference alone (reference), links to the files (links), files (attachments).",
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
        "frequency",
        FieldKind.CHOICE,
        choices=tuple(Frequency),
        default="unit",
        fr="Un courriel pour chaque télédossier (unit), un par jour (daily) ou deux par jour (twice_daily).",
        en="A mail for each parcel (unit), one a day (daily) or two a day (twice_daily).",
    ),
    Field(
        "certificates",
        FieldKind.BLOCK,
        until=until_one_cannot_read,
        fr="Certificats S/MIME (PEM, RSA) des lecteurs : chaque courriel est chiffré pour eux, jamais envoyé en clair.",
        en="S/MIME certificates (PEM, RSA) of who reads the mails: each is encrypted to them, and never sent in clear.",
    ),
    Field(
        "host",
        FieldKind.HOST,
        fr="Nom ou adresse du serveur SMTP ; sans indication, celui de la plateforme.",
        en="Name or address of the SMTP server; where it is not said, the hub's own.",
    ),
    Field(
        "port",
        FieldKind.NUMBER,
        least=1,
        most=65535,
        needs=("host",),
        fr="Port du serveur ; sans indication, 587 (starttls), 465 (tls) ou 25 (none).",
        en="Port of the server; where it is not said, 587 (starttls), 465 (tls) or 25 (none).",
    ),
    Field(
        "tls",
        FieldKind.CHOICE,
        choices=tuple(PORTS),
        default="starttls",
        needs=("host",),
        fr="Chiffrement exigé : starttls, tls dès la connexion, ou none, qui doit être écrit.",
        en="Encryption that is required: starttls, tls from the first byte, or none, which must be written.",
    ),
    Field(
        "ca",
        FieldKind.BLOCK,
        until=until_all_end,
        must="must be certificates in PEM",
        needs=("host",),
        fr="Certificats (PEM) de l'autorité qui a signé celui du serveur ; sinon ceux du système.",
        en="Certificates (PEM) of who signed the server's; else those of the system.",
    ),
    Field(
        "sender",
        FieldKind.MAIL,
        pattern="[!-~]+",
        fr="Adresse d'expédition ; sans indication, celle de la plateforme.",
        en="Address the mails come from; where it is not said, the hub's own.",
    ),
    Field(
        "username",
        FieldKind.TEXT,
        secret=True,
        needs=("password", "host"),
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


@dataclass(frozen=True, slots=True)
class Server:
    """Where a connection leads, and as whom: one that is open serves every partner whose endpoint says the same.
    `greeting`: the name by which the hub introduces itself. `relay`: the hub's own, which operators chose; a partner
    that names the same server is not led there by that."""

    host: str
    port: int
    tls: str
    ca: str | None = field(repr=False)
    greeting: str
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    relay: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """`recipients` in the order of the setting: their places count from 1. `certificates`: None where mails are not
    encrypted."""

    server: Server
    sender: str
    recipients: tuple[str, ...]
    mode: str
    max_size: int
    certificates: Certificates | None = None


def read(endpoint: Endpoint, relay: Relay | None) -> tuple[Target, Sequence[str]]:
    """What an endpoint comes to, and sentences about what is wrong with it: unless there are none, nothing else may be
    used."""
    reading = Reading(endpoint, FIELDS)
    own = reading.given("host")
    if not own and relay is None:
        reading.wrong("host", "is missing: the hub has no mail server of its own")
    sender = reading.text("sender", "" if relay is None else relay.sender)
    if not sender:
        reading.wrong("sender", "is missing: the hub has no mail server of its own")
    server = _own_server(reading, sender) if own or relay is None else _relay(relay)
    if server.username is not None and server.tls == "none":
        reading.wrong("tls", "must not be none when there is a password to send")
    if server.ca is not None and trust(server.ca) is None:
        reading.wrong("ca", "must be certificates in PEM")
    recipients = tuple(map(_with_ascii_domain, reading.texts("recipients")))
    target = Target(
        server,
        sender,
        recipients,
        reading.text("mode"),
        reading.number("max_size"),
        _certificates(reading, endpoint),
    )
    if len({address.casefold() for address in target.recipients}) < len(target.recipients):
        reading.wrong("recipients", "must be different from each other")
    if target.mode == "attachments" and reading.text("frequency") != Frequency.UNIT:
        reading.wrong("mode", "must be reference or links where several parcels go in one mail")
    return target, reading.flaws


def _certificates(reading: Reading, endpoint: Endpoint) -> Certificates | None:
    text = reading.block("certificates")
    if text is None:
        if "certificates" in endpoint.settings:
            # The word with nothing behind it: whoever wrote it does not want mails in clear.
            reading.wrong("certificates", "must be certificates in PEM")
        return None
    try:
        return read_certificates(text)
    except ValueError as flaw:
        reading.wrong("certificates", str(flaw))
        return ()


def _with_ascii_domain(address: str) -> str:
    """As name servers know the domain: so only a name before the @ asks a server for more than ASCII."""
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        return address


def _own_server(reading: Reading, sender: str) -> Server:
    tls = reading.text("tls")
    return Server(
        host=reading.text("host"),
        port=reading.number("port", PORTS.get(tls, 587)),
        tls=tls,
        ca=reading.block("ca"),
        greeting=sender.partition("@")[2],
        username=reading.secret("username"),
        password=reading.secret("password"),
    )


def _relay(relay: Relay) -> Server:
    return Server(
        host=relay.host,
        port=PORTS.get(relay.tls, 587) if relay.port is None else relay.port,
        tls=relay.tls,
        ca=relay.ca,
        greeting=relay.sender.partition("@")[2],
        username=relay.username,
        password=relay.password,
        relay=True,
    )


@lru_cache(maxsize=256)
def trust(ca: str | None) -> ssl.SSLContext | None:
    """The certificates to believe: those given, else the system's, as they were when first asked for
    (reading them takes longer than a mail). None if they cannot be read."""
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        return None
