"""When to try again, and what an attempt means for its delivery."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.delivery import (
    About,
    Attempt,
    Conclusion,
    Deferred,
    Delivered,
    Outcome,
    Refused,
    conclude,
    hold_back,
)
from hub.domain.lifecycle import State
from hub.domain.retry import Park, RetryPolicy, next_wait

POLICY = RetryPolicy(
    (timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=5)), limit=timedelta(seconds=30)
)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 5), (2, 60), (3, 300)])
def test_each_failed_attempt_is_followed_by_its_wait(attempt: int, seconds: int) -> None:
    assert next_wait(POLICY, attempt, 0.0) == timedelta(seconds=seconds)


def test_after_the_last_wait_it_is_parked() -> None:
    assert next_wait(POLICY, 4, 0.0) == Park()
    assert next_wait(RetryPolicy((), timedelta(1)), 1, 0.0) == Park()


@given(st.floats(-1, 1), st.integers(1, 3))
def test_chance_moves_a_wait_by_a_fifth_at_most(jitter: float, attempt: int) -> None:
    plain = next_wait(POLICY, attempt, 0.0)
    moved = next_wait(POLICY, attempt, jitter)
    assert isinstance(plain, timedelta)
    assert isinstance(moved, timedelta)
    assert abs(moved - plain) <= plain * 0.2 + timedelta(microseconds=1)


def test_a_server_may_ask_for_more_patience_never_for_less() -> None:
    assert next_wait(POLICY, 1, 0.0, timedelta(seconds=20)) == timedelta(seconds=20)
    assert next_wait(POLICY, 1, 0.0, timedelta(seconds=1)) == timedelta(seconds=5)


def test_a_server_cannot_hold_a_delivery_longer_than_the_longest_wait() -> None:
    assert next_wait(POLICY, 1, 0.0, timedelta(days=365)) == timedelta(minutes=5)


ATTEMPT = Attempt(UUID(int=1), sending=1, number=1)
LAST = Attempt(UUID(int=1), sending=1, number=4)


def test_what_was_delivered_rests() -> None:
    assert conclude(ATTEMPT, Delivered("x"), POLICY, 0.0).state is State.DELIVERED


def test_what_was_deferred_waits_and_after_the_last_wait_is_parked_with_its_cause() -> None:
    waiting = conclude(ATTEMPT, Deferred("sftp.timeout"), POLICY, 0.0)
    assert (waiting.state, waiting.wait) == (State.WAITING, timedelta(seconds=5))
    parked = conclude(LAST, Deferred("sftp.timeout"), POLICY, 0.0)
    assert (parked.state, parked.wait, parked.cause) == (State.PARKED, None, "sftp.timeout")


@pytest.mark.parametrize("about", About)
def test_what_was_refused_is_parked_at_once(about: About) -> None:
    assert conclude(ATTEMPT, Refused("mail.mailbox_refused", about), POLICY, 0.0).state is State.PARKED


def _page(*outcomes: Outcome) -> list[Conclusion]:
    return [conclude(Attempt(UUID(int=n), 1, 1), outcome, POLICY, 0.0) for n, outcome in enumerate(outcomes)]


def test_an_endpoint_that_refuses_parks_one_and_the_others_wait_as_if_not_tried() -> None:
    denied = Refused("sftp.login_refused", About.ENDPOINT)
    held, first = hold_back(_page(Delivered("x"), denied, Refused("sftp.too_large"), denied, denied))
    assert [conclusion.state for conclusion in held] == [
        State.DELIVERED,
        State.PARKED,
        State.PARKED,
        State.WAITING,
        State.WAITING,
    ]
    assert first is held[1]
    assert [conclusion.wait for conclusion in held[3:]] == [timedelta(0)] * 2


def test_a_page_that_no_endpoint_refused_is_left_as_it_is() -> None:
    page = _page(Delivered("x"), Refused("mail.too_large"), Deferred("mail.timeout"))
    assert hold_back(page) == (tuple(page), None)
