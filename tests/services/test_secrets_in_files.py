"""A secret that stands where a name is expected (a space left out after a colon, name and value exchanged) is
never told, whoever reads the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hub.adapters.partners.files import read_partners_file
from hub.adapters.rules.files import read_partners
from hub.domain.errors import RuleBookError
from hub.domain.partner import Endpoint
from hub.services.import_plans import plan_import
from hub.wire import rule_book
from tests.services.onboarding_world import BONNEVILLE, CHECKS, LAND, PROCEDURES

SECRET = "Hunter2-MfKQ9r8GKYqrTwjU"
BOOK = rule_book(PROCEDURES, (), LAND)
MAIL = "host: smtp.example, port: 587, tls: starttls, sender: a@b.example, recipients: [a@b.example]"


def _yaml(settings: str = MAIL, secrets: str = "{}", more: str = "") -> str:
    return f"""\
partners:
  - subscriber: "{BONNEVILLE}"
    name: Bonneville
    channel: mail
    settings: {{{settings}}}
    secrets: {secrets}
{more}"""


NO_SPACE = (
    _yaml(secrets=f"{{username:hub, password:{SECRET}}}"),
    _yaml(secrets=f"{{username: hub, password:{SECRET}}}"),
    _yaml(secrets=f'{{username: hub, "{SECRET}": password}}'),
    _yaml(settings=f"{MAIL}, password:{SECRET}: x"),
    _yaml(settings=f"{MAIL}, password:{SECRET}"),
    _yaml(more=f"    password:{SECRET}: x\n"),
    _yaml(secrets=f"{{{SECRET}: a, {SECRET}: b}}"),
)


@pytest.mark.parametrize("text", NO_SPACE)
def test_the_first_start_never_tells_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "partners.yaml"
    path.write_text(text)
    told: list[str] = []
    try:
        (partner,) = read_partners(path)[0].partners
        told += CHECKS["mail"](Endpoint("mail", partner.settings, partner.secrets))
    except RuleBookError as error:
        told.append(str(error))
    assert told
    assert not any(SECRET in sentence for sentence in told)


@pytest.mark.parametrize("text", NO_SPACE)
def test_an_import_never_tells_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "partners.yaml"
    path.write_text(text)
    try:
        plan = plan_import(read_partners_file(path), 1, BOOK, {}, lambda kept: kept[0], CHECKS)
        told = [str(remark) for remark in plan.refused]
    except RuleBookError as error:
        told = [str(error)]
    assert told
    assert not any(SECRET in sentence for sentence in told)


def test_who_left_the_space_out_is_told_to_write_it(tmp_path: Path) -> None:
    path = tmp_path / "partners.yaml"
    path.write_text(NO_SPACE[0])
    with pytest.raises(RuleBookError) as caught:
        read_partners(path)
    told = str(caught.value)
    assert told.startswith(
        f"{path}, line 6: partner 1, secrets: secrets are texts, each by its name: write a space"
    )


def test_a_name_and_its_secret_exchanged_in_json_are_not_told(tmp_path: Path) -> None:
    partner: dict[str, Any] = {
        "subscriber": str(BONNEVILLE),
        "name": "Bonneville",
        "channel": "webhook",
        "settings": {"url": "https://partner.example/hook", SECRET: "x", "urgent": True},
        "secrets": {SECRET: "secret"},
    }
    path = tmp_path / "partners.json"
    path.write_text(json.dumps({"partners": [partner]}))
    plan = plan_import(read_partners_file(path), 1, BOOK, {}, lambda kept: kept[0], CHECKS)
    told = [remark.sentence for remark in plan.refused]
    assert not any(SECRET in sentence for sentence in told)
    assert any("there is a secret that this channel does not have" in sentence for sentence in told)
    assert any("there is a setting that this channel does not have" in sentence for sentence in told)
    assert "urgent is not a setting of this channel" in told
