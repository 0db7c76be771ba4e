"""Return folders (dossiers de retour): files that a partner leaves where its parcels arrive, and that say what
became of them. A connector whose channel has such folders is a `Returns` too; the store keeps when each is due."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, runtime_checkable
from uuid import UUID

from hub.domain.cases import CaseStatus
from hub.domain.delivery import Deferred, Refused
from hub.domain.identity import Subscriber
from hub.domain.pace import Maintenance
from hub.domain.partner import Endpoint
from hub.domain.reports import ReturnedFile

WHOLE = 4
"""How often the limit for a silent server a call may last in all: one that answers, and slowly, is left then too."""

STEM = 8
"""Bytes that the marks of one file have in common, whatever document lies beside it."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as its folder lists it: one that was changed since is another. `size` in bytes, `modified` in seconds, by
    the clock of whose server it is."""

    name: str = field(repr=False)
    size: int
    modified: int

    @property
    def mark(self) -> bytes:
        """Sixteen bytes that stand for it, and do not tell its name."""
        # A server's names need not be UTF-8.
        told = f"{self.size} {self.modified} {self.name}".encode(errors="surrogateescape")
        return hashlib.sha256(told).digest()[:16]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What such a file says of a delivery: which is named itself, or by the sender's number of its submission
    (`external_id`) with, if that is said, the procedure."""

    delivery: UUID | None = None
    external_id: str | None = field(default=None, repr=False)
    procedure: str | None = None
    status: CaseStatus | None = None
    message: str | None = field(default=None, repr=False)
    document: ReturnedFile | None = None
    """A file that lies beside it, which it returns."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One that was read. `digest`: SHA-256 of its bytes, lower-case hex. `flaw`, a word of ours, tells why nothing of
    it may be kept: nobody can read it (`said` is None then), or its document cannot be taken. `document`: the file
    that it returns, as it lies there, if it does; it is no found file itself."""

    seen: SeenFile
    digest: str
    said: Acknowledgement | None
    flaw: str | None = None
    document: SeenFile | None = None

    @property
    def mark(self) -> bytes:
        """As of SeenFile; of one that returns a document, another one once that is another, with the same STEM."""
        seen = self.seen.mark
        if self.said is None or self.said.document is None:
            return seen
        beside = b"" if self.document is None else self.document.mark
        return seen[:STEM] + hashlib.sha256(seen + beside).digest()[: 16 - STEM]


class DocumentAway(Exception):
    """A document could not be read whole, as it was seen: nothing of it may be kept. Its text is a cause of ours."""


@runtime_checkable
class Returns(Protocol):
    async def collect(
        self, endpoint: Endpoint, limit: float, most: int, passed: Collection[bytes] = ()
    ) -> Sequence[FoundFile] | Deferred | Refused:
        """At most `most` files, the eldest first, but for those of which a mark is in `passed`. They stay where they
        are. `limit`: seconds to wait for a silent server, and WHOLE times that for all of it, which is an outcome as
        for parcels; where some files were read by then, those are returned."""
        ...

    def read(self, endpoint: Endpoint, document: SeenFile, limit: float) -> AsyncIterator[bytes]:
        """Its bytes, in pieces; nothing is asked before the first. Raises DocumentAway, also at the very end."""
        ...

    async def done(
        self, endpoint: Endpoint, files: Sequence[SeenFile], limit: float
    ) -> Deferred | Refused | None:
        """Take these away in this order, if they are unchanged; what is gone already is no fault. `limit`: as of
        `collect`; those that were taken away by then are."""
        ...


@dataclass(frozen=True, slots=True)
class DueFolder:
    """A partner whose folder is to be looked at. `passed`: marks of files that were told lately, and are not read
    again; `failures`: how many looks in a row did not go well; `maintenance`: when it is not to be called."""

    subscriber: Subscriber
    passed: frozenset[bytes]
    failures: int
    maintenance: tuple[Maintenance, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftFile:
    """One of which nothing could be kept, and why."""

    mark: bytes
    flaw: str


@dataclass(frozen=True, slots=True)
class NamedDelivery:
    """A delivery that a number of its sender may mean."""

    id: UUID
    submission: UUID
    procedure: str
    revision: int


class ReturnFolders(Protocol):
    async def due(self, limit: int, hold: timedelta) -> Sequence[DueFolder]:
        """At most so many, those first that have waited longest. Nobody else gets them before `hold` is over."""
        ...

    async def looked(
        self, subscriber: Subscriber, wait: timedelta, cause: str | None, left: Sequence[LeftFile]
    ) -> Sequence[str]:
        """It was looked at, and is due again after `wait`. `cause`: why that did not go well; else `left` is what lies
        there unread. Returns the flaws of those that lay there at an earlier look too and were not told yet: they are
        told with this."""
        ...

    async def named(
        self, subscriber: Subscriber, external_ids: Sequence[str]
    ) -> Mapping[str, Sequence[NamedDelivery]]:
        """This partner's deliveries of submissions with these numbers, of any sender; the newest revisions first."""
        ...
