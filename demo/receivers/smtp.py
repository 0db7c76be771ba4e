"""A mail server of many made-up partners: the local part of an address is the partner.

`--starttls` makes it ask for STARTTLS, under a certificate of its own that the ready line gives as `ca`
(for 127.0.0.1). Every mail lies as `DIR/<address>/<number>.eml`. A partner whose kind is `mailbox_refused`
has no mailbox (550) until healed.
"""

from __future__ import annotations

import asyncio
import email
import hashlib
import ipaddress
import socket
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from demo.receivers.stage import HERE, Arrivals, Stage, is_partner, parser, read_object

MAILBOX_REFUSED = "mailbox_refused"


class Mailboxes:
    """What the server asks: who is there, and where to put what came."""

    def __init__(self, root: Path, stage: Stage, arrivals: Arrivals) -> None:
        self._root = root
        self._stage = stage
        self._arrivals = arrivals
        self._number = 0

    async def handle_RCPT(  # noqa: N802 - the server library's name for it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        partner = address.partition("@")[0]
        if not is_partner(partner) or self._stage.conduct(partner) == MAILBOX_REFUSED:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - the server library's name for it
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        content = cast(bytes, envelope.original_content)
        mail = email.message_from_bytes(content, _class=EmailMessage, policy=default)
        delivery = str(mail["X-Aiguillage-Delivery"])
        files = [_fingerprint(part) for part in mail.iter_attachments()]
        for address in envelope.rcpt_tos:
            self._number += 1
            folder = self._root / _folder(address)
            folder.mkdir(parents=True, exist_ok=True)
            place = folder / f"{self._number}.eml"
            place.write_bytes(content)
            self._arrivals.note(
                address.partition("@")[0], delivery, str(place.relative_to(self._root)), files
            )
        return "250 OK"


def _folder(address: str) -> str:
    """The local part may be a folder name already; the domain need not."""
    return "".join(letter if letter.isalnum() or letter in "@.-" else "_" for letter in address)


def _fingerprint(part: EmailMessage[str, str]) -> dict[str, object]:
    content = cast(bytes, part.get_payload(decode=True))
    return {
        "name": part.get_filename(),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def own_certificate() -> tuple[ssl.SSLContext, str]:
    """A server's context, and the certificate to believe, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo receiver")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HERE))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # The standard library loads a key from files only.
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(certificate + private)
        pem.flush()
        context.load_cert_chain(pem.name)
    return context, certificate.decode()


async def main() -> None:
    arguments = parser("A mail server of made-up partners")
    arguments.add_argument("--starttls", action="store_true")
    chosen = arguments.parse_args()
    root = chosen.folder.resolve()
    arrivals = Arrivals(root)
    stage = Stage(read_object(chosen.misbehaving))
    context, ca = own_certificate() if chosen.starttls else (None, None)
    loop = asyncio.get_running_loop()
    mailboxes = Mailboxes(root, stage, arrivals)

    def conversation() -> Any:
        return SMTP(
            mailboxes,
            loop=loop,
            hostname="receiver.test",
            tls_context=context,
            require_starttls=chosen.starttls,
        )

    async def serve(door: socket.socket) -> None:
        await loop.create_server(conversation, sock=door)

    await stage.run(serve, arrivals, {} if ca is None else {"ca": ca})


if __name__ == "__main__":
    asyncio.run(main())
