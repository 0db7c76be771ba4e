"""Rules, cases and partners as files: what stands there is in order, and what is not says where and which."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import routing_rules
from hub.adapters.rules.cases import failing_cases
from hub.adapters.rules.files import RuleFileFaults, read_partners, read_rules
from hub.adapters.rules.territory import load_territory
from hub.domain.errors import RuleBookError
from hub.domain.territory import Territory
from hub.wire import rule_book

INSTALLED = Path(routing_rules.__file__).parent
BONNEVILLE = "21740042390019-74042"
SECRET = "hunter2-MfKQ9r8GKYqrTwjU"

RULES = """\
procedure: Essai
title: Un essai
facts:
  commune: {type: place, required: true}
  nature: {type: word}
attachment_types: [formulaire]
rules:
  - id: mairie
    recipient: mairie
    competent: {place: commune, levels: [commune]}
"""
CASES = f"""\
subscriptions:
  - {{procedure: Essai, subscriber: "{BONNEVILLE}", place: "commune:74042"}}
cases:
  - says: the mairie of the commune gets the form
    facts: {{commune: "74042"}}
    files: [{{number: 1, type: formulaire}}]
    expect: [{{subscriber: "{BONNEVILLE}", attachments: [1]}}]
"""


@pytest.fixture(scope="module")
def territory() -> Territory:
    return load_territory(INSTALLED / "territory" / "2026.tsv.gz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Essai.yaml").write_text(RULES)
    (tmp_path / "Essai.cases.yaml").write_text(CASES)
    return tmp_path


def told_of(folder: Path) -> str:
    """What the refusal of a rules folder says."""
    with pytest.raises(RuleBookError) as caught:
        read_rules(folder)
    return str(caught.value)


def change(path: Path, old: str, new: str) -> str:
    """Change a file's text; what the refusal of its folder then says."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return told_of(path.parent)


def refusal_of_book(folder: Path, old: str, new: str, territory: Territory) -> str:
    """Rules that can be read, and do not stand: what is said of them."""
    path = folder / "Essai.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    procedures = read_rules(folder).procedures
    with pytest.raises(RuleBookError) as caught:
        rule_book(procedures, [], territory)
    return str(caught.value)


# --- rules and cases that stand -----------------------------------------------------------------------


def test_the_repositorys_own_rules_are_in_order_and_every_procedure_has_cases(territory: Territory) -> None:
    read = read_rules(INSTALLED)
    assert {procedure.procedure for procedure in read.procedures} == set(read.cases)
    assert len(read.procedures) >= 6
    assert failing_cases(read, territory) == []


def test_every_rule_of_the_repository_is_needed_by_a_case(tmp_path: Path, territory: Territory) -> None:
    read = read_rules(INSTALLED)
    for procedure in read.procedures:
        for left_out in procedure.rules:
            others = [rule for rule in procedure.rules if rule is not left_out] or [
                left_out.model_copy(update={"competent": None, "partner": "11001401600015-1"})
            ]
            poorer = procedure.model_copy(update={"rules": others})
            folder = replace(read, procedures=(poorer,))
            assert failing_cases(folder, territory), (
                f"{procedure.procedure}: {left_out.id} is never looked at"
            )


@pytest.mark.parametrize(
    ("old", "new", "got"),
    [
        ("attachments: [1]", "attachments: []", f"{BONNEVILLE} (files [1])"),
        ('facts: {commune: "74042"}', 'facts: {commune: "74164"}', "nobody"),
        (f'expect: [{{subscriber: "{BONNEVILLE}", attachments: [1]}}]', "expect: unroutable", BONNEVILLE),
    ],
)
def test_a_case_that_does_not_hold_is_named_with_what_it_got(
    folder: Path, territory: Territory, old: str, new: str, got: str
) -> None:
    path = folder / "Essai.cases.yaml"
    assert failing_cases(read_rules(folder), territory) == []
    path.write_text(CASES.replace(old, new))
    (fault,) = failing_cases(read_rules(folder), territory)
    assert (fault.file, fault.line) == (path, 4)
    assert fault.sentence.startswith("Essai: “the mairie of the commune gets the form” does not hold")
    assert fault.sentence.partition("it got: ")[2].startswith(got)


def test_a_procedure_without_cases_is_named(folder: Path, territory: Territory) -> None:
    (folder / "Essai.cases.yaml").unlink()
    (fault,) = failing_cases(read_rules(folder), territory)
    assert (fault.file, fault.sentence) == (
        folder / "Essai.yaml",
        "Essai: it has no cases; write Essai.cases.yaml",
    )


def test_cases_without_a_rule_file_are_named(folder: Path) -> None:
    (folder / "Essai.yaml").unlink()
    assert "Essai.cases.yaml: there is no rule file beside it" in told_of(folder)


def test_a_case_world_that_does_not_stand_names_its_file(folder: Path, territory: Territory) -> None:
    (folder / "Essai.cases.yaml").write_text(CASES.replace("commune:74042", "commune:99999"))
    with pytest.raises(RuleFileFaults) as caught:
        failing_cases(read_rules(folder), territory)
    (fault,) = caught.value.faults
    assert (fault.file, fault.line) == (folder / "Essai.cases.yaml", 2)
    assert "no such place" in fault.sentence


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert told_of(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: there is no such folder"


# --- files that cannot be read ------------------------------------------------------------------------


def test_an_alias_is_refused_with_its_line(folder: Path) -> None:
    path = folder / "Essai.yaml"
    path.write_text(
        RULES + "    attachments: *types\n",
    )
    assert told_of(folder).startswith(f"{path}, line 11: &, * and ! are not read here: write it out")


def test_a_small_file_of_aliases_does_not_grow(folder: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for one, next in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{next}: &{next} [{', '.join([f'*{one}'] * 9)}]")
    (folder / "Essai.yaml").write_text("\n".join(lines))
    assert "line 1: &, * and ! are not read here" in told_of(folder)


def test_a_key_that_stands_twice_is_refused_with_the_line_of_the_second(folder: Path) -> None:
    told = change(folder / "Essai.yaml", "attachment_types:", "title: Un autre\nattachment_types:")
    assert told == f"{folder / 'Essai.yaml'}, line 6: title stands twice"


def test_a_key_that_stands_twice_far_inside_is_refused(folder: Path) -> None:
    told = change(folder / "Essai.yaml", "{type: word}", "{type: word, type: place}")
    assert told == f"{folder / 'Essai.yaml'}, line 5: type stands twice"


def test_an_unknown_key_is_refused_with_its_place(folder: Path) -> None:
    told = change(folder / "Essai.yaml", "recipient: mairie", "recipient: mairie\n    urgent: true")
    assert told.startswith(f"{folder / 'Essai.yaml'}, line 10: rule mairie, urgent: there is no such name")


def test_a_file_that_is_not_named_after_its_procedure_is_refused(folder: Path) -> None:
    (folder / "Essai.yaml").rename(folder / "Autre.yaml")
    assert told_of(folder).splitlines() == [
        f"{folder / 'Autre.yaml'}, line 1: it describes Essai; name the file after it",
        f"{folder / 'Essai.cases.yaml'}: there is no rule file beside it",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "line", "field"),
    [
        ("Essai.yaml", "title: Un essai", "title: 12", 2, "title"),
        ("Essai.yaml", "title: Un essai", "title:", 2, "title"),
        ("Essai.yaml", "required: true", "required: 1", 4, "fact commune, required"),
        ("Essai.yaml", "[formulaire]", "formulaire", 6, "attachment_types"),
        ("Essai.cases.yaml", '{commune: "74042"}', "{commune: [74042]}", 5, "case 1, fact commune"),
        ("Essai.cases.yaml", "number: 1", 'number: "1"', 6, "case 1, files 1, number"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_file_line_and_field(
    folder: Path, file: str, old: str, new: str, line: int, field: str
) -> None:
    told = change(folder / file, old, new)
    assert told.startswith(f"{folder / file}, line {line}: {field}"), told
    assert "2026" not in told.removeprefix(str(folder))


@pytest.mark.parametrize(
    "text",
    [
        "title: 2026-13-45",
        "title: 2026-02-30T25:61:61",
        "[" * 50_000,
        "- " * 50_000,
        "{a: " * 5_000,
        "title: \x00",
        "title: !!python/object/apply:os.system [true]",
        "title: !!bool hunter2",
        "title: !!timestamp hunter2",
        "title: !!int ''",
        "title: !!binary hunter2",
        "",
        "null",
        "- 1",
        "a: b: c",
        "a\n  b: c",
        "--- 1\n--- 2",
        "? [a, b]\n: 1",
        "? {a: b}\n: 1",
        "<<: 5",
        "%YAML 9.9\n---\na: 1",
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_the_file(folder: Path, text: str) -> None:
    path = folder / "Essai.yaml"
    path.write_text(text)
    told = told_of(folder)
    assert told.startswith(str(path))
    assert "hunter2" not in told


@pytest.mark.parametrize("content", [b"title: \xff\xfe\xe9", "title: été".encode("latin-1"), b"\xff\xfea"])
def test_a_file_that_is_not_utf_8_is_refused_with_its_name(folder: Path, content: bytes) -> None:
    (folder / "Essai.yaml").write_bytes(content)
    assert told_of(folder) == f"{folder / 'Essai.yaml'}, line 1: not UTF-8; save it as UTF-8"


def test_a_file_that_nobody_may_read_is_refused_with_its_name(folder: Path) -> None:
    path = folder / "Essai.yaml"
    path.unlink()
    path.mkdir()
    assert told_of(folder) == f"{path}: it cannot be read (Is a directory)"


# --- rules that can be read and do not stand ----------------------------------------------------------


def test_two_rules_of_one_id_are_refused(folder: Path) -> None:
    second = "  - id: mairie\n    recipient: autre\n    competent: {place: commune, levels: [epci]}\n"
    told = change(folder / "Essai.yaml", "rules:\n", f"rules:\n{second}")
    assert told == (
        f"{folder / 'Essai.yaml'}, line 11: Essai: two rules are named mairie; the first is at line 8"
    )


def test_a_rule_for_both_the_competent_and_a_partner_is_refused(folder: Path) -> None:
    path = folder / "Essai.yaml"
    path.write_text(RULES.replace("recipient: mairie", f'recipient: mairie\n    partner: "{BONNEVILLE}"'))
    assert told_of(folder).startswith(f"{path}, line 8: rule mairie: exactly one of")


def test_a_rule_for_nobody_is_refused(folder: Path) -> None:
    path = folder / "Essai.yaml"
    path.write_text(RULES.replace("    competent: {place: commune, levels: [commune]}\n", ""))
    assert told_of(folder).startswith(f"{path}, line 8: rule mairie: exactly one of")


def test_a_partner_whose_siret_fails_its_sum_is_refused(folder: Path, territory: Territory) -> None:
    told = refusal_of_book(
        folder,
        "competent: {place: commune, levels: [commune]}",
        'partner: "21740042390018-74042"',
        territory,
    )
    assert told == (
        "Essai, rule mairie: the check sum of its partner's SIRET is wrong; look for a mistyped digit"
    )


@pytest.mark.parametrize("fact", ["commune_inconnue", "nature"])
def test_a_place_that_is_no_place_fact_of_the_procedure_is_refused(
    folder: Path, territory: Territory, fact: str
) -> None:
    told = refusal_of_book(folder, "place: commune,", f"place: {fact},", territory)
    assert told == f"Essai, rule mairie: {fact} is no fact of this procedure that names a place"


def test_an_attachment_type_the_procedure_does_not_have_is_refused(
    folder: Path, territory: Territory
) -> None:
    told = refusal_of_book(
        folder, "recipient: mairie", "recipient: mairie\n    attachments: [facture]", territory
    )
    assert told == "Essai, rule mairie: facture is no type of attachment of this procedure"


def test_two_files_that_differ_by_case_only_describe_two_procedures(folder: Path) -> None:
    shutil.copy(folder / "Essai.yaml", folder / "essai.yaml")
    assert "it describes Essai; name the file after it" in told_of(folder)


# --- partners -----------------------------------------------------------------------------------------


def partners_with(**changed: Any) -> dict[str, Any]:
    partner = {
        "subscriber": BONNEVILLE,
        "name": "Bonneville",
        "channel": "webhook",
        "settings": {"url": "https://partner.example/hook"},
        "secrets": {"secret": SECRET},
        "subscriptions": [{"procedure": "Essai", "place": "commune:74042"}],
    }
    return {"partners": [{**partner, **changed}]}


def partners_refusal(path: Path) -> str:
    with pytest.raises(RuleBookError) as caught:
        read_partners(path)
    # An exception's chain is printed too, by whoever does not catch it.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize("name", ["partners.json", "partners.yaml"])
def test_a_partners_file_may_be_json_or_yaml(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(partners_with()))
    (partner,) = read_partners(path)[0].partners
    assert (partner.subscriber, partner.secrets) == (BONNEVILLE, {"secret": SECRET})
    assert SECRET not in repr(partner)


@pytest.mark.parametrize("name", ["partners.json", "partners.yaml"])
@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"secrets": SECRET}, "partner 1, secrets"),
        ({"secrets": [SECRET]}, "partner 1, secrets"),
        ({"secrets": {"secret": [SECRET]}}, "partner 1, secrets"),
        ({"secrets": {"secret": {"is": SECRET}}}, "partner 1, secrets"),
        ({"secrets": {"secret": 72057594037}}, "partner 1, secrets"),
        ({"password": SECRET}, "partner 1, password"),
        ({"subscriber": SECRET}, "partner 1, subscriber"),
        ({"channel": f"WebHook-{SECRET}"}, "partner 1, channel"),
        ({"subscriptions": [SECRET]}, "partner 1, subscription 1"),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_without_being_shown(
    tmp_path: Path, name: str, changed: dict[str, Any], field: str
) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(partners_with(**changed)))
    told = partners_refusal(path)
    assert told.startswith(f"{path}, line 1: {field}: "), told
    assert "hunter2" not in told
    assert "72057594037" not in told


@pytest.mark.parametrize(
    "written",
    [
        "!hunter2",
        "!!hunter2",
        "!hunter2!word",
        "*hunter2",
        "&hunter2",
        "&a hunter2\n    other: &a hunter2",
        "@hunter2",
        "`hunter2",
        "%hunter2",
        "|hunter2",
        '"hunter2\\q"',
        '"hunter2',
        "'hunter2",
        "hunter2: hunter2",
        "[hunter2",
        "]hunter2",
        "{hunter2",
        "!!bool hunter2",
        "!!timestamp hunter2",
        "!!float hunter2",
        "!<hunter2> x",
        "hunter2\n  - hunter2",
        "hunter2\n\thunter2: x",
        "2026-13-45T00:00:00hunter2\x07",
    ],
)
def test_a_secret_that_yaml_reads_otherwise_is_refused_without_being_shown(
    tmp_path: Path, written: str
) -> None:
    path = tmp_path / "partners.yaml"
    path.write_text(
        f'partners:\n- subscriber: "{BONNEVILLE}"\n  name: B\n  secrets:\n    secret: {written}\n'
    )
    told = partners_refusal(path)
    assert told.startswith(str(path))
    assert "hunter2" not in told


def test_json_that_is_none_is_refused_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "partners.json"
    for content in (
        b"",
        b"{",
        b"[1]",
        b"{'partners': []}",
        b'{"partners": "\xff"}',
        b"[" * 100_000,
        b'{"partners": [], "partners": []}',
        b'{"partners": [{"settings": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}]}",
    ):
        path.write_bytes(content)
        assert re.match(rf"{re.escape(str(path))}(, line 1)?: [a-z]", partners_refusal(path)), content[:40]


def test_a_partners_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "partners.yaml"
    with path.open("wb") as file:
        file.truncate(20_000_001)
    assert partners_refusal(path) == f"{path}: larger than 20000000 bytes"
