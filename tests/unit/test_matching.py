"""Deciding: the index against a search through everything, and the words of the rules one by one."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.decisions import Routed, SetAside, Unroutable
from hub.domain.errors import RuleBookError
from hub.domain.matching import decide, match
from hub.domain.rule_book import RuleBook, Snapshot
from hub.domain.rules import Competent, Subscription
from hub.domain.submission import AttachmentFacts
from hub.domain.territory import Level
from tests.unit.samples import (
    BONNEVILLE,
    FAUCIGNY,
    MARIGNIER,
    MINISTRY,
    RECEIVED,
    book,
    facts,
    procedure,
    subscription,
    territory,
)

DD = AttachmentFacts(1, "DD")
VA = AttachmentFacts(2, "VA")


def test_the_national_body_gets_all_and_the_mairie_its_part() -> None:
    verdict = match(facts("74042", DD, VA), book(subscription(BONNEVILLE, "commune:74042")))
    assert isinstance(verdict, Routed)
    assert {found.subscriber: found.attachments for found in verdict.recipients} == {
        MINISTRY: (1, 2),
        BONNEVILLE: (2,),
    }


def test_a_former_code_leads_to_the_commune_of_today_and_the_reason_says_so() -> None:
    verdict = match(facts("74092", VA), book(subscription(BONNEVILLE, "commune:74042")))
    assert isinstance(verdict, Routed)
    mairie = next(found for found in verdict.recipients if found.subscriber == BONNEVILLE)
    assert any("former_code" in step for step in mairie.reasons[0].steps)
    assert mairie.reasons[0].subscription == "CERTDC/commune:74042/21740042390019-74042"


def competent(*levels: Level) -> RuleBook:
    plain = procedure()
    rule = replace(plain.rules[1], to=Competent("commune", levels))
    return book(
        subscription(BONNEVILLE, "commune:74042"),
        subscription(FAUCIGNY, "epci:200000172"),
        procedures=(replace(plain, rules=(rule,)),),
    )


def test_the_first_level_with_a_subscriber_decides() -> None:
    by_epci = match(facts("74042"), competent(Level.EPCI, Level.COMMUNE))
    by_commune = match(facts("74042"), competent(Level.COMMUNE, Level.EPCI))
    assert isinstance(by_epci, Routed)
    assert isinstance(by_commune, Routed)
    assert [found.subscriber for found in by_epci.recipients] == [FAUCIGNY]
    assert [found.subscriber for found in by_commune.recipients] == [BONNEVILLE]


def test_where_the_first_level_has_nobody_the_next_is_asked() -> None:
    verdict = match(facts("74164"), competent(Level.COMMUNE, Level.EPCI))
    assert isinstance(verdict, Routed)
    assert [found.subscriber for found in verdict.recipients] == [FAUCIGNY]


def test_nobody_subscribes_is_unroutable_and_says_where_it_looked() -> None:
    plain = procedure()
    alone = book(procedures=(replace(plain, rules=plain.rules[1:]),))
    assert match(facts("74164"), alone) == Unroutable(("mairie: nobody subscribes for commune:74164",))


def test_a_place_abroad_is_a_place_where_nobody_subscribes() -> None:
    plain = procedure()
    alone = book(procedures=(replace(plain, rules=plain.rules[1:]),))
    assert isinstance(match(facts("99109"), alone), Unroutable)


def test_a_record_of_an_unknown_procedure_or_place_is_set_aside() -> None:
    assert match(facts(procedure="NONE"), book()) == SetAside("unknown_procedure")
    assert match(facts("00000"), book()) == SetAside("unknown_place")


def test_several_subscribers_of_one_place_each_get_theirs() -> None:
    verdict = match(
        facts("74042", VA),
        book(subscription(BONNEVILLE, "commune:74042"), subscription(MARIGNIER, "commune:74042")),
    )
    assert isinstance(verdict, Routed)
    assert len(verdict.recipients) == 3
    assert len({found.subscriber for found in verdict.recipients}) == 3


def test_two_rules_that_end_at_one_partner_make_one_delivery_with_the_union_of_files() -> None:
    verdict = match(facts("74042", DD, VA), book(subscription(MINISTRY, "commune:74042")))
    assert isinstance(verdict, Routed)
    assert [(found.subscriber, found.attachments) for found in verdict.recipients] == [(MINISTRY, (1, 2))]
    assert [reason.rule for reason in verdict.recipients[0].reasons] == ["mairie", "national"]


@pytest.mark.parametrize(
    ("narrowed", "expected"), [(("national",), ()), (("mairie",), (2,)), ((), ()), (None, (2,))]
)
def test_the_sender_narrows_a_file_and_never_widens_it(
    narrowed: tuple[str, ...] | None, expected: tuple[int, ...]
) -> None:
    files = (AttachmentFacts(1, "DD", ("mairie",)), AttachmentFacts(2, "VA", narrowed))
    verdict = match(facts("74042", *files), book(subscription(BONNEVILLE, "commune:74042")))
    assert isinstance(verdict, Routed)
    mairie = next(found for found in verdict.recipients if found.subscriber == BONNEVILLE)
    assert mairie.attachments == expected


SUBSCRIPTIONS = st.lists(
    st.builds(
        subscription,
        st.sampled_from([MINISTRY, BONNEVILLE, MARIGNIER, FAUCIGNY]),
        st.sampled_from(["commune:74042", "commune:74164", "commune:74010", "epci:200000172"]),
    ),
    max_size=8,
)


@given(SUBSCRIPTIONS, st.sampled_from(["74042", "74164", "74010", "74092", "99109"]), st.randoms())
def test_the_index_finds_what_a_search_through_everything_finds(
    subscriptions: list[Subscription], commune: str, chance: random.Random
) -> None:
    levels = (Level.COMMUNE, Level.EPCI)
    plain = procedure()
    procedures = (replace(plain, rules=(replace(plain.rules[1], to=Competent("commune", levels)),)),)
    verdict = match(facts(commune), book(*subscriptions, procedures=procedures))
    home = {"74042": "74042", "74092": "74042", "74164": "74164", "74010": "74010"}.get(commune)
    at_home = {s.subscriber for s in subscriptions if str(s.place) == f"commune:{home}"}
    around = {s.subscriber for s in subscriptions if str(s.place) == "epci:200000172"}
    expected = at_home or (around if home in {"74042", "74164"} else set())
    got = {found.subscriber for found in verdict.recipients} if isinstance(verdict, Routed) else set()
    assert got == expected
    shuffled = chance.sample(subscriptions, len(subscriptions))
    assert match(facts(commune), book(*shuffled, procedures=procedures)) == verdict


def test_a_decision_bears_the_number_of_the_snapshot_that_made_it() -> None:
    decision = decide(facts(), Snapshot(7, RECEIVED, book()))
    assert (decision.number, decision.snapshot) == (1, 7)


def test_a_subscription_to_what_does_not_exist_is_refused() -> None:
    with pytest.raises(RuleBookError, match="no such procedure"):
        book(subscription(BONNEVILLE, "commune:74042", "NONE"))
    with pytest.raises(RuleBookError, match="no such place"):
        book(subscription(BONNEVILLE, "commune:00000"))
    with pytest.raises(RuleBookError, match="twice"):
        RuleBook.build([procedure(), procedure()], [], territory())
