"""Deciding anew: what each new choice means for each delivery that is there, one by one and for all at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.decisions import Recipient, Routed, SetAside, Unroutable, Verdict
from hub.domain.identity import ParcelKind, Subscriber, delivery_id
from hub.domain.lifecycle import State, may_move
from hub.domain.redecision import ENDED, RECEIVED, Redecision, Registered, redecide

SUBMISSION = UUID(int=7)
A, B, C = (Subscriber(letter * 14, "1") for letter in "123")


def name(subscriber: Subscriber, revision: int = 1) -> UUID:
    return delivery_id(SUBMISSION, subscriber, ParcelKind.SUBMISSION, revision)


def there(
    subscriber: Subscriber,
    state: State = State.PARKED,
    *,
    files: tuple[int, ...] = (1, 2),
    revision: int = 1,
    chosen: bool = True,
    lies_with: Subscriber | None = None,
    withdrawing: bool = False,
) -> Registered:
    return Registered(
        name(subscriber, revision), lies_with or subscriber, files, revision, state, chosen, withdrawing
    )


def routed(*to: Subscriber, files: tuple[int, ...] = (1, 2)) -> Routed:
    return Routed(tuple(Recipient(one, files, ()) for one in to))


def decided(
    verdict: Verdict,
    *registered: Registered,
    heirs: Mapping[Subscriber, Subscriber] | None = None,
    wanted: set[UUID] | None = None,
) -> Redecision:
    found = redecide(SUBMISSION, verdict, registered, lambda one: (heirs or {}).get(one, one), wanted)
    assert len(found.deliveries) == len(found.verdict.recipients if isinstance(found.verdict, Routed) else ())
    return found


_REPLAYABLE = [State.WAITING, State.PARKED, State.DELIVERED, State.ACKNOWLEDGED, State.RETURNED]


@pytest.mark.parametrize("state", _REPLAYABLE)
def test_who_is_chosen_both_times_with_the_same_files_gets_it_again_under_its_name(state: State) -> None:
    found = decided(routed(A), there(A, state))
    assert found == Redecision(routed(A), (name(A),), again=(name(A),))


@pytest.mark.parametrize("state", [State.PLANNED, State.IN_FLIGHT])
def test_what_is_about_to_be_sent_anyhow_is_left_as_it_is(state: State) -> None:
    assert decided(routed(A), there(A, state)).unchanged == (name(A),)


def test_only_what_was_ordered_is_sent_again_of_what_is_chosen_both_times() -> None:
    found = decided(routed(A, B), there(A), there(B, State.DELIVERED), wanted={name(A)})
    assert (found.again, found.unchanged) == ((name(A),), (name(B),))


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_was_withdrawn_or_expired_and_is_chosen_again_is_planned_again(state: State) -> None:
    for chosen in (True, False):
        found = decided(routed(A), there(A, state, chosen=chosen), wanted=set())
        assert (found.again, found.back) == ((name(A),), frozenset({name(A)}))


def test_what_was_to_be_withdrawn_and_is_chosen_again_is_kept() -> None:
    found = decided(routed(A), there(A, State.IN_FLIGHT, chosen=False, withdrawing=True))
    assert (found.kept, found.withdrawn, found.deliveries) == ((name(A),), (), (name(A),))


def test_who_is_chosen_for_the_first_time_gets_its_own_name() -> None:
    found = decided(routed(A, B), there(A), wanted=set())
    assert [(one.delivery, one.revision, one.revises) for one in found.fresh] == [(name(B), 1, None)]
    assert found.deliveries == (name(A), name(B))


@pytest.mark.parametrize("state", list(State))
def test_with_other_files_it_is_the_next_revision_and_the_old_one_is_withdrawn_if_not_received(
    state: State,
) -> None:
    found = decided(routed(A, files=(2,)), there(A, state))
    assert [(one.delivery, one.revision, one.revises) for one in found.fresh] == [(name(A, 2), 2, name(A))]
    assert found.withdrawn == (() if state in RECEIVED | ENDED else (name(A),))
    assert (found.disclosed, found.again) == ((), ())


@pytest.mark.parametrize("state", list(State))
def test_who_is_no_longer_chosen_has_it_disclosed_or_withdrawn(state: State) -> None:
    found = decided(routed(B), there(A, state))
    assert found.disclosed == ((name(A),) if state in RECEIVED else ())
    assert found.withdrawn == (() if state in RECEIVED | ENDED else (name(A),))


@pytest.mark.parametrize("verdict", [Unroutable(("mairie: nobody",)), SetAside("quarantined:x")])
def test_when_nobody_is_chosen_any_more_nothing_goes_on(verdict: Verdict) -> None:
    found = decided(verdict, there(A), there(B, State.DELIVERED))
    assert (found.verdict, found.deliveries) == (verdict, ())
    assert (found.withdrawn, found.disclosed) == ((name(A),), (name(B),))


def test_a_disclosure_is_told_once() -> None:
    assert decided(routed(B), there(A, State.DELIVERED, chosen=False), there(B)).disclosed == ()


def test_who_had_it_by_a_former_choice_and_is_chosen_again_is_not_sent_it_twice() -> None:
    found = decided(routed(A), there(A, State.DELIVERED, chosen=False))
    assert (found.again, found.unchanged) == ((), (name(A),))


def test_a_succession_is_no_difference_on_either_side() -> None:
    for verdict in (routed(A), routed(B)):
        for lies_with in (A, B):
            found = decided(verdict, there(A, lies_with=lies_with), heirs={A: B})
            assert found.deliveries == found.again == (name(A),)
            assert (*found.fresh, *found.withdrawn, *found.disclosed) == ()


def test_those_for_whom_one_stands_get_one_delivery_with_all_of_their_files() -> None:
    verdict = Routed((Recipient(A, (1,), ()), Recipient(B, (2,), ())))
    found = decided(verdict, heirs={A: B})
    assert [(one.delivery, one.recipient.attachments) for one in found.fresh] == [(name(A), (1, 2))]


def test_of_several_old_ones_of_a_partner_the_received_one_is_kept_else_the_smallest_name() -> None:
    first, second = sorted((A, B), key=lambda one: name(one).int)
    heirs = {A: C, B: C}
    found = decided(routed(C), there(A), there(B), heirs=heirs)
    assert (found.again, found.withdrawn) == ((name(first),), (name(second),))
    found = decided(routed(C), there(first), there(second, State.DELIVERED), heirs=heirs)
    assert (found.again, found.withdrawn) == ((name(second),), (name(first),))
    found = decided(routed(C), there(A, State.DELIVERED), there(B, State.ACKNOWLEDGED), heirs=heirs)
    assert (found.again, found.withdrawn, found.disclosed) == ((name(first),), (), ())


def test_a_revision_that_stands_is_compared_and_not_the_one_before_it() -> None:
    registered = there(A, State.DELIVERED, chosen=False, files=(1,)), there(A, files=(2,), revision=2)
    found = decided(routed(A, files=(2,)), *registered)
    assert found.again == (name(A, 2),)
    found = decided(routed(A, files=(1,)), *registered)
    assert [(one.delivery, one.revises) for one in found.fresh] == [(name(A, 3), name(A, 2))]
    assert found.withdrawn == (name(A, 2),)


def test_a_name_that_lies_with_somebody_else_since_a_succession_was_taken_back_is_not_given_twice() -> None:
    found = decided(routed(A), there(A, lies_with=B))
    assert [one.delivery for one in found.fresh] == [name(A, 2)]
    assert found.withdrawn == (name(A),)


_FILES = st.sampled_from([(), (1,), (2,), (1, 2)])
_PARTNERS = st.sampled_from([A, B, C])
_REGISTERED = st.lists(
    st.builds(
        there,
        _PARTNERS,
        st.sampled_from(State),
        files=_FILES,
        revision=st.integers(1, 3),
        chosen=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda one: one.delivery,
)
_VERDICTS = st.one_of(
    st.just(Unroutable(())),
    st.lists(st.builds(Recipient, _PARTNERS, _FILES, st.just(())), unique_by=lambda one: one.subscriber).map(
        lambda those: Routed(tuple(those)) if those else Unroutable(())
    ),
)
_HEIRS = st.dictionaries(st.sampled_from([A, B]), st.just(C))


@given(_REGISTERED, _VERDICTS, _HEIRS, st.booleans())
def test_whatever_is_there_and_whatever_is_chosen_no_delivery_is_lost_and_none_goes_twice(
    registered: list[Registered], verdict: Verdict, heirs: dict[Subscriber, Subscriber], every: bool
) -> None:
    found = decided(verdict, *registered, heirs=heirs, wanted=None if every else set())
    by_name = {one.delivery: one for one in registered}
    fresh = {one.delivery for one in found.fresh}
    recipients = verdict.recipients if isinstance(verdict, Routed) else ()
    partners = [heirs.get(one.subscriber, one.subscriber) for one in recipients]
    # One delivery for each partner, that it is with; nothing is planned under a name that is there.
    assert len(found.deliveries) == len(set(found.deliveries)) == len(set(partners))
    assert fresh.isdisjoint(by_name)
    assert fresh <= set(found.deliveries)
    for delivery in set(found.deliveries) - fresh:
        assert heirs.get(by_name[delivery].subscriber, by_name[delivery].subscriber) in partners
    # Each is treated in one way, and may go that way.
    ways = [*found.again, *found.withdrawn, *found.kept, *found.disclosed, *found.unchanged]
    assert len(ways) == len(set(ways))
    assert all(may_move(by_name[one].state, State.PLANNED) for one in found.again)
    assert set(found.again) <= set(found.deliveries)
    assert set(found.withdrawn).isdisjoint(found.deliveries)
    assert all(by_name[one].state not in RECEIVED | ENDED for one in found.withdrawn)
    assert all(by_name[one].state in RECEIVED and by_name[one].chosen for one in found.disclosed)
    # What the decision does not name goes on nowhere.
    goes_on = {
        one.delivery for one in registered if one.state not in RECEIVED | ENDED and not one.withdrawing
    }
    assert goes_on - set(found.withdrawn) <= set(found.deliveries)
    # Each gets what the rules give it.
    for delivery, recipient in zip(found.deliveries, getattr(found.verdict, "recipients", ()), strict=True):
        planned = next((one.recipient.attachments for one in found.fresh if one.delivery == delivery), None)
        given = by_name[delivery].attachments if planned is None else planned
        assert set(given) == set(recipient.attachments)


@given(_REGISTERED, _VERDICTS, _HEIRS)
def test_deciding_twice_by_the_same_rules_changes_nothing_the_second_time(
    registered: list[Registered], verdict: Verdict, heirs: dict[Subscriber, Subscriber]
) -> None:
    first = decided(verdict, *registered, heirs=heirs, wanted=set())
    after = [
        replace(
            one,
            chosen=one.delivery in first.deliveries,
            state=State.WITHDRAWN
            if one.delivery in first.withdrawn
            else State.PLANNED
            if one.delivery in first.again
            else one.state,
        )
        for one in registered
    ] + [
        Registered(
            one.delivery,
            one.recipient.subscriber,
            one.recipient.attachments,
            one.revision,
            State.PLANNED,
            chosen=True,
        )
        for one in first.fresh
    ]
    second = decided(verdict, *after, heirs=heirs, wanted=set())
    assert second.deliveries == first.deliveries
    assert (*second.again, *second.fresh, *second.withdrawn, *second.disclosed) == ()
