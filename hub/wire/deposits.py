"""Deposits and refusals: between the records of a sender's topics and the values of the domain.

A deposit is checked as a posted submission is, by the same model: the same flaws, under the same pointers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hub.domain.deposit import Deposit, Refusal
from hub.domain.errors import Flaw, Invalid
from hub.ports.log import Record
from hub.wire.avro import decode, encode
from hub.wire.reading import MOST_FLAWS, flaws_of, loads
from hub.wire.submissions import offer_document
from schemas.models.submission import ExternalId, SubmissionIn

DEPOSIT = "deposit.v1"
REFUSAL = "refusal.v1"

MOST_INLINE = 900_000
"""Bytes of the files and of `content` that a deposit may carry in itself."""


def read_deposit(record: Record) -> Deposit:
    """Raises Invalid with every flaw."""
    told = decode(DEPOSIT, record)
    flaws = list(_flaws_of_files(told))
    posted, more = _posted(told)
    if posted is None or flaws or more:
        raise Invalid(*flaws, *more)
    files = list(enumerate(told["attachments"], start=1))
    return Deposit(
        sender=told["sender"],
        external_id=posted.external_id,
        document=offer_document(posted),
        contents={number: file["content"] for number, file in files if file["content"] is not None},
        upload=told["upload"],
        uploaded={number: file["uploaded"] for number, file in files if file["uploaded"] is not None},
    )


def external_id_of(record: Record) -> str | None:
    """What a record that may have flaws calls itself, where that is a name it may have."""
    try:
        return _NAME.validate_python(decode(DEPOSIT, record)["external_id"])
    except (Invalid, ValidationError):
        return None


def write_refusal(refusal: Refusal) -> Record:
    told = {
        "partition": refusal.partition,
        "offset": refusal.offset,
        "external_id": refusal.external_id,
        "problem": refusal.problem,
        "flaws": [
            {"field": flaw.field, "rule": flaw.rule, "detail": flaw.detail}
            for flaw in refusal.flaws[:MOST_FLAWS]
        ],
    }
    return Record((refusal.external_id or "").encode(), REFUSAL, encode(REFUSAL, told))


_NAME: TypeAdapter[str] = TypeAdapter(ExternalId)
_ELSEWHERE = ("content", "uploaded")


def _posted(told: Mapping[str, Any]) -> tuple[SubmissionIn | None, list[Flaw]]:
    """As it would have been posted; or its flaws."""
    try:
        content = None if told["content"] is None else loads(told["content"])
    except (ValueError, RecursionError):
        return None, [Flaw("/content", "json", "this is not well-formed JSON")]
    described = {
        **{name: told[name] for name in ("external_id", "procedure", "facts", "applicant")},
        "content": content,
        "attachments": [
            {name: value for name, value in file.items() if name not in _ELSEWHERE}
            for file in told["attachments"]
        ],
    }
    try:
        return SubmissionIn.model_validate(described), []
    except ValidationError as error:
        return None, flaws_of(error)


def _flaws_of_files(told: Mapping[str, Any]) -> Iterator[Flaw]:
    inline = len(told["content"] or "") + sum(len(file["content"] or b"") for file in told["attachments"])
    if inline > MOST_INLINE:
        yield Flaw("", "too_large", f"a deposit carries at most {MOST_INLINE} bytes: upload its files first")
    taken: set[int] = set()
    for index, file in enumerate(told["attachments"]):
        content, uploaded, where = file["content"], file["uploaded"], f"/attachments/{index}"
        if content is None and uploaded is None:
            yield Flaw(where, "missing_file", "`content` carries its bytes, or `uploaded` names them")
        elif content is not None and uploaded is not None:
            yield Flaw(where, "two_files", "its bytes are here or in the upload, not in both")
        elif uploaded is not None and told["upload"] is None:
            yield Flaw("/upload", "missing", "a file is said to be uploaded, and no upload is named")
        elif uploaded in taken:
            yield Flaw(f"{where}/uploaded", "used_twice", "a file of an upload is one attachment")
        taken |= {uploaded} - {None}
