"""The service-public profile: the zip in which the State's form site has always sent télédossiers by SFTP.

Business of this file: the archive's name, the names of what is in it, and two files of its own: `message.xml` (who
sends what to whom) and the header `-ent-` (what the message says of the form, again). The sender's files are passed on
as they are. There is no password in it: the follow-up site that one was for is no part of this hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

from connectors.layouts.entries import Entry, number, own_entry
from connectors.parcels import harmless_name, slug
from hub.domain.pace import HERE
from hub.ports.connector import Parcel, ParcelFile

MESSAGE = "message.xml"
PEC = "http://finances.gouv.fr/dgme/pec/message/v1"
FORM = "http://finances.gouv.fr/dgme/gf/composants/teledemarchexml/donnee/metier"
_XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'

_CLEAN = re.compile(r"[A-Za-z0-9._-]+")
# What the State calls a document (doc): the form itself, as data and to be read. All else is an attachment (pj).
_DOCUMENT = re.compile(r"flux|recap|cerfa|formulaire|[0-9]{5}-[0-9]{2}$", re.IGNORECASE)
_NAMED = re.compile(r"(?P<kind>doc|pj)-(?P<code>.{1,100})-[0-9]{1,4}-[0-9]{1,4}(\.[A-Za-z0-9]{1,10})?")
_HEADER = re.compile(r".*-ent-[0-9]+(-.*)?\.xml", re.IGNORECASE)
# Characters that XML 1.0 cannot hold, escaped or not.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COMMUNE = re.compile(r"[0-9][0-9AB][0-9]{3}")

_BODY = """Bonjour,

Un usager a déposé un dossier destiné à votre service dans le cadre d'une démarche en ligne.

Vous trouverez en pièces jointes la déclaration et ses éventuelles pièces justificatives.

Ce message a été envoyé automatiquement, merci de ne pas y répondre.
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sends, as the message tells it: an establishment, its service, and (where the partner's software is to mail)
    an address."""

    siret: str = ""
    service: str = ""
    mail: str | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """A file of the archive, as the message describes it."""

    entry: Entry
    is_document: bool
    code: str
    title: str


def archive_name(parcel: Parcel) -> str:
    return f"{_stem(parcel)}-{parcel.revision}.zip"


def _stem(parcel: Parcel) -> str:
    return f"{_number(parcel)}-{slug(parcel.procedure, 40)}"


def _number(parcel: Parcel) -> str:
    """Two numbers that look alike once they are names must not meet in one."""
    told = number(parcel)
    if _CLEAN.fullmatch(parcel.external_id) and slug(parcel.external_id, 80) == parcel.external_id:
        return told
    return f"{told}.{parcel.attempt.delivery.hex[:8]}"


async def service_public_entries(parcel: Parcel, origin: Origin) -> Sequence[Entry]:
    """The message first, then the others by their names. Raises what reading the parcel's description raises."""
    told = await _description(parcel)
    pieces = _pieces(parcel, told)
    form = _form(parcel, told, pieces)
    header = f'{_DECLARATION}<EnteteMetierEnveloppe xmlns="{FORM}">{form}</EnteteMetierEnveloppe>'
    entries = [piece.entry for piece in pieces]
    entries.append(own_entry(f"{_stem(parcel)}-ent-{parcel.revision}.xml", header.encode()))
    message = own_entry(MESSAGE, _message(parcel, origin, form).encode())
    return [message, *sorted(entries, key=lambda entry: entry.name)]


async def _description(parcel: Parcel) -> Mapping[str, Any]:
    """The hub's own description of the parcel, file 0: nothing else here reads what a citizen wrote."""
    for file in parcel.files:
        if file.number == 0 and file.type == "description":
            told = json.loads(b"".join([chunk async for chunk in file.open(0, None)]))
            return told if isinstance(told, dict) else {}
    return {}


# --- the files ---


def _pieces(parcel: Parcel, told: Mapping[str, Any]) -> Sequence[_Piece]:
    """The sender's files in its order; and the description behind them, where it tells what no file does."""
    taken = {MESSAGE}
    found = [_piece(parcel, file, taken) for file in parcel.files if file.number > 0]
    says_more = told.get("content") is not None or not any(piece.is_document for piece in found)
    return found + [_piece(parcel, file, taken) for file in parcel.files if file.number == 0 and says_more]


def _piece(parcel: Parcel, file: ParcelFile, taken: set[str]) -> _Piece:
    stem = _stem(parcel)
    name = harmless_name(file)
    rest = name.removeprefix(f"{stem}-")
    named = _NAMED.fullmatch(rest) if rest != name else None
    if named is not None and name.casefold() not in taken and not _HEADER.fullmatch(name):
        # As the State's form site named it.
        kind, code = named["kind"], named["code"]
    else:
        kind, code = ("doc" if _is_document(file) else "pj"), file.type
        name = _name(stem, kind, code, parcel.revision, name, taken)
    taken.add(name.casefold())
    return _Piece(Entry(name, file.size, file.sha256, file.open), kind == "doc", code, file.original)


def _is_document(file: ParcelFile) -> bool:
    return file.number == 0 or "xml" in file.media_type or _DOCUMENT.match(file.type) is not None


def _name(stem: str, kind: str, code: str, revision: int, name: str, taken: set[str]) -> str:
    _, dot, ending = name.rpartition(".")
    extension = f".{ending}" if dot and re.fullmatch(r"[A-Za-z0-9]{1,10}", ending) else ""
    word = slug(code, 60)
    if re.search(r"(^|-)ent(-|$)", word, re.IGNORECASE):
        # Readers find the header by this word.
        word = word.replace("-", "_") + "ete"
    count = 1
    while (made := f"{stem}-{kind}-{word}-{count}-{revision}{extension}").casefold() in taken:
        count += 1
    return made


# --- the message ---


def _form(parcel: Parcel, told: Mapping[str, Any], pieces: Sequence[_Piece]) -> str:
    """What the message and the header both say, in the form's name space."""
    applicant = told.get("applicant")
    email = applicant.get("email") if isinstance(applicant, dict) else None
    form = (
        _tag("NumeroTeledemarche", parcel.external_id),
        _tag("Suivi", ""),
        _tag("Date", _instant(parcel.received_at)),
        _tag("IdentifiantPlateforme", parcel.sender),
        _tag("Email", email if isinstance(email, str) else ""),
    )
    routing = "".join(
        f"<Donnee>{_tag('Id', name)}{_tag('Valeur', value)}</Donnee>"
        for name, value in _routing(parcel, told.get("facts"))
    )
    attached = "".join(
        f"<PieceJointe>{_tag('Intitule', piece.title)}{_tag('Code', piece.code)}"
        f"{_tag('Fichier', piece.entry.name)}</PieceJointe>"
        for piece in pieces
        if not piece.is_document
    )
    documents = "".join(
        f"<Document>{_tag('Code', piece.code)}{_tag('Nom', piece.code)}<FichierFormulaire>"
        f"{_tag('FichierDonnees', piece.entry.name)}</FichierFormulaire></Document>"
        for piece in pieces
        if piece.is_document
    )
    return (
        f"{_tag('NumeroDemarche', parcel.procedure)}<Teledemarche>{''.join(form)}</Teledemarche>"
        f"<Routage>{routing}</Routage>{attached}{documents}"
    )


def _routing(parcel: Parcel, facts: object) -> Sequence[tuple[str, str]]:
    """First the commune, by the name the State gives it, then each fact by its own."""
    told = sorted((str(name), str(value)) for name, value in facts.items()) if isinstance(facts, dict) else []
    communes = [value for name, value in told if name.startswith("commune") and _COMMUNE.fullmatch(value)]
    return [("CodeINSEE", communes[0] if communes else parcel.subscriber.branch), *told]


def _message(parcel: Parcel, origin: Origin, form: str) -> str:
    moment = parcel.received_at.astimezone(HERE)
    name = f"{parcel.external_id} {parcel.attempt.delivery} Principal {moment:%Y-%m-%dT%H:%M:%S}"
    sender = _location(origin.siret, origin.service, "<ns2:Guichet></ns2:Guichet>")
    recipient = _location(
        parcel.subscriber.siret, parcel.procedure, _tag("ns2:Guichet", parcel.subscriber.branch)
    )
    routing = (
        f"{_tag('ns2:MessageId', name)}{_tag('ns2:FlowType', parcel.procedure)}"
        f"<ns2:Sender>{sender}</ns2:Sender>"
        f"<ns2:Recipients><ns2:Recipient>{recipient}</ns2:Recipient></ns2:Recipients>"
        "<ns2:AckRequired>true</ns2:AckRequired><ns2:AckType>AVL</ns2:AckType><ns2:AckType>ANL</ns2:AckType>"
        f"<ns2:AckTo>{sender}</ns2:AckTo>"
    )
    security = (
        "<ns2:Horodatage>true</ns2:Horodatage>"
        f"{_tag('ns2:DateTime', _instant(parcel.received_at))}"
        "<ns2:Rejeu><ns2:NbRejeu>3</ns2:NbRejeu><ns2:Delais>1</ns2:Delais></ns2:Rejeu>"
    )
    return (
        f'{_DECLARATION}<ns2:Message xmlns:ns2="{PEC}" xmlns="{FORM}"><ns2:Header>'
        f"<ns2:Routing>{routing}</ns2:Routing><ns2:Security>{security}</ns2:Security>{_mail(parcel, origin)}"
        f"</ns2:Header><ns2:Body><ns2:Content><ns2:Aller>{form}</ns2:Aller></ns2:Content></ns2:Body>"
        "</ns2:Message>"
    )


def _location(siret: str, service: str, counter: str) -> str:
    return (
        f'<ns2:Country>FR</ns2:Country><ns2:Location xsi:type="ns2:Location_FR" {_XSI}>'
        f"{_tag('ns2:Siret', siret)}{_tag('ns2:Service', service)}{counter}</ns2:Location>"
    )


def _mail(parcel: Parcel, origin: Origin) -> str:
    """What the partner's software may mail to its agents, where the partner's settings say from whom."""
    if origin.mail is None:
        return ""
    subject = f"{parcel.procedure} - {parcel.external_id} : dossier à traiter"
    return (
        f"<ns2:Extras><ns2:EmailConfiguration>{_tag('ns2:From', origin.mail)}{_tag('ns2:Subject', subject)}"
        f'<ns2:Body xsi:type="xs:string" xmlns:xs="http://www.w3.org/2001/XMLSchema" {_XSI}>{escape(_BODY)}'
        "</ns2:Body></ns2:EmailConfiguration></ns2:Extras>"
    )


def _tag(name: str, text: str) -> str:
    return f"<{name}>{escape(_NO_XML.sub('', text))}</{name}>"


def _instant(moment: datetime) -> str:
    """As the State writes it: milliseconds, and the hour of Paris with what it is off by."""
    return moment.astimezone(HERE).isoformat(timespec="milliseconds")
