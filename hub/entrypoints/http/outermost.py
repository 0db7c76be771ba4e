"""The outermost layer: counts every answer, and lets no exception out of the application.

A web server writes what escapes an application into its own log, with its text: so nothing may escape.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.entrypoints.http.measures import Measures
from hub.entrypoints.http.problems import problem_of, response

_UNMATCHED = "unmatched"


@dataclass(slots=True)
class Outermost:
    """An ASGI layer. An answer that breaks off half way stays broken: the server closes the connection."""

    app: ASGIApp
    measures: Measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _guard(MutableHeaders(scope=message))
            await send(message)

        try:
            await self.app(scope, receive, guarded)
        except Exception as error:
            problem = problem_of(error)
            if not status:
                await response(problem)(scope, receive, guarded)
        finally:
            self.measures.answered(_route(scope), status, time.monotonic() - began)


def _guard(headers: MutableHeaders) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers.setdefault("Cache-Control", "no-store")


def _route(scope: Scope) -> str:
    """The template of the path: what was asked for may hold ids, or anything."""
    return str(getattr(scope.get("route"), "path", _UNMATCHED))
