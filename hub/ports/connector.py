"""A connector (connecteur): how parcels leave on one channel.

What a connector promises: `deliver` answers one outcome for each parcel, in order; whatever a partner's
server does (refuse, hang, lie, break off) is an outcome; an exception means our own fault. An unknown
result is Deferred, never Delivered. It waits no longer than `limit` for a server that says nothing, and it
reads the parcel's files as streams. Two parcels of one delivery are equal, byte for byte.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable
from uuid import UUID

from hub.domain.delivery import Attempt, Outcome
from hub.domain.digests import Issue
from hub.domain.fields import Field
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.partner import Endpoint
from hub.domain.trials import Step


@dataclass(frozen=True, slots=True)
class ParcelFile:
    """`number` 0 is the hub's own description of the parcel (submission.json); from 1 on, the files as the
    sender sent them. `name` is safe on every file system and unique in the parcel; `original` is the name
    the sender gave. `open(start, end)` streams the plain bytes of [start, end)."""

    number: int
    name: str = field(repr=False)
    original: str = field(repr=False)
    type: str
    media_type: str
    size: int
    sha256: str
    open: Callable[[int, int | None], AsyncIterator[bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one attempt carries. `sequence` is the partner's own running number (from 1): a gap tells it
    that it misses something. `issue`: it goes in this mail of a digest, with all others that a page brings."""

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
    named: Subscriber | None = None
    """Whom the decision named, where the delivery moved from there to a successor."""
    issue: Issue | None = None


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


@runtime_checkable
class Triable(Protocol):
    """A connector whose endpoints can be tried: what `hub partners test` asks for."""

    async def try_out(self, endpoint: Endpoint, limit: float, send: bool) -> Sequence[Step]:
        """What a parcel would meet there, step by step until one is wrong, in an endpoint that `check` finds right. It
        carries nothing of a citizen and leaves nothing behind; only with `send` is anything sent that the partner
        would see. `limit`: seconds to wait for a silent server, at each step."""
        ...


class ForbiddenAddress(OSError):
    """An address that the hub does not connect to. Its text tells neither the address nor the name."""

    def __init__(self) -> None:
        super().__init__("an address that the hub must not connect to")


AddressInfo = tuple[
    int | socket.AddressFamily,
    int | socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int],
]
"""As `socket.getaddrinfo` gives it: family, type, protocol, canonical name, address."""


class Outgoing(Protocol):
    """The way to every partner's server: no connector connects by itself."""

    async def connect(self, host: str, port: int, limit: float) -> socket.socket:
        """Connected, not blocking, to an address that was checked; the caller closes it. Raises ForbiddenAddress,
        TimeoutError after `limit` seconds, socket.gaierror for a name that nobody knows, or another OSError."""
        ...

    async def resolve(self, host: str, port: int) -> Sequence[AddressInfo]:
        """All addresses of the name, each checked: one that is forbidden makes the whole name so, for which of them
        is connected to is chance, and in a partner's hand. Raises as `connect` does, but takes the system's time."""
        ...

    def open(self, info: AddressInfo) -> socket.socket:
        """A socket to be connected to this address and no other. Raises ForbiddenAddress, OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Relay:
    """The hub's own mail server, for partners whose endpoints name none. `port`: None for what `tls` usually has
    (`starttls`, `tls` or `none`); `ca` in PEM, None for the system's; `outgoing`: the way there, which operators
    chose."""

    host: str
    port: int | None
    tls: str
    sender: str
    outgoing: Outgoing
    ca: str | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a connector may use of the hub. `link(parcel, number)` makes a signed URL under which a file of
    the parcel can be fetched for a while without a token; `now` is the time for signatures, in seconds;
    every connection goes through `outgoing`. `mailbox`: the page where partners fetch by themselves. `returns`, where
    mails can come back: the address for what comes back of a mail (a delivery or an issue, its sending or 0) that
    went to an address, by its place (from 1) among those of the endpoint."""

    link: Callable[[Parcel, int], str]
    now: Callable[[], float]
    outgoing: Outgoing
    mailbox: str = ""
    relay: Relay | None = None
    returns: Callable[[UUID, int, int, str], str] | None = None


ConnectorFactory = Callable[[Surroundings], Connector]
"""What an entry point of the group `hub.connectors` names; the entry point's name is the channel."""
