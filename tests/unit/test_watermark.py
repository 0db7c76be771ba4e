"""What must be true of a watermark: it never passes what is not done, and it passes all that is."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from hub.domain.watermark import Watermark

OFFSETS = st.lists(st.integers(0, 60), unique=True, max_size=40).map(sorted)


def test_it_stands_where_it_began_until_the_first_is_done() -> None:
    mark = Watermark(7)
    assert mark.reached() == 7
    for offset in (7, 8, 9):
        mark.hand_out(offset)
    assert mark.mark(8)
    assert mark.reached() == 7
    assert mark.mark(7)
    assert mark.reached() == 9


def test_it_passes_over_a_gap_that_was_never_handed_out() -> None:
    mark = Watermark(0)
    for offset in (0, 1, 5):
        mark.hand_out(offset)
        mark.mark(offset)
    assert mark.reached() == 6


def test_what_was_never_handed_out_cannot_be_done() -> None:
    mark = Watermark(3)
    mark.hand_out(3)
    assert not mark.mark(4)
    assert mark.reached() == 3


def test_what_was_done_long_ago_may_be_said_again() -> None:
    mark = Watermark(0)
    mark.hand_out(0)
    mark.mark(0)
    mark.settle(mark.reached())
    assert not mark.handed
    assert mark.mark(0)
    assert mark.reached() == 1


@given(OFFSETS, st.integers(0, 2**32))
def test_in_whatever_order_things_are_done_it_stands_at_the_first_that_is_not(
    offsets: list[int], seed: int
) -> None:
    dice = random.Random(seed)
    mark = Watermark(0)
    handed: list[int] = []
    undone: list[int] = []
    waiting = list(offsets)
    while waiting or undone:
        if waiting and (not undone or dice.random() < 0.6):
            handed.append(waiting.pop(0))
            undone.append(handed[-1])
            mark.hand_out(handed[-1])
        else:
            undone.remove(done := dice.choice(undone))
            assert all(mark.mark(offset) for offset in (done, handed[0]) if offset not in undone)
        if dice.random() < 0.5:
            mark.settle(mark.reached())
        assert mark.reached() == (undone[0] if undone else handed[-1] + 1)
        assert set(undone) <= set(mark.handed)
