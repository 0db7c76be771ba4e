"""Digests: at which hours they leave, and that what goes in one mail comes to the same end."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from uuid import UUID, uuid4

import pytest

from hub.domain.delivery import About, Attempt, Deferred, Delivered, Refused
from hub.domain.digests import DigestHours, Frequency, Issue, conclude_issue, frequency_of, slots_around
from hub.domain.identity import Subscriber, issue_id
from hub.domain.lifecycle import State
from hub.domain.partner import Endpoint
from hub.domain.retry import RetryPolicy

POLICY = RetryPolicy((timedelta(minutes=1), timedelta(hours=1)), timedelta(seconds=30))
ISSUE = Issue(uuid4(), datetime(2026, 4, 3, 6, tzinfo=UTC), 1, 1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("now", "last", "following"),
    [
        ("2026-04-03T07:59:59+02:00", "2026-04-02T14:00+02:00", "2026-04-03T08:00+02:00"),
        ("2026-04-03T08:00:00+02:00", "2026-04-03T08:00+02:00", "2026-04-03T14:00+02:00"),
        ("2026-04-03T14:00:01+02:00", "2026-04-03T14:00+02:00", "2026-04-04T08:00+02:00"),
        ("2026-04-02T23:30:00+00:00", "2026-04-02T14:00+02:00", "2026-04-03T08:00+02:00"),
        # The night in which clocks are put forward, and the one in which they are put back.
        ("2026-03-29T00:30:00+01:00", "2026-03-28T14:00+01:00", "2026-03-29T08:00+02:00"),
        ("2026-10-25T00:30:00+02:00", "2026-10-24T14:00+02:00", "2026-10-25T08:00+01:00"),
    ],
)
def test_a_slot_begins_at_its_hour_on_the_clocks_of_paris(now: str, last: str, following: str) -> None:
    hours = DigestHours().of(Frequency.TWICE_DAILY)
    assert slots_around(hours, at(now)) == (at(last), at(following))


def test_an_hour_that_comes_twice_is_one_slot() -> None:
    found = {
        slots_around((time(2, 30),), at("2026-10-25T00:00:00+00:00") + timedelta(minutes=minutes))[0]
        for minutes in range(0, 240, 10)
    }
    assert len(found) == 2, "the one of the day before, and this night's"


@pytest.mark.parametrize(
    ("told", "frequency"),
    [
        ("daily", Frequency.DAILY),
        ("twice_daily", Frequency.TWICE_DAILY),
        ("unit", Frequency.UNIT),
        (None, Frequency.UNIT),
        (7, Frequency.UNIT),
        (["daily"], Frequency.UNIT),
    ],
)
def test_an_endpoint_that_does_not_say_otherwise_gets_each_parcel_at_once(
    told: object, frequency: Frequency
) -> None:
    assert frequency_of(Endpoint("mail", {"frequency": told})) is frequency


def test_an_issue_is_named_by_partner_slot_and_number() -> None:
    partner, slot = Subscriber("21640122200017", "64122"), at("2026-04-03T08:00+02:00")
    assert issue_id(partner, slot, 1) == issue_id(partner, slot.astimezone(UTC), 1)
    others = {
        issue_id(Subscriber("21640122200017", "64123"), slot, 1),
        issue_id(partner, slot + timedelta(hours=6), 1),
        issue_id(partner, slot, 2),
    }
    assert issue_id(partner, slot, 1) not in others
    assert len(others) == 3


def test_what_an_issue_lists_is_due_again_together_however_often_each_was_tried() -> None:
    attempts = [Attempt(UUID(int=1), 1, 1), Attempt(UUID(int=2), 3, 2)]
    conclusions = conclude_issue(ISSUE, attempts, [Deferred("mail.timeout")] * 2, POLICY, 0.5)
    assert [one.attempt for one in conclusions] == attempts
    assert {one.state for one in conclusions} == {State.WAITING}
    assert len({one.wait for one in conclusions}) == 1


@pytest.mark.parametrize(
    ("number", "outcome", "state"),
    [
        (2, Deferred("mail.timeout"), State.WAITING),
        (3, Deferred("mail.timeout"), State.PARKED),
        (1, Refused("mail.content_refused", About.PARCEL), State.PARKED),
        (9, Delivered("here"), State.DELIVERED),
    ],
)
def test_an_issue_s_waits_follow_its_own_attempts(
    number: int, outcome: Deferred | Refused | Delivered, state: State
) -> None:
    issue = Issue(ISSUE.id, ISSUE.slot, 1, number)
    conclusions = conclude_issue(issue, [Attempt(UUID(int=1), 1, 1)], [outcome], POLICY, 0)
    assert [one.state for one in conclusions] == [state]
