"""The cases beside the rules: what they say is tried as it would be received, and what nobody could send is told."""

from __future__ import annotations

from pathlib import Path

import pytest

import routing_rules
from hub.adapters.rules.cases import failing_cases
from hub.adapters.rules.files import Fault, read_rules
from hub.adapters.rules.territory import load_territory
from hub.domain.territory import Territory

BONNEVILLE = "21740042390019-74042"
MARIGNIER = "21740164590016-74164"
SUBSCRIPTION = (
    f'subscriptions:\n  - {{procedure: Essai, subscriber: "{BONNEVILLE}", place: "commune:74042"}}\n'
)
CASE = f"""\
cases:
  - says: the mairie of the commune gets the form
    facts: {{commune: "74042", nature: acte}}
    files: [{{number: 1, type: formulaire}}]
    expect: [{{subscriber: "{BONNEVILLE}", attachments: [1]}}]
"""
RULES = """\
procedure: Essai
title: Un essai
facts:
  commune: {type: place, required: true}
  nature: {type: word, required: true, values: [acte, copie]}
attachment_types: [formulaire]
rules:
  - id: mairie
    recipient: mairie
    competent: {place: commune, levels: [commune]}
"""


@pytest.fixture(scope="module")
def territory() -> Territory:
    return load_territory(Path(routing_rules.__file__).parent / "territory" / "2026.tsv.gz")


def failing(folder: Path, territory: Territory, case: str, world: str = "", rule: str = "") -> list[Fault]:
    (folder / "Essai.yaml").write_text(RULES + rule)
    (folder / "Essai.cases.yaml").write_text(SUBSCRIPTION + world + case)
    return list(failing_cases(read_rules(folder), territory))


def test_a_case_is_received_on_its_day_in_france(tmp_path: Path, territory: Territory) -> None:
    on = "    at: {}\n    facts: "
    dated = "    since: 2030-06-01\n    until: 2030-06-02\n"
    for day, holds in (
        ("2030-05-31", False),
        ("2030-06-01", True),
        ("2030-06-02", True),
        ("2030-06-03", False),
    ):
        case = CASE.replace("    facts: ", on.format(day))
        assert (not failing(tmp_path, territory, case, rule=dated)) is holds, day
    until_2026 = "    until: 2026-01-01\n"
    assert not failing(tmp_path, territory, CASE, rule=until_2026), "a case without a day has always the same"


def test_a_case_knows_the_successions_of_its_world(tmp_path: Path, territory: Territory) -> None:
    succeeded = f'successions:\n  - {{former: "{BONNEVILLE}", subscriber: "{MARIGNIER}"}}\n'
    head, _, expected = CASE.rpartition("expect:")
    moved = f"{head}expect:{expected.replace(BONNEVILLE, MARIGNIER)}"
    assert not failing(tmp_path, territory, moved, succeeded)
    (fault,) = failing(tmp_path, territory, CASE, succeeded)
    assert MARIGNIER in fault.sentence


@pytest.mark.parametrize(
    ("otherwise", "right"), [("", "unroutable"), ("    otherwise: quarantine\n", "quarantine")]
)
def test_nobody_and_quarantine_are_not_the_same(
    tmp_path: Path, territory: Territory, otherwise: str, right: str
) -> None:
    for word in ("unroutable", "quarantine"):
        case = CASE.replace("74042", "74010", 1).partition("    expect:")[0] + f"    expect: {word}\n"
        assert (failing(tmp_path, territory, case, rule=otherwise) == []) is (word == right), word


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("nature: acte", "natur: acte", 5, "facts natur: this procedure knows no such fact"),
        ("nature: acte", "natur: acte", 5, "facts nature: this procedure needs this fact"),
        ("nature: acte", "nature: autre", 5, "facts nature: one of: acte, copie"),
        ('commune: "74042"', 'commune: "00000"', 5, "facts commune: no commune has or had this code"),
        ("type: formulaire", "type: facture", 6, "files 0 type: one of: formulaire"),
        (
            "type: formulaire",
            "type: formulaire, recipients: [ami]",
            6,
            "files 0 recipients 0: one of: mairie",
        ),
        (
            "{number: 1, type: formulaire}",
            "{number: 1, type: formulaire}, {number: 1, type: formulaire}",
            6,
            "one number",
        ),
        ("expect: [", f'expect: [{{subscriber: "{BONNEVILLE}"}}, ', 7, f"expects {BONNEVILLE} twice"),
    ],
)
def test_a_case_that_nobody_could_send_is_told_with_its_line(
    tmp_path: Path, territory: Territory, old: str, new: str, line: int, told: str
) -> None:
    assert CASE.count(old) == 1
    found = failing(tmp_path, territory, CASE.replace(old, new))
    assert {(fault.file.name, fault.line) for fault in found} == {("Essai.cases.yaml", line)}
    assert any(told in fault.sentence for fault in found), found
