"""Records of decisions: between what the rules come to and the published Avro schemas.

A record names its submission by its key, and its deliveries not at all: their names follow from whom it is for.
So most of a record is the same for all who are chosen alike, and is kept in the bytes it is written in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never
from uuid import UUID

from hub.domain.decisions import FIRST, Decision, Reason, Recipient, Routed, SetAside, Unroutable, Verdict
from hub.domain.errors import Flaw, Invalid
from hub.domain.identity import Subscriber
from hub.domain.matching import numbers_of
from hub.domain.plans import Choice, Grant
from hub.ports.log import Record
from hub.wire.avro import decode, encode, encode_part
from hub.wire.brief import Files
from schemas.avro import schema

DECISION = "decision.v3"
FORMER = ("decision.v1", "decision.v2")


def write_decision(decision: Decision) -> Record:
    """Only of a submission's first decision: the names of others do not follow from their recipients."""
    return Record(decision.submission.bytes, DECISION, _encoded(decision.snapshot, decision.verdict))


def read_decision_record(record: Record) -> Decision:
    """Raises Invalid for bytes that are no such record."""
    if record.schema in FORMER:
        return _read_former(record)
    told = decode(DECISION, record)
    if len(record.key) != 16 or told["number"] != FIRST:
        raise Invalid(Flaw("", "key", "the key is no submission's, or the decision not its first"))
    return Decision.first(UUID(bytes=record.key), told["snapshot"], _verdict(told))


def _read_former(record: Record) -> Decision:
    told = decode(record.schema, record)
    names = tuple(recipient["delivery"] for recipient in told["recipients"])
    return Decision(told["submission"], told["number"], told["snapshot"], _verdict(told), names)


class DecisionWriter:
    """Writes first decisions by the million, from what was chosen and the files there are.

    Avro writes one thing after the other, a list as its length, its elements and an end, which is also all there
    is of an empty one. So a record is put together of parts: what all of a snapshot have, each recipient, which
    was written when it was chosen for the first time, and the numbers of its files.
    """

    def __init__(self) -> None:
        self._snapshot: int | None = None
        self._heads: dict[int, bytes] = {}
        self._numbers: dict[tuple[int, ...], bytes] = {}

    def write(self, submission: bytes, snapshot: int, found: Choice | Grant, files: Files) -> Record:
        """`submission`: the 16 bytes of its id. What is asked for snapshot by snapshot is written fastest."""
        if snapshot != self._snapshot:
            self._heads.clear()
            self._snapshot = snapshot
        if isinstance(found, Grant):
            # What most come to, without a loop.
            numbers = numbers_of(found.rules, files)
            value = b"".join(
                (
                    self._heads.get(1) or self._head(1),
                    found.written or _write_recipient(found),
                    self._numbers.get(numbers) or self._write_numbers(numbers),
                    _END,
                )
            )
        elif found.verdict is not None:
            value = _encoded(snapshot, found.verdict)
        else:
            parts = [self._heads.get(len(found.grants)) or self._head(len(found.grants))]
            for grant in found.grants:
                numbers = numbers_of(grant.rules, files)
                parts.append(grant.written or _write_recipient(grant))
                parts.append(self._numbers.get(numbers) or self._write_numbers(numbers))
            value = b"".join((*parts, _END))
        return _new(Record, (submission, DECISION, value, b""))

    def _head(self, count: int) -> bytes:
        assert self._snapshot is not None
        head = _encoded(self._snapshot, Routed(())).removesuffix(_END) + encode_part("long", count)
        self._heads[count] = head
        return head

    def _write_numbers(self, numbers: tuple[int, ...]) -> bytes:
        if len(self._numbers) >= _MOST_NUMBERS:
            self._numbers.clear()
        written = self._numbers[numbers] = encode_part(_NUMBERS, numbers)
        return written


def _write_recipient(grant: Grant) -> bytes:
    """But for the numbers of its files, which stand last."""
    told = _recipient_told(Recipient(grant.subscriber, (), grant.reasons, grant.mailbox))
    grant.written = written = encode_part(_RECIPIENT, told).removesuffix(_END)
    return written


_new = tuple.__new__
"""A named tuple's own constructor costs three times as much."""

_MOST_NUMBERS = 5_000


def _field(avro: Any, name: str) -> Any:
    return next(field["type"] for field in avro["fields"] if field["name"] == name)


_RECIPIENT = _field(schema(DECISION), "recipients")["items"]
_NUMBERS = _field(_RECIPIENT, "attachments")
_END = encode_part(_NUMBERS, ())


def _encoded(snapshot: int, verdict: Verdict) -> bytes:
    told: dict[str, Any] = {"number": FIRST, "snapshot": snapshot, "explanation": (), "recipients": ()}
    match verdict:
        case Routed(recipients=recipients):
            told |= {"verdict": "routed", "recipients": [_recipient_told(one) for one in recipients]}
        case Unroutable(tried=tried):
            told |= {"verdict": "unroutable", "explanation": tried}
        case SetAside(reason=reason):
            told |= {"verdict": "set_aside", "explanation": (reason,)}
        case _:
            assert_never(verdict)
    return encode(DECISION, told)


def _recipient_told(recipient: Recipient) -> dict[str, Any]:
    return {
        "siret": recipient.subscriber.siret,
        "branch": recipient.subscriber.branch,
        "mailbox": recipient.mailbox,
        "reasons": [reason._asdict() for reason in recipient.reasons],
        "attachments": recipient.attachments,
    }


def _verdict(told: Mapping[str, Any]) -> Verdict:
    match told["verdict"]:
        case "routed":
            return Routed(tuple(map(_recipient, told["recipients"])))
        case "unroutable":
            return Unroutable(tuple(told["explanation"]))
        case _:
            return SetAside(next(iter(told["explanation"]), "unknown"))


def _recipient(told: Mapping[str, Any]) -> Recipient:
    return Recipient(
        Subscriber(told["siret"], told["branch"]),
        tuple(told["attachments"]),
        tuple(
            Reason(reason["rule"], reason["recipient"], reason["subscription"], tuple(reason["steps"]))
            for reason in told["reasons"]
        ),
        # The first edition of these records did not know it.
        told.get("mailbox", False),
    )
