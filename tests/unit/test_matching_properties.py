"""Matching on random worlds: against a second matcher, in any order, whatever the clock says.

A failure names the seed of its world: `case(seed)` makes it again.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import NoReturn

import pytest

from hub.domain.decisions import Decision, Reason, Routed, SetAside, Unroutable, Verdict
from hub.domain.explaining import explain
from hub.domain.matching import decide, match, match_all
from hub.domain.rule_book import RuleBook, Snapshot
from hub.domain.territory import Level, PlaceType
from tests.unit.brute_force import Answer, Gets, World, answer
from tests.unit.random_worlds import INSTANTS, SUBSCRIBERS, TERRITORY, Case, case

WORLDS = range(800)


def book(world: World) -> RuleBook:
    return RuleBook.build(world.procedures, world.subscriptions, world.territory, world.successions)


@pytest.fixture(scope="module")
def verdicts() -> list[tuple[int, Verdict]]:
    """Of every submission to every world, with the seed of the world."""
    return [
        (seed, verdict)
        for seed in WORLDS
        for made in [case(seed)]
        for verdict in match_all(made.submissions, book(made.world))
    ]


def plainly(verdict: Verdict) -> Answer:
    """A verdict in the words of the second matcher."""
    match verdict:
        case Routed(recipients=recipients):
            return {
                one.subscriber: Gets(
                    one.attachments,
                    one.mailbox,
                    frozenset((reason.rule, reason.recipient, reason.subscription) for reason in one.reasons),
                )
                for one in recipients
            }
        case Unroutable():
            return "unroutable"
        case SetAside(reason=reason):
            return reason


def test_the_index_finds_what_a_search_through_everything_finds() -> None:
    for seed in WORLDS:
        made = case(seed)
        indexed = book(made.world)
        for number, submission in enumerate(made.submissions):
            found = plainly(match(submission, indexed))
            assert found == answer(submission, made.world), f"seed {seed}, submission {number}"


def test_what_was_chosen_for_others_before_changes_no_answer() -> None:
    """Many submissions of few places, at many times, in an order of their own: most are answered by what a walk
    for another one came to."""
    remembered = 0
    for seed in WORLDS[::8]:
        made = case(seed, submissions=60)
        shared = book(made.world)
        for number, submission in enumerate(made.submissions):
            before = sum(len(known) for plan in shared.plans.values() for known in plan.known.values())
            found = match(submission, shared)
            assert found == match(submission, book(made.world)), f"seed {seed}, submission {number}"
            after = sum(len(known) for plan in shared.plans.values() for known in plan.known.values())
            remembered += before == after
    assert remembered > 500


def test_nobody_stands_twice_among_the_recipients_and_no_reason_twice(
    verdicts: list[tuple[int, Verdict]],
) -> None:
    for seed, verdict in verdicts:
        if isinstance(verdict, Routed):
            subscribers = [one.subscriber for one in verdict.recipients]
            assert subscribers == sorted(set(subscribers)), f"seed {seed}"
            for one in verdict.recipients:
                assert len(set(one.reasons)) == len(one.reasons), f"seed {seed}"


def test_the_order_in_which_a_rule_book_is_told_changes_nothing() -> None:
    for seed in WORLDS[::4]:
        made = case(seed)
        expected = match_all(made.submissions, book(made.world))
        mixed = book(shuffled(made.world, seed))
        assert match_all(made.submissions, mixed) == expected, f"seed {seed}"


def shuffled(world: World, seed: int) -> World:
    dice = Random(seed)
    procedures = [
        type(one)(
            one.code,
            one.title,
            dict(dice.sample(list(one.facts.items()), len(one.facts))),
            tuple(dice.sample(one.rules, len(one.rules))),
            one.attachment_types,
            tuple(dice.sample(one.transfers, len(one.transfers))),
        )
        for one in dice.sample(world.procedures, len(world.procedures))
    ]
    return World(
        world.territory,
        procedures,
        dice.sample(world.subscriptions, len(world.subscriptions)),
        dice.sample(world.successions, len(world.successions)),
    )


def test_an_explanation_says_what_is_decided_and_weighs_whom_it_chose() -> None:
    for seed in WORLDS[::4]:
        made = case(seed)
        indexed = book(made.world)
        for submission in made.submissions:
            explanation = explain(submission, indexed)
            assert explanation.verdict == match(submission, indexed), f"seed {seed}"
            chosen = {
                look.subscription
                for line in explanation.rules
                for look in line.looked
                if look.why_not is None
            }
            if isinstance(explanation.verdict, Routed):
                reasons = [reason for one in explanation.verdict.recipients for reason in one.reasons]
                assert {reason.subscription for reason in reasons} == chosen, f"seed {seed}"
                assert explanation.visited >= len(explanation.verdict.recipients), f"seed {seed}"


def test_a_batch_is_decided_like_its_submissions_one_by_one() -> None:
    made = case(7, submissions=100)
    indexed = book(made.world)
    assert match_all(made.submissions, indexed) == [match(one, indexed) for one in made.submissions]


def test_a_book_that_shares_with_the_one_before_decides_like_one_built_anew() -> None:
    for seed in WORLDS[::8]:
        before, made = case(seed), case(seed + 1)
        # Some subscriptions go, some come, under the rules and successions of before.
        world = World(
            TERRITORY,
            (before.world.procedures[0], made.world.procedures[1]),
            made.world.subscriptions,
            before.world.successions,
        )
        sharing = RuleBook.build(
            world.procedures, world.subscriptions, TERRITORY, world.successions, like=book(before.world)
        )
        assert match_all(made.submissions, sharing) == match_all(made.submissions, book(world)), (
            f"seed {seed}"
        )


def test_plans_are_shared_only_where_no_chain_of_successions_leads_elsewhere() -> None:
    shared, turned = 0, 0
    for seed in WORLDS:
        before, made = case(seed), case(seed + 1)
        dice = Random(seed)
        # One succession goes, comes, or leads elsewhere; all else stays.
        former = dice.choice(SUBSCRIBERS[:-1])
        successions = [one for one in before.world.successions if one.former != former]
        successions += [one for one in made.world.successions if one.former == former]
        world = replace(before.world, successions=successions)
        old = book(before.world)
        sharing = RuleBook.build(world.procedures, world.subscriptions, TERRITORY, successions, like=old)
        anew = book(world)
        submissions = before.submissions + made.submissions
        assert match_all(submissions, sharing) == match_all(submissions, anew), f"seed {seed}"
        assert sharing.dormant == anew.dormant, f"seed {seed}"
        if sharing.successions != old.successions:
            shared += sum(plan is old.plans[code] for code, plan in sharing.plans.items())
            turned += sum(plan is not old.plans[code] for code, plan in sharing.plans.items())
        else:
            assert all(plan is old.plans[code] for code, plan in sharing.plans.items()), f"seed {seed}"
    assert shared > 50
    assert turned > 50


def test_sharing_from_book_to_book_decides_like_one_built_anew() -> None:
    for seed in WORLDS[::8]:
        first = case(seed)
        sharing, submissions = book(first.world), first.submissions
        for later in range(1, 5):
            made = case(seed + later)
            submissions += made.submissions
            successions = {one.former: one for one in sharing.successions.values()}
            for one in made.world.successions[:1]:
                successions[one.former] = one
            world = replace(first.world, successions=tuple(successions.values()))
            sharing = RuleBook.build(
                world.procedures, world.subscriptions, TERRITORY, world.successions, like=sharing
            )
            assert match_all(submissions, sharing) == match_all(submissions, book(world)), f"seed {seed}"


def test_deciding_reads_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [case(seed) for seed in WORLDS[::20]]
    books = [Snapshot(3, INSTANTS[0], book(made.world)) for made in cases]
    expected = _decisions(cases, books)
    with monkeypatch.context() as stopped:
        _stop_the_clocks(stopped)
        with pytest.raises(AssertionError):
            time.time()
        assert _decisions(cases, books) == expected
        built_then = [Snapshot(3, INSTANTS[0], book(made.world)) for made in cases]
        assert _decisions(cases, built_then) == expected


def _decisions(cases: Sequence[Case], books: Sequence[Snapshot]) -> list[list[Decision]]:
    return [
        [decide(one, snapshot) for one in made.submissions]
        for made, snapshot in zip(cases, books, strict=True)
    ]


def _stop_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in dir(time):
        if name.startswith(("time", "monotonic", "perf_counter", "process_time", "clock_get", "local", "gm")):
            monkeypatch.setattr(time, name, _asked)
    for name, module in list(sys.modules.items()):
        if name.startswith("hub.domain") and getattr(module, "datetime", None) is datetime:
            monkeypatch.setattr(module, "datetime", _Stopped)


def _asked(*_: object) -> NoReturn:
    raise AssertionError("somebody asked for the time")


_Stopped = type("_Stopped", (datetime,), dict.fromkeys(("now", "utcnow", "today"), classmethod(_asked)))


def test_the_random_worlds_reach_every_corner(verdicts: list[tuple[int, Verdict]]) -> None:
    """Else the tests above say less than they seem to."""
    seen: Counter[str] = Counter()
    for _, verdict in verdicts:
        match verdict:
            case Routed(recipients=recipients):
                seen["several recipients"] += len(recipients) > 1
                for one in recipients:
                    seen["mailbox"] += one.mailbox
                    seen["no file"] += not one.attachments
                    seen["two reasons"] += len({reason.rule for reason in one.reasons}) > 1
                    seen.update(word for reason in one.reasons for word in corners(reason))
            case Unroutable():
                seen["nobody"] += 1
            case SetAside(reason=reason):
                seen[reason.partition(":")[0]] += 1
    assert set(Level) - {Level.ARRONDISSEMENTS} <= {word for word in seen if seen[word] > 20}
    for word in (
        *("several recipients", "mailbox", "no file", "two reasons", "a partner named", "merged", "country"),
        *("all countries", "nobody", "quarantined", "unknown_place", "unknown_procedure"),
        *("(succession)", "(former_code)", "(chef_lieu)", "arrondissements:", "two successions"),
    ):
        assert seen[word] > 20, f"{word}: {seen[word]}"


def corners(reason: Reason) -> Iterator[str]:
    steps = " | ".join(reason.steps)
    for word in ("(succession)", "(former_code)", "(chef_lieu)", "arrondissements:"):
        if word in steps:
            yield word
    if steps.count("(succession)") > 1:
        yield "two successions"
    if reason.subscription is None:
        yield "a partner named"
        return
    place = reason.subscription.split("/")[1]
    type, _, code = place.partition(":")
    yield type
    if code in ("01999", "69400"):
        yield "merged"
    if type == PlaceType.ABROAD:
        yield "all countries" if code == "99" else "country"
