"""The sealing of files: any size, any range, and nothing that was changed, cut, moved or added opens.

Most properties are tried with segments of a few bytes, where a small file has many boundaries; the
sealing is the same for every length of segment.
"""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.adapters.objects.sealing import HEADER, SEGMENT, TAG, Opener, Sealer
from hub.domain.errors import Tampered
from hub.ports.keyring import DataKey

KEY = DataKey(bytes(range(32)), b"")
NAME = "a" * 32
SHORT = 16
STEP = SHORT + TAG

plains = st.binary(max_size=5 * SHORT) | st.integers(0, 6).map(lambda count: bytes(count * SHORT))
cuts = st.lists(st.integers(0, 5 * SHORT), max_size=5)


def seal(plain: bytes, name: str = NAME, key: DataKey = KEY, segment: int = SHORT) -> bytes:
    sealer = Sealer(key, name, segment)
    return sealer.feed(plain) + sealer.finish()


def unseal(
    sealed: bytes,
    start: int = 0,
    end: int | None = None,
    name: str = NAME,
    key: DataKey = KEY,
    segment: int = SHORT,
    at_most: int = 2,
) -> bytes:
    opener = Opener(key, name, sealed[:HEADER], len(sealed), segment)
    return b"".join(opener.open(run, sealed[run.start : run.end]) for run in opener.runs(start, end, at_most))


def refused(sealed: bytes, name: str = NAME, key: DataKey = KEY, segment: int = SHORT) -> bool:
    try:
        unseal(sealed, name=name, key=key, segment=segment)
    except Tampered:
        return True
    return False


# --- there and back -----------------------------------------------------------------------------------


@given(plain=plains, cuts=cuts)
def test_a_file_opens_as_it_was_whatever_the_chunks_it_came_in(plain: bytes, cuts: list[int]) -> None:
    sealer = Sealer(KEY, NAME, SHORT)
    edges = [0, *sorted(min(cut, len(plain)) for cut in cuts), len(plain)]
    sealed = b"".join(sealer.feed(plain[start:end]) for start, end in pairwise(edges)) + sealer.finish()
    assert unseal(sealed) == plain
    assert Opener(KEY, NAME, sealed[:HEADER], len(sealed), SHORT).size == len(plain)


@given(
    plain=plains,
    start=st.integers(0, 7 * SHORT),
    end=st.none() | st.integers(0, 7 * SHORT),
    at_most=st.integers(1, 4),
)
def test_a_range_opens_as_a_slice(plain: bytes, start: int, end: int | None, at_most: int) -> None:
    assert unseal(seal(plain), start, end, at_most=at_most) == plain[start:end]


@pytest.mark.parametrize("size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT, 5 * SEGMENT + 7])
def test_a_file_of_real_segments_opens_whole_and_by_range(size: int) -> None:
    plain = os.urandom(size)
    sealed = seal(plain, segment=SEGMENT)
    assert unseal(sealed, segment=SEGMENT) == plain
    for start, end in ((SEGMENT - 3, SEGMENT + 3), (size - 5, size), (SEGMENT, 2 * SEGMENT), (size, None)):
        first = max(0, start)
        assert unseal(sealed, first, end, segment=SEGMENT) == plain[first:end]


def test_a_range_that_begins_before_the_file_is_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="begins"):
        unseal(seal(b"plain"), -1)


@given(size=st.integers(1, 10 * SHORT), chosen=st.data(), at_most=st.integers(1, 4))
def test_a_range_takes_no_segment_that_it_does_not_touch(
    size: int, chosen: st.DataObject, at_most: int
) -> None:
    start = chosen.draw(st.integers(0, size - 1))
    end = chosen.draw(st.integers(start + 1, size))
    sealed = seal(os.urandom(size))
    opener = Opener(KEY, NAME, sealed[:HEADER], len(sealed), SHORT)
    runs = list(opener.runs(start, end, at_most))
    assert runs[0].start == HEADER + start // SHORT * STEP
    assert runs[-1].end == min(HEADER + ((end - 1) // SHORT + 1) * STEP, len(sealed))
    assert all(one.end == following.start for one, following in pairwise(runs))
    assert all(run.end - run.start <= at_most * STEP for run in runs)


def test_an_empty_range_inside_the_file_takes_nothing() -> None:
    sealed = seal(os.urandom(5 * SHORT))
    assert not list(Opener(KEY, NAME, sealed[:HEADER], len(sealed), SHORT).runs(20, 20))


# --- what it shows, and what it keeps -----------------------------------------------------------------


def test_no_plain_byte_stands_in_what_is_sealed() -> None:
    plain = b"an unmistakable sentence " * 100_000
    sealed = seal(plain, segment=SEGMENT)
    assert b"unmistakable" not in sealed
    assert len(sealed) == len(plain) + HEADER + TAG * -(-len(plain) // SEGMENT)


def test_the_same_file_is_never_sealed_alike() -> None:
    one, other = seal(b"x" * 40), seal(b"x" * 40)
    assert not {one[at : at + 8] for at in range(1, len(one) - 8)} & {
        other[at : at + 8] for at in range(1, len(other) - 8)
    }


def test_the_sealer_gives_out_at_once_all_but_the_last_segment() -> None:
    sealer = Sealer(KEY, NAME, SHORT)
    assert len(sealer.feed(b"")) == HEADER
    assert sealer.feed(b"x" * SHORT) == b""
    assert len(sealer.feed(b"x")) == STEP
    assert len(sealer.feed(b"x" * 10 * SHORT)) == 10 * STEP
    assert len(sealer.finish()) == 1 + TAG


def test_a_finished_file_takes_nothing_more() -> None:
    sealer = Sealer(KEY, NAME, SHORT)
    sealer.finish()
    with pytest.raises(ValueError, match="finished"):
        sealer.feed(b"more")
    with pytest.raises(ValueError, match="finished"):
        sealer.finish()


# --- what does not open -------------------------------------------------------------------------------


@given(plain=plains, chosen=st.data())
def test_a_file_in_which_one_bit_changed_does_not_open(plain: bytes, chosen: st.DataObject) -> None:
    sealed = bytearray(seal(plain))
    bit = chosen.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(sealed))


def test_every_single_byte_of_a_file_is_guarded() -> None:
    sealed = seal(os.urandom(3 * SHORT + 5))
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 0xFF
        assert refused(bytes(changed)), at


@given(plain=plains, chosen=st.data())
def test_a_file_that_was_cut_anywhere_does_not_open(plain: bytes, chosen: st.DataObject) -> None:
    sealed = seal(plain)
    assert refused(sealed[: chosen.draw(st.integers(0, len(sealed) - 1))])


@given(plain=plains, added=st.binary(min_size=1, max_size=3 * STEP))
def test_a_file_to_which_bytes_were_appended_does_not_open(plain: bytes, added: bytes) -> None:
    assert refused(seal(plain) + added)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_file_cut_between_two_segments_does_not_open_even_by_a_range_at_its_end(kept: int) -> None:
    sealed = seal(os.urandom(4 * SHORT))[: HEADER + kept * STEP]
    for start, end in (
        (0, None),
        (0, 4 * SHORT),
        (kept * SHORT - 1, None),
        (kept * SHORT, None),
        (4 * SHORT - 1, 4 * SHORT),
        (4 * SHORT, None),
        (99 * SHORT, None),
    ):
        with pytest.raises(Tampered):
            unseal(sealed, start, end)


def test_a_file_whose_own_segments_were_appended_again_does_not_open() -> None:
    sealed = seal(os.urandom(3 * SHORT))
    assert refused(sealed + sealed[-STEP:])
    assert refused(sealed + sealed[HEADER:])


@given(chosen=st.permutations(range(4)))
def test_a_file_whose_segments_changed_places_does_not_open(chosen: list[int]) -> None:
    sealed = seal(os.urandom(4 * SHORT))
    segments = [sealed[at : at + STEP] for at in range(HEADER, len(sealed), STEP)]
    assert refused(sealed[:HEADER] + b"".join(segments[number] for number in chosen)) == (
        chosen != sorted(chosen)
    )


def test_a_segment_of_another_file_of_the_same_submission_does_not_open() -> None:
    one, other = seal(os.urandom(4 * SHORT)), seal(os.urandom(4 * SHORT))
    assert refused(one[: HEADER + STEP] + other[HEADER + STEP : HEADER + 2 * STEP] + one[HEADER + 2 * STEP :])
    assert refused(one[:HEADER] + other[HEADER:])


def test_a_whole_file_put_in_the_place_of_another_of_the_same_submission_does_not_open() -> None:
    sealed = seal(b"the other file", name="b" * 32)
    assert unseal(sealed, name="b" * 32) == b"the other file"
    assert refused(sealed, name=NAME)


def test_a_file_does_not_open_under_another_key_or_with_another_length_of_segment() -> None:
    sealed = seal(os.urandom(3 * SHORT))
    assert refused(sealed, key=DataKey(bytes(32), b""))
    assert refused(sealed, segment=2 * SHORT)
    assert refused(seal(b"short"), segment=2 * SHORT)


def test_a_file_has_one_form_only_so_an_empty_last_segment_is_refused() -> None:
    # A sealer that closes a full file with an empty segment, instead of marking the full one as the last.
    sealer = Sealer(KEY, NAME, SHORT)
    unmarked = sealer.feed(b"x" * (SHORT + 1))
    sealer._held.clear()
    assert refused(unmarked + sealer.finish())


@given(noise=st.binary(max_size=200))
def test_noise_does_not_open(noise: bytes) -> None:
    assert refused(noise)
    assert refused(b"\x01" + noise)
