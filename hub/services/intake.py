"""Intake: the first room. A sender's offer is checked, its files are sealed as they stream in, and one
transaction accepts it.

What may fail fails before the transaction: the sender then has no 202, and the files it sent are removed
here, or by the sweep if the process dies first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never
from uuid import UUID

import structlog

from hub.domain.document import Document
from hub.domain.errors import Flaw, HubError, Invalid, NotGranted, Unavailable
from hub.domain.facts import Checked, check
from hub.domain.identity import submission_id
from hub.domain.submission import Accepted, AttachmentFacts, Conflict, StoredAttachment, Submission
from hub.ports.attachments import Attachments, StoredFile
from hub.ports.intake import Intake
from hub.ports.keyring import DataKey, Keyring
from hub.ports.uploads import Upload
from hub.services.library import Library

log = structlog.get_logger()

USED_BEFORE = Flaw("/external_id", "used_before", "this name was used before for other content, which stands")
"""What is told of a contradiction."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a sender wants accepted, before its files are here."""

    sender: str
    external_id: str
    document: Document


@dataclass(slots=True)
class Reception:
    """An offer being received: its own data key, and the files stored so far (by number). Those of an upload are
    not its own until it is accepted."""

    offer: Offer
    checked: Checked
    id: UUID
    key: DataKey = field(repr=False)
    stored: dict[int, StoredFile] = field(default_factory=dict)
    upload: Upload | None = None

    def own(self) -> list[str]:
        theirs = () if self.upload is None else {file.location for file in self.upload.files}
        return [stored.name for stored in self.stored.values() if stored.name not in theirs]


@dataclass(frozen=True, slots=True)
class Receipt:
    """It is durable, whether it was now or before (`fresh`)."""

    submission: UUID
    received_at: datetime
    fresh: bool
    reception: Reception


@dataclass(frozen=True, slots=True)
class Contradiction:
    """This external id was used before for other content, which stands."""

    submission: UUID
    reception: Reception


class IntakeRoom:
    def __init__(self, store: Intake, attachments: Attachments, keyring: Keyring, library: Library) -> None:
        self._store = store
        self._attachments = attachments
        self._keyring = keyring
        self._library = library

    async def may_post(self, granted: Collection[str], procedure: str) -> None:
        """Raises Invalid for a procedure nobody knows, NotGranted for one this sender may not post."""
        if procedure in granted:
            return
        if procedure not in (await self._library.newest()).book.procedures:
            raise Invalid(_UNKNOWN_PROCEDURE)
        raise NotGranted(Flaw("/procedure", "not_granted", "this sender may not post this procedure"))

    async def begin(self, offer: Offer, upload: Upload | None = None) -> Reception:
        """Check everything that can be checked before the files. Raises Invalid, naming every flaw."""
        book = (await self._library.newest()).book
        procedure = book.procedures.get(offer.document.procedure)
        if procedure is None:
            raise Invalid(_UNKNOWN_PROCEDURE)
        checked = check(procedure, offer.document.facts, offer.document.files, book.territory)
        name = submission_id(offer.sender, offer.external_id)
        # The files of an upload are sealed already, under a key made for whoever takes them over.
        key = self._keyring.fresh() if upload is None else self._keyring.unwrap(upload.wrapped_key)
        return Reception(offer, checked, name, key, upload=upload)

    async def store_file(self, reception: Reception, number: int, chunks: AsyncIterator[bytes]) -> None:
        """Seal and store the bytes of file `number` as they come. Raises Invalid when they are not what
        was announced, as soon as that is certain; then nothing of the file remains."""
        announced = reception.offer.document.files[number - 1]
        field_name = f"/attachments/{number - 1}"
        stored = await self._attachments.put(_at_most(chunks, announced.size, field_name), reception.key)
        reception.stored[number] = stored
        if stored.size < announced.size:
            raise Invalid(Flaw(f"{field_name}/size", "truncated", "fewer bytes came than announced"))
        if not hmac.compare_digest(stored.sha256, bytes.fromhex(announced.sha256)):
            raise Invalid(_digest_mismatch(field_name))

    async def store_whole(
        self, reception: Reception, contents: Mapping[int, bytes], uploaded: Mapping[int, int] | None = None
    ) -> None:
        """All files at once, by number: bytes at hand, or files of the reception's upload by their number there.
        Raises Invalid; then, or when it is cancelled, nothing of them remains."""
        try:
            for number, place in (uploaded or {}).items():
                self._adopt(reception, number, place)
            for number, content in contents.items():
                await self.store_file(reception, number, _once(content))
            self.complete(reception)
        except BaseException:
            await self.give_up(reception)
            raise

    def _adopt(self, reception: Reception, number: int, place: int) -> None:
        announced = reception.offer.document.files[number - 1]
        field_name = f"/attachments/{number - 1}"
        files = () if reception.upload is None else reception.upload.files
        if not 1 <= place <= len(files):
            raise Invalid(Flaw(f"{field_name}/uploaded", "unknown_file", "the upload has no such file"))
        file = files[place - 1]
        if file.size != announced.size:
            raise Invalid(Flaw(f"{field_name}/size", "another_size", "the uploaded file has another size"))
        sha256 = bytes.fromhex(announced.sha256)
        if not hmac.compare_digest(file.digest, self._keyring.digest(sha256)):
            raise Invalid(_digest_mismatch(field_name))
        reception.stored[number] = StoredFile(file.location, file.size, sha256)

    def complete(self, reception: Reception) -> None:
        """Raises Invalid when a file that was announced did not come."""
        missing = [
            Flaw(f"/attachments/{file.number - 1}", "missing_file", "the bytes of this file did not come")
            for file in reception.offer.document.files
            if file.number not in reception.stored
        ]
        if missing:
            raise Invalid(*missing)

    async def accept(self, receptions: Sequence[Reception]) -> Sequence[Receipt | Contradiction]:
        """One answer for each, in order, durable when this returns. Offers of one name in a batch are
        folded: the first stands, equal ones get its answer, others are contradicted.

        The receptions must be complete. From here on their files are this room's: when the store's answer
        is lost, they may be named by what it accepted, so nobody but the sweep may remove them.
        """
        first: dict[UUID, tuple[Reception, Submission]] = {}
        for reception in receptions:
            if reception.id not in first:
                first[reception.id] = (reception, self._seal(reception))
        answers = await self._store.accept([submission for _, submission in first.values()])
        by_id = {found.submission: found for found in answers}
        result = [self._answer(each, first[each.id], by_id[each.id]) for each in receptions]
        for reception, answer in zip(receptions, result, strict=True):
            kept = isinstance(answer, Receipt) and answer.fresh and first[reception.id][0] is reception
            if not kept:
                # The answer stands whatever the disk says; what is left, the sweep takes.
                with contextlib.suppress(Unavailable):
                    await self.abandon(reception)
        return result

    async def recognise(self, offer: Offer) -> Accepted | Conflict | None:
        """What accepting this offer would answer if its name was accepted before; None if it was not."""
        name = submission_id(offer.sender, offer.external_id)
        return await self._store.recognise(name, self._keyring.digest(offer.document.canonical()))

    async def abandon(self, reception: Reception) -> None:
        """Remove what was stored for an offer that is not going to be accepted."""
        await self._attachments.remove(reception.own())

    async def give_up(self, reception: Reception) -> None:
        """The same, even while this task is being cancelled; what cannot be removed is left to the sweep. Never
        after the reception was handed over to be accepted."""
        try:
            await asyncio.shield(self.abandon(reception))
        except (HubError, OSError) as error:
            log.warning(
                "reception.left_to_the_sweep", submission=str(reception.id), error=type(error).__name__
            )

    def _seal(self, reception: Reception) -> Submission:
        offer = reception.offer
        text = offer.document.canonical()
        return Submission(
            id=reception.id,
            sender=offer.sender,
            external_id=offer.external_id,
            procedure=offer.document.procedure,
            facts=offer.document.facts,
            digest=self._keyring.digest(text),
            sealed=self._keyring.seal(reception.key, text, reception.id.bytes),
            wrapped_key=reception.key.wrapped,
            attachments=tuple(
                StoredAttachment(
                    AttachmentFacts(file.number, file.type, file.recipients),
                    file.size,
                    reception.stored[file.number].name,
                )
                for file in offer.document.files
            ),
            upload=None if reception.upload is None else reception.upload.id,
        )

    def _answer(
        self, reception: Reception, first: tuple[Reception, Submission], found: Accepted | Conflict
    ) -> Receipt | Contradiction:
        own = self._keyring.digest(reception.offer.document.canonical())
        same_as_first = hmac.compare_digest(own, first[1].digest)
        match found:
            case Accepted(submission=name, received_at=received_at, fresh=fresh) if same_as_first:
                if fresh and first[0] is reception:
                    log.info(
                        "submission.received",
                        submission=str(name),
                        sender=reception.offer.sender,
                        procedure=reception.offer.document.procedure,
                        files=len(reception.stored),
                    )
                return Receipt(name, received_at, fresh and first[0] is reception, reception)
            case Accepted(submission=name) | Conflict(submission=name):
                return Contradiction(name, reception)
            case _:
                assert_never(found)


_UNKNOWN_PROCEDURE = Flaw("/procedure", "unknown_procedure", "this hub knows no such procedure")


def _digest_mismatch(field_name: str) -> Flaw:
    return Flaw(f"{field_name}/sha256", "digest_mismatch", "the bytes have another digest")


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _at_most(chunks: AsyncIterator[bytes], size: int, field_name: str) -> AsyncIterator[bytes]:
    """Stops a file that is larger than announced before it fills the disk."""
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if seen > size:
            raise Invalid(Flaw(f"{field_name}/size", "oversized", "more bytes came than announced"))
        yield chunk
