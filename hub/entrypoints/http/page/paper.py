"""Paper: templates that become answers, with what a browser is told to refuse.

Business of this file: every text is escaped, no page is kept, framed or scripted, and whatever goes wrong is one
French page that repeats nothing of what was sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from hub.entrypoints.http.page import words
from hub.entrypoints.http.problems import problem_of
from hub.ports.sessions import Visitor

HOME = "/boite"

SEEN = ["GET", "HEAD"]
"""Methods by which a page is asked for. With HEAD nothing is shown: so nothing is noted as read."""

_FOLDER = Path(__file__).parent / "templates"

# Nothing runs, nothing is framed; a page's own style and picture, and forms that go back where they came from.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)


class Elsewhere(Exception):
    """The answer is another page; `forget`: the browser's session is of no use any more."""

    def __init__(self, path: str, forget: bool = False) -> None:
        super().__init__(path)
        self.path = path
        self.forget = forget


class Again(Exception):
    """The same page asked for once more, from here: what another site leads to comes without the session."""


class Paper:
    """`visitor` in templates is who is logged in, None on the way there."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER, encoding="utf-8"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(words=words, home=HOME)

    def page(self, name: str, visitor: Visitor | None, status: int = 200, **told: Any) -> Response:
        text = self._templates.get_template(f"{name}.html").render(visitor=visitor, **told)
        return guarded(HTMLResponse(text.encode("utf-8", "replace"), status))

    def refused(self, error: BaseException) -> Response:
        """What nobody expected is logged by `problem_of`."""
        problem = problem_of(error)
        title, sentence = words.refusal(problem.status)
        answer = self.page("refus", None, problem.status, title=title, sentence=sentence)
        for name, value in problem.headers.items():
            answer.headers[name] = value
        return answer


PAPER = Paper()
"""Made once: it holds templates, and nothing of anybody."""


def guarded(answer: Response) -> Response:
    answer.headers.setdefault("Content-Security-Policy", _POLICY)
    answer.headers["X-Frame-Options"] = "DENY"
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return answer


def see_other(path: str) -> Response:
    return guarded(Response(status_code=303, headers={"Location": path}))


class PageRoute(APIRoute):
    """A route whose refusals are pages."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Elsewhere as other:
                return see_other(other.path)
            except Again:
                return PAPER.page("passage", None, path=request.url.path)
            except Exception as error:
                return PAPER.refused(error)

        return handled
