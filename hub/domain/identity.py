"""Names that can be computed again from what they name, so that repeating is harmless.

Each name is a UUID of version 5 (RFC 9562) over a canonical JSON list, in a name space of its own: no
separator inside a part can make two different lists equal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid5

_NAMES = UUID("6f1d3c0e-2a5b-5c7d-9e8f-1a2b3c4d5e6f")


class ParcelKind(StrEnum):
    """What a delivery carries. One subscriber may get one parcel of each kind for a submission."""

    SUBMISSION = "submission"


@dataclass(frozen=True, slots=True, order=True)
class Subscriber:
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
    return _name("submission", sender, external_id)


def delivery_id(submission: UUID, subscriber: Subscriber, kind: ParcelKind, revision: int) -> UUID:
    """One parcel for one subscriber: rules that end at the same one meet in the same name."""
    return _name("delivery", str(submission), subscriber.siret, subscriber.branch, kind.value, revision)


def _name(*parts: str | int) -> UUID:
    return uuid5(_NAMES, json.dumps(parts, ensure_ascii=True, separators=(",", ":")))
