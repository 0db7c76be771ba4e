"""Parcels (plis): from a claimed delivery to what its partner gets.

A parcel's files are a function of the delivery alone: built twice, they are equal, byte for byte. Business
of this room: opening the sealed document, safe names, the hub's own description (file 0), and streams of
the attachments. It sends nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from hub.domain.document import Document, OfferedFile, canonical
from hub.domain.errors import MissingKey
from hub.domain.filenames import safe_names
from hub.domain.identity import ParcelKind
from hub.domain.pace import HERE
from hub.domain.partner import minute_since
from hub.ports.attachments import Attachments
from hub.ports.connector import Parcel, ParcelFile
from hub.ports.keyring import DataKey, Keyring
from hub.ports.lanes import Claim
from hub.services import events
from hub.services.evidence import seal_answer
from hub.services.times import rfc3339

DESCRIPTION = "submission.json"


class ParcelRoom:
    """`title` gives a procedure's title by its code."""

    def __init__(self, attachments: Attachments, keyring: Keyring, title: Callable[[str], str]) -> None:
        self._attachments = attachments
        self._keyring = keyring
        self._title = title
        self._events = events.EventRoom(attachments, keyring)

    def build(self, claim: Claim) -> Parcel:
        """Raises MissingKey (the submission was purged) or Tampered."""
        if claim.kind is ParcelKind.NOTICE:
            return self._parcel(claim, (_notice(claim),))
        if claim.kind is ParcelKind.NEWS:
            news = self._parcel(claim, self._news(claim))
            return news if claim.event is None else replace(news, received_at=claim.event.at)
        opened = self._open(claim)
        given = [self._file(opened, file) for file in opened.given]
        return self._parcel(claim, (_description(claim, opened), *given))

    def _parcel(self, claim: Claim, files: tuple[ParcelFile, ...]) -> Parcel:
        return Parcel(
            attempt=claim.attempt,
            subscriber=claim.subscriber,
            sequence=claim.sequence,
            sender=claim.sender,
            external_id=claim.external_id,
            procedure=claim.procedure,
            procedure_title=self._title(claim.procedure),
            kind=claim.kind,
            revision=claim.revision,
            received_at=claim.received_at,
            files=files,
            named=claim.named,
        )

    def _news(self, claim: Claim) -> tuple[ParcelFile, ...]:
        if claim.event is None:
            raise MissingKey
        opened = self._events.open(claim.event)
        told = _own_file(events.DESCRIPTION, "event", "application/json", events.described(opened))
        return (told,) if opened.file is None else (told, opened.file)

    def file(self, claim: Claim, number: int) -> ParcelFile | None:
        """One file of the parcel, None if it has no such file. Raises as `build`."""
        if claim.kind is ParcelKind.NEWS:
            return next((file for file in self._news(claim) if file.number == number), None)
        opened = self._open(claim)
        if number == 0:
            return _description(claim, opened)
        return next((self._file(opened, file) for file in opened.given if file.number == number), None)

    def seal_answer(self, claim: Claim, answer: bytes | None) -> bytes | None:
        """What the partner's server said to an attempt, as it may be stored."""
        return seal_answer(self._keyring, claim.wrapped_key, claim.attempt, answer)

    def _open(self, claim: Claim) -> _Opened:
        if not claim.wrapped_key:
            raise MissingKey
        key = self._keyring.unwrap(claim.wrapped_key)
        document = Document.parse(self._keyring.open(key, claim.sealed, claim.submission.bytes))
        locations = {stored.facts.number: stored.location for stored in claim.attachments}
        given = tuple(file for file in document.files if file.number in locations)
        return _Opened(
            key, document, given, locations, safe_names((file.number, file.name) for file in given)
        )

    def _file(self, opened: _Opened, file: OfferedFile) -> ParcelFile:
        return ParcelFile(
            number=file.number,
            name=opened.names[file.number],
            original=file.name,
            type=file.type,
            media_type=file.media_type,
            size=file.size,
            sha256=file.sha256,
            open=self._opener(opened.locations[file.number], opened.key),
        )

    def _opener(self, location: str, key: DataKey) -> Callable[[int, int | None], AsyncIterator[bytes]]:
        return lambda start, end: self._attachments.read(location, key, start, end)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A claim's document, and the files of it that the delivery is given."""

    key: DataKey
    document: Document = field(repr=False)
    given: tuple[OfferedFile, ...]
    locations: Mapping[int, str]
    names: Mapping[int, str] = field(repr=False)


def _description(claim: Claim, opened: _Opened) -> ParcelFile:
    """File 0: what the partner's software needs to file the parcel, with its digests."""
    # In the order of names, as what is within comes from a canonical text.
    told: dict[str, Any] = {
        "applicant": opened.document.applicant,
        "content": opened.document.content,
        "delivery": str(claim.attempt.delivery),
        "external_id": claim.external_id,
        "facts": opened.document.facts,
        "files": [
            {
                "media_type": file.media_type,
                "name": opened.names[file.number],
                "number": file.number,
                "original_name": file.name,
                "sha256": file.sha256,
                "size": file.size,
                "type": file.type,
            }
            for file in opened.given
        ],
        "kind": claim.kind.value,
        "procedure": claim.procedure,
        "received_at": rfc3339(claim.received_at),
        "recipient": {"branch": claim.subscriber.branch, "siret": claim.subscriber.siret},
        "revision": claim.revision,
        "sender": claim.sender,
        "sequence": claim.sequence,
    }
    return _own_file(DESCRIPTION, "description", "application/json", _written(told))


def _written(told: Mapping[str, Any]) -> bytes:
    """In a quarter of the standard library's time, which is needed for signs that UTF-8 cannot hold."""
    try:
        return to_json(told)
    except PydanticSerializationError:
        return canonical(told)


def _notice(claim: Claim) -> ParcelFile:
    """What is told to a partner whose endpoint fails: the text of a mail, and nothing of any submission."""
    since = minute_since(claim.revision).astimezone(HERE)
    text = f"""Bonjour,

Depuis le {since:%d/%m/%Y à %H:%M} (heure de Paris), votre service ne répond plus : les télédossiers
qui vous sont destinés ne peuvent pas y être remis.

  Destinataire : {claim.subscriber}

Ils vous attendent dans votre boîte de dépôt, où vous pouvez les retirer avec votre jeton d'accès.
Aucun n'est perdu. La remise habituelle reprendra d'elle-même dès que votre service répondra.

Ce courriel est envoyé automatiquement, merci de ne pas y répondre.
"""
    return _own_file("avis.txt", "notice", "text/plain; charset=utf-8", text.encode())


def _own_file(name: str, type: str, media_type: str, content: bytes) -> ParcelFile:
    async def read(start: int, end: int | None) -> AsyncIterator[bytes]:
        yield content[start:end]

    return ParcelFile(
        number=0,
        name=name,
        original=name,
        type=type,
        media_type=media_type,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        open=read,
    )
