"""What a partner asks for about when and how fast it is served, and which waits hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.domain.errors import Invalid
from hub.domain.pace import (
    DAYS,
    HERE,
    Maintenance,
    PartnerPace,
    falls_back,
    maintenance_to_json,
    opens_in,
    pace_to_json,
    page_of,
    read_maintenance,
    read_pace,
    rest_after,
)
from hub.domain.retry import Policies

WHOLE = {
    "rate": 60,
    "quiet_hours": [{"from": "20:00", "until": "07:30", "days": ["mon", "sun"]}],
    "retry": [5, 0.5],
    "retry_of": {"EtatCivil": [60]},
    "ordered": ["EtatCivil"],
    "ordered_closes": True,
    "fallback": {"after": 86400, "to": "mailbox", "notice": {"host": "smtp.example"}},
}


def paris(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=HERE)


def night(*days: str) -> PartnerPace:
    return read_pace({"quiet_hours": [{"from": "20:00", "until": "07:00", "days": list(days or DAYS)}]})


def test_what_is_read_and_written_is_the_same() -> None:
    assert pace_to_json(read_pace(WHOLE)) == WHOLE
    assert pace_to_json(read_pace({})) == {}


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"rate": 0}, "/rate"),
        ({"rate": True}, "/rate"),
        ({"rates": 1}, "/"),
        ({"retry": [0]}, "/retry/0"),
        ({"retry": [10**12]}, "/retry/0"),
        ({"retry": [float("nan")]}, "/retry/0"),
        ({"retry": "5"}, "/retry"),
        ({"retry_of": {"EtatCivil": 5}}, "/retry_of/…"),
        ({"ordered": "EtatCivil"}, "/ordered"),
        ({"ordered_closes": 1}, "/ordered_closes"),
        ({"fallback": {}}, "/fallback/after"),
        ({"fallback": {"after": 86400, "to": "sftp"}}, "/fallback/to"),
        ({"fallback": {"after": 86400, "notice": "a@b.example"}}, "/fallback/notice"),
        ({"quiet_hours": [{"from": "20:00", "until": "24:00"}]}, "/quiet_hours/0/until"),
        ({"quiet_hours": [{"from": "8", "until": "20:00"}]}, "/quiet_hours/0/from"),
        ({"quiet_hours": [{"from": "20:00", "until": "08:00", "days": ["lundi"]}]}, "/quiet_hours/0/days"),
        ({"quiet_hours": [{"from": "00:00", "until": "00:00"}]}, "/quiet_hours"),
        ({"quiet_hours": [{"from": "08:00", "until": "07:30"}]}, "/quiet_hours"),
    ],
)
def test_a_wish_that_cannot_be_names_its_field(told: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_pace(told)
    assert [flaw.field for flaw in refused.value.flaws] == [field]


def test_a_night_is_waited_out_from_the_evening_on() -> None:
    assert opens_in(night(), [], paris("2026-06-10T19:59")) == timedelta(0)
    assert opens_in(night(), [], paris("2026-06-10T20:00")) == timedelta(hours=11)
    assert opens_in(night(), [], paris("2026-06-11T06:59")) == timedelta(minutes=1)
    assert opens_in(night(), [], paris("2026-06-11T07:00")) == timedelta(0)
    assert opens_in(None, [], paris("2026-06-10T23:00")) == timedelta(0)


def test_the_night_of_a_day_goes_on_in_the_next_one() -> None:
    friday = night("fri")
    assert opens_in(friday, [], paris("2026-06-13T06:00")) == timedelta(hours=1)
    assert opens_in(friday, [], paris("2026-06-13T21:00")) == timedelta(0)


@pytest.mark.parametrize(
    ("evening", "hours"), [("2026-03-28T22:00", 8), ("2026-10-24T22:00", 10), ("2026-06-10T22:00", 9)]
)
def test_a_night_in_which_clocks_change_ends_when_they_show_its_end(evening: str, hours: int) -> None:
    assert opens_in(night(), [], paris(evening)) == timedelta(hours=hours)


def test_an_hour_that_comes_twice_is_quiet_both_times() -> None:
    pace = read_pace({"quiet_hours": [{"from": "02:10", "until": "02:50"}]})
    twice = datetime(2026, 10, 25, 0, 20, tzinfo=UTC)
    assert opens_in(pace, [], twice) == timedelta(minutes=90)


def test_maintenance_and_nights_that_meet_are_waited_out_together() -> None:
    works = Maintenance(paris("2026-06-11T06:30"), paris("2026-06-11T21:00"), "new server")
    assert opens_in(night(), [works], paris("2026-06-10T22:00")) == timedelta(hours=33)
    assert read_maintenance(maintenance_to_json([works])) == (works,)


hours = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.sampled_from([0, 15, 30, 45]))
quiet_hours = st.fixed_dictionaries(
    {"from": hours, "until": hours, "days": st.lists(st.sampled_from(DAYS), min_size=1, max_size=7)}
)


@settings(max_examples=60)
@given(st.lists(quiet_hours, max_size=3), st.datetimes(datetime(2026, 3, 20), datetime(2026, 11, 5)))
def test_who_waits_until_it_opens_waits_no_more_and_meets_no_quiet_hour(
    told: list[dict[str, object]], naive: datetime
) -> None:
    try:
        pace = read_pace({"quiet_hours": told})
    except Invalid:
        return
    now = naive.replace(tzinfo=UTC)
    opens = now + opens_in(pace, [], now)
    assert opens_in(pace, [], opens) == timedelta(0)
    here = opens.astimezone(HERE)
    for window in pace.quiet:
        clock, over = here.time(), window.end <= window.begin
        yesterday = (here.weekday() - 1) % 7
        today = here.weekday() in window.days and window.begin <= clock and (over or clock < window.end)
        assert not today
        assert not (over and yesterday in window.days and clock < window.end)


def test_a_rate_bounds_what_is_claimed_at_once_and_how_long_it_rests() -> None:
    slow, fast = read_pace({"rate": 6}), read_pace({"rate": 60_000})
    assert (page_of(slow, 20), page_of(fast, 20), page_of(None, 20)) == (1, 20, 20)
    assert rest_after(slow, 1) == timedelta(seconds=10)
    assert rest_after(None, 20) == timedelta(0)


def test_it_falls_back_when_it_failed_for_as_long_as_it_said() -> None:
    pace = read_pace({"fallback": {"after": 86400}})
    assert falls_back(pace, timedelta(days=1))
    assert not falls_back(pace, timedelta(hours=23))
    assert not falls_back(read_pace({}), timedelta(days=30))


@pytest.mark.parametrize(
    ("channel", "procedure", "seconds"),
    [("sftp", "EtatCivil", 1), ("sftp", "CERTDC", 2), ("webhook", "EtatCivil", 1)],
)
def test_a_partners_own_waits_come_before_all_others(channel: str, procedure: str, seconds: int) -> None:
    pace = read_pace({"retry": [2], "retry_of": {"EtatCivil": [1]}})
    found = POLICIES.policy(channel, procedure, pace)
    assert found.waits == (timedelta(seconds=seconds),)


@pytest.mark.parametrize(
    ("channel", "procedure", "seconds"),
    [("sftp", "EtatCivil", 3), ("sftp", "CERTDC", 4), ("webhook", "CERTDC", 5)],
)
def test_then_come_the_procedures_the_channels_and_the_hubs(
    channel: str, procedure: str, seconds: int
) -> None:
    assert POLICIES.policy(channel, procedure, read_pace({})).waits == (timedelta(seconds=seconds),)
    assert POLICIES.policy(channel, procedure, None).waits == (timedelta(seconds=seconds),)


POLICIES = Policies(
    (timedelta(seconds=5),),
    timedelta(seconds=30),
    {"sftp": (timedelta(seconds=4),)},
    {"EtatCivil": (timedelta(seconds=3),)},
)
