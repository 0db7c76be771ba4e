"""Matching on a national register: what a match costs does not depend on how many partners there are.

Counted, not timed. The registers are the benchmarks' (`benchmarks.register`, `benchmarks.traffic`), so this is
also where their shares are held to what the benchmarks say of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import routing_rules
from benchmarks.register import Register, register
from benchmarks.traffic import SHARES, mix, traits_of
from hub.adapters.rules.territory import load_territory
from hub.domain.decisions import Routed
from hub.domain.explaining import Explanation, explain
from hub.domain.matching import match
from hub.domain.rule_book import RuleBook
from hub.domain.submission import RoutingFacts
from hub.domain.territory import Territory

FEW, MANY = 700, 7_000
EACH = 1_000


@dataclass(frozen=True)
class National:
    """A register, its index, and submissions to it."""

    register: Register
    book: RuleBook
    submissions: Sequence[RoutingFacts]

    @classmethod
    def of(cls, territory: Territory, partners: int) -> National:
        made = register(territory, partners, procedures=20, subscriptions=4 * partners)
        book = made.book()
        return cls(made, book, mix(made, EACH, book=book))


@pytest.fixture(scope="module")
def territory() -> Territory:
    assert routing_rules.__file__ is not None
    return load_territory(Path(routing_rules.__file__).parent / "territory" / "2026.tsv.gz")


@pytest.fixture(scope="module")
def few(territory: Territory) -> National:
    return National.of(territory, FEW)


@pytest.fixture(scope="module")
def many(territory: Territory) -> National:
    return National.of(territory, MANY)


def explained(national: National) -> list[Explanation]:
    return [explain(submission, national.book) for submission in national.submissions]


def test_ten_times_the_partners_do_not_make_a_match_look_at_more(few: National, many: National) -> None:
    assert len(many.register.partners()) == 10 * len(few.register.partners())
    assert len(many.book.subscriptions) == 10 * len(few.book.subscriptions)
    before, after = explained(few), explained(many)
    assert sum(one.visited for one in before) >= EACH / 2
    assert sum(one.visited for one in after) <= 1.1 * sum(one.visited for one in before)
    assert looks(after) <= 1.1 * looks(before)


def looks(explanations: Sequence[Explanation]) -> int:
    """Places and candidates that were looked at, and rules that were asked."""
    return sum(1 + len(line.looked) for one in explanations for line in one.rules)


def test_a_match_weighs_only_who_subscribes_around_its_place(many: National) -> None:
    visited = sorted(one.visited for one in explained(many))
    assert visited[-1] < len(many.book.subscriptions) / 500
    assert visited[EACH // 2] <= 2


def test_the_traffic_has_the_shares_it_states(many: National) -> None:
    conditioned = {
        (procedure.code, rule.id)
        for procedure in many.register.procedures
        for rule in procedure.rules
        if rule.when is not None
    }
    had = Counter(
        trait
        for one in many.submissions
        for trait in traits_of(one, match(one, many.book), many.register.territory, conditioned)
    )
    for trait, share in SHARES.items():
        assert abs(had[trait] / EACH - share) <= 0.01, f"{trait}: {had[trait]}"


def test_the_traffic_is_many_places_and_one_to_four_files(many: National) -> None:
    assert len({one.facts["commune"] for one in many.submissions}) > EACH / 2
    assert {len(one.attachments) for one in many.submissions} == {1, 2, 3, 4}
    assert len({one.submission for one in many.submissions}) == EACH


def test_the_same_seed_makes_the_same_register_and_traffic(territory: Territory, few: National) -> None:
    again = register(territory, FEW, procedures=20, subscriptions=4 * FEW)
    assert again == few.register
    assert mix(again, 100) == mix(few.register, 100, book=few.book)


def test_most_of_the_register_receives(many: National) -> None:
    """A register where nobody is chosen would make every figure look good."""
    chosen = [match(one, many.book) for one in many.submissions]
    subscribers = {
        one.subscriber for verdict in chosen if isinstance(verdict, Routed) for one in verdict.recipients
    }
    assert len(subscribers) > EACH / 4


def test_too_few_subscriptions_for_the_partners_are_refused(territory: Territory) -> None:
    with pytest.raises(ValueError, match="too few subscriptions"):
        register(territory, 5_000, 20, 6_000)
