"""The lists of a mailbox's page: its drawers, what a search finds, and an agent's word that it has several parcels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub.domain.lifecycle import State, may_move
from hub.domain.mailbox import LATEST, Drawer
from hub.entrypoints.http.mailbox import missing, shown
from hub.entrypoints.http.page.entrance import InVisit, form_key, own_form
from hub.entrypoints.http.page.paper import HOME, PAPER, SEEN, PageRoute, see_other
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.ports.mailboxes import Entry
from hub.ports.sessions import Visitor
from hub.wire import read_id

_PAGE = 25
_DIGITS = 18
_LONGEST_SEARCH = 200

PATHS = {"": Drawer.OPEN, "remis": Drawer.HANDED_OVER, "confirmes": Drawer.ACKNOWLEDGED}
"""Where each drawer is shown, under the home."""


def routes() -> APIRouter:
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    for path, one in PATHS.items():
        router.add_api_route(f"{HOME}/{path}".rstrip("/"), _drawer_page(one), methods=SEEN)
    router.add_api_route(f"{HOME}/recherche", get_found, methods=SEEN)
    router.add_api_route(f"{HOME}/confirmer", post_acknowledge_several, methods=["POST"])
    return router


def _drawer_page(one: Drawer) -> Callable[..., Awaitable[Response]]:
    async def get_drawer(request: Request, rooms: InRooms, visitor: InVisit) -> Response:
        begin = _number(request.query_params.get("apres", ""))
        return await _list(request, rooms, visitor, one, begin, whole="tout" in request.query_params)

    return get_drawer


async def _list(
    request: Request,
    rooms: Rooms,
    visitor: Visitor,
    one: Drawer,
    begin: int | None,
    flaw: str = "",
    ticked: Collection[UUID] = (),
    whole: bool = False,
) -> Response:
    """`flaw`: why what the agent asked for was not done; `ticked`: what it had ticked, or (`whole`) all that can be."""
    page = await rooms.mailboxes.look(visitor.subscriber, one, begin, _PAGE)
    await _note_shown(request, rooms, visitor, page.entries)
    tickable = frozenset(entry.delivery for entry in page.entries if one is Drawer.OPEN and _tickable(entry))
    done = await _done(rooms, visitor, request.query_params.getlist("confirme"))
    return PAPER.page(
        "casier",
        visitor,
        422 if flaw else 200,
        drawer=one,
        drawers=PATHS,
        path=f"{HOME}/{next(path for path, drawer in PATHS.items() if drawer is one)}".rstrip("/"),
        entries=page.entries,
        title_of=rooms.library.title,
        tickable=tickable,
        ticked=tickable if whole else tickable.intersection(ticked),
        begin=begin,
        next=page.next,
        done=done,
        flaw=flaw,
        sought="",
        key=form_key(request, rooms),
    )


async def _note_shown(request: Request, rooms: Rooms, visitor: Visitor, entries: Sequence[Entry]) -> None:
    if request.method != "HEAD":
        await rooms.reads.shown(shown(visitor.subscriber, entries))


def _tickable(entry: Entry) -> bool:
    """Together with others only what somebody has opened, and no program is busy with."""
    return entry.fetched and entry.leased_until is None and may_move(entry.state, State.ACKNOWLEDGED)


async def _done(rooms: Rooms, visitor: Visitor, names: Iterable[str]) -> Sequence[Entry]:
    """What was just acknowledged: of those that the address names, those that are."""
    found = []
    for name in dict.fromkeys(read_id(name) for name in list(names)[:_PAGE]):
        entry = None if name is None else await rooms.mailboxes.entry(visitor.subscriber, name)
        if entry is not None and entry.state is State.ACKNOWLEDGED:
            found.append(entry)
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


async def get_found(request: Request, rooms: InRooms, visitor: InVisit) -> Response:
    """In whichever drawer it is."""
    sought = request.query_params.get("q", "").strip()
    if not sought:
        return see_other(HOME)
    whole = len(sought) <= _LONGEST_SEARCH
    entries = await rooms.mailboxes.find(visitor.subscriber, sought, _PAGE) if whole else ()
    await _note_shown(request, rooms, visitor, entries)
    return PAPER.page(
        "recherche",
        visitor,
        drawer=None,
        drawers=PATHS,
        entries=entries,
        title_of=rooms.library.title,
        tickable=frozenset(),
        ticked=frozenset(),
        most=_PAGE,
        latest=LATEST,
        sought=sought[:_LONGEST_SEARCH],
        key=form_key(request, rooms),
    )


async def post_acknowledge_several(request: Request, rooms: InRooms, visitor: InVisit) -> Response:
    """The agent has these parcels, all of them in one step. Saying it again is harmless; what is not this partner's
    keeps it from no other."""
    fields = await own_form(request, rooms)
    begin = _number(fields.get("apres", ""))
    names = [name for name in map(read_id, fields.getlist("pli")[:_PAGE]) if name is not None]
    flaw = "" if names else "Cochez au moins un pli."
    if names and fields.get("accord") != "oui":
        flaw = "Cochez « J’ai enregistré les fichiers des plis cochés »."
    if flaw:
        return await _list(request, rooms, visitor, Drawer.OPEN, begin, flaw, names)
    held = await rooms.mailboxes.acknowledge(visitor.subscriber, names)
    if not held:
        raise await missing(rooms, visitor.subscriber, names[0])
    told = [("confirme", str(name)) for name in held]
    if begin is not None:
        told.insert(0, ("apres", str(begin)))
    return see_other(f"{HOME}?{urlencode(told)}")
