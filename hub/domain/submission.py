"""A submission (télédossier): what a sender's form emitted, once it is sealed and ready to be accepted.

Business of this file: the values that intake hands to the store, and what the router may know of them.
What the citizen wrote is here only as sealed bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class AttachmentFacts(NamedTuple):
    """What routing may know of a file: its number in the submission (from 1), its type, and the kinds of
    recipients the sender narrowed it to (None: whoever the rules give it to)."""

    number: int
    type: str
    recipients: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class StoredAttachment:
    """Where a file lies: `location` is the attachment store's fresh name, `size` in plain bytes."""

    facts: AttachmentFacts
    size: int
    location: str


class Brief(NamedTuple):
    """What matching asks of a submission, and nothing else."""

    procedure: str
    facts: Mapping[str, str]
    attachments: tuple[AttachmentFacts, ...]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class RoutingFacts:
    """All that the log ever carries of a submission."""

    submission: UUID
    sender: str
    procedure: str
    facts: Mapping[str, str]
    attachments: tuple[AttachmentFacts, ...]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission ready to be accepted: everything but its receipt time, which the store gives.

    `digest` is the keyed digest of the canonical content with its attachments' digests: equal digests mean
    equal content. `sealed` holds content, applicant and the attachments' names and digests. `upload`: the one
    whose files it takes over.
    """

    id: UUID
    sender: str
    external_id: str
    procedure: str
    facts: Mapping[str, str]
    digest: bytes
    sealed: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)
    attachments: tuple[StoredAttachment, ...]
    upload: UUID | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """It is durable. `fresh` is False when this content had been accepted before."""

    submission: UUID
    received_at: datetime
    fresh: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """The sender used this external id before, for other content. What is there stands."""

    submission: UUID


Acceptance = Accepted | Conflict
