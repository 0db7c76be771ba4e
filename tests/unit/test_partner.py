"""Numbers that name partners."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.partner import is_siren, is_siret, made_up_siret


@pytest.mark.parametrize("siret", ["11001401600015", "21770188700010", "13002526500013", "35600000000048"])
def test_a_siret_of_the_directory_is_one(siret: str) -> None:
    assert is_siret(siret)


def test_la_poste_has_a_sum_of_its_own() -> None:
    # 35600000049837 fails Luhn; its digits add up to 45, a multiple of five.
    assert is_siret("35600000049837")
    assert not is_siret("35600000049838")


def test_the_sum_of_la_poste_is_for_la_poste_only() -> None:
    # A right SIREN, digits that add up to a multiple of five, and no Luhn sum.
    siren = "217400423"
    others = [siren + f"{n:05d}" for n in range(2000) if sum(map(int, siren + f"{n:05d}")) % 5 == 0]
    assert sum(map(is_siret, others)) < len(others) / 5


@pytest.mark.parametrize(
    "text",
    ["", "1", "1100140160001", "110014016000150", "11001401600016", "1100140160001x", "１１００１４０１６０００１５",
     "110014016 0015", "-1001401600015", "11001401600015\n"],
)  # fmt: skip
def test_what_is_no_siret_is_refused(text: str) -> None:
    assert not is_siret(text)


@given(st.integers(0, 9999), st.integers(0, 13), st.integers(1, 9))
def test_one_wrong_digit_always_breaks_the_sum(establishment: int, place: int, shift: int) -> None:
    siret = made_up_siret("217400423", establishment)
    assert is_siret(siret)
    assert is_siren(siret[:9])
    wrong = siret[:place] + str((int(siret[place]) + shift) % 10) + siret[place + 1 :]
    assert not is_siret(wrong)
