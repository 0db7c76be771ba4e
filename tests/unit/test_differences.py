"""What differs between two rule books as they are written, and between two verdicts."""

from __future__ import annotations

from typing import Any

import pytest

from hub.domain.decisions import Reason, Recipient, Routed, SetAside, Unroutable, Verdict
from hub.domain.differences import Difference, VerdictDifference, between, between_verdicts
from hub.domain.identity import Subscriber

PROCEDURE = ("procedure", "CERTDC")
FIRST = Subscriber("21740042390019", "74042")
SECOND = Subscriber("21740164590016", "74164")


def _procedure(**changed: Any) -> dict[str, Any]:
    return {
        "procedure": "CERTDC",
        "title": "Certificat",
        "facts": {"commune": {"type": "place", "required": True}},
        "rules": [
            {"id": "mairie", "recipient": "mairie", "attachments": ["VA"]},
            {"id": "national", "recipient": "national", "partner": str(FIRST)},
        ],
        **changed,
    }


def _within(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[tuple[str, ...], Any, Any]]:
    return [(one.where, one.before, one.after) for one in between({PROCEDURE: old}, {PROCEDURE: new})]


# --- two rule books -----------------------------------------------------------------------------------


def test_two_rule_books_that_say_the_same_differ_in_nothing() -> None:
    assert between({PROCEDURE: _procedure()}, {PROCEDURE: _procedure()}) == ()


def test_the_order_of_rules_makes_no_difference() -> None:
    turned = _procedure(rules=_procedure()["rules"][::-1])
    assert between({PROCEDURE: _procedure()}, {PROCEDURE: turned}) == ()


def test_what_is_new_or_gone_is_named_as_a_whole() -> None:
    wish = ("subscription", "CERTDC/commune:74042/x")
    assert between({PROCEDURE: _procedure()}, {wish: {"place": "commune:74042"}}) == (
        Difference("procedure", "CERTDC", (), _procedure(), None),
        Difference("subscription", wish[1], (), None, {"place": "commune:74042"}),
    )


def test_a_change_is_told_at_its_field_with_both_values() -> None:
    rules = [
        {"id": "mairie", "recipient": "mairie", "attachments": ["DD", "VA"], "priority": 5},
        {"id": "national", "recipient": "national", "partner": str(FIRST)},
    ]
    assert _within(_procedure(), _procedure(title="Acte", rules=rules)) == [
        (("rules", "mairie", "attachments"), ["VA"], ["DD", "VA"]),
        (("rules", "mairie", "priority"), None, 5),
        (("title",), "Certificat", "Acte"),
    ]


def test_a_rule_or_a_fact_that_came_or_went_is_told_as_one_thing() -> None:
    rules = _procedure()["rules"]
    new = {"id": "secours", "recipient": "mairie"}
    changed = _procedure(rules=[rules[0], new], facts={})
    assert _within(_procedure(), changed) == [
        (("facts", "commune"), {"type": "place", "required": True}, None),
        (("rules", "national"), rules[1], None),
        (("rules", "secours"), None, new),
    ]


def test_transfers_to_one_epci_at_two_times_are_compared_as_a_whole() -> None:
    once = [{"epci": "200000172", "since": "2026-01-01"}]
    twice = [*once, {"epci": "200000172", "since": "2027-01-01"}]
    assert _within(_procedure(transfers=once), _procedure(transfers=twice)) == [(("transfers",), once, twice)]
    later = [{"epci": "200000172", "since": "2026-02-01"}]
    assert _within(_procedure(transfers=once), _procedure(transfers=later)) == [
        (("transfers", "200000172", "since"), "2026-01-01", "2026-02-01")
    ]


# --- two verdicts -------------------------------------------------------------------------------------


def _to(subscriber: Subscriber, *files: int, rule: str = "mairie", mailbox: bool = False) -> Recipient:
    return Recipient(subscriber, files, (Reason(rule, "mairie", None, ()),), mailbox)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Routed((_to(FIRST, 1, 2),)), Routed((_to(FIRST, 2, 1, rule="autre"),))),
        (Unroutable(("mairie: nobody",)), Unroutable(("autre: nobody",))),
        (SetAside("unknown_place"), SetAside("unknown_place")),
    ],
)
def test_verdicts_that_come_to_the_same_do_not_differ(before: Verdict, after: Verdict) -> None:
    assert between_verdicts(before, after) is None


def test_who_gains_who_loses_and_who_gets_other_files_is_told_apart() -> None:
    third = Subscriber("11001401600015", "75108")
    before = Routed((_to(FIRST, 1), _to(SECOND, 1)))
    after = Routed((_to(FIRST, 1, 2), _to(third)))
    assert between_verdicts(before, after) == VerdictDifference(
        "routed", "routed", gained=(third,), lost=(SECOND,), altered=(FIRST,)
    )


def test_going_by_the_mailbox_instead_is_a_difference() -> None:
    found = between_verdicts(Routed((_to(FIRST, 1),)), Routed((_to(FIRST, 1, mailbox=True),)))
    assert found is not None
    assert found.altered == (FIRST,)


def test_a_submission_that_nobody_would_get_any_more_is_told_with_the_reason() -> None:
    found = between_verdicts(Routed((_to(FIRST, 1),)), SetAside("quarantined:mairie"))
    assert found == VerdictDifference("routed", "quarantined:mairie", (), (FIRST,), ())
    assert between_verdicts(SetAside("unknown_place"), Unroutable(())) == VerdictDifference(
        "unknown_place", "unroutable", (), (), ()
    )
