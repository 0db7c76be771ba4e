"""The command line as an operator uses it: each command in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

import routing_rules
from tests.journeys.children import hub as command
from tests.journeys.children import is_a_sentence
from tests.journeys.world import BONNEVILLE, SECRET, post, stage, submission

INSTALLED = Path(routing_rules.__file__).parent
VALUE = "une-valeur-que-personne-ne-doit-voir"


def _declare(folder: Path, **changed: Any) -> dict[str, str]:
    """Settings of a hub with one partner, that has never run."""
    partner: dict[str, Any] = {
        "subscriber": BONNEVILLE,
        "name": "Bonneville",
        "channel": "webhook",
        "settings": {"url": "https://partner.example/hook"},
        "secrets": {"secret": SECRET},
        "subscriptions": [{"procedure": "recensementCitoyen", "place": "commune:74042"}],
    }
    path = folder / "partners.json"
    path.write_text(json.dumps({"partners": [{**partner, **changed}]}))
    return {"HUB_FOLDER": str(folder / "hub"), "HUB_PARTNERS": str(path)}


# --- without a running hub ----------------------------------------------------------------------------


async def test_check_finds_rules_and_partners_in_order_and_starts_nothing(tmp_path: Path) -> None:
    told = await command(_declare(tmp_path), "check")
    assert (told.code, told.errors) == (0, "")
    assert told.out.strip() == "settings, rules and partners are in order"
    assert not (tmp_path / "hub").exists()


async def test_check_names_the_partner_and_the_field_that_is_missing_and_no_value(tmp_path: Path) -> None:
    environment = _declare(tmp_path, settings={"plain": VALUE}, secrets={"secret": VALUE})
    told = await command(environment, "check")
    assert told.code == 1
    line = f"{environment['HUB_PARTNERS']}, line 1: partner {BONNEVILLE}"
    assert told.errors.splitlines() == [
        f"{line}: url is missing",
        f"{line}: plain must be true or false",
        f"{line}: secret must be whsec_ and base64 of 24 to 64 bytes, or whsk_ and base64 of a private key of ed25519",
    ]
    assert VALUE not in told.text


async def test_check_names_a_channel_that_nobody_serves(tmp_path: Path) -> None:
    environment = _declare(tmp_path, channel="pigeon")
    told = await command(environment, "check")
    where = f"{environment['HUB_PARTNERS']}, line 1"
    assert (told.code, told.errors.strip()) == (1, f"{where}: partner {BONNEVILLE}: no connector for pigeon")


async def test_a_setting_that_is_no_number_is_named_without_its_value(tmp_path: Path) -> None:
    for words in (("check",), ("run",), ("reconcile",)):
        told = await command({"HUB_FOLDER": str(tmp_path / "hub"), "HUB_PORT": "abc"}, *words)
        assert told.code == 2
        assert told.errors.startswith("HUB_PORT: ")
        assert "abc" not in told.text
        assert is_a_sentence(told)


async def test_rules_check_needs_no_partners_and_finds_a_case_that_does_not_hold(tmp_path: Path) -> None:
    environment = {"HUB_PARTNERS": str(tmp_path / "nowhere.yaml"), "HUB_FOLDER": str(tmp_path / "hub")}
    told = await command(environment, "rules", "check")
    assert (told.code, told.out.strip()) == (0, "the rules and their cases hold")

    empty = tmp_path / "rules"
    empty.mkdir()
    told = await command({**environment, "HUB_RULES": str(empty)}, "rules", "check")
    nothing = "there is no rule file here; each is named PROCEDURE.yaml"
    assert (told.code, told.errors.strip()) == (1, f"{empty}: {nothing}")
    (empty / "CERTDC.yaml").write_bytes((INSTALLED / "CERTDC.yaml").read_bytes())
    told = await command({**environment, "HUB_RULES": str(empty)}, "rules", "check")
    assert (told.code, told.errors.strip()) == (1, f"{empty / 'territory'}: no territory is here")


async def test_a_replay_of_everything_is_not_to_be_had_by_leaving_the_choice_out(tmp_path: Path) -> None:
    environment = {"HUB_FOLDER": str(tmp_path / "hub")}
    told = await command(environment, "replay", "--reason", "essai")
    assert told.code == 2
    assert "at least one of cause, procedure, channel, partner, delivery" in told.errors
    told = await command(environment, "replay", "--cause", "webhook.http_500")
    assert told.code == 2
    assert "--reason" in told.errors
    assert not (tmp_path / "hub").exists()


async def test_a_partner_number_that_is_none_is_refused_with_a_sentence(tmp_path: Path) -> None:
    environment = {"HUB_FOLDER": str(tmp_path / "hub")}
    for words in (
        ("tokens", "create", "partner", "bonneville"),
        ("deliveries", "--partner", "bonneville"),
        ("replay", "--reason", "essai", "--partner", "bonneville"),
    ):
        told = await command(environment, *words)
        assert told.code == 2, words
        assert is_a_sentence(told), words


# --- with one -----------------------------------------------------------------------------------------


async def test_tokens_are_made_listed_and_revoked_beside_a_running_hub_that_nobody_else_may_join() -> None:
    async with stage() as world:
        hub = await world.start()
        told = await command(world.environment, "reconcile")
        assert (told.code, told.errors) == (0, "")
        told = await command(world.environment, "alarms")
        assert (told.code, told.errors) == (0, "")
        assert "nothing that a person should look at" in told.out

        second = await command({**world.environment, "HUB_PORT": "1"}, "run")
        assert second.code == 2
        assert f"another hub (process {hub.process.pid}) works in" in second.errors
        assert is_a_sentence(second)

        token = await hub.token("sender", "site-essai", "--procedure", "recensementCitoyen")
        listed = await command(world.environment, "tokens", "list")
        assert listed.code == 0
        (line,) = [line for line in listed.out.splitlines() if "site-essai" in line]
        assert "recensementCitoyen" in line
        assert token not in listed.text
        number = line.strip("│ ").split()[0]

        form = submission(1, "recensementCitoyen", "74042")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            await post(session, hub.url, form)
            assert (await command(world.environment, "tokens", "revoke", number)).out.strip() == "revoked"
            async with session.post(f"{hub.url}/v1/submissions", json={}) as answer:
                assert answer.status == 401
        again = await command(world.environment, "tokens", "revoke", "0000000000000000")
        assert (again.code, again.errors.strip()) == (2, "there is no such token")
        await hub.stop()
        assert hub.process.returncode == 0

        # What was accepted is sealed under the key: a fresh one would open nothing.
        key = world.folder / "hub" / "hub.key"
        key.rename(key.with_suffix(".away"))
        gone = await command(world.environment, "run")
        assert gone.code == 2
        assert gone.errors.strip().endswith("sealed under it: put it back")
        assert str(key) in gone.errors
        assert is_a_sentence(gone)
        assert not key.exists()
        key.with_suffix(".away").rename(key)

        # With another database, the sweep would take every file that is here for one that nobody names.
        (world.folder / "hub" / "postgres").rename(world.folder / "hub" / "elsewhere")
        other = await command(world.environment, "run")
        assert other.code == 2
        assert "belong to another database" in other.errors
        assert is_a_sentence(other)


async def test_a_port_that_is_taken_is_refused_with_a_sentence() -> None:
    async with stage() as world:
        taken = str(world.receiver.port(BONNEVILLE))
        told = await command({**world.environment, "HUB_PORT": taken}, "run")
        assert told.code == 2
        assert is_a_sentence(told)
        assert taken in told.errors
