"""Deposits and refusals: between the records of a sender's topics and the values of the domain.

A deposit is checked as a posted submission is, by the same model: the same flaws, under the same pointers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from hub.domain.deposit import Deposit, Refusal
from hub.domain.errors import Flaw, Invalid
from hub.ports.log import Record
from hub.wire.avro import decode, encode
from hub.wire.reading import MOST_FLAWS, flaws_of, loads
from hub.wire.submissions import offer_document
from schemas.models.deposits import DepositAttachmentRecord, DepositRecord, FlawRecord, RefusalRecord
from schemas.models.submission import SubmissionIn

DEPOSIT = "deposit.v1"
REFUSAL = "refusal.v1"

MOST_INLINE = 900_000
"""Bytes of the files and of `content` that a deposit may carry in itself."""


def read_deposit(record: Record) -> Deposit:
    """Raises Invalid with every flaw."""
    told = _shape(record)
    flaws = list(_flaws_of_files(told))
    posted, more = _posted(told)
    if posted is None or flaws or more:
        raise Invalid(*flaws, *more)
    return Deposit(
        sender=told.sender,
        external_id=posted.external_id,
        document=offer_document(posted),
        contents={
            number: file.content
            for number, file in enumerate(told.attachments, start=1)
            if file.content is not None
        },
        upload=told.upload,
        uploaded={
            number: file.uploaded
            for number, file in enumerate(told.attachments, start=1)
            if file.uploaded is not None
        },
    )


def external_id_of(record: Record) -> str | None:
    """What a record that may have flaws calls itself, where that is a name it may have."""
    try:
        name = _shape(record).external_id
    except Invalid:
        return None
    return name if 1 <= len(name) <= 100 and all("!" <= sign <= "~" for sign in name) else None


def write_refusal(refusal: Refusal) -> Record:
    record = RefusalRecord(
        partition=refusal.partition,
        offset=refusal.offset,
        external_id=refusal.external_id,
        problem=refusal.problem,
        flaws=[
            FlawRecord(field=flaw.field, rule=flaw.rule, detail=flaw.detail)
            for flaw in refusal.flaws[:MOST_FLAWS]
        ],
    )
    return Record((refusal.external_id or "").encode(), REFUSAL, encode(REFUSAL, record.model_dump()))


def _shape(record: Record) -> DepositRecord:
    told = decode(DEPOSIT, record)
    try:
        return DepositRecord.model_validate(told)
    except ValidationError as error:
        raise Invalid(*flaws_of(error)) from None


def _posted(told: DepositRecord) -> tuple[SubmissionIn | None, list[Flaw]]:
    """As it would have been posted; or its flaws."""
    try:
        content = None if told.content is None else loads(told.content)
    except (ValueError, RecursionError):
        return None, [Flaw("/content", "json", "this is not well-formed JSON")]
    described: dict[str, Any] = {
        "external_id": told.external_id,
        "procedure": told.procedure,
        "facts": {
            name: value if isinstance(value, str) else value.model_dump()
            for name, value in told.facts.items()
        },
        "applicant": None if told.applicant is None else told.applicant.model_dump(),
        "content": content,
        "attachments": [file.model_dump(exclude={"content", "uploaded"}) for file in told.attachments],
    }
    try:
        return SubmissionIn.model_validate(described), []
    except ValidationError as error:
        return None, flaws_of(error)


def _flaws_of_files(told: DepositRecord) -> Iterator[Flaw]:
    inline = len(told.content or "") + sum(len(file.content or b"") for file in told.attachments)
    if inline > MOST_INLINE:
        yield Flaw("", "too_large", f"a deposit carries at most {MOST_INLINE} bytes: upload its files first")
    taken: set[int] = set()
    for index, file in enumerate(told.attachments):
        yield from _flaws_of_file(f"/attachments/{index}", file, told, taken)


def _flaws_of_file(
    where: str, file: DepositAttachmentRecord, told: DepositRecord, taken: set[int]
) -> Iterator[Flaw]:
    if file.content is not None and file.uploaded is not None:
        yield Flaw(where, "two_files", "its bytes are here or in the upload, not in both")
    elif file.uploaded is not None and told.upload is None:
        yield Flaw("/upload", "missing", "a file is said to be uploaded, and no upload is named")
    elif file.uploaded is not None and file.uploaded in taken:
        yield Flaw(f"{where}/uploaded", "used_twice", "a file of an upload is one attachment")
    elif file.content is None and file.uploaded is None:
        yield Flaw(where, "missing_file", "`content` carries its bytes, or `uploaded` names them")
    if file.uploaded is not None:
        taken.add(file.uploaded)
