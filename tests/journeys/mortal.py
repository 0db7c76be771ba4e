"""A process that dies at a call: `python -m tests.journeys.mortal` lives a small journey, as often as it is told.

Business of this file: every port that a room is given is counted call by call; at the fall, before or after the call,
the process is gone (no clean-up, no farewell to the server). It loads everything once and forks for each life, so
that a death costs a tenth of a second. A job is a line of JSON (`Job`), and so is what is told of it (`Told`).

The journey: submissions with files are posted until they are answered, carried to the log, decided, registered,
delivered, and one of them is sent again by an operator's order. Or, on the way back: partners report on them, each
with a file, and the events go to the sender's endpoint. The last life of a job is never killed, and closes the books.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import structlog

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.system.clock import SystemClock
from hub.domain.cases import CaseStatus
from hub.domain.delivery import Delivered, Outcome
from hub.domain.identity import Subscriber
from hub.domain.lifecycle import State
from hub.domain.partner import Endpoint, Partner, made_up_siret
from hub.domain.replays import ReplayOrder, Selection
from hub.domain.reports import Kept, Report, ReturnedFile
from hub.entrypoints.http.rooms import Rooms
from hub.ports.connector import Parcel
from hub.ports.log import Log, Topic
from hub.services.intake import Offer
from hub.services.reconciliation import ReconciliationRoom
from hub.services.replay import ReplayRoom
from hub.services.sweep import SweepRoom
from hub.wire import offer_document
from schemas.models.submission import SubmissionIn
from tests.services.http_world import SENDER, World, offer, rooms_on
from tests.services.room_world import Ports, column, decide_all, dispatch, serve_lanes
from tests.unit.samples import BONNEVILLE, MINISTRY

LEASE = 0.5
KILLED = 137
_LONGEST = 60
DESK = Subscriber(made_up_siret("130018716", 7), "OSL1")
"""The sender's own endpoint."""
_REPLAY = uuid5(NAMESPACE_URL, "a replay of this journey")


@dataclass(frozen=True, slots=True)
class Job:
    """`falls`: one life for each, killed at that call, before or after it ("before 7"). `back`: on the way back, whose
    calls alone are counted."""

    dsn: str
    folder: str
    submissions: int
    falls: tuple[str, ...]
    back: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """`last`: the call at which each life was killed, None where it ended first; `calls`: those of the last life.
    `wrong`: sentences; none if all is accounted for."""

    falls: tuple[str, ...]
    last: tuple[str | None, ...]
    calls: tuple[str, ...]
    wrong: tuple[str, ...]


class Axe:
    def __init__(self, fall: str | None, folder: Path) -> None:
        when, _, number = (fall or "never 0").partition(" ")
        self._fall = int(number), when
        self._folder = folder
        self.calls: list[str] = []
        self.sharp = True

    def over(self, port: Any) -> Any:
        return _Axed(port, self)

    def begins(self, name: str) -> int:
        if not self.sharp:
            return 0
        self.calls.append(name)
        self._perhaps(len(self.calls), "before")
        return len(self.calls)

    def ended(self, number: int) -> None:
        self._perhaps(number, "after")

    def _perhaps(self, number: int, when: str) -> None:
        if (number, when) == self._fall:
            (self._folder / "fell").write_text(self.calls[number - 1])
            os._exit(KILLED)


class _Axed:
    def __init__(self, port: Any, axe: Axe) -> None:
        self._port, self._axe = port, axe

    def __getattr__(self, name: str) -> Any:
        found, axe = getattr(self._port, name), self._axe
        said = f"{type(self._port).__name__}.{name}"

        async def called(*arguments: Any, **named: Any) -> Any:
            number = axe.begins(said)
            result = await found(*arguments, **named)
            axe.ended(number)
            return result

        async def streamed(*arguments: Any, **named: Any) -> Any:
            number = axe.begins(said)
            async for one in found(*arguments, **named):
                yield one
            axe.ended(number)

        if name == "reader":
            return self._reader
        if inspect.isasyncgenfunction(found):
            return streamed
        return called if inspect.iscoroutinefunction(found) else found

    @asynccontextmanager
    async def _reader(self, topic: Topic, group: str) -> AsyncIterator[Any]:
        async with cast(Log, self._port).reader(topic, group) as reader:
            yield self._axe.over(reader)


class Receiver:
    """Reads every file to its end, and notes what it has: a line that outlives its writer."""

    channel = "mailbox"

    def __init__(self, folder: Path) -> None:
        self._notes = os.open(folder / "arrived", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return ()

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        for parcel in parcels:
            digests = [
                hashlib.sha256(b"".join([chunk async for chunk in file.open(0, None)])).hexdigest()
                for file in parcel.files
            ]
            told = [str(parcel.subscriber), parcel.external_id, str(parcel.attempt.delivery), digests]
            os.write(self._notes, json.dumps(told).encode() + b"\n")
        return [Delivered("here") for _ in parcels]

    async def close(self) -> None:
        return None


async def live(job: Job, fall: str | None) -> Told:
    """One life. Ends the process at the fall."""
    folder = Path(job.folder)
    axe = Axe(fall, folder)
    axe.sharp = not job.back
    database = await Database.open(job.dsn)
    try:
        rooms = await rooms_on(database, folder, over=axe.over)
        world = World("", rooms, cast(Any, None), database, folder, cast(Any, None), {})
        through = Ports(
            *(
                axe.over(port)
                for port in (
                    PostgresTray(database),
                    PostgresLog(database, 2),
                    PostgresRegistry(database),
                    PostgresLanes(database),
                    Receiver(folder),
                )
            )
        )
        for number in range(job.submissions):
            await _post(rooms, number)
        await decide_all(world, through)
        if job.back:
            axe.sharp = True
            await _report(world)
            await _tell_sender(world, through)
        else:
            await _deliver(world, through)
            await _send_again(world)
            await _deliver(world, through)
        told = _wrong_on_the_way_back(world, job) if job.back else _wrong(world, job)
        wrong = () if fall is not None else tuple([text async for text in told])
        return Told(job.falls, (), tuple(axe.calls), wrong)
    finally:
        await database.close()


async def _post(rooms: Rooms, number: int) -> None:
    """As a sender who has had no answer: the same again."""
    files = [b"premier %d" % number, b"second"][: 1 + number % 2]
    posted = SubmissionIn.model_validate(offer(files, external_id=f"d-{number}"))
    reception = await rooms.intake.begin(Offer(SENDER, posted.external_id, offer_document(posted)))
    await rooms.intake.store_whole(reception, dict(enumerate(files, start=1)))
    await rooms.intake.accept([reception])


async def _deliver(world: World, through: Ports) -> None:
    async def at_rest() -> bool:
        return not await column(world, "SELECT id FROM delivery WHERE state <> 'delivered' LIMIT 1")

    worker = f"worker-{os.getpid()}"
    room = dispatch(world, through.lanes, {"mailbox": through.partner}, worker=worker, lease=LEASE)
    await serve_lanes(room, at_rest)


async def _send_again(world: World) -> None:
    [first] = await column(world, "SELECT min(id::text)::uuid FROM delivery")
    chosen = Selection(deliveries=(first,), state=State.DELIVERED)
    await world.rooms.replays.begin(_REPLAY, ReplayOrder(chosen, "exploitant", "essai"))
    room = ReplayRoom(world.rooms.replays, world.rooms.library, SystemClock())
    while await room.run_once(0):
        pass


async def _report(world: World) -> None:
    """As partners who have had no answer: the same again."""

    async def content(name: UUID) -> AsyncIterator[bytes]:
        yield f"accusé de {name}".encode()

    desk = Partner(DESK, "Formulaires", Endpoint("mailbox", {}), sender=SENDER)
    await PostgresPartners(world.database).keep([(desk, None, None)])
    for subscriber in (MINISTRY, BONNEVILLE):
        names = await column(
            world,
            f"SELECT id FROM delivery WHERE subscriber = '{subscriber}' AND kind = 'submission' ORDER BY id",
        )
        reports = [Report(name, CaseStatus.DONE, file=ReturnedFile("accusé.txt")) for name in names]
        contents = {place: content(name) for place, name in enumerate(names)}
        answers = await world.rooms.reports.report(subscriber, reports, contents)
        assert all(isinstance(answer, Kept) for answer in answers)


async def _tell_sender(world: World, through: Ports) -> None:
    async def at_rest() -> bool:
        moving = "kind = 'news' AND state <> 'delivered' OR kind <> 'news' AND state <> 'acknowledged'"
        return not await column(world, f"SELECT id FROM delivery WHERE {moving} LIMIT 1")

    room = dispatch(
        world, through.lanes, {"mailbox": through.partner}, worker=f"worker-{os.getpid()}", lease=LEASE
    )
    await serve_lanes(room, at_rest)


async def _wrong_on_the_way_back(world: World, job: Job) -> AsyncIterator[str]:
    reconciliation = ReconciliationRoom(PostgresLedger(world.database))
    await reconciliation.fold()
    for difference in (await reconciliation.read())[1]:
        yield difference
    numbers = await column(world, "SELECT number FROM event ORDER BY number")
    if numbers != list(range(1, 2 * job.submissions + 1)):
        yield f"events: {numbers}"
    if len(await column(world, "SELECT DISTINCT delivery FROM event")) != len(numbers):
        yield "of one delivery there are two events"
    arrived = [json.loads(line) for line in (world.folder / "arrived").read_text().splitlines()]
    news = {(name, tuple(digests)) for partner, _, name, digests in arrived if partner == str(DESK)}
    if {name for name, _ in news} != set(map(str, await column(world, "SELECT id FROM event"))):
        yield "other news arrived than there are events"
    if len(news) != len(numbers):
        yield "an event came twice, and not the same"
    await SweepRoom(world.rooms.attachments, PostgresIntake(world.database), timedelta(0)).run_once()
    named = await column(world, "SELECT count(*) FROM stored_file")
    files = [path for path in (world.folder / "attachments").rglob("*") if path.is_file()]
    if [len(files)] != named:
        yield "files are left that nobody names, or are missing"


async def _wrong(world: World, job: Job) -> AsyncIterator[str]:
    reconciliation = ReconciliationRoom(PostgresLedger(world.database))
    await reconciliation.fold()
    accounts, differences = await reconciliation.read()
    for difference in differences:
        yield difference
    if [(line.accepted, line.routed) for line in accounts.submissions] != [
        (job.submissions, job.submissions)
    ]:
        yield f"submissions: {accounts.submissions}"
    named = set(map(str, await column(world, "SELECT id FROM delivery")))
    arrived = [json.loads(line) for line in (world.folder / "arrived").read_text().splitlines()]
    if {name for _, _, name, _ in arrived} != named or len(named) != 2 * job.submissions:
        yield f"{len(named)} deliveries are known, and other names arrived"
    if len({(partner, case) for partner, case, _, _ in arrived}) != len(named):
        yield "a partner has two names for one submission"
    if len({(name, tuple(digests)) for _, _, name, digests in arrived}) != len(named):
        yield "a delivery came twice, and not the same"
    if max(Counter(name for _, _, name, _ in arrived).values()) < 2:
        yield "nothing was sent again"
    numbers = await column(world, "SELECT sequence FROM delivery ORDER BY subscriber, sequence")
    if numbers != 2 * list(range(1, job.submissions + 1)):
        yield f"numbers: {numbers}"
    [sendings] = await column(world, "SELECT max(sending) FROM delivery")
    if sendings != 2:
        yield f"{sendings} sendings of a delivery that was replayed once"


# --- processes ----------------------------------------------------------------------------------------


def _in_a_fork(work: Callable[[], int]) -> int:
    """The exit code of a child that does this."""
    child = os.fork()
    if child == 0:
        # One that never ends would be no answer.
        signal.alarm(_LONGEST)
        try:
            os._exit(work())
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _carry_out(job: Job) -> int:
    folder, last = Path(job.folder), list[str | None]()

    def life(fall: str | None) -> Callable[[], int]:
        def lived() -> int:
            told = asyncio.run(live(job, fall))
            (folder / "told").write_text(json.dumps(asdict(told)))
            return 0

        return lived

    for fall in job.falls:
        code = _in_a_fork(life(fall))
        if code not in (0, KILLED):
            _tell(Told(job.falls, tuple(last), (), (f"a life ended with {code}",)))
            return 1
        last.append((folder / "fell").read_text() if code == KILLED else None)
    if _in_a_fork(life(None)):
        _tell(Told(job.falls, tuple(last), (), ("the last life did not end well",)))
        return 1
    told = json.loads((folder / "told").read_text())
    _tell(Told(job.falls, tuple(last), tuple(told["calls"]), tuple(told["wrong"])))
    return 0


def _tell(told: Told) -> None:
    # In one piece: several write into the same pipe.
    os.write(1, json.dumps(asdict(told)).encode() + b"\n")


def main() -> None:
    structlog.configure(processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)])
    for line in sys.stdin:
        told = json.loads(line)
        job = Job(told["dsn"], told["folder"], told["submissions"], tuple(told["falls"]), told["back"])
        if os.fork() == 0:
            os._exit(_carry_out(job))


if __name__ == "__main__":
    main()
