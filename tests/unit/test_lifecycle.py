"""The table of a delivery's life, held against the law that no delivery is lost in it."""

from __future__ import annotations

from itertools import product

import pytest

from hub.domain.errors import IllegalMove
from hub.domain.lifecycle import IN_MOTION, MOVES, State, may_move, move, sources_of


def test_every_state_can_be_reached_from_planned() -> None:
    reached = {State.PLANNED}
    while more := {target for source, target in MOVES if source in reached} - reached:
        reached |= more
    assert reached == set(State)


def test_nothing_rests_for_good_an_operator_can_send_anything_at_rest_again() -> None:
    assert sources_of(State.PLANNED) >= set(State) - IN_MOTION


def test_of_what_is_in_motion_only_what_waits_is_sent_again_and_its_wait_is_over() -> None:
    assert sources_of(State.PLANNED) & IN_MOTION == {State.WAITING}


def test_only_what_moves_by_itself_can_be_claimed() -> None:
    assert sources_of(State.IN_FLIGHT) == {State.PLANNED, State.WAITING}


@pytest.mark.parametrize(("source", "target"), [pair for pair in product(State, State) if pair not in MOVES])
def test_a_move_that_is_not_in_the_table_is_illegal(source: State, target: State) -> None:
    assert not may_move(source, target)
    with pytest.raises(IllegalMove):
        move(source, target)


@pytest.mark.parametrize(("source", "target"), MOVES)
def test_each_move_of_the_table_is_made_and_says_why(source: State, target: State) -> None:
    assert move(source, target) is target
    assert MOVES[source, target]
