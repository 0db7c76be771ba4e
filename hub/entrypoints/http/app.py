"""The native HTTP API: one application, built from the rooms it opens on.

Business of this folder: reading what knocks, bounding it, answering it. What is decided is decided in the
rooms. Nothing here is at module level but names: two applications can live in one process.
"""

from __future__ import annotations

from hub.entrypoints.http import (
    batch,
    channels,
    deliveries,
    events,
    health,
    lanes,
    mailbox,
    page,
    parcels,
    replays,
    submissions,
    uploads,
)
from hub.entrypoints.http.description import Described
from hub.entrypoints.http.limits import Turnstile
from hub.entrypoints.http.measures import Measures
from hub.entrypoints.http.outermost import Outermost
from hub.entrypoints.http.problems import answer_problems
from hub.entrypoints.http.rooms import Door, Pulse, Rooms, Vitals


def build(rooms: Rooms, vitals: Vitals) -> Described:
    """The application. No page of it loads anything from elsewhere; its description is /openapi.json."""
    app = _bare(vitals)
    app.state.door = Door(rooms, Turnstile(rooms.limits, rooms.clock.now))
    for room in (
        submissions,
        batch,
        uploads,
        deliveries,
        parcels,
        events,
        replays,
        mailbox,
        lanes,
        channels,
        health,
    ):
        app.include_router(room.routes())
    app.include_router(page.routes(rooms.clock.now))
    return app


def build_vitals(vitals: Vitals) -> Described:
    """Health and metrics alone, for a process that nobody sends anything to."""
    app = _bare(vitals)
    app.include_router(health.routes())
    return app


def _bare(vitals: Vitals) -> Described:
    app = Described(
        title="Aiguillage",
        version="1",
        summary="Takes in submissions, delivers them to their partners, accounts for each.",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    measures = Measures()
    app.state.pulse = Pulse(vitals, measures)
    answer_problems(app)
    app.add_middleware(Outermost, measures=measures)
    return app
