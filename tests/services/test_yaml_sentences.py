"""Slips of the pen in a rule file, each told by its line and a sentence for somebody who writes no programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.adapters.rules.files import LARGEST_RULES, RuleFileFaults, read_partners, read_rules
from hub.domain.errors import RuleBookError

GOOD = """\
procedure: Essai
title: Un essai
facts:
  commune: {type: place, required: true}
  nature: {type: word, values: [acte, copie]}
rules:
  - id: mairie
    recipient: mairie
    competent: {place: commune, levels: [commune]}
"""
CASES = """\
subscriptions: []
cases:
  - says: nobody subscribes here
    facts: {commune: "74042"}
    expect: unroutable
"""


def told_of(folder: Path, text: str | bytes, name: str = "Essai.yaml") -> list[str]:
    (folder / "Essai.yaml").write_text(GOOD)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RuleBookError) as caught:
        read_rules(folder)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("title: Un essai", "title: Acte : copie", "2: a colon and a space stand in this text: put the text"),
        ("title: Un essai", "title:Un essai", "2: write a space after the colon"),
        ("procedure: Essai\n", "procedure:Essai\n", "1: write a space after the colon"),
        ("    recipient", "\trecipient", "8: indent with spaces, not tabs"),
        ("title: Un essai", 'title: "Un essai', "2: the quotation mark that opens here is not closed"),
        ("title: Un essai", "title: 'Un essai", "2: the quotation mark that opens here is not closed"),
        ("title: Un essai", "title: &t Un essai", "2: &, * and ! are not read here: write it out"),
        ("title: Un essai", "title: !!str Un essai", "2: &, * and ! are not read here: write it out"),
        ("title: Un essai", "<<: {title: Un essai}", "2: << is not read here: write it out"),
        ("title: Un essai", "title: @Un", "2: put the text in quotation marks"),
        ("title: Un essai", "title: un\ntitle: deux", "3: title stands twice"),
        ("title: Un essai", "title: Un\x07", "2: a sign stands here that cannot be printed"),
        ("title: Un essai", "title:", "2: title: nothing stands here"),
        ("title: Un essai\n", "", "1: title: it is missing"),
        ("title: Un essai", 'title: "\\e[31mUn"', "2: title: this text has signs that are not allowed"),
        (
            "[acte, copie]",
            "[oui, no]",
            "5: fact nature, values 2: yes, no, on, off, true and false are no texts",
        ),
        (
            "recipient:",
            "recipiant:",
            "8: rule mairie, recipiant: there is no such name; did you mean recipient?",
        ),
        (
            "recipient: mairie",
            "recipient: mairie\n    prioritee: 3",
            "9: rule mairie, prioritee: there is no such",
        ),
        ("levels: [commune]", "levels: [communes]", "9: rule mairie, competent, levels 1: one of:"),
        (
            "competent: {place: commune, levels: [commune]}",
            "everyone: false",
            "9: rule mairie, everyone: true is expected",
        ),
    ],
)
def test_a_slip_is_told_with_its_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    found = told_of(tmp_path, GOOD.replace(old, new, 1))
    assert any(line.startswith(f"Essai.yaml, line {told}") for line in found), found


def test_no_word_of_the_schemas_own_is_told(tmp_path: Path) -> None:
    found = told_of(tmp_path, CASES.replace("unroutable", "nobody"), "Essai.cases.yaml")
    (line,) = found
    assert line.startswith("Essai.cases.yaml, line 5: case 1, expect: a list is expected, or one of: ")
    assert "_type" not in line
    wrong = CASES.replace("unroutable", '[{subscriber: "x", attachments: [a]}]')
    for line in told_of(tmp_path, wrong, "Essai.cases.yaml"):
        assert line.startswith("Essai.cases.yaml, line 5: case 1, expect 1, "), line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (GOOD.replace("Un essai", "Demande d’état").encode("cp1252"), "line 2: not UTF-8; save it as UTF-8"),
        (GOOD.encode("utf-16"), "line 1: not UTF-8; save it as UTF-8"),
        (b"", "the file is empty"),
        (b"# rien\n", "the file is empty"),
        (b"null\n", "the file is empty"),
        (b"- a\n- b\n", "line 1: an object is expected"),
    ],
)
def test_a_file_that_holds_nothing_to_read_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (line,) = told_of(tmp_path, content)
    assert line in (f"Essai.yaml: {told}", f"Essai.yaml, {told}")


def test_a_mark_at_the_beginning_of_utf_8_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "Essai.yaml").write_bytes(GOOD.encode("utf-8-sig"))
    assert read_rules(tmp_path).procedures[0].title == "Un essai"


def test_a_fact_may_be_named_by_a_word_that_yaml_takes_for_another(tmp_path: Path) -> None:
    (tmp_path / "Essai.yaml").write_text(GOOD.replace("  nature:", "  no:"))
    assert "no" in read_rules(tmp_path).procedures[0].facts


@pytest.mark.parametrize("name", ["Autre.yml", "Autre.YAML", "Autre.YML"])
def test_a_file_that_would_be_passed_over_is_a_fault(tmp_path: Path, name: str) -> None:
    assert told_of(tmp_path, GOOD, name) == [f"{name}: it is not read under this name; name it Autre.yaml"]


def test_a_folder_without_rules_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(RuleFileFaults, match="there is no rule file here"):
        read_rules(tmp_path)


def test_a_fault_far_inside_a_large_file_has_its_line(tmp_path: Path) -> None:
    rules = "".join(
        f"  - id: regle-{number}\n    recipient: mairie\n    everyone: true\n" for number in range(19_000)
    )
    text = f"{GOOD}{rules}    urgent: 1\n"
    assert 1_000_000 < len(text) < LARGEST_RULES
    (line,) = told_of(tmp_path, text)
    assert line.startswith(f"Essai.yaml, line {text.count(chr(10))}: rule regle-18999, urgent: ")


def test_a_file_of_rules_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    assert told_of(tmp_path, b"- a\n" * 1_300_000) == [f"Essai.yaml: larger than {LARGEST_RULES} bytes"]


def test_a_senseless_file_with_very_many_faults_is_refused_soon(tmp_path: Path) -> None:
    path = tmp_path / "partners.yaml"
    path.write_text("partners:\n" + "- a\n" * 150_000)
    with pytest.raises(RuleFileFaults) as caught:
        read_partners(path)
    assert str(caught.value.faults[1]) == f"{path}, line 3: partner 2: an object is expected"


def test_names_are_cut_and_give_no_orders(tmp_path: Path) -> None:
    (line,) = told_of(tmp_path, GOOD + f'    "\\e[31m{"k" * 2000}": 1\n')
    assert "\x1b" not in line
    assert len(line) < 250


def test_many_faults_are_cut_and_counted(tmp_path: Path) -> None:
    found = told_of(tmp_path, GOOD + "".join(f"    k{number}: 1\n" for number in range(80)))
    assert len(found) == 51
    assert found[-1] == "… and 30 more"


def test_a_partners_file_in_json_has_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "partners.json"
    path.write_text('{\n\t"partners": [\n\t\t{"subscriber": "x",\n\t\t "name": 12}\n\t]\n}\n')
    with pytest.raises(RuleFileFaults) as caught:
        read_partners(path)
    assert [fault.line for fault in caught.value.faults] == [3, 4]
    path.write_text('{"partners": [\n{"name": }]}')
    with pytest.raises(RuleFileFaults) as caught:
        read_partners(path)
    assert [str(fault) for fault in caught.value.faults] == [f"{path}, line 2: this is not well-formed JSON"]
