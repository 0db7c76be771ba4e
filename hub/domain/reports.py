"""Reports: what a partner says of a delivery, by whatever way; what is kept of them are events.

Business of this file: what a report says, and what came of it. Every way back ends here: the API, the mailbox's
page, a file in a return folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from hub.domain.cases import CaseStatus
from hub.domain.errors import Flaw

LONGEST_MESSAGE = 1000
LONGEST_REFERENCE = 100
LONGEST_FILE_NAME = 255
MOST_EVENTS = 1000
"""Of one delivery."""


class Way(StrEnum):
    """By which it came."""

    API = "api"
    PAGE = "page"
    RETURN_FOLDER = "return_folder"


@dataclass(frozen=True, slots=True)
class ReturnedFile:
    """A file of a report as its partner described it; its bytes come beside. `size` and `sha256` (lower-case hex),
    where they are said, must be those of the bytes."""

    name: str = field(repr=False)
    media_type: str = "application/octet-stream"
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """It says at least one of status, message and file. `reference`: the partner's own name for it, by which it is
    recognised when it comes again."""

    delivery: UUID
    status: CaseStatus | None = None
    message: str | None = field(default=None, repr=False)
    reference: str | None = field(default=None, repr=False)
    file: ReturnedFile | None = None
    way: Way = Way.API


class NotTaken(StrEnum):
    """Why a report is no event."""

    INVALID = "invalid"
    """What it says breaks a rule."""
    UNKNOWN = "unknown"
    """This partner has no such delivery."""
    MOVED = "moved"
    """It had, and it followed to whoever took its place."""
    CONFLICT = "conflict"
    """The case or the delivery does not allow it, or its reference stands for another report."""


@dataclass(frozen=True, slots=True)
class Kept:
    """It is an event, durable: its name, its number among its sender's, and the status of the case after it."""

    event: UUID
    number: int
    status: CaseStatus
    fresh: bool = True
    """False: this event was there already."""


@dataclass(frozen=True, slots=True)
class Declined:
    """Nothing of it was kept. `flaws`: all that are known, where `flaw` is the first; `allowed`: the statuses that
    could be reported instead, where the status was the reason."""

    why: NotTaken
    flaw: Flaw
    allowed: tuple[CaseStatus, ...] = ()
    flaws: tuple[Flaw, ...] = ()


ReportAnswer = Kept | Declined
