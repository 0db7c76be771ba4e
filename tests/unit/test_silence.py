"""When a flow that usually comes is missed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.silence import WEEK, WEEKS, expected, noted

START = 490_000


def steady(weeks: int, every: int = 1, count: int = 1) -> dict[int, int]:
    return {START + hour: count for hour in range(0, weeks * WEEK, every)}


def test_what_came_in_the_same_hours_of_the_weeks_before_is_expected() -> None:
    history = steady(weeks=2, count=3)
    end = START + 2 * WEEK
    assert expected(history, end) == 0
    assert expected(history, end + 1) == 3
    assert expected(history, end + 10) == pytest.approx(30)


def test_hours_that_were_always_quiet_are_not_missed() -> None:
    """Nothing ever came at night."""
    history = {START + day * 24 + 10: 5 for day in range(14)}
    evening = START + 13 * 24 + 20
    assert expected(history, evening + 12) == 0
    assert expected(history, evening + 24) == 5


def test_one_week_that_was_more_than_the_others_counts_as_one_of_several() -> None:
    history = {START: 1, START + WEEK: 9, START + 2 * WEEK: 1, START + 2 * WEEK + 1: 1}
    assert expected(history, START + 3 * WEEK + 1) == pytest.approx((1 + 9 + 1) / 3)


def test_without_a_week_to_compare_with_nothing_is_expected() -> None:
    history = {START + hour: 100 for hour in range(48)}
    assert expected({}, START) == 0
    assert expected(history, START + 48 + 24) == 0


def test_an_hour_that_is_not_over_is_not_judged() -> None:
    history = steady(weeks=1)
    assert expected(history, START + WEEK) == 0


def test_what_is_too_old_to_be_compared_with_is_forgotten() -> None:
    history = noted(noted({START: 4}, START + 1, START + 1), START + 1, START + 1)
    assert history == {START: 4, START + 1: 2}
    later = START + (WEEKS + 1) * WEEK
    assert noted(history, later, later) == {START + 1: 2, later: 1}


@given(st.dictionaries(st.integers(0, 6 * WEEK), st.integers(1, 50), max_size=60), st.integers(0, 8 * WEEK))
def test_never_more_is_expected_than_came_and_ever_more_as_time_goes_by(
    history: dict[int, int], now: int
) -> None:
    assert 0 <= expected(history, now) <= WEEKS * sum(history.values())
    assert expected(history, now) <= expected(history, now + 1)
