"""Reports whose answer is lost, or that die on their way: said again they are the same event, and no file is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.events import PostgresEvents
from hub.adapters.postgres.intake import PostgresIntake
from hub.domain.cases import CaseStatus
from hub.domain.errors import Unavailable
from hub.domain.reports import Declined, Kept, NotTaken, Report, ReportAnswer, ReturnedFile
from hub.entrypoints.http.rooms import Rooms
from hub.services.sweep import SweepRoom
from tests.services.http_world import Answer, World, open_world, rooms_on
from tests.services.test_http_events import parcel
from tests.unit.samples import BONNEVILLE, MINISTRY

CONTENT = b"un accus\xc3\xa9 " * 9000


@dataclass(slots=True)
class Failing:
    """A port that fails once, before or after what it is asked is done."""

    port: Any
    verb: str
    after: bool
    failed: bool = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.port, name)
        if name != self.verb or self.failed:
            return real

        async def fails(*arguments: Any) -> Any:
            self.failed = True
            if self.after:
                await real(*arguments)
            raise Unavailable

        return fails


@asynccontextmanager
async def failing(
    world: World, dsn: str, verb: str, port: type[object], *, after: bool
) -> AsyncIterator[Rooms]:
    """Rooms on the same hub, of which this verb fails once."""
    database = await Database.open(dsn)
    over: Callable[[Any], Any] = lambda told: Failing(told, verb, after) if type(told) is port else told  # noqa: E731
    try:
        yield await rooms_on(database, world.folder.parent, over=over)
    finally:
        await database.close()


async def content() -> AsyncIterator[bytes]:
    for start in range(0, len(CONTENT), 40_000):
        yield CONTENT[start : start + 40_000]


async def say(rooms: Rooms, delivery: str, **told: Any) -> ReportAnswer:
    file = ReturnedFile("accusé.txt", "text/plain")
    report = Report(UUID(delivery), CaseStatus.DONE, file=file, **told)
    [answer] = await rooms.reports.report(BONNEVILLE, [report], {0: content()})
    return answer


async def read(world: World, event: UUID) -> Answer:
    return await world.call("GET", f"/v1/events/{event}/file")


async def sweep(world: World) -> int:
    room = SweepRoom(world.rooms.attachments, PostgresIntake(world.database), timedelta(0))
    return await room.run_once()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_report_whose_answer_is_lost_is_said_again_and_is_one_event(
    database: str, tmp_path: Path, after: bool
) -> None:
    async with open_world(database, tmp_path) as world:
        _, delivery = await parcel(world)
        async with failing(world, database, "keep", PostgresEvents, after=after) as rooms:
            with pytest.raises(Unavailable):
                await say(rooms, delivery)
            # Whether it was kept is not known: its file stays until the sweep knows.
            assert len(world.files()) == 1
            again = await say(rooms, delivery)
        assert isinstance(again, Kept)
        assert again.fresh is not after
        assert len((await world.call("GET", "/v1/events")).json["items"]) == 1
        assert (await read(world, again.event)).body == CONTENT
        assert await sweep(world) == (0 if after else 1)
        assert len(world.files()) == 1
        assert (await read(world, again.event)).body == CONTENT


async def test_a_page_of_reports_is_answered_one_by_one_and_leaves_only_what_was_kept(
    database: str, tmp_path: Path
) -> None:
    async with open_world(database, tmp_path) as world:
        _, one = await parcel(world)
        _, two = await parcel(world)
        file = ReturnedFile("a.txt", "text/plain", sha256="0" * 64)

        async def of(*chunks: bytes) -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        reports: Sequence[Report] = [
            Report(UUID(one), CaseStatus.IN_PROGRESS),
            Report(UUID(one), CaseStatus.SENT),
            Report(UUID(int=7), CaseStatus.DONE),
            Report(UUID(one), CaseStatus.DONE, file=ReturnedFile("a.txt")),
            Report(UUID(two), file=file),
            Report(UUID(one), CaseStatus.DONE, file=ReturnedFile("a.txt")),
            Report(UUID(two)),
            Report(UUID(two), file=ReturnedFile("b.txt")),
            Report(UUID(two), CaseStatus.DONE),
        ]
        contents = {3: of(b"x"), 4: of(b"y"), 5: of(b"x")}
        answers = await world.rooms.reports.report(BONNEVILLE, reports, contents)
        told = [
            answer.why.value if isinstance(answer, Declined) else "fresh" if answer.fresh else "again"
            for answer in answers
        ]
        assert told == [
            "fresh",
            NotTaken.CONFLICT,
            NotTaken.UNKNOWN,
            "fresh",
            NotTaken.INVALID,
            "again",
            NotTaken.INVALID,
            NotTaken.INVALID,
            "fresh",
        ]
        assert len(world.files()) == 1
        events = (await world.call("GET", "/v1/events")).json["items"]
        assert [(event["delivery"], event["status"]) for event in events] == [
            (one, "IN_PROGRESS"),
            (one, "DONE"),
            (two, "DONE"),
        ]


async def test_how_far_a_case_is_is_told_to_its_partner_alone(database: str, tmp_path: Path) -> None:
    async with open_world(database, tmp_path) as world:
        _, delivery = await parcel(world)
        assert await world.rooms.reports.case(MINISTRY, UUID(delivery)) is None
        found = await world.rooms.reports.case(BONNEVILLE, UUID(delivery))
        assert found is not None
        assert found[0].status is CaseStatus.HUBEE_NOTIFIED
        await world.rooms.reports.report(BONNEVILLE, [Report(UUID(delivery), CaseStatus.DONE)])
        found = await world.rooms.reports.case(BONNEVILLE, UUID(delivery))
        assert found is not None
        # The last word may be taken back for a while.
        assert found[1] == (CaseStatus.SI_INTG_ERROR, CaseStatus.HUBEE_NOTIFIED)
