"""The life of a replay, as one table."""

from __future__ import annotations

from itertools import product

import pytest

from hub.domain.errors import IllegalMove
from hub.domain.replays import REPLAY_MOVES, ReplayState, ReplayVerb, first_state, turned

_ENDS = {ReplayState.FINISHED, ReplayState.CANCELLED}


def test_every_replay_that_has_not_ended_can_be_cancelled_and_no_other_is_ever_changed() -> None:
    assert {state for state, verb in REPLAY_MOVES if verb is ReplayVerb.CANCEL} == set(ReplayState) - _ENDS
    assert {state for state, _ in REPLAY_MOVES}.isdisjoint(_ENDS)


def test_nothing_but_an_approval_lets_a_large_one_run() -> None:
    into = {verb for (state, verb), target in REPLAY_MOVES.items() if target is ReplayState.RUNNING}
    assert into == {ReplayVerb.APPROVE, ReplayVerb.RESUME}
    assert {state for state, verb in REPLAY_MOVES if verb is ReplayVerb.RESUME} == {ReplayState.PAUSED}
    assert {state for state, verb in REPLAY_MOVES if verb is ReplayVerb.PAUSE} == {ReplayState.RUNNING}


@pytest.mark.parametrize(("state", "verb"), list(product(ReplayState, ReplayVerb)))
def test_what_the_table_does_not_hold_is_illegal(state: ReplayState, verb: ReplayVerb) -> None:
    if (state, verb) in REPLAY_MOVES:
        assert turned(state, verb, "jeanne", "paul") is REPLAY_MOVES[state, verb]
    else:
        with pytest.raises(IllegalMove):
            turned(state, verb, "jeanne", "paul")


def test_an_author_pauses_resumes_and_cancels_its_own_and_approves_none_of_them() -> None:
    assert turned(ReplayState.RUNNING, ReplayVerb.PAUSE, "jeanne", "jeanne") is ReplayState.PAUSED
    with pytest.raises(IllegalMove):
        turned(ReplayState.AWAITING_APPROVAL, ReplayVerb.APPROVE, "jeanne", "JEANNE")


@pytest.mark.parametrize(
    ("matched", "approval", "state"),
    [
        (0, 0, ReplayState.FINISHED),
        (1, 0, ReplayState.AWAITING_APPROVAL),
        (1000, 1000, ReplayState.RUNNING),
        (1001, 1000, ReplayState.AWAITING_APPROVAL),
        (10**9, None, ReplayState.RUNNING),
    ],
)
def test_an_order_begins_by_how_much_it_matched(
    matched: int, approval: int | None, state: ReplayState
) -> None:
    assert first_state(matched, approval) is state
