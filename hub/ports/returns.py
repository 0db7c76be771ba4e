"""Return folders (dossiers de retour): files that a partner leaves where its parcels arrive, and that say what
became of them. A connector whose channel has such folders is a `Returns` too."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from hub.domain.cases import CaseStatus
from hub.domain.delivery import Deferred, Refused
from hub.domain.partner import Endpoint


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as its folder lists it: one that was changed since is another. `size` in bytes, `modified` in seconds, by
    the clock of whose server it is."""

    name: str = field(repr=False)
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What such a file says of a delivery: which is named itself, or by the sender's number of its submission
    (`external_id`) with, if that is said, the procedure."""

    delivery: UUID | None = None
    external_id: str | None = field(default=None, repr=False)
    procedure: str | None = None
    status: CaseStatus | None = None
    message: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One that was read. `digest`: SHA-256 of its bytes, lower-case hex. `said` is None when nobody can read it:
    `flaw`, a word of ours, tells why."""

    seen: SeenFile
    digest: str
    said: Acknowledgement | None
    flaw: str | None = None


class Returns(Protocol):
    def has_returns(self, endpoint: Endpoint) -> bool:
        """Whether these settings name a return folder."""
        ...

    async def collect(
        self, endpoint: Endpoint, limit: float, most: int, passed: Collection[SeenFile] = ()
    ) -> Sequence[FoundFile] | Deferred | Refused:
        """At most `most` files, the eldest first, besides those that are `passed` over unchanged. They stay
        where they are. `limit`: seconds to wait for a silent server, which is an outcome as for parcels."""
        ...

    async def done(
        self, endpoint: Endpoint, files: Sequence[SeenFile], limit: float
    ) -> Deferred | Refused | None:
        """Take these away, if they are unchanged; what is gone already is no fault."""
        ...
