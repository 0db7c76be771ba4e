"""The mail a town hall reads: its text, its headers, its attachments.

Business of this file: from a parcel to the bytes of a mail (RFC 5322, 2045, 2231), in French. Nothing a
sender wrote can add a header; the subject says no more than reference and procedure, because subjects are
read on screens and in notifications. It talks to no server.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from zoneinfo import ZoneInfo

from connectors.parcels import harmless_name
from hub.ports.connector import Parcel, ParcelFile

_MEDIA_TYPE = re.compile(r"(application|audio|font|image|model|text|video)/[A-Za-z0-9!#$&^_.+-]{1,100}")
_OVERHEAD = 8192


@dataclass(frozen=True, slots=True)
class Letterhead:
    """`now`: seconds since the epoch, for the date of the mail."""

    sender: str
    recipients: tuple[str, ...]
    now: float


def attached(parcel: Parcel, head: Letterhead, contents: Sequence[bytes]) -> bytes:
    """`contents`: the bytes of each file, in the order of `parcel.files`."""
    listed = [f"  {_described(file)} : {harmless_name(file)}" for file in parcel.files]
    mail = _mail(parcel, head, ["Pièces jointes à ce courriel :", *listed])
    for file, content in zip(parcel.files, contents, strict=True):
        main, _, sub = _media_type(file).partition("/")
        mail.add_attachment(content, maintype=main, subtype=sub, filename=harmless_name(file))
    return mail.as_bytes()


def linked(parcel: Parcel, head: Letterhead, links: Sequence[str]) -> bytes:
    """`links`: where each file can be fetched, in the order of `parcel.files`."""
    listed = [
        line
        for file, link in zip(parcel.files, links, strict=True)
        for line in (f"  {_described(file)} :", f"  {_line(link)}")
    ]
    return _mail(
        parcel,
        head,
        ["Pièces à télécharger (chaque lien est personnel et valable pour une durée limitée) :", *listed],
    ).as_bytes()


def notice(parcel: Parcel, head: Letterhead, text: str) -> bytes:
    """A mail that only says this."""
    mail = _headed(parcel, head, "Votre service ne répond plus : télédossiers en boîte de dépôt")
    mail.set_content(text, cte="quoted-printable")
    return mail.as_bytes()


def message_id(parcel: Parcel, sender: str) -> str:
    """The same for every attempt: a mail program that knows it shows the mail once."""
    return f"<{parcel.attempt.delivery}@{sender.partition('@')[2]}>"


def mail_size(parcel: Parcel) -> int:
    """At most how many bytes the mail has with its files attached: base64 in lines, and headers."""
    return _OVERHEAD + sum(file.size * 11 // 8 + 1024 for file in parcel.files)


def _mail(parcel: Parcel, head: Letterhead, pieces: Sequence[str]) -> EmailMessage:
    mail = _headed(parcel, head, f"Télédossier {parcel.external_id} – {parcel.procedure_title}")
    mail["X-Aiguillage-Sequence"] = str(parcel.sequence)
    mail.set_content("\n".join((*_text(parcel), "", *pieces, *_CLOSING)) + "\n", cte="quoted-printable")
    return mail


def _headed(parcel: Parcel, head: Letterhead, subject: str) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"] = head.sender
    mail["To"] = ", ".join(head.recipients)
    mail["Subject"] = _line(subject)
    mail["Date"] = formatdate(head.now)
    mail["Message-ID"] = message_id(parcel, head.sender)
    # RFC 3834: no holiday message may answer this.
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Aiguillage-Delivery"] = str(parcel.attempt.delivery)
    return mail


def _text(parcel: Parcel) -> Sequence[str]:
    received = parcel.received_at.astimezone(ZoneInfo("Europe/Paris"))
    return (
        "Bonjour,",
        "",
        "Un télédossier vous est transmis.",
        "",
        f"  Démarche : {_line(parcel.procedure_title)} ({_line(parcel.procedure)})",
        f"  Référence : {_line(parcel.external_id)}",
        f"  Service émetteur : {_line(parcel.sender)}",
        f"  Reçu le : {received:%d/%m/%Y à %H:%M} (heure de Paris)",
        f"  Destinataire : {parcel.subscriber}",
        f"  Numéro d'ordre : {parcel.sequence}",
        f"  Identifiant de remise : {parcel.attempt.delivery}",
    )


_CLOSING = (
    "",
    "Le numéro d'ordre augmente de un à chaque télédossier qui vous est adressé : s'il en manque un,",
    "signalez-le. Le même identifiant de remise désigne toujours le même télédossier.",
    "",
    "Ce courriel est envoyé automatiquement, merci de ne pas y répondre.",
)


def _described(file: ParcelFile) -> str:
    if file.number == 0:
        return f"Description du télédossier ({_size(file.size)})"
    return f"Pièce {file.number}, {_line(file.type)} ({_size(file.size)})"


def _size(size: int) -> str:
    for unit, name in ((1_000_000, "Mo"), (1_000, "Ko")):
        if size >= unit:
            return f"{size / unit:.1f} {name}".replace(".", ",")
    return f"{size} octets"


def _media_type(file: ParcelFile) -> str:
    """As the sender said, unless a mail would read it as more than a file (a mail, several parts)."""
    return file.media_type if _MEDIA_TYPE.fullmatch(file.media_type) else "application/octet-stream"


def _line(text: str) -> str:
    """On one line, whatever the text holds: no line end can begin a header, no lone surrogate can break
    the encoding. Nor can an encoded word (RFC 2047), which the mail library would decode, line ends and
    all: its beginning is broken."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())[:500].replace("=?", "= ?")
