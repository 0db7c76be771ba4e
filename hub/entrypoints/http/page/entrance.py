"""The entrance: an agent shows its token once, and its browser is known for a while.

Business of this file: the session's cookie, the sign that a form is this page's own, and how often anybody may try.
A token is too long to be guessed: what is bounded here is the work that trying makes.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import parse_qsl, quote

import structlog
from fastapi import APIRouter, Depends, Request
from starlette.datastructures import ImmutableMultiDict
from starlette.responses import Response

from hub.domain.addresses import caller
from hub.entrypoints.http.bodies import bounded, media_type, unsupported, whole
from hub.entrypoints.http.limits import Limits, Turnstile
from hub.entrypoints.http.page.paper import HOME, PAPER, SEEN, Again, Elsewhere, PageRoute, guarded, see_other
from hub.entrypoints.http.problems import Problem
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.ports.sessions import IDLE, Visitor

log = structlog.get_logger()

Fields = ImmutableMultiDict[str, str]

_FORM = "application/x-www-form-urlencoded"
_LONGEST_FORM = 20_000
_LONGEST_TOKEN = 512

_MOST_FIELDS = 60

_TRIES = Limits(rate=1.0, burst=60, in_flight=20, senders=10_000)
"""By address, which may be that of a whole town behind one router."""

_INSIDE = re.compile(rf"{HOME}(/[A-Za-z0-9/_-]{{0,200}})?")


def routes(now: Callable[[], float]) -> APIRouter:
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    entrance = _Entrance(Turnstile(_TRIES, now))
    router.add_api_route(f"{HOME}/connexion", entrance.get_entrance, methods=SEEN)
    router.add_api_route(f"{HOME}/connexion", entrance.post_entrance, methods=["POST"])
    router.add_api_route(f"{HOME}/deconnexion", post_leave, methods=["POST"])
    return router


async def visitor_of(request: Request, rooms: InRooms) -> Visitor:
    """Raises Elsewhere: to the entrance, and back here from there."""
    secret = request.cookies.get(_cookie(rooms))
    if secret is None and _leads_here(request):
        raise Again
    found = None if secret is None else await rooms.sessions.resume(secret)
    if found is None:
        ended = "" if secret is None else "&fin=1"
        back = request.url.path if request.method in SEEN else HOME
        raise Elsewhere(f"{HOME}/connexion?suite={quote(back, safe='/')}{ended}")
    return found


InVisit = Annotated[Visitor, Depends(visitor_of)]


def form_key(request: Request, rooms: Rooms) -> str:
    """What each form of this session carries: nobody else can say it."""
    secret = request.cookies.get(_cookie(rooms), "")
    return hmac.digest(secret.encode(), b"form", "sha256").hex()


async def own_form(request: Request, rooms: Rooms) -> Fields:
    """The fields of a form of this session. Raises Problem 403 for one that is not."""
    fields = await _fields(request)
    if not hmac.compare_digest(fields.get("cle", "").encode(), form_key(request, rooms).encode()):
        raise _foreign()
    return fields


async def _fields(request: Request) -> Fields:
    """Raises Problem 403 for what another site sent, where the browser says so."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise _foreign()
    kind, _ = media_type(request)
    if kind != _FORM:
        raise unsupported(_FORM)
    body = await whole(bounded(request, _LONGEST_FORM), _LONGEST_FORM)
    try:
        told = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Problem(422, "invalid", "this is no form") from None
    return Fields(told)


def _foreign() -> Problem:
    return Problem(403, "forbidden", "this form is not of this session")


class _Entrance:
    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile

    async def get_entrance(self, request: Request, rooms: InRooms) -> Response:
        secret = request.cookies.get(_cookie(rooms))
        if secret is not None and await rooms.sessions.resume(secret) is not None:
            raise Elsewhere(_inside(request.query_params.get("suite", "")))
        return _entrance(request.query_params.get("suite", ""), ended="fin" in request.query_params)

    async def post_entrance(self, request: Request, rooms: InRooms) -> Response:
        address = _caller(request, rooms)
        self._turnstile.enter(address)
        try:
            fields = await _fields(request)
            token = fields.get("code", "").strip()
            # An older session of this browser is not left behind.
            secret = await rooms.sessions.begin(token) if 0 < len(token) <= _LONGEST_TOKEN else None
        finally:
            self._turnstile.leave(address)
        if secret is None:
            log.warning("session.refused")
            return _entrance(fields.get("suite", ""), wrong=True)
        log.info("session.begun", token=token.split("_")[1])
        answer = see_other(_inside(fields.get("suite", "")))
        if (former := request.cookies.get(_cookie(rooms))) is not None:
            await rooms.sessions.end(former)
        answer.set_cookie(
            _cookie(rooms), secret, path=_path(rooms), httponly=True, samesite="strict", secure=rooms.secure
        )
        return answer


def _entrance(suite: str, wrong: bool = False, ended: bool = False) -> Response:
    return PAPER.page(
        "connexion",
        None,
        403 if wrong else 200,
        suite=_inside(suite),
        wrong=wrong,
        ended=ended,
        idle=int(IDLE.total_seconds() // 60),
    )


async def post_leave(request: Request, rooms: InRooms, visitor: InVisit) -> Response:
    await own_form(request, rooms)
    await rooms.sessions.end(request.cookies[_cookie(rooms)])
    answer = PAPER.page("au_revoir", None)
    answer.delete_cookie(
        _cookie(rooms), path=_path(rooms), httponly=True, samesite="strict", secure=rooms.secure
    )
    answer.headers["Clear-Site-Data"] = '"cache"'
    return guarded(answer)


def _cookie(rooms: Rooms) -> str:
    # By this name a browser takes it from no other than this very host, over TLS, and for all of its paths.
    return "__Host-boite" if rooms.secure else "boite"


def _path(rooms: Rooms) -> str:
    return "/" if rooms.secure else HOME


def _caller(request: Request, rooms: Rooms) -> str:
    peer = "" if request.client is None else request.client.host
    return caller(peer, ",".join(request.headers.getlist("x-forwarded-for")), rooms.proxies)


def _inside(path: str) -> str:
    """A page of ours to go on with; home for anything else."""
    return path if _INSIDE.fullmatch(path) else HOME


def _leads_here(request: Request) -> bool:
    """Whether a link of another site was followed: browsers then keep a strict cookie back."""
    return request.method in SEEN and request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
