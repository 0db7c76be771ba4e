"""What the HTTP door opens on: the rooms it may call, and what limits those who knock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from hub.domain.addresses import Network
from hub.domain.fields import Field
from hub.entrypoints.http.limits import Limits, Turnstile
from hub.entrypoints.http.links import Links
from hub.entrypoints.http.measures import Measures
from hub.ports.attachments import Attachments
from hub.ports.clock import Clock
from hub.ports.events import Events
from hub.ports.lane_orders import LaneOrders
from hub.ports.mailboxes import Mailboxes
from hub.ports.numbers import Numbers
from hub.ports.reads import Reads
from hub.ports.replays import Replays
from hub.ports.sessions import Sessions
from hub.ports.tokens import Tokens
from hub.ports.views import Views
from hub.services.events import EventRoom
from hub.services.intake import IntakeRoom
from hub.services.library import Library
from hub.services.parcels import ParcelRoom
from hub.services.reporting import ReportRoom
from hub.services.trying import TrialRoom
from hub.services.uploads import UploadRoom


@dataclass(frozen=True, slots=True)
class Rooms:
    """`attachments` is only asked how much room is left. `replay_approval`: a replay of more items waits for
    another operator to approve it. `channels`: what each asks of an endpoint.
    `secure`: agents reach this hub over TLS, whoever ends it. `proxies`: whose word it takes for where a request
    came from."""

    intake: IntakeRoom
    uploads: UploadRoom
    library: Library
    views: Views
    tokens: Tokens
    replays: Replays
    replay_approval: int
    mailboxes: Mailboxes
    reads: Reads
    sessions: Sessions
    secure: bool
    proxies: Sequence[Network]
    numbers: Numbers
    lanes: LaneOrders
    channels: Mapping[str, Sequence[Field]]
    trials: TrialRoom
    parcels: ParcelRoom
    reports: ReportRoom
    events: Events
    opened_events: EventRoom
    attachments: Attachments
    links: Links
    clock: Clock
    limits: Limits


@dataclass(frozen=True, slots=True)
class Vitals:
    """`readiness` tells, for each thing this process needs, whether it answers; `counts` what the store holds.
    Each is given five seconds."""

    readiness: Callable[[], Awaitable[Mapping[str, bool]]]
    counts: Callable[[], Awaitable[Mapping[str, int]]]


@dataclass(frozen=True, slots=True)
class Door:
    """What one application keeps while it runs."""

    rooms: Rooms
    turnstile: Turnstile


async def door_of(request: Request) -> Door:
    door = request.app.state.door
    assert isinstance(door, Door)
    return door


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the pages of health keep."""

    vitals: Vitals
    measures: Measures


async def pulse_of(request: Request) -> Pulse:
    pulse = request.app.state.pulse
    assert isinstance(pulse, Pulse)
    return pulse


async def rooms_of(request: Request) -> Rooms:
    return (await door_of(request)).rooms


InDoor = Annotated[Door, Depends(door_of)]
InPulse = Annotated[Pulse, Depends(pulse_of)]
InRooms = Annotated[Rooms, Depends(rooms_of)]
