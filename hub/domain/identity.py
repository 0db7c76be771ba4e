"""Names that can be computed again from what they name, so that repeating is harmless.

Each name is a UUID of version 5 (RFC 9562) over a canonical JSON list, in a name space of its own: no
separator inside a part can make two different lists equal.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha1
from json.encoder import encode_basestring_ascii as _quoted
from typing import NamedTuple
from uuid import UUID

_NAME_SPACE = UUID("6f1d3c0e-2a5b-5c7d-9e8f-1a2b3c4d5e6f").bytes

# The version (5) and the variant stand in the middle of a UUID (RFC 9562, 5.5).
_VERSION_5 = 0x5 << 76 | 0b10 << 62
_FREE_BITS = ~(0xF << 76 | 0b11 << 62)


class ParcelKind(StrEnum):
    """What a delivery carries. One subscriber may get one parcel of each kind for a submission."""

    SUBMISSION = "submission"
    NOTICE = "notice"
    """A mail that tells a partner how it is served; it carries nothing of a submission, and its revision is the
    minute since when (see `since_minute`)."""
    NEWS = "news"
    """An event of a submission, for the endpoint of who sent that; the delivery's name is the event's."""


class Subscriber(NamedTuple):
    """Who receives: an establishment's SIRET (14 digits) and the code of its counter (COG code of the
    commune it serves, as in the State's directory of recipients)."""

    siret: str
    branch: str

    def __str__(self) -> str:
        return f"{self.siret}-{self.branch}"

    @classmethod
    def parse(cls, text: str) -> Subscriber:
        siret, _, branch = text.partition("-")
        return cls(siret, branch)


def submission_id(sender: str, external_id: str) -> UUID:
    """A sender's own name for a submission names it for ever: posting again finds the first one."""
    return _name(f'["submission",{_quoted(sender)},{_quoted(external_id)}]')


def delivery_id(submission: UUID, subscriber: Subscriber, kind: ParcelKind, revision: int) -> UUID:
    """One parcel for one subscriber: rules that end at the same one meet in the same name."""
    siret, branch = subscriber
    return _name(f'["delivery","{submission}",{_quoted(siret)},{_quoted(branch)},{_quoted(kind)},{revision}]')


def event_id(delivery: UUID, digest: bytes, number: int = 0) -> UUID:
    """What a partner says of a delivery: `digest` is a keyed one, of its own reference, of its file, or of what it
    says; in the last case `number` is that of the case status it found."""
    return _name(f'["event","{delivery}","{digest.hex()}",{number}]')


def issue_id(subscriber: Subscriber, slot: datetime, number: int) -> UUID:
    """A digest's mail, by its slot and the how manieth of that slot it is."""
    siret, branch = subscriber
    at = slot.astimezone(UTC).isoformat()
    return _name(f'["issue",{_quoted(siret)},{_quoted(branch)},"{at}",{number}]')


# A national register is named through here, one decision after the other: written out, what `json.dumps`
# and `uuid5` give takes a quarter of their time.
def _name(listed: str) -> UUID:
    digest = sha1(_NAME_SPACE + listed.encode("ascii"), usedforsecurity=False).digest()
    return UUID(int=int.from_bytes(digest[:16], "big") & _FREE_BITS | _VERSION_5)
