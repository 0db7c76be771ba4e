"""The ledger's arithmetic: what differs shows, and what is the same does not."""

from __future__ import annotations

from random import Random
from uuid import UUID

import pytest
import typer

from hub.cli.accounting import scope_of
from hub.domain.ledger import (
    NOTHING,
    STANDING,
    SUBMISSIONS,
    Bucket,
    Discrepancy,
    Scope,
    Tally,
    Term,
    differing,
    holds,
    moved,
    term,
    wrapped,
)
from hub.domain.lifecycle import MOVES, State

HERE = Bucket(495_000, "EtatCivil", "submission", "21640445300011-64445")


def test_an_attempt_is_no_term_of_its_own_and_claiming_moves_nothing() -> None:
    for attempt in (1, 2, 9):
        before = State.PLANNED if attempt == 1 else State.WAITING
        assert term(State.IN_FLIGHT, attempt) is term(before, attempt - 1)
    assert {term(state, 1) for state in State} == set(STANDING)
    assert all(Term(target) in STANDING for _, target in MOVES if target is not State.IN_FLIGHT)


def test_sums_wrap_as_the_stores_do_and_are_taken_back() -> None:
    dice = Random(7)
    hashes = [dice.randrange(-(2**63), 2**63) for _ in range(200)]
    together = NOTHING
    for hash in hashes:
        together = together.plus(Tally(1, hash))
    assert together == Tally(200, wrapped(sum(hashes)))
    assert -(2**63) <= together.sum < 2**63
    for hash in hashes:
        together = together.minus(Tally(1, hash))
    assert together == NOTHING


def test_one_id_for_another_differs_though_the_numbers_are_the_same() -> None:
    kept = {Term.NAMED: Tally(2, 11), Term.PLANNED: Tally(2, 11)}
    there = {Term.NAMED: Tally(2, 11), Term.PLANNED: Tally(2, 12)}
    assert moved(kept, there) == {Term.PLANNED: Tally(0, -1)}
    assert not holds("submission", there)
    assert differing({HERE: kept}, {HERE: kept}) == []
    assert differing({HERE: kept}, {HERE: there}) == [HERE]
    # Nothing was kept of it, or nothing is there.
    assert differing({}, {HERE: kept}) == differing({HERE: kept}, {}) == [HERE]


def test_an_equation_that_does_not_hold_differs_though_it_was_counted_so() -> None:
    named_only = {Term.NAMED: Tally(1, 5)}
    assert differing({HERE: named_only}, {HERE: named_only}) == [HERE]
    accepted = {Term.ACCEPTED: Tally(1, 5), Term.ROUTED: Tally(2, 5), Term.UNDECIDED: Tally(-1, 0)}
    assert not holds(SUBMISSIONS, accepted)
    notice = HERE._replace(kind="notice")
    beside = {Term.PLANNED: Tally(1, 5)}
    assert differing({notice: beside}, {notice: beside}, alone=["notice"]) == []
    assert differing({notice: beside}, {}, alone=["notice"]) == [notice]


def test_a_discrepancy_is_a_sentence_with_its_id_and_place() -> None:
    name = UUID("00000000-0000-4000-8000-000000000001")
    assert str(Discrepancy(HERE, name, "is registered and named by no decision")) == (
        f"delivery {name} is registered and named by no decision (EtatCivil 21640445300011-64445, received from"
        " 2026-06-21 00:00 UTC on)"
    )
    told = str(Discrepancy(Bucket(0, "EtatCivil", SUBMISSIONS), None, "is not as it was counted"))
    assert told.startswith(
        "submission, somewhere in its bucket, is not as it was counted (EtatCivil, received"
    )


def test_what_is_asked_for_becomes_whole_hours() -> None:
    assert scope_of(None, None, None, None) == Scope()
    asked = scope_of("2026-11-01T10:30+00:00", "2026-11-01T12:00+00:00", "EtatCivil", None)
    assert asked == Scope(498_202, 498_204, "EtatCivil", None)
    assert scope_of(None, "2026-11-01T12:00:01+00:00", None, None).end == 498_205


@pytest.mark.parametrize(
    ("since", "until", "partner"),
    [("2026-11-02", "2026-11-01", None), ("hier", None, None), (None, None, "12345")],
    ids=["backwards", "no instant", "no partner"],
)
def test_what_cannot_be_asked_for_is_refused(
    since: str | None, until: str | None, partner: str | None
) -> None:
    with pytest.raises(typer.BadParameter):
        scope_of(since, until, None, partner)
