"""Records that the rooms cannot read. Of journeys that are killed: `tests/journeys/test_killed_anywhere.py`."""

from __future__ import annotations

from pathlib import Path

from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.shelf import PostgresShelf
from hub.adapters.system.clock import SystemClock
from hub.domain.identity import submission_id
from hub.ports.log import Topic
from hub.services.reconciliation import ReconciliationRoom
from hub.services.shelf import Shelf, ShelfRoom
from hub.wire import read_unreadable, write_unreadable
from tests.services.http_world import World, offer, open_world
from tests.services.room_world import (
    ScriptedPartner,
    column,
    decide_all,
    ports,
)


async def _accept(world: World) -> None:
    for number in range(2):
        files = [b"premier", b"second"]
        assert (await world.post_parts(offer(files, external_id=f"d-{number}"), files)).status == 202


async def test_a_record_that_cannot_be_read_is_set_aside_and_the_others_go_on(
    database: str, tmp_path: Path
) -> None:
    async with open_world(database, tmp_path) as world:
        await _accept(world)
        through = ports(world, ScriptedPartner())
        [first, _] = await through.tray.letters(2)
        # A poisoned record under an accepted submission's key, and one whose key names nothing at all.
        from hub.ports.log import Record

        await PostgresLog(world.database, 2).append(
            Topic.SUBMISSIONS,
            [
                Record(first.content.submission.bytes, "submission.v1", b"\xff\xfe poison"),
                Record(b"not an id", "submission.v1", b"\x00"),
                Record(submission_id("nobody", "1").bytes, "other.v9", b""),
                Record(bytes(16), "submission.v1", b""),
            ],
        )
        await through.tray.discard([first.position])
        await decide_all(world, through)
        verdicts = await column(world, "SELECT verdict FROM decision ORDER BY verdict")
        assert verdicts == ["routed", "set_aside"]
        accounts, differences = await ReconciliationRoom(PostgresLedger(world.database)).read()
        assert not differences
        assert accounts.strays == 1
        # The same on the embedded log as on Kafka: operators see where each lies, and why.
        rows = PostgresShelf(world.database)
        kept = ShelfRoom(Shelf(through.log, write_unreadable, SystemClock()), rows, read_unreadable)
        async with through.log.reader(Topic.SET_ASIDE, "shelf") as reader:
            while await kept.run_once(reader, 0):
                pass
        reasons = sorted((one.topic, one.reason, one.size) for one in await rows.newest(10))
        assert reasons == [
            ("submissions", "no_avro", 0),
            ("submissions", "no_avro", 1),
            ("submissions", "no_avro", 9),
            ("submissions", "unknown_schema", 0),
        ]
