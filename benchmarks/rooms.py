"""The rooms between tray and deliveries, each in a process of its own: `python -m benchmarks.rooms ROOM …`.

Business of this file: one room over a real store and a real log, as its role has it, until it has carried what it was
told to. It says that it is ready, begins at a line on its standard input, and says what it took. The rule book is the
register's, in force ever since; so the store holds no edition of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from benchmarks.register import register
from benchmarks.routers import AHEAD, PARTITIONS, Editions, Stopwatch, territory
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.log import KafkaLog
from hub.adapters.kafka.topics import KafkaTopic, Topics
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.system.clock import SystemClock
from hub.assembly.roles import settle_memory
from hub.ports.log import Topic
from hub.services.library import Library
from hub.services.outgoing import OutgoingRoom
from hub.services.registration import RegistrationRoom
from hub.services.routing import RoutingRoom
from hub.services.shelf import Shelf
from hub.telemetry import logs
from hub.wire import (
    DecisionWriter,
    SubmissionReader,
    read_decision_record,
    write_submission,
    write_unreadable,
)

OUTGOING, ROUTING, REGISTRATION = "outgoing", "routing", "registration"
_WAIT = 3.0

Turn = Callable[[], Awaitable[int]]


def topics() -> Topics:
    return {topic: KafkaTopic(topic.value, PARTITIONS, 1, frozenset()) for topic in Topic}


async def _until_carried(turn: Turn, count: int, watch: Stopwatch) -> None:
    """Or until nothing more comes: others may have taken the rest."""
    await watch.joined()
    left, begun = count, False
    while left > 0:
        if done := await turn():
            watch.lap()
            left, begun = left - done, True
        elif begun:
            break


async def run(room: str, dsn: str, bootstrap: str, count: int) -> Stopwatch:
    watch = Stopwatch()
    journey = KafkaLog(KafkaCluster(bootstrap), topics())
    database = await Database.open(dsn)
    shelf = Shelf(journey, write_unreadable, SystemClock())
    try:
        match room:
            case "outgoing":
                outgoing = OutgoingRoom(PostgresTray(database), journey, write_submission, 4000)
                settle_memory()
                await _until_carried(lambda: outgoing.run_once(_WAIT), count, watch)
            case "routing":
                book = register(territory()).book()
                library = Library(Editions(), lambda base, change: book)  # type: ignore[arg-type]
                read, writer = SubmissionReader().read, DecisionWriter()
                routing = RoutingRoom(journey, library, read, writer, shelf, ahead=AHEAD)
                settle_memory()
                async with journey.reader(Topic.SUBMISSIONS, ROUTING) as reader:
                    await _until_carried(lambda: routing.run_once(reader, _WAIT), count, watch)
            case "registration":
                registry = PostgresRegistry(database)
                registration = RegistrationRoom(registry, read_decision_record, shelf, 4000)
                settle_memory()
                async with journey.reader(Topic.ROUTINGS, REGISTRATION) as reader:
                    await _until_carried(lambda: registration.run_once(reader, _WAIT), count, watch)
    finally:
        await journey.close()
        await database.close()
    return watch


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("room", choices=[OUTGOING, ROUTING, REGISTRATION])
    arguments.add_argument("dsn")
    arguments.add_argument("bootstrap")
    arguments.add_argument("count", type=int)
    chosen = arguments.parse_args()
    logs.configure("json")
    print(json.dumps({"ready": True}), flush=True)
    watch = asyncio.run(run(chosen.room, chosen.dsn, chosen.bootstrap, chosen.count))
    print(json.dumps(watch.told()), flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
