"""Files of partners in every form: what they list, and what is told of a line that is wrong, never its values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hub.adapters.partners.files import read_partners_file
from hub.domain.errors import RuleBookError
from hub.domain.partner import made_up_siret
from hub.domain.rules import ALWAYS, SubscriptionState
from hub.services.import_plans import ImportPlan, plan_import
from hub.services.listings import Listing
from hub.wire import rule_book
from tests.services.onboarding_world import (
    BONNEVILLE,
    CHECKS,
    LAND,
    MARIGNIER,
    PROCEDURES,
    SECRET,
    listed,
    record,
    sftp,
    webhook,
)

BOOK = rule_book(PROCEDURES, (), LAND)
HEADER = "siret;guichet;nom;canal;demarche;lieu;etat;date_debut;date_fin;parametres"
FONTAINE = "21770188700010"


def reading(
    folder: Path, told: str | bytes | Mapping[str, Any] | list[Any], name: str = "", **more: Any
) -> Listing:
    path = folder / (name or ("file.csv" if isinstance(told, str | bytes) else "file.json"))
    if not isinstance(told, str | bytes):
        told = json.dumps(told)
    path.write_bytes(told.encode() if isinstance(told, str) else told)
    return read_partners_file(path, **more)


def planned(listing: Listing) -> ImportPlan:
    """Among nobody, by the connectors' own checks."""
    return plan_import(listing, 1, BOOK, {}, lambda kept: kept[0], CHECKS)


def refused(folder: Path, *lines: str, header: str = HEADER) -> list[str]:
    """What is told of the lines of a table, read and planned. Nothing else of it may go in."""
    plan = planned(reading(folder, "\n".join([header, *lines]) + "\n"))
    assert not plan.partners.all
    assert not plan.subscriptions.all
    told = [str(remark) for remark in plan.refused]
    assert not any("hunter2" in sentence for sentence in told)
    return told


def whole_refusal(folder: Path, told: Any, name: str = "", **more: Any) -> str:
    with pytest.raises(RuleBookError) as caught:
        reading(folder, told, name, **more)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "hunter2" not in str(caught.value)
    return str(caught.value).removeprefix(str(folder) + "/")


# --- our own table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [";", ","])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_is_read_whatever_its_sign_and_its_first_bytes(tmp_path: Path, sign: str, mark: str) -> None:
    lines = [
        HEADER.replace("demarche", "Démarche").replace("etat", " ÉTAT "),
        f'{BONNEVILLE.siret};74042;"Mairie de Bonneville";mailbox;EtatCivil;74042;Refusé;2026-01-01;31/12/2026;',
        "217 400 423 90019;74042;;;RCO;epci:200000172;;;aucune;",
    ]
    text = mark + "\r\n".join(lines).replace(";", sign)
    first, second = reading(tmp_path, text).partners
    assert first.subscriber == second.subscriber == BONNEVILLE
    assert (first.where, second.where) == ("line 2", "line 3")
    assert (first.name, first.channel) == ("Mairie de Bonneville", "mailbox")
    assert (second.name, second.channel) == (None, None)
    (one,), (other,) = first.subscriptions, second.subscriptions
    assert (str(one.place), one.state) == ("commune:74042", SubscriptionState.REFUSED)
    assert one.since is not None
    assert one.until is not None
    assert (one.since.isoformat(), one.until.isoformat()) == (
        "2025-12-31T23:00:00+00:00",
        "2026-12-31T23:00:00+00:00",
    )
    assert (other.state, other.since, other.until) == (None, None, ALWAYS.until)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        *(
            (["Inactif", "ACTIF", "suspendu", "Refusé"][place], state)
            for place, state in enumerate(SubscriptionState)
        ),
        *((state.value, state) for state in SubscriptionState),
        ("refuse", SubscriptionState.REFUSED),
        ("Suspendue", SubscriptionState.SUSPENDED),
    ],
)
def test_a_state_is_known_by_its_french_and_english_words(
    tmp_path: Path, word: str, state: SubscriptionState
) -> None:
    line = f"{BONNEVILLE};M;;EtatCivil;74042;{word};;;".replace("-", ";", 1)
    (partner,) = reading(tmp_path, f"{HEADER}\n{line}\n").partners
    assert partner.subscriptions[0].state is state


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("21740042390018;74042;M;;;;;;;", "siret: the check sum of this SIRET is wrong"),
        ("2,17E+13;74042;M;;;;;;;", "siret: 14 digits"),
        (";74042;M;;;;;;;", "siret: 14 digits"),
        ("21740042390019;;M;;;;;;;", "siret: 14 digits"),
        (
            "21740042390019;74042;M;pigeon;;;;;;",
            "canal: there is no such channel here; one of: mail, mailbox",
        ),
        ("21740042390019;74042;;;;;;;;", "nom: a new partner needs a name"),
        ("21740042390019;74042;M;;Inconnue;74042;;;;", "demarche: the rule book has no such procedure"),
        ("21740042390019;74042;M;;hunter2 x;74042;;;;", "demarche: "),
        ("21740042390019;74042;M;;RCO;74999;;;;", "lieu: there is no such place"),
        ("21740042390019;74042;M;;RCO;epci:200000173;;;;", "lieu: there is no such place"),
        ("21740042390019;74042;M;;RCO;planete:terre;;;;", "lieu: a place is its type and its code"),
        ("21740042390019;74042;M;;RCO;hunter2 !;;;;", "lieu: a place is a code, or its type"),
        ("21740042390019;74042;M;;RCO;;;;;", "demarche: a subscription needs both"),
        ("21740042390019;74042;M;;;;Actif;;;", "etat: a subscription needs both"),
        ("21740042390019;74042;M;;RCO;74042;hunter2;;;", "etat: one of: Inactif, Actif, Suspendu, Refusé"),
        ("21740042390019;74042;M;;RCO;74042;;2026-13-01;;", "date_debut: there is no such day"),
        ("21740042390019;74042;M;;RCO;74042;;;hunter2;", "date_fin: a date is written"),
        ("21740042390019;74042;M;;RCO;74042;;2026-02-01;2026-01-31;", "date_fin: it ends before it begins"),
        ("21740042390019;74042;M;sftp;;;;;;hunter2", "parametres: this is not well-formed JSON"),
        ('21740042390019;74042;M;sftp;;;;;;"[""hunter2""]"', "parametres: an object in JSON is expected"),
        ('21740042390019;74042;M;sftp;;;;;;"{""secrets"": [""hunter2""]}"', "parametres: secrets are texts"),
        ('21740042390019;74042;M;sftp;;;;;;"{""a"": 1, ""a"": 2}"', "parametres: this is not well-formed"),
        ('21740042390019;74042;M;sftp;;;;;;"{""a"": ""\\u0000""}"', "parametres: these settings have signs"),
        ('21740042390019;74042;M;webhook;;;;;;"{""url"": ""ftp://x""}"', "parametres: "),
        ("21740042390019;74042;M", "it has 3 cells, and there are 10 columns"),
    ],
)
def test_a_line_that_is_wrong_is_told_by_its_place_its_field_and_a_sentence(
    tmp_path: Path, line: str, told: str
) -> None:
    found = refused(tmp_path, line)
    assert found[0].startswith("line 2"), found
    assert told in found[0], found


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ("\x07;", "editeur: "),
        (f"{'e' * 61};", "editeur: "),
        (";hunter2 psl", "emetteur: "),
        (";psl", "emetteur: a sender's events are sent by the webhook channel alone"),
    ],
    ids=["signs", "long", "no-code", "mailbox"],
)
def test_a_vendor_or_a_sender_that_cannot_be_is_told_by_its_column(
    tmp_path: Path, cells: str, told: str
) -> None:
    line = f"{BONNEVILLE.siret};74042;M;;;;;;;;{cells}"
    [found] = refused(tmp_path, line, header=f"{HEADER};Éditeur;émetteur")
    assert told in found, found


def test_the_good_lines_of_a_file_go_in(tmp_path: Path) -> None:
    lines = [
        f"{BONNEVILLE.siret};74042;Bonneville;;EtatCivil;74042;;;;",
        "21740042390018;74042;Faux;;EtatCivil;74042;;;;",
        f"{BONNEVILLE.siret};74042;;;Inconnue;74042;;;;",
        f"{MARIGNIER.siret};74164;Marignier;;EtatCivil;74164;;;;",
    ]
    plan = planned(reading(tmp_path, "\n".join([HEADER, *lines])))
    assert [remark.where for remark in plan.refused] == ["line 3", "line 4"]
    assert len(plan.partners.added) == len(plan.subscriptions.added) == 2


def test_lines_that_contradict_each_other_are_all_refused_and_those_that_agree_are_one(
    tmp_path: Path,
) -> None:
    found = refused(tmp_path, *(f"{BONNEVILLE.siret};74042;{name};;;;;;;" for name in ("A", "B")))
    assert found == [f"line {line}, nom: the lines of this partner contradict each other" for line in (2, 3)]
    wish = f"{BONNEVILLE.siret};74042;A;;RCO;74042;"
    plan = planned(reading(tmp_path, "\n".join([HEADER, wish + "Actif;;;", wish + "Refusé;;;"])))
    assert [remark.field for remark in plan.refused] == ["etat", "etat"]
    assert (len(plan.partners.added), len(plan.subscriptions.added)) == (1, 0)
    plan = planned(reading(tmp_path, "\n".join([HEADER, wish + "Actif;;;", wish + ";2026-01-01;;"])))
    assert plan.refused == ()
    (one,) = plan.subscriptions.added
    assert one.period.since != ALWAYS.since


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ("74092", "commune:74042"),
        ("commune:74092", "commune:74042"),
        ("75108", "arrondissement:75108"),
        ("commune:75108", "arrondissement:75108"),
        ("99109", "abroad:99109"),
    ],
)
def test_a_code_that_means_another_place_today_is_mapped_and_noted(
    tmp_path: Path, told: str, place: str
) -> None:
    line = f"{BONNEVILLE.siret};74042;M;;EtatCivil;{told};;;;"
    plan = planned(reading(tmp_path, f"{HEADER}\n{line}\n"))
    (one,) = plan.subscriptions.added
    assert str(one.place) == place
    assert [note.sentence.endswith(f"is {place} today") for note in plan.notes] == (
        [] if told == "99109" else [True]
    )


def test_a_formula_in_a_cell_is_text(tmp_path: Path) -> None:
    lines = [f"{BONNEVILLE.siret};74042;=1+1;;;;;;;", f"{MARIGNIER.siret};74164;'=2+2;;;;;;;"]
    first, second = reading(tmp_path, "\n".join([HEADER, *lines])).partners
    assert (first.name, second.name) == ("=1+1", "=2+2")


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("", "does not begin with a line that names the columns"),
        (HEADER, "nothing is listed"),
        ("hunter2;guichet\n", "column 1 is none of siret, guichet"),
        ("siret;nom\n", "there is no column guichet"),
        ("siret;guichet;SIRET\n", "a column stands twice"),
        (f"{HEADER}\r1;2;hunter2;;;;;;;\r", "its lines end as they did on old machines"),
        (f"{HEADER};{'x' * 200_000}\n1;2\n", "line 1: a cell is far too long"),
        (f'{HEADER}\n1;2;"hunter2;;;;;;;\n1;2;3;;;;;;;\n', "line 2: a quotation mark is not closed"),
        (f"{HEADER}\n1;2;{'x' * 200_000};;;;;;;\n", "line 2: "),
        (
            f"{HEADER}\n1;2;hunter2 é;;;;;;;\n".encode("latin-1"),
            "line 2: this is not UTF-8, but perhaps ISO-8859-1",
        ),
        (f"{HEADER}\n".encode("utf-16"), "line 1: this is not UTF-8"),
        (b"\x00\xff\x00hunter2", "this is not UTF-8"),
        ('{"partners": [', "line 1: "),
        ('{"partners": [],\n "hunter2": []}', "line 2: lists are expected here"),
        ('{"partners": {}}', "partners must be a list"),
        ('{"partners": [1 2]}', "a list goes on with a comma"),
        ('{"partners": [\n{"a": 1, "a": 2}]}', "line 2: in what begins here, a name stands twice"),
        ('{"partners": []} hunter2', "does not end as it should"),
        ('{"partners": [NaN]}', "a number that is none"),
        ('{"partners": ' + "[" * 100_000, "nested too deep"),
        ('{\n "hunter2": 1\n}\n', "neither a partners file, nor a directory"),
        ("[1] hunter2", "something follows the list"),
    ],
)
def test_a_file_that_is_damaged_is_refused_whole_with_its_line(tmp_path: Path, told: Any, why: str) -> None:
    assert why in whole_refusal(tmp_path, told)


def test_a_file_that_is_too_large_or_not_there_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(RuleBookError, match="there is no such file"):
        read_partners_file(path)
    with path.open("wb") as file:
        file.truncate(100_000_001)
    with pytest.raises(RuleBookError, match="larger than 100000000 bytes"):
        read_partners_file(path)


# --- the hub's own file -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file.json", "file.yaml"])
def test_records_of_the_hubs_own_file_are_refused_one_by_one(tmp_path: Path, name: str) -> None:
    bad: list[Any] = [
        {**record(), "password\x1b[2J": SECRET},
        record(secrets=SECRET),
        SECRET,
        {**record(), "subscriber": "21740042390018-74042"},
        record(BONNEVILLE, {"procedure": "RCO", "place": "commune:74042", "state": SECRET}, "commune:74042"),
    ]
    file = listed(
        *bad,
        record(MARIGNIER, "commune:74164", **sftp()),
        successions=[{"former": str(BONNEVILLE), "subscriber": str(MARIGNIER)}, SECRET],
    )
    plan = planned(reading(tmp_path, json.dumps(file), name))
    told = [str(remark) for remark in plan.refused]
    assert [sentence.partition(":")[0] for sentence in told] == [
        "partner 1, …",
        "partner 2, secrets",
        "partner 3",
        "partner 4, subscriber",
        "partner 5, subscription 1, state",
        "succession 2",
    ]
    assert not any("hunter2" in sentence for sentence in told)
    assert len(plan.partners.added) == len(plan.subscriptions.added) == 2
    assert len(plan.successions.added) == 1
    assert SECRET not in repr(plan)


def test_a_yaml_file_may_write_days_bare_and_states_in_french(tmp_path: Path) -> None:
    text = f"""\
partners:
  - subscriber: "{BONNEVILLE}"
    name: Bonneville
    subscriptions:
      - {{procedure: RCO, place: "commune:74042", state: Suspendu, since: 2026-01-01, until: "2026-12-31"}}
"""
    (one,) = planned(reading(tmp_path, text, "file.yaml")).subscriptions.added
    assert one.state is SubscriptionState.SUSPENDED
    assert one.period.until.isoformat() == "2026-12-31T23:00:00+00:00"


def test_a_succession_to_nobody_to_itself_or_to_two_is_refused(tmp_path: Path) -> None:
    other = f"{made_up_siret('217400423', 5)}-74042"
    file = listed(
        record(BONNEVILLE),
        record(MARIGNIER),
        successions=[
            {"former": str(BONNEVILLE), "subscriber": other},
            {"former": str(MARIGNIER), "subscriber": str(MARIGNIER)},
            {"former": other, "subscriber": str(MARIGNIER)},
            {"former": other, "subscriber": str(BONNEVILLE)},
        ],
    )
    plan = planned(reading(tmp_path, file))
    assert [remark.where for remark in plan.refused] == ["succession 1", "succession 2", "succession 4"]
    assert not plan.successions.all


def test_settings_the_connector_refuses_are_told_in_its_words(tmp_path: Path) -> None:
    plan = planned(
        reading(tmp_path, listed(record(BONNEVILLE, "commune:74042", **webhook(url="ftp://hunter2"))))
    )
    assert plan.refused
    assert all(remark.field == "settings" and "hunter2" not in remark.sentence for remark in plan.refused)
    assert not plan.partners.all
    assert not plan.subscriptions.all


def test_the_example_in_the_documentation_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "partners.md").read_text("utf-8")
    listing = reading(tmp_path, page.partition("```yaml\n")[2].partition("```")[0], "file.yaml")
    assert listing.refused == ()
    assert (len(listing.partners), len(listing.successions)) == (5, 1)


# --- the directory ------------------------------------------------------------------------------------


def entry(siret: str = FONTAINE, key: str = "mairie-77188-01", *communes: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "00007e4d-264c-43a0-b0b7-7f3b7dd995ab",
        "nom": "Mairie - Fontaine-le-Port",
        "siret": siret,
        "ancien_code_pivot": key,
        "pivot": [{"type_service_local": "mairie", "code_insee_commune": list(communes or ("77188",))}],
        "code_insee_commune": "77188",
        "adresse_courriel": ["mairie-xxxxx@yyyy.fr"],
        **more,
    }


@pytest.mark.parametrize("form", ["list", "service", "lines", "csv", "csv,"])
def test_the_directory_is_read_in_each_of_its_forms(tmp_path: Path, form: str) -> None:
    entries = [entry(), entry("21740042390019", "mairie-74042-01", "74042", "74164")]
    told: Any = entries
    if form == "service":
        told = {"service": entries}
    elif form == "lines":
        told = "\n".join(map(json.dumps, entries)) + "\n"
    elif form.startswith("csv"):
        sign = "," if form.endswith(",") else ";"
        lines = [sign.join(("id", "nom", "siret", "pivot", "ancien_code_pivot", "telephone"))]
        for one in entries:
            pivot = json.dumps(one["pivot"]).replace('"', '""')
            lines.append(
                sign.join(("x", one["nom"], one["siret"], f'"{pivot}"', one["ancien_code_pivot"], "01"))
            )
        told = "\n".join(lines)
    listing = reading(tmp_path, told, procedures=["EtatCivil", "RCO"])
    assert listing.refused == ()
    plan = planned(listing)
    assert [str(step.partner.subscriber) for step in plan.partners.added] == [
        f"{FONTAINE}-77188",
        "21740042390019-74042",
    ]
    assert {step.partner.endpoint.channel for step in plan.partners.added} == {"mailbox"}
    assert "@" not in repr(plan)
    assert [f"{one.procedure} {one.place}" for one in plan.subscriptions.added] == [
        "EtatCivil commune:77188",
        "RCO commune:77188",
        "EtatCivil commune:74042",
        "EtatCivil commune:74164",
        "RCO commune:74042",
        "RCO commune:74164",
    ]
    assert {one.state for one in plan.subscriptions.added} == {SubscriptionState.INACTIVE}


def test_an_operator_may_say_the_state_of_what_the_directory_lists(tmp_path: Path) -> None:
    active = SubscriptionState.ACTIVE
    plan = planned(reading(tmp_path, [entry()], procedures=["RCO"], state=active))
    assert plan.subscriptions.added[0].state is active
    assert planned(reading(tmp_path, [entry()])).subscriptions.added == ()


def test_counters_of_one_commune_have_each_their_own_branch_whatever_the_order(tmp_path: Path) -> None:
    entries = [entry(key=f"mairie-77188-{number}") for number in ("02", "01", "10")]
    expected = {f"{FONTAINE}-{branch}" for branch in ("77188", "7718802", "7718810")}
    for told in (entries, entries[::-1]):
        found = {str(one.subscriber) for one in reading(tmp_path, told).partners}
        assert found == expected


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"siret": ""}, "siret"),
        ({"siret": "21770188700011"}, "siret"),
        ({"siret": 21770188700010}, "siret"),
        ({"siret": None}, "siret"),
        ({"nom": ""}, "nom"),
        ({"nom": ["x"]}, "nom"),
        ({"nom": "x" * 201}, "nom"),
        ({"pivot": "hunter2"}, "pivot"),
        ({"pivot": [["mairie"]]}, "pivot"),
        ({"pivot": [{"type_service_local": "mairie", "code_insee_commune": ["hunter2"]}]}, "pivot"),
        ({"pivot": [{"type_service_local": "mairie", "code_insee_commune": [1]}]}, "pivot"),
        ({"pivot": [{"type_service_local": "mairie", "code_insee_commune": []}]}, "pivot"),
        ({"pivot": 7}, "pivot"),
    ],
)
def test_an_entry_that_is_wrong_spares_the_others(tmp_path: Path, wrong: dict[str, Any], field: str) -> None:
    listing = reading(tmp_path, [{**entry(), **wrong}, entry()], procedures=["RCO"])
    assert [(remark.where, remark.field) for remark in listing.refused] == [("entry 1", field)]
    assert "hunter2" not in str(listing.refused[0])
    assert [one.where for one in listing.partners] == ["entry 2"]


def test_a_broken_line_of_a_directory_spares_the_others(tmp_path: Path) -> None:
    text = "\n".join([json.dumps(entry()), "{hunter2", "", "[1]", json.dumps(entry())])
    listing = reading(tmp_path, text)
    assert [remark.where for remark in listing.refused] == ["line 2", "line 4"]
    assert len(listing.partners) == 2


def test_services_of_other_kinds_are_passed_over_and_counted(tmp_path: Path) -> None:
    caf = entry(key="caf-77188-01", pivot=[{"type_service_local": "caf", "code_insee_commune": ["77188"]}])
    listing = reading(tmp_path, [caf, entry(), caf], procedures=["RCO"])
    assert len(listing.partners) == 1
    assert [note.sentence.startswith("2 entries are of other kinds") for note in listing.notes] == [True]
    assert len(reading(tmp_path, [caf, entry()], kinds=("caf",)).partners) == 1


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"version": 1, "partners": [record()]}, "has no other names than these two: partners, successions"),
        ({"service": [{"partners": [record()]}]}, "has no other names than these two"),
        ([record()], "it is no entry of the directory"),
        ([{"nom": "sans rien"}], "it is no entry of the directory"),
    ],
)
def test_what_is_neither_a_partners_file_nor_a_directory_is_not_passed_over(
    tmp_path: Path, told: Any, why: str
) -> None:
    listing = reading(tmp_path, told)
    assert [why in remark.sentence for remark in listing.refused] == [True]
    assert not listing.partners
    assert not any("other kinds" in note.sentence for note in listing.notes)


def test_a_directory_without_a_procedure_says_that_nobody_is_subscribed(tmp_path: Path) -> None:
    (note,) = reading(tmp_path, [entry()]).notes
    assert "--procedure" in note.sentence
    assert reading(tmp_path, [entry()], procedures=["RCO"]).notes == ()
    assert reading(tmp_path, listed(record())).notes == ()


def test_procedures_are_for_a_directory_alone(tmp_path: Path) -> None:
    assert "procedures are for a directory" in whole_refusal(tmp_path, listed(record()), procedures=["RCO"])


def test_the_published_example_of_the_directory_is_read(tmp_path: Path) -> None:
    # An entry as it is published, with an address changed: one object, alone in its file.
    listing = reading(tmp_path, json.dumps(entry()), procedures=["EtatCivil"])
    (one,) = listing.partners
    assert (one.where, str(one.subscriber)) == ("line 1", f"{FONTAINE}-77188")
