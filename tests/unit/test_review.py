"""The review of rules: each slip is found, and what is meant is left in peace."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from hub.domain.cases import CaseMoves, CaseStatus
from hub.domain.conditions import All, Any, Condition, Equals, Exists, In, Not, NotIn, Prefix, Range
from hub.domain.identity import Subscriber
from hub.domain.review import Finding, Severity, review
from hub.domain.rule_book import RuleBook
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
    Succession,
    Transfer,
)
from hub.domain.territory import Level
from tests.unit.samples import (
    BONNEVILLE,
    FAUCIGNY,
    MARIGNIER,
    MINISTRY,
    RECEIVED,
    procedure,
    subscription,
    territory,
)

FACTS = dict(procedure().facts) | {
    "montant": FactSpec("montant", FactType.NUMBER, required=True),
    "naissance": FactSpec("naissance", FactType.DATE, required=False),
    "motif": FactSpec("motif", FactType.WORD, required=True, values=("a", "b")),
    "objet": FactSpec("objet", FactType.WORD, required=False),
}
TOWN_HALL = Rule("mairie", "mairie", Competent("commune", (Level.COMMUNE,)))
OTHER = Rule("autre", "mairie", Named(MINISTRY))
OVER = Period(until=RECEIVED)
LATER = Period(since=RECEIVED + timedelta(days=1))
IN_BONNEVILLE = subscription(BONNEVILLE, "commune:74042")
PLACES = territory()


def found_in(
    *rules: Rule,
    of: tuple[Subscription, ...] | None = None,
    partners: tuple[Subscriber, ...] = (BONNEVILLE, MARIGNIER, FAUCIGNY, MINISTRY),
    successions: tuple[Succession, ...] = (),
    transfers: tuple[Transfer, ...] = (),
    types: tuple[str, ...] | None = None,
) -> tuple[Finding, ...]:
    """Without subscriptions: the rule files alone."""
    told = Procedure("CERTDC", "Certificat de décès", FACTS, rules, types, transfers)
    book = RuleBook.build([told], of or (), PLACES, successions)
    return review(book, None if of is None else partners, RECEIVED)


def only(findings: tuple[Finding, ...]) -> tuple[Severity, tuple[str | int, ...], str]:
    (finding,) = findings
    return finding.severity, finding.where, finding.sentence


def test_rules_that_say_what_they_mean_are_left_in_peace() -> None:
    motive = Equals("motif", "a")
    assert not found_in(
        replace(TOWN_HALL, when=motive, otherwise="secours"),
        replace(OTHER, when=Not(motive)),
        replace(OTHER, id="urgent", priority=1, when=Range("montant", Decimal(10), None)),
        replace(OTHER, id="secours", recipient="secours"),
        Rule("tous", "tous", Everyone(), otherwise=QUARANTINE),
        of=(IN_BONNEVILLE,),
    )


# --- rules that never act -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "never",
    [
        All((Equals("motif", "a"), Equals("motif", "b"))),
        All((In("motif", frozenset("a")), NotIn("motif", frozenset("a")))),
        Not(In("motif", frozenset("ab"))),
        Exists("motif", False),
        Range("montant", Decimal(2), Decimal(1)),
        All((Range("montant", None, Decimal(1)), Range("montant", Decimal(2), None))),
        All((Range("naissance", None, "2000-01-01"), Range("naissance", "2000-01-02", None))),
        All((Equals("objet", "x"), Prefix("objet", "y"))),
        All((Exists("objet", False), Prefix("objet", "y"))),
        All((Any((Equals("objet", "x"), Equals("objet", "y"))), Equals("objet", "z"))),
        Any(()),
    ],
)
def test_a_condition_that_can_never_hold_is_a_fault(never: Condition) -> None:
    severity, where, sentence = only(found_in(replace(TOWN_HALL, when=never)))
    assert (severity, where) == (Severity.FAULT, ("CERTDC", "rules", "mairie", "when"))
    assert "never hold" in sentence


@pytest.mark.parametrize(
    "possible",
    [
        All((Not(Equals("objet", "x")), Prefix("objet", "x"))),
        All((Range("montant", Decimal(1), Decimal(2)), Not(Range("montant", None, Decimal(1))))),
        All((Range("naissance", "2000-01-01", None), Not(Range("naissance", "2000-01-02", None)))),
        All((Equals("nature", "a"), Exists("objet", False))),
        All((Prefix("commune", "74"), NotIn("commune", frozenset(["74042"])))),
        All(()),
    ],
)
def test_a_condition_that_may_hold_is_no_fault(possible: Condition) -> None:
    assert not found_in(replace(TOWN_HALL, when=possible))


@pytest.mark.parametrize(
    ("slip", "says"),
    [
        (Equals("motif", "c"), "it is one of a, b"),
        (NotIn("motif", frozenset("c")), "it is one of a, b"),
        (Not(Prefix("motif", "c")), "nothing does"),
        (Equals("loueur", "123"), "14 digits"),
        (Equals("commune", "74092"), "write 74042"),
        (Equals("commune", "01999"), "no place has or had this code"),
        (Prefix("commune", "13"), "nothing does"),
        (Prefix("commune", "740420"), "nothing does"),
        (Prefix("commune", "99xyz"), "nothing does"),
        (Prefix("commune", "99100"), "nothing does"),
        (Prefix("commune", "991000"), "nothing does"),
        (Equals("commune", "74268"), "write 74010"),
        (Equals("commune", "commune:74042"), "write 74042"),
        (Equals("commune", "74"), "write prefix: 74"),
        (Equals("commune", "84"), "list the codes"),
        (Equals("commune", "200000172"), "list the codes"),
        (Equals("commune", "FR"), "list the codes"),
        (Equals("commune", "99100"), "no place has or had this code"),
        (Equals("naissance", "2026-02-30"), "a date is a day of the calendar"),
        (Equals("naissance", "31/12/2026"), "a date is a day of the calendar"),
        (In("naissance", frozenset(["2026-01-31", "20260131"])), "names 20260131 for naissance"),
        (Prefix("naissance", "31/"), "nothing does"),
        (Prefix("naissance", "2026-13"), "nothing does"),
        (Prefix("naissance", "2026-01-311"), "nothing does"),
        (Equals("montant", "dix"), "a number has up to 15 digits"),
        (Prefix("montant", "d"), "nothing does"),
        (Prefix("loueur", "x"), "nothing does"),
        (Prefix("loueur", "123456789012345"), "nothing does"),
    ],
)
def test_a_condition_on_what_nobody_can_say_is_a_fault(slip: Condition, says: str) -> None:
    severity, _, sentence = only(found_in(replace(TOWN_HALL, when=slip)))
    assert severity is Severity.FAULT
    assert says in sentence


@pytest.mark.parametrize(
    "said",
    [
        In("commune", frozenset(["74042", "74010", "99109"])),
        *(Prefix("commune", prefix) for prefix in ("99", "991", "99109", "7", "74", "74042")),
        *(
            Prefix("naissance", prefix)
            for prefix in ("2", "2026", "2026-", "2026-1", "2026-02-2", "2026-02-28")
        ),
        *(Prefix("montant", prefix) for prefix in ("-", "1", "1.", "1.5")),
        *(Prefix("loueur", prefix) for prefix in ("2", "21740042390019")),
        Equals("montant", "-10.5"),
        Equals("naissance", "2024-02-29"),
    ],
)
def test_what_a_submission_can_say_may_stand_in_a_condition(said: Condition) -> None:
    assert not found_in(replace(TOWN_HALL, when=said))


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ((None,), None),
        ((None,), Equals("motif", "a")),
        ((Equals("motif", "a"),), All((Equals("motif", "a"), Exists("objet")))),
        ((Equals("motif", "a"), Equals("motif", "b")), None),
    ],
)
def test_a_rule_that_others_always_outrank_is_a_fault(
    above: tuple[Condition | None, ...], below: Condition | None
) -> None:
    higher = [replace(OTHER, id=f"haut{n}", priority=1 + n, when=when) for n, when in enumerate(above)]
    severity, where, sentence = only(found_in(*higher, replace(TOWN_HALL, when=below)))
    assert (severity, where[2]) == (Severity.FAULT, "mairie")
    assert all(rule.id in sentence for rule in higher)


@pytest.mark.parametrize(
    "higher",
    [
        replace(OTHER, priority=1, when=Equals("motif", "a")),
        replace(OTHER, priority=1, period=LATER),
        replace(OTHER, priority=1, recipient="national"),
    ],
)
def test_a_rule_that_is_outranked_sometimes_or_elsewhere_is_no_fault(higher: Rule) -> None:
    findings = found_in(higher, TOWN_HALL)
    assert not [one for one in findings if one.where[2] == "mairie"]


def test_a_fallback_of_a_rule_that_cannot_fail_is_a_fault() -> None:
    last = Rule("dernier", "dernier", Everyone())
    severity, where, sentence = only(found_in(replace(OTHER, otherwise="dernier"), last))
    assert (severity, where[2:]) == (Severity.FAULT, ("autre", "otherwise"))
    assert "dernier never takes its place" in sentence
    between = replace(OTHER, when=Equals("motif", "a"), otherwise="dernier")
    assert not found_in(replace(TOWN_HALL, otherwise="autre"), between, last)


def test_a_rule_that_is_over_is_a_warning_and_disturbs_no_other() -> None:
    severity, where, _ = only(found_in(replace(OTHER, period=OVER), TOWN_HALL))
    assert (severity, where[2:]) == (Severity.WARNING, ("autre", "until"))


# --- rules that act together --------------------------------------------------------------------------


def test_two_rules_of_one_rank_that_may_both_apply_are_a_warning() -> None:
    severity, _, sentence = only(found_in(TOWN_HALL, OTHER))
    assert severity is Severity.WARNING
    assert "autre" in sentence
    assert "all of them act" in sentence


@pytest.mark.parametrize(
    "other",
    [
        replace(OTHER, recipient="national"),
        replace(OTHER, when=Equals("motif", "b")),
        replace(OTHER, period=Period(since=RECEIVED + timedelta(days=9))),
        replace(TOWN_HALL, id="autre", attachments=("VA",)),
    ],
)
def test_rules_that_never_meet_or_find_the_same_partner_are_no_overlap(other: Rule) -> None:
    until = Period(until=RECEIVED + timedelta(days=9))
    assert not found_in(replace(TOWN_HALL, when=Equals("motif", "a"), period=until), other)


def test_rules_too_many_to_be_compared_are_told() -> None:
    many = [replace(OTHER, id=f"r{n}", to=Named(Subscriber(MINISTRY.siret, str(n)))) for n in range(70)]
    assert [one for one in found_in(*many) if "too many rules" in one.sentence]


def test_files_that_no_rule_gives_to_anybody_are_a_warning() -> None:
    findings = found_in(replace(TOWN_HALL, attachments=("VA",)), types=("DD", "VA"))
    assert only(findings)[1] == ("CERTDC", "attachment_types", "DD")
    assert not found_in(TOWN_HALL, types=("DD", "VA"))


# --- the register -------------------------------------------------------------------------------------


def test_a_named_partner_that_does_not_exist_is_a_warning_for_it_has_a_mailbox() -> None:
    severity, where, sentence = only(found_in(OTHER, of=(), partners=()))
    assert (severity, where) == (Severity.WARNING, ("CERTDC", "rules", "autre", "partner"))
    assert "waits in a mailbox" in sentence
    by_mailbox = replace(OTHER, to=Named(MINISTRY, mailbox=True))
    assert only(found_in(by_mailbox, of=(), partners=()))[1][-1] == "mailbox"
    moved = (Succession(MINISTRY, MARIGNIER),)
    assert not found_in(OTHER, of=(), partners=(MARIGNIER,), successions=moved)


def test_subscribers_and_successors_that_do_not_exist_are_warnings() -> None:
    findings = found_in(
        TOWN_HALL, of=(IN_BONNEVILLE,), partners=(), successions=(Succession(FAUCIGNY, MARIGNIER),)
    )
    assert [(one.severity, one.where) for one in findings] == [
        (Severity.WARNING, ("subscriptions", str(BONNEVILLE))),
        (Severity.WARNING, ("successions", str(FAUCIGNY))),
    ]
    moved = (Succession(BONNEVILLE, MARIGNIER),)
    assert not found_in(TOWN_HALL, of=(IN_BONNEVILLE,), partners=(MARIGNIER,), successions=moved)


def test_a_subscription_that_finds_nothing_any_more_is_a_warning() -> None:
    merged = subscription(BONNEVILLE, "commune:74092")
    severity, where, sentence = only(found_in(TOWN_HALL, of=(IN_BONNEVILLE, merged)))
    assert (severity, where) == (Severity.WARNING, ("subscriptions", merged.id))
    assert "no longer there" in sentence


def test_a_subscription_for_a_place_no_rule_looks_at_is_a_warning() -> None:
    away = subscription(FAUCIGNY, "epci:200000172")
    assert only(found_in(TOWN_HALL, of=(IN_BONNEVILLE, away)))[1] == ("subscriptions", away.id)
    asleep = replace(away, state=SubscriptionState.INACTIVE)
    assert not found_in(TOWN_HALL, of=(IN_BONNEVILLE, asleep))
    everyone = Rule("tous", "tous", Everyone())
    assert not found_in(TOWN_HALL, everyone, of=(IN_BONNEVILLE, away))


def test_a_rule_for_which_nobody_subscribes_is_a_warning() -> None:
    over = replace(IN_BONNEVILLE, period=OVER)
    severity, where, _ = only(found_in(TOWN_HALL, of=(over,)))
    assert (severity, where[2]) == (Severity.WARNING, "mairie")
    assert not found_in(TOWN_HALL), "the rule files alone say nothing of subscriptions"


def test_a_transfer_to_an_epci_that_does_not_subscribe_is_a_warning() -> None:
    rule = replace(TOWN_HALL, to=Competent("commune", (Level.EPCI, Level.COMMUNE)))
    handed = (Transfer("200000172"),)
    severity, where, sentence = only(found_in(rule, of=(IN_BONNEVILLE,), transfers=handed))
    assert (severity, where) == (Severity.WARNING, ("CERTDC", "transfers", 0))
    assert "CC Faucigny - Glières" in sentence
    faucigny = subscription(FAUCIGNY, "epci:200000172")
    assert not found_in(rule, of=(IN_BONNEVILLE, faucigny), transfers=handed)
    ended = (Transfer("200000172", period=OVER),)
    assert not found_in(rule, of=(IN_BONNEVILLE,), transfers=ended)


def test_faults_come_before_warnings() -> None:
    slip = replace(TOWN_HALL, id="z", recipient="z", when=Equals("motif", "c"))
    findings = found_in(TOWN_HALL, OTHER, slip)
    assert [one.severity for one in findings] == [Severity.FAULT, Severity.WARNING]


def test_many_of_one_kind_are_one_sentence_that_says_how_many() -> None:
    aside = tuple(subscription(Subscriber(BONNEVILLE.siret, str(n)), "departement:74") for n in range(8))
    findings = found_in(TOWN_HALL, of=(IN_BONNEVILLE, *aside), partners=())
    assert [one.sentence for one in findings if "3 more" in one.sentence and "looks at" in one.sentence]


# --- what partners may report -------------------------------------------------------------------------


def test_a_status_no_case_comes_to_is_a_fault_and_none_at_all_a_warning() -> None:
    done, sent = CaseStatus.DONE, CaseStatus.SENT
    for moves, severity, words in (
        ({CaseStatus.HUBEE_NOTIFIED: (done,), sent: (done,)}, Severity.FAULT, "comes to SENT"),
        ({}, Severity.WARNING, "can report no status"),
    ):
        told = Procedure("CERTDC", "Certificat de décès", FACTS, (TOWN_HALL,), case_moves=CaseMoves(moves))
        found = review(RuleBook.build([told], (), PLACES), None, RECEIVED)
        assert only(found)[:2] == (severity, ("CERTDC", "statuses"))
        assert words in only(found)[2]
