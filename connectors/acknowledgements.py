"""Acknowledgement files (acquittements): what a partner says of a delivery, as XML in a file. Pure.

Two forms are read. The hub's own:

    <acquittement>
      <remise>5f0c…</remise>                       the delivery, as the parcel names it; or else
      <numero>A-9-X3UGO4V7</numero> <demarche>…</demarche>   the sender's number, and the procedure
      <statut>DONE</statut> <message>…</message>   one of these three at least
      <fichier>arrete.pdf</fichier>                a document that lies beside this file; its length in bytes and its
      <taille>…</taille> <empreinte>…</empreinte>  SHA-256 in hexadecimal digits are compared, where they are said
    </acquittement>

And the message of the State's SFTP exchange, on its way back: `MessageId` (which holds the delivery in what this hub
sends) or `NumeroTeledemarche`, with `Etat` in `Body/Content/Retour`, or a content that is named `AVL` or `ANL`.

An acknowledgement says one thing: an element of the first form that stands twice, or a second content, `Retour` or
other `Etat` of the second, makes it unreadable: nobody could tell which of them is meant.
Name spaces are not looked at: partners' software differs in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from mimetypes import MimeTypes
from uuid import UUID
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from hub.domain.cases import CaseStatus
from hub.domain.reports import LONGEST_FILE_NAME, LONGEST_MESSAGE, ReturnedFile
from hub.ports.returns import Acknowledgement

LARGEST = 64 * 1024
"""Bytes of such a file."""

WORDS: Mapping[str, CaseStatus] = {
    **{status.value: status for status in CaseStatus},
    # Delivered, and not delivered, in the State's exchange.
    "AVL": CaseStatus.SI_RECEIVED,
    "ANL": CaseStatus.SI_INTG_ERROR,
    # What the software of a service writes into `Etat`.
    "14": CaseStatus.SI_RECEIVED,
    "15": CaseStatus.SI_INTG_ERROR,
    "16": CaseStatus.IN_PROGRESS,
    "17": CaseStatus.ADD_AWAITING,
    "19": CaseStatus.DONE,
    "20": CaseStatus.REFUSED,
    "100": CaseStatus.DONE,
}

_OWN = frozenset({"remise", "numero", "demarche", "statut", "message", "fichier", "taille", "empreinte"})

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# Python's own table, without what a machine adds: read on another one, the same file must say the same.
_TYPES = MimeTypes()
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[0-9]{1,12}")
_LONGEST = 100


class Unreadable(Exception):
    """Its text is a word of ours: why nobody can read it."""


def read_acknowledgement(content: bytes) -> Acknowledgement:
    """Raises Unreadable."""
    if len(content) > LARGEST:
        raise Unreadable("too_large")
    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        # The library says ValueError of what it forbids and of codings it cannot read.
        raise Unreadable("no_xml") from None
    match _local(root):
        case "acquittement":
            said = _own(root)
        case "Message":
            said = _state(root)
        case _:
            raise Unreadable("unknown_form")
    if said.delivery is None and said.external_id is None:
        raise Unreadable("no_delivery")
    if said.status is None and said.message is None and said.document is None:
        raise Unreadable("says_nothing")
    return said


def _own(root: Element) -> Acknowledgement:
    told: dict[str, str] = {}
    for child in root:
        name = _local(child)
        if name in told and name in _OWN:
            raise Unreadable("said_twice")
        told[name] = (child.text or "").strip()
    named = told.get("remise", "")
    if named and not _UUID.fullmatch(named):
        raise Unreadable("no_delivery")
    return Acknowledgement(
        delivery=UUID(named) if named else None,
        external_id=_short(told.get("numero")),
        procedure=_short(told.get("demarche")),
        status=_status(told.get("statut")),
        message=_message(told.get("message")),
        document=_document(told.get("fichier"), told.get("taille"), told.get("empreinte")),
    )


def _state(root: Element) -> Acknowledgement:
    named = _UUID.search(_first(root, "MessageId") or "")
    content = _only(root, "Content")
    if content is None:
        content = root
    answer = _only(content, "Retour")
    if answer is not None:
        status, message = _status(_one_word(answer, "Etat")), _message(_one_word(answer, "Commentaire"))
    else:
        kinds = [_local(child) for child in content if _local(child) in ("AVL", "ANL")]
        status, message = (WORDS[kinds[0]] if len(kinds) == 1 else None), None
    return Acknowledgement(
        delivery=UUID(named[0]) if named else None,
        external_id=_short(_first(root, "NumeroTeledemarche")),
        procedure=_short(_first(root, "NumeroDemarche")),
        status=status,
        message=message,
    )


def _status(word: str | None) -> CaseStatus | None:
    if not word:
        return None
    status = WORDS.get(word)
    if status is None:
        raise Unreadable("unknown_status")
    return status


def _message(text: str | None) -> str | None:
    if not text:
        return None
    if len(text) > LONGEST_MESSAGE:
        raise Unreadable("long_message")
    return text


def _document(name: str | None, size: str | None, digest: str | None) -> ReturnedFile | None:
    if not name:
        if size or digest:
            raise Unreadable("document_name")
        return None
    # A file of this folder, and none that it hides.
    if len(name) > LONGEST_FILE_NAME or not name.isprintable() or name.startswith(".") or {*"/\\"} & {*name}:
        raise Unreadable("document_name")
    if size and not _SIZE.fullmatch(size):
        raise Unreadable("document_size")
    if digest and not _SHA256.fullmatch(digest.lower()):
        raise Unreadable("document_digest")
    media_type = _TYPES.guess_type(name)[0] or "application/octet-stream"
    return ReturnedFile(name, media_type, int(size) if size else None, digest.lower() if digest else None)


def _short(text: str | None) -> str | None:
    if text and len(text) > _LONGEST:
        raise Unreadable("no_delivery")
    return text or None


def _first(root: Element, name: str) -> str | None:
    found = next(_within(root, name), None)
    return None if found is None else (found.text or "").strip()


def _only(root: Element, name: str) -> Element | None:
    found = [*_within(root, name)]
    if len(found) > 1:
        raise Unreadable("said_twice")
    return found[0] if found else None


def _one_word(root: Element, name: str) -> str | None:
    """The same one may stand there again."""
    found = {(one.text or "").strip() for one in _within(root, name)}
    if len(found) > 1:
        raise Unreadable("said_twice")
    return next(iter(found), None)


def _within(root: Element, name: str) -> Iterator[Element]:
    return (child for child in root.iter() if _local(child) == name)


def _local(element: Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
