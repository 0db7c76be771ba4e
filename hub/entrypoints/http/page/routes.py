"""The pages of a parcel: what was asked, its files, an agent's word that it has it, and how far its case is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import assert_never

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from hub.domain.cases import CaseStatus
from hub.domain.lifecycle import State, may_move
from hub.domain.mailbox import LATEST, drawer
from hub.domain.partner import MAILBOX
from hub.domain.reports import LONGEST_MESSAGE, Declined, Kept, NotTaken, Report, Way
from hub.entrypoints.http.mailbox import missing, opened
from hub.entrypoints.http.page import entrance, lists
from hub.entrypoints.http.page.archive import zipped
from hub.entrypoints.http.page.content import Shown, read
from hub.entrypoints.http.page.entrance import InVisit, form_key, own_form
from hub.entrypoints.http.page.lists import PATHS
from hub.entrypoints.http.page.paper import HOME, PAPER, SEEN, PageRoute, guarded, see_other
from hub.entrypoints.http.parcels import disposition, fetch, joined
from hub.entrypoints.http.problems import Problem, not_found
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.ports.connector import Parcel
from hub.ports.mailboxes import Entry
from hub.ports.reads import Read
from hub.ports.sessions import Visitor
from hub.wire import read_id

_FOLDER = Path(__file__).parent


def routes(now: Callable[[], float]) -> APIRouter:
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    router.include_router(entrance.routes(now))
    router.include_router(lists.routes())
    router.add_api_route(f"{HOME}/plis/{{id}}", get_parcel, methods=SEEN)
    router.add_api_route(f"{HOME}/plis/{{id}}/fichiers/{{number}}", get_file, methods=SEEN)
    router.add_api_route(f"{HOME}/plis/{{id}}/archive", get_archive, methods=SEEN)
    router.add_api_route(f"{HOME}/plis/{{id}}/confirmer", post_acknowledge, methods=["POST"])
    router.add_api_route(f"{HOME}/plis/{{id}}/signaler", post_report, methods=["POST"])
    router.add_api_route(f"{HOME}/aide", get_help, methods=SEEN)
    for name, kind in (("style.css", "text/css"), ("icone.svg", "image/svg+xml")):
        router.add_api_route(f"{HOME}/{name}", _own_file(name, kind), methods=SEEN)
    router.add_api_route(f"{HOME}/{{rest:path}}", get_nothing, methods=SEEN)
    for path in (HOME, f"{HOME}/{{rest:path}}"):
        router.add_api_route(path, refuse_method, methods=["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    return router


# --- a parcel -----------------------------------------------------------------------------------------


async def get_parcel(request: Request, rooms: InRooms, visitor: InVisit, id: str) -> Response:
    """With what the citizen wrote: so that it was read is written before anything leaves."""
    return await _parcel_page(request, rooms, visitor, id, told="signale" in request.query_params)


async def _parcel_page(
    request: Request,
    rooms: Rooms,
    visitor: Visitor,
    id: str,
    told: bool = False,
    flaw: str = "",
    text: str = "",
) -> Response:
    """`told`: what the agent just reported was kept; `flaw`: why it was not, and `text` what it wrote."""
    entry, parcel = await _parcel(rooms, visitor, id)
    if request.method == "HEAD":
        return guarded(HTMLResponse())
    case = await rooms.reports.case(visitor.subscriber, entry.delivery)
    content = None
    if parcel is not None:
        await rooms.reads.fetched(_read(entry, visitor, "file 0"))
        content = await _content(parcel)
    return PAPER.page(
        "pli",
        visitor,
        422 if flaw else 200,
        entry=entry,
        title=rooms.library.title(entry.procedure),
        parcel=parcel,
        content=content,
        drawer=drawer(entry.state, entry.channel),
        drawers=PATHS,
        confirmable=may_move(entry.state, State.ACKNOWLEDGED),
        elsewhere=entry.channel != MAILBOX,
        case=None if case is None else case[0],
        allowed=() if case is None else case[1],
        longest=LONGEST_MESSAGE,
        told=told,
        flaw=flaw,
        text=text,
        key=form_key(request, rooms),
    )


async def _parcel(rooms: Rooms, visitor: Visitor, id: str) -> tuple[Entry, Parcel | None]:
    """None for what cannot be opened. Raises Problem 404, 410."""
    name = read_id(id)
    entry = None if name is None else await rooms.mailboxes.entry(visitor.subscriber, name)
    if entry is None or drawer(entry.state, entry.channel) is None:
        raise await missing(rooms, visitor.subscriber, name)
    item = None if entry.purged else await rooms.views.parcel(entry.delivery, visitor.subscriber)
    return entry, None if item is None else opened(rooms, item)


async def _content(parcel: Parcel) -> Shown:
    description = parcel.files[0].open(0, None)
    return read(b"".join([chunk async for chunk in description]))


def _read(entry: Entry, visitor: Visitor, what: str) -> Read:
    reader = f"partner:{visitor.subscriber}"
    return Read(entry.submission, entry.delivery, reader, f"{what}, {entry.state.value}")


async def get_file(request: Request, rooms: InRooms, visitor: InVisit, id: str, number: str) -> Response:
    return guarded(await fetch(request, rooms, visitor.subscriber, id, number))


async def get_archive(request: Request, rooms: InRooms, visitor: InVisit, id: str) -> Response:
    """All files of a parcel at once."""
    entry, parcel = await _parcel(rooms, visitor, id)
    if parcel is None:
        raise not_found()
    headers = {
        "Content-Type": "application/zip",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Content-Disposition": disposition(f"pli-{entry.sequence}-{entry.delivery}.zip"),
    }
    if request.method == "HEAD":
        return guarded(Response(headers=headers))
    numbers = ", ".join(str(file.number) for file in parcel.files)
    await rooms.reads.fetched(_read(entry, visitor, f"files {numbers}"))
    stream = zipped(parcel)
    # The first bytes before the status line: what does not open is then still a whole refusal.
    first = await anext(stream)
    return guarded(StreamingResponse(joined(first, stream), 200, headers))


async def post_acknowledge(request: Request, rooms: InRooms, visitor: InVisit, id: str) -> Response:
    """The agent has the parcel. Saying it again is harmless."""
    fields = await own_form(request, rooms)
    name = read_id(id)
    if fields.get("accord") != "oui":
        raise Problem(422, "invalid", "the box is not ticked")
    if name is None or name not in await rooms.mailboxes.acknowledge(visitor.subscriber, [name]):
        raise await missing(rooms, visitor.subscriber, name)
    return see_other(f"{HOME}?confirme={name}")


async def post_report(request: Request, rooms: InRooms, visitor: InVisit, id: str) -> Response:
    """What the agent tells the service that sent it: how far its case is, a message, or both."""
    fields = await own_form(request, rooms)
    name = read_id(id)
    status = fields.get("statut", "")
    message = fields.get("message", "").replace("\r\n", "\n").strip()
    if name is None or (status and status not in set(CaseStatus)):
        raise Problem(422, "invalid", "no such parcel or status")
    if not status and not message:
        return await _parcel_page(
            request, rooms, visitor, id, flaw="Choisissez un état ou écrivez un message."
        )
    report = Report(name, CaseStatus(status) if status else None, message or None, way=Way.PAGE)
    [answer] = await rooms.reports.report(visitor.subscriber, [report])
    match answer:
        case Kept():
            return see_other(f"{HOME}/plis/{name}?signale=1#suivi")
        case Declined(why=NotTaken.INVALID):
            flaw = f"Le message n’est pas accepté : {LONGEST_MESSAGE} caractères au plus, sans caractère spécial."
        case Declined(why=NotTaken.CONFLICT):
            flaw = "Cet état ne peut pas suivre l’état actuel du dossier."
        case Declined():
            raise await missing(rooms, visitor.subscriber, name)
        case _:
            assert_never(answer)
    return await _parcel_page(request, rooms, visitor, id, flaw=flaw, text=message)


# --- what is the same for everybody -------------------------------------------------------------------


async def get_help(request: Request, rooms: InRooms, visitor: InVisit) -> Response:
    return PAPER.page(
        "aide", visitor, drawers=PATHS, drawer=None, latest=LATEST, key=form_key(request, rooms)
    )


async def get_nothing(visitor: InVisit, rest: str) -> Response:
    if not rest:
        return see_other(HOME)
    raise not_found()


async def refuse_method() -> Response:
    raise Problem(405, "method", "this method is not known here")


def _own_file(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    content = (_FOLDER / name).read_bytes()

    async def get_own_file() -> Response:
        return guarded(Response(content, media_type=kind, headers={"Cache-Control": "max-age=600"}))

    return get_own_file
