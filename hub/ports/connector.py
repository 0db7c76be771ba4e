"""A connector (connecteur): how parcels leave on one channel.

What a connector promises: `deliver` answers one outcome for each parcel, in order; whatever a partner's
server does (refuse, hang, lie, break off) is an outcome; an exception means our own fault. An unknown
result is Deferred, never Delivered. It waits no longer than `limit` for a server that says nothing, and it
reads the parcel's files as streams. Two parcels of one delivery are equal, byte for byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from hub.domain.delivery import Attempt, Outcome
from hub.domain.fields import Field
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.partner import Endpoint


@dataclass(frozen=True, slots=True)
class ParcelFile:
    """`number` 0 is the hub's own description of the parcel (submission.json); from 1 on, the files as the
    sender sent them. `name` is safe on every file system and unique in the parcel; `original` is the name
    the sender gave. `open(start, end)` streams the plain bytes of [start, end)."""

    number: int
    name: str
    original: str = field(repr=False)
    type: str
    media_type: str
    size: int
    sha256: str
    open: Callable[[int, int | None], AsyncIterator[bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one attempt carries. `sequence` is the partner's own running number (from 1): a gap tells it
    that it misses something."""

    attempt: Attempt
    subscriber: Subscriber
    sequence: int
    sender: str
    external_id: str
    procedure: str
    procedure_title: str
    kind: ParcelKind
    revision: int
    received_at: datetime
    files: tuple[ParcelFile, ...]


class Connector(Protocol):
    @property
    def channel(self) -> str: ...

    @property
    def fields(self) -> Sequence[Field]:
        """What it asks of an endpoint: validation, forms and masking come from it."""
        ...

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        """What is wrong with these settings: sentences that name the field, never a value or secret."""
        ...

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        """One outcome for each parcel, in order. `limit`: seconds to wait for a silent server."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a connector may use of the hub. `link(parcel, number)` makes a signed URL under which a file of
    the parcel can be fetched for a while without a token; `now` is the time for signatures, in seconds."""

    link: Callable[[Parcel, int], str]
    now: Callable[[], float]


ConnectorFactory = Callable[[Surroundings], Connector]
"""What an entry point of the group `hub.connectors` names; the entry point's name is the channel."""
