"""The mail a town hall reads: its words, in French.

Business of this file: what is said of a parcel, of several in a digest, and of where they can be fetched. The subject
says no more than reference and procedure, because subjects are read on screens and in notifications; a mail that is
no more than a notification says nothing else either, and the subject of one that is encrypted names no procedure. How
it becomes bytes is in `mime`, how it looks in `looks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from uuid import UUID
from zoneinfo import ZoneInfo

from connectors.mail.envelope import Certificates, enveloped, share_of
from connectors.mail.looks import Block, Facts, Pieces, as_html, as_text
from connectors.mail.mime import Attached, address_list, entity, one_line, written
from connectors.parcels import harmless_name
from hub.ports.connector import Parcel, ParcelFile

_OVERHEAD = 16_384
_PARIS = ZoneInfo("Europe/Paris")


@dataclass(frozen=True, slots=True)
class Letterhead:
    """`now`: seconds since the epoch, for the date of the mail. `mailbox`: where partners fetch by themselves.
    `utf8`: the server takes headers in UTF-8, and one of the addresses needs it. `certificates`: whom it is encrypted
    to; none: it is not."""

    sender: str
    recipients: tuple[str, ...]
    now: float
    mailbox: str
    utf8: bool = False
    certificates: Certificates = ()


def attached(parcel: Parcel, head: Letterhead, contents: Sequence[bytes]) -> bytes:
    """`contents`: the bytes of each file, in the order of `parcel.files`."""
    pieces = Pieces(
        "Pièces jointes à ce courriel :",
        tuple((_described(file), harmless_name(file), None) for file in parcel.files),
    )
    files = [
        Attached(harmless_name(file), file.media_type, content)
        for file, content in zip(parcel.files, contents, strict=True)
    ]
    return _of_one(parcel, head, [pieces], files)


def linked(parcel: Parcel, head: Letterhead, links: Sequence[str]) -> bytes:
    """`links`: where each file can be fetched, in the order of `parcel.files`."""
    return _of_one(parcel, head, [_links(_LINKS, parcel, links)])


def referred(parcel: Parcel, head: Letterhead) -> bytes:
    """Only that there is something, under which reference, and where it can be fetched."""
    return _of_one(parcel, head, _where(head, several=False))


def digest(
    parcels: Sequence[Parcel], head: Letterhead, name: UUID, links: Sequence[Sequence[str]] | None
) -> bytes:
    """All of an issue, which has this name, by their references. `links` of each parcel's files; None: they are to be
    fetched from the mailbox."""
    number = len(parcels)
    many = number > 1
    title = f"{number} télédossiers à traiter" if many else "1 télédossier à traiter"
    if links is None:
        blocks: list[Block] = [Facts(_facts(parcel, short=True)) for parcel in parcels]
        blocks += _where(head, several=many)
    else:
        blocks = [_LINKS]
        for parcel, theirs in zip(parcels, links, strict=True):
            blocks += [Facts(_facts(parcel, short=True)), _links("Pièces :", parcel, theirs)]
    said = f"{number} télédossiers vous sont transmis." if many else "Un télédossier vous est transmis."
    return _mail(name, head, title, [said, *blocks, *_CLOSING], [("X-Aiguillage-Issue", str(name))])


def notice(parcel: Parcel, head: Letterhead, text: str) -> bytes:
    """A mail that only says this, paragraph by paragraph."""
    subject = "Votre service ne répond plus : télédossiers en boîte de dépôt"
    return _mail(
        parcel.attempt.delivery,
        head,
        subject,
        [part for part in text.split("\n\n") if part.strip() not in ("", "Bonjour,", _AUTOMATIC)],
        [("X-Aiguillage-Delivery", str(parcel.attempt.delivery))],
    )


def message_id(name: UUID, sender: str) -> str:
    """Of a delivery or an issue; the same for every attempt: a mail program that knows it shows the mail once."""
    return f"<{name}@{sender.partition('@')[2]}>"


def mail_size(parcel: Parcel) -> int:
    """At most how many bytes the mail has with its files attached: base64 in lines, and headers."""
    return _OVERHEAD + sum(file.size * 11 // 8 + 2048 for file in parcel.files)


def enveloped_size(parcel: Parcel, certificates: Certificates) -> int:
    """The same of one that is encrypted: base64 in base64."""
    return _OVERHEAD + (mail_size(parcel) + share_of(certificates)) * 11 // 8


def _of_one(
    parcel: Parcel, head: Letterhead, blocks: Sequence[Block], files: Sequence[Attached] = ()
) -> bytes:
    # Nobody but its reader is to learn from it what somebody asked for.
    subject = f"Télédossier {parcel.external_id}" + (
        "" if head.certificates else f" – {parcel.procedure_title}"
    )
    headers = [
        ("X-Aiguillage-Delivery", str(parcel.attempt.delivery)),
        ("X-Aiguillage-Sequence", str(parcel.sequence)),
    ]
    said = ["Un télédossier vous est transmis.", Facts(_facts(parcel)), *blocks, *_CLOSING]
    return _mail(parcel.attempt.delivery, head, subject, said, headers, files)


def _mail(
    name: UUID,
    head: Letterhead,
    subject: str,
    blocks: Sequence[Block],
    headers: Sequence[tuple[str, str]],
    files: Sequence[Attached] = (),
) -> bytes:
    every = [
        ("From", head.sender),
        ("Subject", subject),
        ("Date", formatdate(head.now)),
        ("Message-ID", message_id(name, head.sender)),
        # RFC 3834: no holiday message may answer this.
        ("Auto-Submitted", "auto-generated"),
        *headers,
    ]
    whole = ("Bonjour,", *blocks, _AUTOMATIC)
    text, html = as_text(whole), as_html(one_line(subject), whole)
    said = entity(text, html, files, name.hex)
    if head.certificates:
        said = enveloped(said, head.certificates)
    return address_list("To", head.recipients) + b"\r\n" + written(every, said, utf8=head.utf8)


_LINKS = "Pièces à télécharger (chaque lien est personnel et valable pour une durée limitée) :"

_CLOSING = (
    "Le numéro d'ordre augmente de un à chaque télédossier qui vous est adressé : s'il en manque un, signalez-le. "
    "Le même identifiant de remise désigne toujours le même télédossier.",
)

_AUTOMATIC = "Ce courriel est envoyé automatiquement, merci de ne pas y répondre."


def _where(head: Letterhead, *, several: bool) -> list[Block]:
    what = "Ils vous attendent" if several else "Il vous attend"
    return [
        f"{what} dans votre boîte de dépôt, que votre jeton d'accès vous ouvre :",
        Pieces("", ((head.mailbox, None, head.mailbox),)),
    ]


def _links(title: str, parcel: Parcel, links: Sequence[str]) -> Pieces:
    return Pieces(
        title,
        tuple((_described(file), None, link) for file, link in zip(parcel.files, links, strict=True)),
    )


def _facts(parcel: Parcel, *, short: bool = False) -> tuple[tuple[str, str], ...]:
    received = parcel.received_at.astimezone(_PARIS)
    procedure = (
        one_line(parcel.procedure_title)
        if short
        else f"{one_line(parcel.procedure_title)} ({one_line(parcel.procedure)})"
    )
    every = (
        ("Référence", one_line(parcel.external_id)),
        ("Démarche", procedure),
        ("Service émetteur", one_line(parcel.sender)),
        ("Reçu le", f"{received:%d/%m/%Y à %H:%M} (heure de Paris)"),
        ("Destinataire", str(parcel.subscriber)),
        ("Numéro d'ordre", str(parcel.sequence)),
        ("Identifiant de remise", str(parcel.attempt.delivery)),
    )
    return tuple(fact for fact in every if fact[0] != "Destinataire") if short else every


def _described(file: ParcelFile) -> str:
    if file.number == 0:
        return f"Description du télédossier ({_size(file.size)})"
    return f"Pièce {file.number}, {one_line(file.type)} ({_size(file.size)})"


def _size(size: int) -> str:
    for unit, name in ((1_000_000, "Mo"), (1_000, "Ko")):
        if size >= unit:
            return f"{size / unit:.1f} {name}".replace(".", ",")
    return f"{size} octets"
