"""Batches: many submissions in one post, a line each (NDJSON), and an answer line for each.

Lines are accepted in groups, one transaction each; a line that is refused spoils no other. Answers go out
as they come, and wait here for a client that writes everything before it reads anything: stopping to read
what such a client sends would make both wait for ever. The number of lines bounds what waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import assert_never

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.entrypoints.http.access import Poster
from hub.entrypoints.http.bodies import bounded, lines, media_type, too_large, unsupported
from hub.entrypoints.http.description import body_of, problems
from hub.entrypoints.http.limits import keep_reserve
from hub.entrypoints.http.problems import Problem, document, problem_of
from hub.entrypoints.http.receiving import receive_alone, too_slow
from hub.entrypoints.http.rooms import InRooms, Rooms
from hub.entrypoints.http.submissions import contradicted, receipt
from hub.ports.tokens import SenderIdentity
from hub.services.intake import Contradiction, Receipt, Reception
from hub.wire import read_submission
from schemas.models.answers import LineAnswer

NDJSON = "application/x-ndjson"

_GROUP_BYTES = 4_000_000
"""A group is full when its lines hold this much, however few they are."""

_MOST_FLAWS = 10
"""Shown for one line: the answers of a batch may have to wait here."""

_PATIENCE = 0.2
"""Seconds a group that is not full waits for its next line: somebody may be waiting for the answers."""


def routes() -> APIRouter:
    router = APIRouter(tags=["submissions"])
    told = problems(401, 403, 413, 415, 429, 503)
    told[200] = {
        "description": "An answer for each line, in order, as they come.",
        "content": {NDJSON: {"schema": {"$ref": "#/components/schemas/LineAnswer"}}},
    }
    router.add_api_route(
        "/v1/submissions:batch",
        post_batch,
        methods=["POST"],
        response_class=Response,
        responses=told,
        openapi_extra=body_of(
            {NDJSON: {"$ref": "#/components/schemas/SubmissionIn"}},
            "One submission per line, its files inline, as in `POST /v1/submissions`.",
        ),
    )
    return router


async def post_batch(request: Request, rooms: InRooms, sender: Poster) -> Response:
    """Take in many submissions. Each line is answered as if it had been posted alone."""
    kind, _ = media_type(request)
    if kind != NDJSON:
        raise unsupported(NDJSON)
    await keep_reserve(rooms.attachments, rooms.limits)
    limits = rooms.limits
    told = lines(bounded(request, limits.body), limits.document)
    return _Answers(_Batch(rooms, sender, told))


class _Answers(Response):
    """An answer that goes out while the request still comes in."""

    media_type = NDJSON

    def __init__(self, batch: _Batch) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._batch = batch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._batch.run(answers))
            while (answer := await answers.get()) is not None:
                await send({"type": "http.response.body", "body": answer, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass(slots=True)
class _Group:
    """Lines whose answer waits for their transaction; those refused already stand among them in order."""

    entries: list[tuple[int, Reception | Problem, str | None]] = field(default_factory=list)
    size: int = 0

    def receptions(self) -> list[Reception]:
        return [what for _, what, _ in self.entries if isinstance(what, Reception)]


class _Batch:
    def __init__(self, rooms: Rooms, sender: SenderIdentity, told: AsyncIterator[bytes | None]) -> None:
        self._rooms = rooms
        self._sender = sender
        self._lines = told
        self._number = 0
        self._group = _Group()

    async def run(self, answers: asyncio.Queue[bytes | None]) -> None:
        """Puts an answer for each line, then None. What ends the batch early is the answer to the line
        after the last one read; a batch that is cut off leaves nothing of the lines not answered."""
        try:
            async with asyncio.timeout(self._rooms.limits.longest_post) as time_left:
                await self._run(answers)
        except Exception as error:
            late = isinstance(error, TimeoutError) and time_left.expired()
            await self._give_up()
            answers.put_nowait(_text(_refusal(self._number + 1, too_slow() if late else problem_of(error))))
        except BaseException:
            await self._give_up()
            raise
        answers.put_nowait(None)

    async def _run(self, answers: asyncio.Queue[bytes | None]) -> None:
        limits = self._rooms.limits
        coming: asyncio.Future[bytes | None] | None = None
        try:
            while True:
                coming = asyncio.ensure_future(anext(self._lines))
                if self._group.entries and not (await asyncio.wait({coming}, timeout=_PATIENCE))[0]:
                    await self._accept(answers)
                line = await coming
                if self._number == limits.batch_lines:
                    raise Problem(413, "too_large", f"a batch has at most {limits.batch_lines} lines")
                self._number += 1
                if not self._group.entries:
                    await keep_reserve(self._rooms.attachments, limits)
                await self._take(line)
                if len(self._group.entries) >= limits.batch_group or self._group.size >= _GROUP_BYTES:
                    await self._accept(answers)
        except StopAsyncIteration:
            await self._accept(answers)
        except Problem:
            # What came before it is whole, and answered.
            await self._accept(answers)
            raise
        finally:
            if coming is not None:
                coming.cancel()

    async def _take(self, line: bytes | None) -> None:
        if line is not None and not line.strip():
            return
        name: str | None = None
        what: Reception | Problem
        try:
            if line is None:
                raise too_large(self._rooms.limits.document)
            posted = read_submission(line)
            name = posted.external_id
            what = await receive_alone(self._rooms, self._sender, posted)
        except Exception as error:
            what = problem_of(error)
        self._group.entries.append((self._number, what, name))
        self._group.size += len(line or b"")

    async def _accept(self, answers: asyncio.Queue[bytes | None]) -> None:
        group, self._group = self._group, _Group()
        if group.entries:
            answers.put_nowait(b"".join(map(_text, await self._answered(group))))

    async def _answered(self, group: _Group) -> list[LineAnswer]:
        receptions = group.receptions()
        failed: Problem | None = None
        found: dict[int, Receipt | Contradiction] = {}
        try:
            if receptions:
                accepted = await self._rooms.intake.accept(receptions)
                found = {id(answer.reception): answer for answer in accepted}
        except Exception as error:
            # Their files may be named by what was accepted: they are left to the sweep.
            failed = problem_of(error)
        result = []
        for number, what, name in group.entries:
            if isinstance(what, Problem):
                result.append(_refusal(number, what, name))
            elif failed is not None:
                result.append(_refusal(number, failed, name))
            else:
                result.append(_told(number, found[id(what)], name))
        return result

    async def _give_up(self) -> None:
        group, self._group = self._group, _Group()
        for reception in group.receptions():
            await self._rooms.intake.give_up(reception)


def _told(number: int, answer: Receipt | Contradiction, name: str | None) -> LineAnswer:
    match answer:
        case Receipt():
            told = receipt(answer)
            return LineAnswer(
                line=number,
                status=202,
                id=told.id,
                external_id=name,
                received_at=told.received_at,
                mapped_places=told.mapped_places or None,
                files_for_nobody=told.files_for_nobody or None,
            )
        case Contradiction():
            return _refusal(number, contradicted(), name)
        case _:
            assert_never(answer)


def _text(answer: LineAnswer) -> bytes:
    return answer.model_dump_json(exclude_none=True).encode() + b"\n"


def _refusal(number: int, problem: Problem, name: str | None = None) -> LineAnswer:
    told = document(problem)
    shown = told.model_copy(update={"errors": told.errors[:_MOST_FLAWS]})
    return LineAnswer(line=number, status=problem.status, external_id=name, problem=shown)
