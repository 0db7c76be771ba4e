"""The rule book in an operator's hands: looked at, changed, taken back and asked, beside a running hub."""

from __future__ import annotations

import asyncio
import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import aiohttp

import routing_rules
from demo.hub import Hub
from tests.journeys.children import Told, is_a_sentence
from tests.journeys.children import hub as command
from tests.journeys.world import BONNEVILLE, MARIGNIER, MINISTRY, Stage, at_rest, post, stage, submission

TITLE = "title: Certificat de décès"


async def _asked(world: Stage, *words: str) -> Any:
    told = await command(world.environment, *words, "--json")
    assert (told.code, told.errors) == (0, ""), told
    return json.loads(told.out)


async def _told(world: Stage, *words: str, code: int = 0) -> Told:
    told = await command(world.environment, *words)
    assert told.code == code, told
    return told


def _rules(world: Stage, name: str, *changes: tuple[str, str]) -> str:
    """A copy of the installed rules in which CERTDC is changed."""
    folder = world.folder / name
    shutil.copytree(Path(routing_rules.__file__).parent, folder)
    path = folder / "CERTDC.yaml"
    text = path.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, "utf-8")
    return str(folder)


async def _received(hub: Hub) -> str:
    """Two deaths and a census, decided; the id of the first."""
    token = await hub.token(
        "sender", "site-essai", *("--procedure", "CERTDC"), "--procedure", "recensementCitoyen"
    )
    operator = await hub.token("operator", "essai")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        first = await post(session, hub.url, submission(1, "CERTDC", "74042"))
        await post(session, hub.url, submission(2, "CERTDC", "74164"))
        await post(session, hub.url, submission(3, "recensementCitoyen", "74042"))
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as session:
        await at_rest(hub, session)
    return first


async def test_the_rule_book_is_checked_changed_taken_back_and_asked_beside_a_running_hub() -> None:
    async with stage() as world:
        hub = await world.start()
        first = await _received(hub)
        titled = _rules(world, "titled", (TITLE, "title: Acte de décès"))
        await _refuse_what_is_wrong(world, titled)
        await _apply_and_go_back(world, titled)
        await _take_in_partners(world)
        await _ask(world, first)
        await hub.stop()


async def _refuse_what_is_wrong(world: Stage, titled: str) -> None:
    broken = _rules(world, "broken", ("levels: [arrondissement, commune]", "levels: [quartier]"))
    refused, checked = await asyncio.gather(
        _told(world, "rules", "apply", "--rules", broken, "--reason", "essai", "--yes", code=1),
        _told(world, "rules", "check", "--rules", titled),
    )
    assert "CERTDC.yaml" in refused.errors
    assert is_a_sentence(refused)
    assert "with the subscriptions in force" in checked.out


async def _apply_and_go_back(world: Stage, titled: str) -> None:
    done = await _told(world, "rules", "apply", "--rules", titled, "--reason", "un titre", "--yes")
    assert "rule book 2 is in force from" in done.out
    assert await _asked(world, "rules", "diff", "1") == [
        {
            "kind": "procedure",
            "key": "CERTDC",
            "where": ["title"],
            "before": "Certificat de décès",
            "after": "Acte de décès",
        }
    ]
    back = await _told(world, "rules", "rollback", "--reason", "retour", "--yes")
    assert "rule book 3 is in force from" in back.out


async def _take_in_partners(world: Stage) -> None:
    table = world.folder / "partenaires.csv"
    table.write_text(
        "siret;guichet;nom;canal;demarche;lieu;etat\n"
        "21740042390019;74042;;;EtatCivil;commune:74042;Actif\n"
        "21740042390018;74042;;;EtatCivil;commune:74042;Actif\n",
        "utf-8",
    )
    done = await _told(world, "partners", "import", str(table), "--reason", "essai", code=1)
    assert "line 3, siret" in done.errors
    assert "the newest rule book is 4" in done.out
    exported = world.folder / "export.json"
    await _told(world, "partners", "export", str(exported))
    again = await _told(world, "partners", "import", str(exported), "--reason", "essai")
    assert "nothing was written" in again.out


async def _ask(world: Stage, first: str) -> None:
    question = world.folder / "question.json"
    question.write_text(
        json.dumps({"procedure": "CERTDC", "facts": {"commune_deces": "74042"}, "files": ["DD", "VA"]})
    )
    picture = world.folder / "certdc.svg"
    others = _rules(world, "others", (MINISTRY, MARIGNIER))
    decided, imagined, simulated, covered, history = await asyncio.gather(
        _asked(world, "rules", "explain", first),
        _asked(world, "rules", "explain", str(question)),
        _asked(world, "rules", "simulate", "--since", "2026-01-01", "--rules", others),
        _asked(world, "rules", "coverage", "--procedure", "CERTDC", "--picture", str(picture)),
        _asked(world, "rules", "history"),
    )
    assert decided["decided"]["rule_book"] == 1
    assert decided["recipients"] == decided["decided"]["recipients"] == imagined["recipients"]
    assert [one["subscriber"] for one in imagined["recipients"]] == [MINISTRY, BONNEVILLE]

    assert (simulated["compared"], simulated["differ"], simulated["outcomes"]) == (3, 2, [])
    changed = {one["subscriber"]: one for one in simulated["partners"]}
    assert changed[MINISTRY]["lost"]["count"] == 2
    assert first in changed[MINISTRY]["lost"]["examples"]
    assert (changed[MARIGNIER]["gained"]["count"], changed[MARIGNIER]["altered"]["count"]) == (1, 1)

    assert covered[0]["total"]["covered"] == 2
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")

    assert [one["reason"] for one in history[:3]] == ["essai", "retour", "un titre"]
    assert history[0]["author"].startswith("operator:")
    assert history[3]["author"] == "hub run"
