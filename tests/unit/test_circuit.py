"""How an endpoint stands: what goes to it at once, when it rests, and what its vendor's others do."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.circuit import (
    UNKNOWN,
    Standing,
    VendorCircuit,
    next_circuit,
    next_standing,
    rest_after,
    tell_apart,
)
from hub.domain.delivery import About, Attempt, Conclusion, Deferred, Delivered, Outcome, Refused, conclude
from hub.domain.retry import RetryPolicy

MOST = 20
GOOD = Delivered("x")
AWAY = Deferred("sftp.timeout")
OWN = Deferred("hub.content_away", About.PARCEL)
DECLINED = Refused("mail.too_large")
CLOSED = Refused("webhook.http_410", About.ENDPOINT)
DOUBTFUL = Refused("webhook.http_400", About.EITHER)
POLICY = RetryPolicy(tuple(timedelta(seconds=wait) for wait in (5, 60, 300)), timedelta(seconds=30))


def page(*outcomes: Outcome) -> list[Conclusion]:
    return [conclude(Attempt(UUID(int=n), 1, 1), outcome, POLICY, 0.0) for n, outcome in enumerate(outcomes)]


@pytest.mark.parametrize(
    ("before", "outcomes", "after"),
    [
        (UNKNOWN, [GOOD], Standing(16)),
        (Standing(16), [GOOD, GOOD], Standing(MOST)),
        (Standing(MOST), [GOOD], Standing(MOST)),
        (Standing(8), [GOOD, AWAY], Standing(4)),
        (Standing(1), [GOOD, AWAY], Standing(1)),
        (Standing(8), [AWAY, AWAY], Standing(1, 1)),
        (Standing(1, 1), [AWAY], Standing(1, 2)),
        (Standing(1, 9), [GOOD], Standing(4)),
        (Standing(8), [OWN], Standing(8)),
        (Standing(1, 3), [OWN], Standing(1, 3)),
        (Standing(8), [OWN, AWAY], Standing(1, 1)),
        (Standing(1, 3), [DECLINED], Standing(4)),
        (Standing(8), [CLOSED, CLOSED], Standing(8)),
        (Standing(8), [DOUBTFUL], Standing(4)),
        (Standing(8), [DOUBTFUL, GOOD], Standing(MOST)),
        (Standing(8), [DOUBTFUL, AWAY], Standing(1, 1)),
        (Standing(8), [], Standing(8)),
    ],
    ids=[
        "proves itself", "grows", "to its most", "shrinks", "never to nothing", "fails", "fails again", "heals",
        "own fault", "own fault while failing", "own fault beside a failure", "answers is there",
        "closed apart", "takes nothing", "takes another", "takes nothing and fails", "nothing",
    ],
)  # fmt: skip
def test_what_goes_at_once_grows_with_success_and_shrinks_with_failure(
    before: Standing, outcomes: list[Outcome], after: Standing
) -> None:
    assert next_standing(before, page(*outcomes), MOST) == after


PROVED, LITTLE = Standing(5), Standing(4)
UNREADABLE = Refused("hub.content_unreadable")


@pytest.mark.parametrize(
    ("before", "beside", "times", "about"),
    [
        (LITTLE, [GOOD], 9, About.PARCEL),
        (LITTLE, [DECLINED], 1, About.PARCEL),
        (LITTLE, [], 1, About.ENDPOINT),
        (Standing(1, 3), [], 1, About.ENDPOINT),
        (LITTLE, [AWAY, OWN, CLOSED], 1, About.ENDPOINT),
        (LITTLE, [UNREADABLE], 1, About.ENDPOINT),
        (PROVED, [GOOD], 9, About.PARCEL),
        (PROVED, [DECLINED], 9, About.PARCEL),
        (PROVED, [], 4, About.ENDPOINT),
        (PROVED, [AWAY], 4, About.ENDPOINT),
        (PROVED, [], 3, About.EITHER),
        (PROVED, [UNREADABLE], 3, About.EITHER),
    ],
)  # fmt: skip
def test_a_refusal_that_may_be_about_either_is_told_by_what_else_came(
    before: Standing, beside: list[Outcome], times: int, about: About
) -> None:
    told = tell_apart(before, [*beside, *[DOUBTFUL] * times])
    assert list(told) == [*beside, *[Refused(DOUBTFUL.cause, about)] * times]


def test_an_endpoint_that_proved_itself_and_takes_nothing_any_more_is_told_after_a_few() -> None:
    standing, parked = Standing(MOST), 0
    while (told := tell_apart(standing, [DOUBTFUL]))[0] != Refused(DOUBTFUL.cause, About.ENDPOINT):
        standing, parked = next_standing(standing, page(*told), MOST), parked + 1
    assert parked == 3


def test_a_lane_rests_as_long_as_its_failures_in_a_row_say_and_then_the_last_wait_for_ever() -> None:
    rests = [rest_after(Standing(1, failures), page(AWAY), POLICY, 0.0) for failures in (1, 2, 3, 4, 40)]
    assert [rest.total_seconds() for rest in rests] == [5, 60, 300, 300, 300]
    assert rest_after(Standing(1, 2), page(AWAY), POLICY, 1.0) == timedelta(seconds=72)


def test_a_lane_that_does_not_fail_goes_on_at_once() -> None:
    assert rest_after(Standing(4), page(GOOD, AWAY), POLICY, 0.0) == timedelta(0)
    assert rest_after(Standing(1, 1), page(AWAY), RetryPolicy((), timedelta(1)), 0.0) == timedelta(0)


def test_a_server_that_says_when_is_believed_within_the_longest_wait() -> None:
    asked = page(Deferred("webhook.http_503", retry_after=timedelta(seconds=90)), AWAY)
    assert rest_after(Standing(1, 1), asked, POLICY, 0.0) == timedelta(seconds=90)
    asked = page(Deferred("webhook.http_503", retry_after=timedelta(days=300)))
    assert rest_after(Standing(1, 1), asked, POLICY, 0.0) == timedelta(seconds=300)


@given(
    st.lists(
        st.lists(st.sampled_from([GOOD, AWAY, OWN, DECLINED, CLOSED, DOUBTFUL]), max_size=5), max_size=30
    )
)
def test_whatever_comes_an_endpoint_is_always_tried_and_never_with_more_than_allowed(
    pages: list[list[Outcome]],
) -> None:
    standing = UNKNOWN
    for outcomes in pages:
        standing = next_standing(standing, page(*outcomes), MOST)
        assert 1 <= standing.at_once <= MOST
        assert standing.at_once == 1 or not standing.fails


# --- vendors ------------------------------------------------------------------------------------------

REST = timedelta(seconds=10)
FAILING = Standing(1, 1)


def after_failures(*lanes: int, now: float = 0.0) -> VendorCircuit:
    circuit = VendorCircuit()
    for lane in lanes:
        circuit = next_circuit(circuit, lane, FAILING, now, 3, REST)
    return circuit


def test_a_vendor_s_lanes_rest_when_several_of_them_failed_in_a_row() -> None:
    assert not after_failures(1, 2).is_open
    assert not after_failures(1, 1, 1, 1).is_open
    assert after_failures(1, 2, 3) == VendorCircuit(frozenset({1, 2, 3}), 1, 10.0)


def test_one_that_is_served_lets_all_come_back() -> None:
    assert next_circuit(after_failures(1, 2), 9, UNKNOWN, 0.0, 3, REST) == VendorCircuit()
    assert next_circuit(after_failures(1, 2, 3), 1, UNKNOWN, 11.0, 3, REST) == VendorCircuit()


def test_what_was_under_way_when_they_began_to_rest_makes_them_rest_no_longer() -> None:
    circuit = after_failures(1, 2, 3)
    assert next_circuit(circuit, 4, FAILING, 9.0, 3, REST) == circuit
    again = next_circuit(circuit, 4, FAILING, 10.0, 3, timedelta(seconds=60))
    assert (again.rests, again.until) == (2, 70.0)
