"""What watches the journal: flows are counted by the hour, and one alarm is raised for each silence."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.journal import PostgresJournal
from hub.adapters.postgres.log import PostgresLog
from hub.domain.errors import Invalid
from hub.domain.identity import Subscriber
from hub.domain.ledger import hour_since_epoch
from hub.domain.silence import WEEK
from hub.ports.log import Record, Topic
from hub.ports.outgoing import News
from hub.services.outgoing import NewsRoom
from hub.services.supervision import COUNTED, SupervisionRoom
from hub.wire import read_news, write_news
from tests.conformance.motion import plant

START = datetime(2026, 3, 2, tzinfo=UTC)
TOWN = Subscriber("21740042390019", "74042")


def planned(at: datetime, event: str = COUNTED, subscriber: Subscriber | None = TOWN) -> Record:
    return write_news(News(at, event, None, None, "EtatCivil", subscriber))


class Table(dict[str, dict[str, int]]):
    """What a host keeps: only what JSON keeps."""

    def __setitem__(self, flow: str, history: dict[str, int]) -> None:
        super().__setitem__(flow, json.loads(json.dumps(history)))


def fed(room: SupervisionRoom, table: Table, records: list[Record], now: datetime) -> None:
    for record in records:
        room.note(table, record, now)


def test_only_deliveries_that_were_planned_for_a_partner_are_counted() -> None:
    room, table = SupervisionRoom(read_news, enough=5), Table()
    with pytest.raises(Invalid):
        room.note(table, Record(b"", "journal.v1", b"\xff"), START)
    fed(
        room,
        table,
        [planned(START), planned(START, "delivery.parked"), planned(START, subscriber=None)],
        START,
    )
    assert table == {f"EtatCivil {TOWN}": {str(hour_since_epoch(START)): 1}}


def test_a_flow_that_stops_is_told_once_and_again_when_it_stops_anew() -> None:
    room, table = SupervisionRoom(read_news, enough=5), Table()
    fed(room, table, [planned(START + timedelta(hours=n)) for n in range(2 * WEEK)], START)
    stopped = START + timedelta(hours=2 * WEEK)
    with capture_logs() as lines:
        assert room.look(table, stopped + timedelta(hours=4)) == []
        [silent] = room.look(table, stopped + timedelta(hours=5))
        assert (silent.procedure, silent.subscriber, silent.expected) == ("EtatCivil", str(TOWN), 5)
        assert len(room.look(table, stopped + timedelta(hours=6))) == 1
    assert [line["event"] for line in lines] == ["flow.silent"]
    later = stopped + timedelta(hours=7)
    fed(room, table, [planned(later)], later)
    with capture_logs() as lines:
        assert room.look(table, later + timedelta(hours=1)) == []
        assert len(room.look(table, later + timedelta(hours=9))) == 1
    assert [line["event"] for line in lines] == ["flow.silent"]


class Killed(Exception):
    pass


async def test_news_whose_carrier_dies_are_carried_again(database: str) -> None:
    opened = await Database.open(database)
    log, journal = PostgresLog(opened), PostgresJournal(opened)
    dies = NewsRoom(journal, log, write_news)
    await dies.run_once()
    await plant(opened, [1, 2], to=[1])

    async def killed(*_: Any) -> None:
        raise Killed

    journal.carried = killed  # type: ignore[method-assign, assignment]
    with pytest.raises(Killed):
        await dies.run_once()
    lives = NewsRoom(PostgresJournal(opened), log, write_news)
    count = await lives.run_once()
    assert count > 2
    assert await lives.run_once() == 0
    async with log.reader(Topic.JOURNAL, "watchers") as reader:
        found = [read_news(entry.record).event for entry in await reader.read(100, 1)]
    assert len(found) == 2 * count
    assert found.count(COUNTED) == 4
    await opened.close()
