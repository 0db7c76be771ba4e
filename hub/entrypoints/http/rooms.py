"""What the HTTP door opens on: the rooms it may call, and what limits those who knock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from hub.entrypoints.http.limits import Limits, Turnstile
from hub.entrypoints.http.links import Links
from hub.entrypoints.http.measures import Measures
from hub.ports.attachments import Attachments
from hub.ports.clock import Clock
from hub.ports.store import Mailboxes, Replays
from hub.ports.tokens import Tokens
from hub.ports.views import Views
from hub.services.intake import IntakeRoom
from hub.services.library import Library
from hub.services.parcels import ParcelRoom


@dataclass(frozen=True, slots=True)
class Rooms:
    """`readiness` tells, for each thing the hub needs, whether it answers; it is given five seconds.
    `attachments` is only asked how much room is left."""

    intake: IntakeRoom
    library: Library
    views: Views
    tokens: Tokens
    replays: Replays
    mailboxes: Mailboxes
    parcels: ParcelRoom
    attachments: Attachments
    links: Links
    clock: Clock
    limits: Limits
    readiness: Callable[[], Awaitable[Mapping[str, bool]]]


@dataclass(frozen=True, slots=True)
class Door:
    """What one application keeps while it runs."""

    rooms: Rooms
    turnstile: Turnstile
    measures: Measures


async def door_of(request: Request) -> Door:
    door = request.app.state.door
    assert isinstance(door, Door)
    return door


async def rooms_of(request: Request) -> Rooms:
    return (await door_of(request)).rooms


InDoor = Annotated[Door, Depends(door_of)]
InRooms = Annotated[Rooms, Depends(rooms_of)]
