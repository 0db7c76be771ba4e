"""Coverage: what is made up for each commune, and what counts as reached."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from hub.domain.conditions import All, Equals, Not, NotIn, Prefix, Range
from hub.domain.coverage import MOST_COMBINATIONS, Coverage, Reach, coverage
from hub.domain.errors import RuleBookError
from hub.domain.rules import (
    QUARANTINE,
    Competent,
    Everyone,
    FactSpec,
    FactType,
    Named,
    Period,
    Procedure,
    Rule,
    Subscription,
    SubscriptionState,
)
from hub.domain.territory import Level
from tests.unit.samples import (
    BONNEVILLE,
    FAUCIGNY,
    MARIGNIER,
    MINISTRY,
    RECEIVED,
    book,
    procedure,
    subscription,
)

TOWN_HALL = Rule("mairie", "mairie", Competent("commune", (Level.COMMUNE,)))


def covered_by(*rules: Rule, of: tuple[Subscription, ...] = (), facts: tuple[FactSpec, ...] = ()) -> Coverage:
    known = dict(procedure().facts) | {spec.name: spec for spec in facts}
    told = Procedure("CERTDC", "Certificat de décès", known, rules)
    return coverage("CERTDC", book(*of, procedures=(told,)), RECEIVED)


def reaches(found: Coverage) -> dict[str, tuple[Reach, tuple[str, ...]]]:
    return {one.code: (one.reach, one.missing) for one in found.communes}


def test_a_commune_is_covered_when_each_kind_of_recipient_is_reached() -> None:
    found = coverage("CERTDC", book(subscription(BONNEVILLE, "commune:74042")), RECEIVED)
    assert found.kinds == ("mairie", "national")
    assert reaches(found) == {
        "74042": (Reach.EVERYBODY, ()),
        "74164": (Reach.SOMEBODY, ("mairie",)),
        "74010": (Reach.SOMEBODY, ("mairie",)),
    }
    assert [one.name for one in found.uncovered] == ["Marignier", "Annecy"]


def test_figures_count_communes_and_the_people_who_live_there() -> None:
    found = covered_by(TOWN_HALL, of=(subscription(BONNEVILLE, "commune:74042"),))
    assert (found.total.communes, found.total.covered, found.total.uncovered, found.total.nobody) == (
        3,
        1,
        2,
        2,
    )
    assert (found.total.population_covered, found.total.population_uncovered) == (13320, 6432 + 131272)
    (departement,) = found.departements
    assert (departement.code, departement.name, departement.figures) == ("74", "Haute-Savoie", found.total)


def test_a_commune_that_reaches_nobody_for_one_word_reaches_nobody() -> None:
    found = covered_by(
        replace(TOWN_HALL, when=Equals("nature", "a")),
        Rule("reste", "mairie", Competent("commune", (Level.EPCI,)), when=Not(Equals("nature", "a"))),
        of=(subscription(BONNEVILLE, "commune:74042"), subscription(FAUCIGNY, "epci:200000172")),
    )
    assert found.combinations == 3, "two words, and nothing said"
    assert reaches(found) == {
        "74042": (Reach.EVERYBODY, ()),
        "74164": (Reach.NOBODY, ("mairie",)),
        "74010": (Reach.NOBODY, ("mairie",)),
    }


def test_an_optional_word_that_is_not_said_is_tried_too() -> None:
    found = covered_by(replace(TOWN_HALL, when=NotIn("nature", frozenset())), Rule("n", "n", Named(MINISTRY)))
    assert {one.missing for one in found.communes} == {("mairie",)}
    alone = covered_by(
        replace(TOWN_HALL, when=NotIn("nature", frozenset())), of=(subscription(BONNEVILLE, "commune:74042"),)
    )
    assert reaches(alone)["74042"] == (Reach.NOBODY, ()), "no rule applies"


def test_a_kind_is_reached_by_the_fallback_of_its_rule() -> None:
    found = covered_by(
        replace(TOWN_HALL, otherwise="prefecture"), Rule("prefecture", "etat", Named(MINISTRY))
    )
    assert found.kinds == ("mairie",)
    assert found.total.uncovered == 0


def test_what_a_person_must_look_at_reaches_nobody() -> None:
    found = covered_by(
        Rule("national", "national", Named(MINISTRY)),
        replace(TOWN_HALL, otherwise=QUARANTINE),
        of=(subscription(BONNEVILLE, "commune:74042"),),
    )
    assert reaches(found)["74042"] == (Reach.EVERYBODY, ())
    assert reaches(found)["74164"] == (Reach.NOBODY, ("mairie", "national"))


def test_a_condition_on_the_place_is_asked_for_each_commune() -> None:
    found = covered_by(
        Rule("national", "national", Named(MINISTRY)),
        replace(TOWN_HALL, when=Prefix("commune", "740")),
        of=(subscription(BONNEVILLE, "commune:74042"),),
    )
    assert reaches(found) == {
        "74042": (Reach.EVERYBODY, ()),
        "74164": (Reach.EVERYBODY, ()),
        "74010": (Reach.SOMEBODY, ("mairie",)),
    }


def test_only_what_holds_at_the_instant_counts() -> None:
    suspended = replace(subscription(BONNEVILLE, "commune:74042"), state=SubscriptionState.SUSPENDED)
    over = replace(subscription(MARIGNIER, "commune:74164"), period=Period(until=RECEIVED))
    assert covered_by(TOWN_HALL, of=(suspended, over)).total.covered == 0
    later = Rule("plus-tard", "national", Named(MINISTRY), period=Period(since=RECEIVED.replace(year=2027)))
    found = covered_by(TOWN_HALL, later, of=(subscription(BONNEVILLE, "commune:74042"),))
    assert found.total.covered == 1, "a rule that is not in force yet expects nobody"


def test_one_subscriber_of_all_covers_every_commune() -> None:
    found = covered_by(Rule("tous", "tous", Everyone()), of=(subscription(BONNEVILLE, "commune:74042"),))
    assert found.total.uncovered == 0


def test_required_facts_that_are_no_listed_words_get_a_stated_stand_in() -> None:
    amount = FactSpec("montant", FactType.NUMBER, required=True)
    born = FactSpec("naissance", FactType.DATE, required=False)
    little = Range("montant", None, Decimal(10))
    found = covered_by(
        Rule("petit", "petit", Named(MINISTRY), when=All((little, Equals("nature", "a")))),
        Rule("reste", "reste", Named(MINISTRY), when=Not(Equals("nature", "a"))),
        replace(TOWN_HALL, when=All((little, Equals("nature", "b")))),
        facts=(amount, born),
    )
    assert found.stand_ins == {"montant": "0"}
    assert {one.missing for one in found.communes} == {("mairie",)}


def test_words_that_no_condition_asks_for_are_not_multiplied_and_those_beyond_the_limit_are_told() -> None:
    facts = tuple(FactSpec(f"mot{number}", FactType.WORD, True, ("a", "b", "c")) for number in range(4))
    assert covered_by(TOWN_HALL, facts=facts).combinations == 1
    rules = [
        replace(TOWN_HALL, id=f"mairie{number}", when=Equals(f"mot{number}", "a")) for number in range(4)
    ]
    found = covered_by(*rules, facts=facts)
    assert (found.combinations, found.left_out) == (MOST_COMBINATIONS, 81 - MOST_COMBINATIONS)


def test_an_unknown_procedure_is_refused() -> None:
    with pytest.raises(RuleBookError, match="no such procedure"):
        coverage("AUTRE", book(), RECEIVED)
