"""What commands say to an operator who begins, mistypes, or forgets: beside a hub that runs with the installed
rules, and before one does."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import routing_rules
from demo.hub import Hub
from tests.journeys.children import Told, is_a_sentence
from tests.journeys.children import hub as command
from tests.journeys.world import BONNEVILLE, MARIGNIER, MINISTRY, Stage, stage
from tests.services.test_territory_update import of_version

INSTALLED = Path(routing_rules.__file__).parent


@asynccontextmanager
async def newcomer() -> AsyncIterator[tuple[Stage, Hub]]:
    """A hub whose operator has declared nobody."""
    async with stage() as world:
        environment = {name: text for name, text in world.environment.items() if name != "HUB_PARTNERS"}
        alone = Stage(world.folder, environment, world.receiver)
        hub = await alone.start()
        yield alone, hub
        await hub.stop()


async def _told(world: Stage, *words: str, code: int = 0) -> Told:
    told = await command(world.environment, *words)
    assert told.code == code, told
    assert "Traceback" not in told.text
    return told


def _file(world: Stage, name: str, told: Any) -> str:
    path = world.folder / name
    path.write_text(told if isinstance(told, str) else json.dumps(told), "utf-8")
    return str(path)


async def test_a_newcomers_hub_with_the_installed_rules_answers_every_command_in_sentences() -> None:
    async with newcomer() as (world, _):
        checked = await _told(world, "rules", "check")
        assert f"it names {MINISTRY}, and there is no such partner" in checked.errors
        assert "waits in a mailbox" in checked.errors
        await _imports(world)
        await _states(world)
        await _lanes(world)
        await _questions(world)
        await _coverage(world)
        await _a_file_taken_away(world)


async def _imports(world: Stage) -> None:
    directory = _file(world, "annuaire.json", [{"nom": "CAF", "pivot": [{"type_service_local": "caf"}]}])
    mistyped = await _told(
        world, "partners", "import", directory, "--procedure", "EtatCivile", "--dry-run", code=2
    )
    assert "has no procedure EtatCivile; it has: CERTDC, EtatCivil" in mistyped.errors
    passed = await _told(world, "partners", "import", directory, "--dry-run", code=1)
    assert "passed over" in passed.errors
    assert "--procedure" in passed.errors
    versioned = _file(world, "v.json", {"version": 1, "partners": [{"subscriber": BONNEVILLE, "name": "B"}]})
    refused = await _told(world, "partners", "import", versioned, "--reason", "essai", code=1)
    assert "no other names than these two: partners, successions" in refused.errors


async def _states(world: Stage) -> None:
    wishes = [
        {"procedure": "EtatCivil", "place": "commune:74042"},
        {"procedure": "recensementCitoyen", "place": "commune:74042", "state": "refused"},
    ]
    partner = {"subscriber": BONNEVILLE, "name": "Bonneville", "subscriptions": wishes}
    await _told(
        world, "partners", "import", _file(world, "p.json", {"partners": [partner]}), "--reason", "essai"
    )
    for words, lines in (
        ("suspend", ("1 subscription is suspended now;", "left as they were: 1 refused")),
        ("suspend", ("nothing was changed", "1 was suspended already", "left as they were: 1 refused")),
        ("activate", ("1 subscription is active now;", "left as they were: 1 refused; to activate")),
        ("activate", ("nothing was changed", "1 was active already", "left as they were: 1 refused")),
    ):
        done = await _told(world, "partners", words, BONNEVILLE, "--reason", "un déménagement")
        assert len(done.out.splitlines()) == len(lines)
        assert all(line.startswith(start) for line, start in zip(done.out.splitlines(), lines, strict=True))
    listed = json.loads((await _told(world, "partners", "list", "--json")).out)
    assert [one["subscriptions"] for one in listed] == [{"active": 1, "refused": 1}]


async def _lanes(world: Stage) -> None:
    assert "no lane is closed, and none fails" in (await _told(world, "lanes")).out
    nowhere = await _told(world, "lanes", "open", BONNEVILLE, "sftp", "--reason", "essai", code=2)
    assert f"{BONNEVILLE} has no lane on sftp" in nowhere.errors
    maintenance = ("partners", "maintenance", BONNEVILLE)
    hours = ("--until", "2199-01-31T06:00", "--reason", "essai")
    assert "until 2199-01-31 06:00" in (await _told(world, *maintenance, *hours)).out
    over = await _told(world, *maintenance, "--until", "2020-01-31", "--reason", "essai", code=2)
    assert "/until" in over.errors
    assert "1 ended" in (await _told(world, *maintenance, "--end")).out


async def _questions(world: Stage) -> None:
    good: Mapping[str, Any] = {
        "procedure": "CERTDC",
        "facts": {"commune_deces": "74042"},
        "files": ["DD"],
        "received_at": "2026-05-01T12:00:00Z",
    }
    for changed, told in (
        ({"facts": {"commune_dece": "74042"}}, "facts, commune_dece: this procedure knows no such fact"),
        ({"facts": {}}, "facts, commune_deces: this procedure needs this fact"),
        ({"facts": {"commune_deces": 74042}}, "facts, commune_deces: a text is expected"),
        ({"files": ["ZZ"]}, "files, 0: one of: DD, VA"),
        ({"procedure": "CERTDCC"}, "there is no such one here; there are: CERTDC, "),
        ({"received_at": "9999-12-31T23:59:59Z"}, "received_at: the year must be between"),
        ({"received_at": "0001-01-01T00:00:00+14:00"}, "received_at: the year must be between"),
    ):
        refused = await _told(world, "rules", "explain", _file(world, "q.json", {**good, **changed}), code=2)
        assert told in refused.errors, refused
        assert is_a_sentence(refused)
    for text, told in (("", "line 1: this is not well-formed JSON"), ('{\n"a": }', "line 2: ")):
        assert told in (await _told(world, "rules", "explain", _file(world, "q.json", text), code=2)).errors
    marked = _file(world, "q.json", "\ufeff" + json.dumps(good))
    assert MINISTRY in (await _told(world, "rules", "explain", marked)).out


async def _coverage(world: Stage) -> None:
    told = await _told(world, "rules", "coverage")
    assert "hub rules coverage --procedure CODE" in told.out
    told = await _told(
        world, "rules", "coverage", *("--procedure", "EtatCivil") * 2, "--procedure", "recensementCitoyen"
    )
    assert told.out.count("74 Haute-Savoie") == 2
    assert "< 1 %" in told.out
    told = await _told(world, "rules", "coverage", "--procedure", "EtatCivile", code=2)
    assert "has no procedure EtatCivile; it has: CERTDC, " in told.errors


async def _a_file_taken_away(world: Stage) -> None:
    rules = world.folder / "rules"
    shutil.copytree(INSTALLED, rules)
    (rules / "EtatCivil.yaml").unlink()
    (rules / "EtatCivil.cases.yaml").unlink()
    told = await _told(world, "rules", "check", "--rules", str(rules), code=1)
    assert f"{rules / 'EtatCivil.yaml'} is not there: subscription EtatCivil/commune:74042/" in told.errors


# --- before a hub runs --------------------------------------------------------------------------------


def _declared(folder: Path, *partners: Mapping[str, Any], **more: Any) -> dict[str, str]:
    path = folder / "partners.json"
    records = ",\n".join(json.dumps({"name": "Une mairie", **partner}) for partner in partners)
    rest = "".join(f',\n"{name}": {json.dumps(told)}' for name, told in more.items())
    path.write_text(f'{{"partners": [\n{records}]{rest}}}')
    return {"HUB_FOLDER": str(folder / "hub"), "HUB_PARTNERS": str(path)}


SFTP = {
    "channel": "sftp",
    "settings": {"host": "h.example", "username": "u", "directory": "d", "host_key": "x"},
    "secrets": {"password": "x"},
}


@pytest.mark.parametrize(
    ("partners", "more", "line", "told"),
    [
        ([{"subscriber": "21740042390018-74042"}], {}, 2, "check sum"),
        ([{"subscriber": BONNEVILLE, **SFTP}, {"subscriber": MARIGNIER, **SFTP}], {}, 3, "in this folder"),
        ([{"subscriber": BONNEVILLE}, {"subscriber": BONNEVILLE}], {}, 3, "stands twice"),
        (
            [{"subscriber": BONNEVILLE}, {"subscriber": MARIGNIER}],
            {
                "successions": [
                    {"former": BONNEVILLE, "subscriber": MARIGNIER},
                    {"former": MARIGNIER, "subscriber": BONNEVILLE},
                ]
            },
            4,
            "succeed each other for ever",
        ),
        (
            [{"subscriber": BONNEVILLE, "subscriptions": [{"procedure": "Autre", "place": "commune:74042"}]}],
            {},
            2,
            "no such procedure",
        ),
        (
            [
                {
                    "subscriber": BONNEVILLE,
                    "subscriptions": [{"procedure": "CERTDC", "place": "commune:00000"}],
                }
            ],
            {},
            2,
            "no such place",
        ),
    ],
)
async def test_what_is_wrong_with_declared_partners_is_told_with_its_line_and_keeps_a_first_start_away(
    tmp_path: Path, partners: list[dict[str, Any]], more: dict[str, Any], line: int, told: str
) -> None:
    environment = _declared(tmp_path, *partners, **more)
    checked = await command(environment, "check")
    assert checked.code == 1
    lines = [one for one in checked.errors.splitlines() if told in one]
    assert any(one.startswith(f"{environment['HUB_PARTNERS']}, line {line}: ") for one in lines), checked


async def test_a_review_fault_is_told_with_file_and_line(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    shutil.copytree(INSTALLED, rules)
    path = rules / "CERTDC.yaml"
    path.write_text(path.read_text("utf-8") + "    when: {fact: commune_deces, equals: '74'}\n", "utf-8")
    told = await command({"HUB_RULES": str(rules), "HUB_FOLDER": str(tmp_path / "hub")}, "check")
    line = len(path.read_text("utf-8").splitlines())
    assert told.code == 1
    assert f"{path}, line {line}: CERTDC, rule mairie-du-deces: its condition names 74" in told.errors


async def test_a_territory_that_cannot_be_used_is_named_and_an_older_one_is_said_to_stay_unused(
    tmp_path: Path,
) -> None:
    rules = tmp_path / "rules"
    shutil.copytree(INSTALLED, rules)
    environment = {"HUB_RULES": str(rules), "HUB_FOLDER": str(tmp_path / "hub")}
    bad = tmp_path / "bad.tgz"
    bad.write_bytes(b"xx")
    told = await command(environment, "territory", "update", str(bad))
    assert (told.code, told.errors.startswith(f"{bad}: ")) == (2, True)
    older = tmp_path / "older.tgz"
    older.write_bytes(of_version("3.0.0", "2021"))
    told = await command(environment, "territory", "update", str(older))
    assert told.code == 0, told
    assert "hub rules apply uses the newest vintage, 2026" in told.out
    assert "--reason" not in told.out
