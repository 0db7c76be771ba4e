"""Which of an endpoint's settings run out soon, and which alarm that is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hub.domain.alarms import Alarm, AlarmKind, expiring
from hub.domain.fields import Field, FieldKind
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
TOWN = Subscriber.parse("21350238800019-00001")


def until(text: str) -> datetime | None:
    return None if text == "for ever" else datetime.fromisoformat(text).replace(tzinfo=UTC)


def field(name: str, until: object = until) -> Field:
    return Field(name, FieldKind.TEXT, "Aide.", "Help.", until=until)  # type: ignore[arg-type]


FIELDS = (field("pass"), field("seal"), field("name", None))


def looked(**settings: object) -> Alarm | None:
    return expiring(TOWN, Endpoint("sftp", settings), FIELDS, MONTH, NOW)


def test_the_first_to_run_out_is_told_with_how_many_do() -> None:
    found = looked(**{"pass": "2026-06-20", "seal": "2026-06-10", "name": "2026-06-01"})
    since = datetime(2026, 6, 10, tzinfo=UTC) - MONTH
    assert found == Alarm(AlarmKind.EXPIRING, str(TOWN), "sftp", since, 2, "seal until 2026-06-10")


def test_it_begins_so_long_before_and_lasts_until_there_is_another() -> None:
    assert looked(seal="2026-07-02") is None
    assert looked(seal="2026-07-01") is not None
    assert looked(seal="2020-01-01") is not None


def test_what_never_runs_out_is_not_there_or_does_not_read_is_none() -> None:
    assert looked(seal="for ever") is None
    assert looked() is None
    assert looked(seal=20260610) is None
    assert looked(seal="soon") is None
