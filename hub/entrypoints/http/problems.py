"""Problems (RFC 9457): every refusal and every failure as one kind of document.

A problem names fields and rules, never values; an unexpected exception is answered without a word of it,
and logged by its type and the lines it passed, because its text may quote what somebody sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hub.domain.errors import Flaw, HubError, Invalid, NotGranted, RuleBookError, Unavailable
from hub.telemetry.logs import places
from schemas.models.answers import FlawAnswer, ProblemAnswer

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger()


class Problem(Exception):
    """An answer that is a problem: its status, a stable word for its kind, a sentence, and the flaws."""

    def __init__(
        self,
        status: int,
        word: str,
        detail: str,
        *flaws: Flaw,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(word)
        self.status = status
        self.word = word
        self.detail = detail
        self.flaws = flaws
        self.headers = dict(headers or {})


def answer_problems(app: FastAPI) -> None:
    """Every exception that may leave an endpoint, but those nobody expects (see `answered`)."""
    for kind in (Problem, HubError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    return response(problem_of(error))


def response(problem: Problem) -> Response:
    return Response(
        document(problem).model_dump_json(), problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def document(problem: Problem) -> ProblemAnswer:
    return ProblemAnswer(
        type=f"urn:aiguillage:problem:{problem.word}",
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        errors=[FlawAnswer(field=flaw.field, rule=flaw.rule, detail=flaw.detail) for flaw in problem.flaws],
    )


def problem_of(error: BaseException) -> Problem:
    """What to answer; what nobody expected is logged here."""
    match error:
        case Problem():
            return error
        case NotGranted():
            return Problem(403, "forbidden", error.flaws[0].detail, *error.flaws)
        case Invalid():
            return Problem(
                422, "invalid", "what was sent does not satisfy the rules of this hub", *error.flaws
            )
        case Unavailable() | RuleBookError():
            # No rule book in force is a hub that is not ready yet.
            log.warning("request.unavailable", error=type(error).__name__)
            detail = "something this hub needs is away; nothing was accepted that was not answered"
            return Problem(503, "unavailable", detail, headers={"Retry-After": "10"})
        case RequestValidationError():
            return Problem(
                422, "invalid", "the parameters do not have the right form", *_flaws(error.errors())
            )
        case HTTPException():
            return _refused(error)
        case ClientDisconnect():
            return Problem(400, "cut_off", "the body was cut off")
        case _:
            first = _first(error)
            log.error("request.failed", error=type(first).__name__, places=places(first))
            return Problem(500, "failed", "this hub failed; it is logged")


def _refused(error: HTTPException) -> Problem:
    status = error.status_code
    if status not in _REFUSALS:
        status = 500 if status >= 500 else 400
    word, detail = _REFUSALS.get(status, ("refused", "this request is refused"))
    return Problem(status, word, detail, headers=error.headers)


_REFUSALS: Mapping[int, tuple[str, str]] = {
    404: ("not_found", "there is no such thing here"),
    405: ("method", "this method is not known here"),
}


def not_found() -> Problem:
    """The same for what does not exist and for what belongs to somebody else."""
    word, detail = _REFUSALS[404]
    return Problem(404, word, detail)


def moved() -> Problem:
    """Only for whoever a parcel was of before its place was taken: nothing is told of who has it now."""
    return Problem(410, "moved", "this was yours, and followed to whoever took your place")


def _flaws(found: Sequence[Any]) -> Iterable[Flaw]:
    """The framework quotes what was sent in its messages: only where and which rule is kept."""
    for one in found[:50]:
        # The first part of a location is the place: query, path, header.
        field = "".join(f"/{str(part)[:60]}" for part in one["loc"][1:])
        yield Flaw(field, str(one["type"]), "this parameter does not have the right form, or is not known")


def _first(error: BaseException) -> BaseException:
    """Of a group, its first member: the group itself passed nowhere of interest."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error
