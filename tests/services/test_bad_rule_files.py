"""Rule files that contradict themselves or what is known: refused whole, all their faults at once, each with its
file, its line, and a sentence for somebody who writes no programs."""

from __future__ import annotations

from pathlib import Path

import pytest

import routing_rules
from hub.adapters.rules.files import Fault, RuleFileFaults, read_rules
from hub.adapters.rules.territory import load_territory
from hub.domain.territory import Territory

GOOD = """\
procedure: Essai
title: Un essai
facts:
  commune: {type: place, required: true}
  age: {type: number}
rules:
  - id: mairie
    recipient: mairie
    competent: {place: commune, levels: [commune]}
    otherwise: departement
  - id: departement
    recipient: mairie
    competent: {place: commune, levels: [departement]}
"""


@pytest.fixture(scope="module")
def territory() -> Territory:
    return load_territory(Path(routing_rules.__file__).parent / "territory" / "2026.tsv.gz")


def faults(folder: Path, territory: Territory, *files: str, most: int = 20_000) -> tuple[Fault, ...]:
    """What is wrong with a folder that holds these files, named after the procedure each describes."""
    for text in files:
        (folder / f"{text.split()[1]}.yaml").write_text(text)
    with pytest.raises(RuleFileFaults) as caught:
        read_rules(folder, most).check(territory)
    return caught.value.faults


def test_good_rules_have_no_faults(tmp_path: Path, territory: Territory) -> None:
    (tmp_path / "Essai.yaml").write_text(GOOD)
    read_rules(tmp_path).check(territory)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("    otherwise: departement\n", "    otherwise: region\n", 10, "there is no rule region"),
        (
            "levels: [departement]}",
            "levels: [departement]}\n    otherwise: mairie",
            14,
            "fall back on each other for ever: mairie → departement → mairie",
        ),
        ("id: departement", "id: mairie", 11, "two rules are named mairie; the first is at line 7"),
        ("    otherwise: departement", "    since: 2026-02-30", 10, "no such day in the calendar"),
        ("    otherwise: departement", "    since: 31/01/2026", 10, "a date is written year-month-day"),
        (
            "    otherwise: departement",
            "    since: 2026-02-01\n    until: 2026-01-01",
            11,
            "it ends before it begins",
        ),
        ("    otherwise: departement", "    urgent: yes", 10, "rule mairie, urgent: there is no such name"),
        ("levels: [commune]", "levels: [canton]", 9, "one of:"),
        ("place: commune,", "place: age,", 9, "age is no fact of this procedure that names a place"),
        (
            "    otherwise: departement",
            "    when: {fact: metier, equals: maire}",
            10,
            "its condition asks for metier, no fact of this procedure",
        ),
        (
            "    otherwise: departement",
            "    when: {fact: age, range: {from: 2026-01-01}}",
            10,
            "the bounds of age must be numbers",
        ),
        (
            "rules:\n",
            'transfers:\n  - {epci: "999999999"}\nrules:\n',
            7,
            "there is no EPCI 999999999",
        ),
        ("rules:\n", "statuses: {forbidden: [FINI]}\nrules:\n", 6, "one of: 'SENT'"),
        ("rules:\n", "statuses: {undo: -1}\nrules:\n", 6, "statuses, undo"),
        (
            "rules:\n",
            "statuses:\n  forbidden: [DONE]\n  moves:\n    HUBEE_NOTIFIED: [DONE]\nrules:\n",
            6,
            "a status that is forbidden has no place among the moves",
        ),
        (
            "rules:\n",
            "statuses:\n  moves:\n    SENT: [SENT]\nrules:\n",
            6,
            "a status does not follow itself",
        ),
    ],
)
def test_a_contradiction_is_told_with_its_line(
    tmp_path: Path, territory: Territory, old: str, new: str, line: int, words: str
) -> None:
    assert GOOD.count(old) >= 1
    (fault,) = faults(tmp_path, territory, GOOD.replace(old, new, 1))
    assert (fault.file, fault.line) == (tmp_path / "Essai.yaml", line)
    assert words in fault.sentence


def test_all_faults_of_a_folder_are_told_at_once(tmp_path: Path, territory: Territory) -> None:
    other = GOOD.replace("Essai", "Autre", 1).replace("title: Un essai", "title: 12").replace("age", "Âge", 1)
    third = GOOD.replace("Essai", "Tiers", 1).replace("recipient: mairie", "recipients: mairie", 1)
    told = faults(tmp_path, territory, GOOD, other, third)
    assert {(fault.file.name, fault.line) for fault in told} >= {
        ("Autre.yaml", 2),
        ("Autre.yaml", 5),
        ("Tiers.yaml", 8),
    }


def test_more_rules_than_the_limit_are_refused(tmp_path: Path, territory: Territory) -> None:
    (fault,) = faults(tmp_path, territory, GOOD, most=1)
    assert fault.sentence == "2 rules are more than the 1 this hub takes"


def test_at_most_fifty_faults_are_told(tmp_path: Path) -> None:
    rules = "".join(f"  - id: Regle {number}\n    recipient: x\n    everyone: true\n" for number in range(80))
    (tmp_path / "Essai.yaml").write_text(GOOD + rules)
    with pytest.raises(RuleFileFaults) as caught:
        read_rules(tmp_path)
    told = str(caught.value).splitlines()
    assert (len(told), told[-1]) == (51, "… and 30 more")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("01001", "01001"), ("74042", "74042"), ("2A004", "2A004"), ("1:30", "1:30"), ("0x10", "0x10")],
)
def test_a_code_without_quotes_is_read_as_it_stands(tmp_path: Path, written: str, meant: str) -> None:
    condition = f"    when: {{fact: commune, equals: {written}}}\n"
    (tmp_path / "Essai.yaml").write_text(GOOD.replace("    otherwise: departement\n", condition))
    (told,) = read_rules(tmp_path).procedures
    when = told.rules[0].when
    assert when is not None
    assert when.model_dump(exclude_none=True)["equals"] == meant


def test_bounds_without_quotes_are_read(tmp_path: Path, territory: Territory) -> None:
    condition = "    when: {fact: age, range: {from: 2.5, to: 18}}\n"
    (tmp_path / "Essai.yaml").write_text(GOOD.replace("    otherwise: departement\n", condition))
    read_rules(tmp_path).check(territory)
