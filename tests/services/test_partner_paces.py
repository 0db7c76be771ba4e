"""Vendors and paces in the partners file: declared, exported, compared, and refused by their field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hub.adapters.partners.written import ExportForm
from hub.adapters.postgres.database import Database
from hub.adapters.rules.declared import read_declared
from hub.domain.errors import RuleBookError
from tests.services.onboarding_world import BONNEVILLE, LAND, Onboarding, listed, record, webhook
from tests.services.test_partner_files import planned, reading

NOTICE = {"host": "smtp.example", "sender": "hub@hub.example", "recipients": ["mairie@mairie.example"]}
PACE = {
    "rate": 60,
    "quiet_hours": [{"from": "20:00", "until": "07:00", "days": ["mon", "tue"]}],
    "retry": [60, 3600],
    "retry_of": {"EtatCivil": [5]},
    "ordered": ["EtatCivil"],
    "ordered_closes": True,
    "fallback": {"after": 86400, "to": "mailbox", "notice": NOTICE},
}


async def test_a_vendor_and_a_pace_are_kept_compared_and_exported(database: str, tmp_path: Path) -> None:
    opened = await Database.open(database)
    world = await Onboarding.begin(opened, tmp_path)
    told = listed(record(BONNEVILLE, **webhook(), vendor="Éditeur", delivery=PACE))
    assert (await world.import_(told)).partners == 1
    assert (await world.plan(told)).changes_nothing
    exported = await world.export(ExportForm.JSON)
    assert (await world.plan(exported.read_bytes(), "again.json")).changes_nothing
    # What is not said stays; what is said to be none goes.
    assert (await world.plan(listed(record(BONNEVILLE)))).changes_nothing
    faster = {**PACE, "rate": 120}
    assert (await world.import_(listed(record(BONNEVILLE, delivery=faster)))).partners == 1
    kept = await world.partners.get(BONNEVILLE)
    assert kept is not None
    assert (kept[0].vendor, kept[0].pace and kept[0].pace.rate) == ("Éditeur", 120)
    assert await world.secrets_of(BONNEVILLE) == webhook()["secrets"]
    assert (await world.import_(listed(record(BONNEVILLE, vendor=None, delivery=None)))).partners == 1
    kept = await world.partners.get(BONNEVILLE)
    assert kept is not None
    assert (kept[0].vendor, kept[0].pace) == (None, None)
    assert kept[0].endpoint.channel == "webhook"
    await opened.close()


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"delivery": {"rate": 0}}, "delivery/rate"),
        ({"delivery": {"rate": "60"}}, "delivery/rate"),
        ({"delivery": {"speed": 1}}, "delivery/speed"),
        ({"delivery": {"retry": [0]}}, "delivery/retry/0"),
        ({"delivery": {"quiet_hours": [{"from": "8h", "until": "09:00"}]}}, "delivery/quiet_hours/0/from"),
        ({"delivery": {"quiet_hours": [{"from": "00:00", "until": "00:00"}]}}, "delivery/quiet_hours"),
        ({"delivery": {"fallback": {"after": 1}}}, "delivery/fallback/after"),
        ({"delivery": {"fallback": {"after": 86400, "to": "sftp"}}}, "delivery/fallback/to"),
        ({"delivery": {"fallback": {"after": 86400, "notice": {"host": "x"}}}}, "delivery"),
        ({"delivery": {"ordered": ["EtatCivile"]}}, "delivery"),
        ({"delivery": {"retry_of": {"EtatCivile": [5]}}}, "delivery"),
        ({"vendor": ""}, "vendor"),
        ({"vendor": "a\u0000b"}, "vendor"),
    ],
    ids=str,
)
def test_a_wish_that_cannot_be_refuses_its_partner_alone_and_names_the_field(
    tmp_path: Path, told: Mapping[str, Any], field: str
) -> None:
    good = record(BONNEVILLE, **webhook())
    plan = planned(reading(tmp_path, listed({**good, **told})))
    assert not plan.partners.all
    assert {remark.field for remark in plan.refused} == {field}
    assert planned(reading(tmp_path, listed(good))).partners.all


def test_a_first_start_refuses_what_an_import_refuses(tmp_path: Path) -> None:
    path = tmp_path / "partners.yaml"
    path.write_text(
        f"partners:\n  - {{subscriber: {BONNEVILLE}, name: Mairie, delivery: {{rate: 0}}}}\n", "utf-8"
    )
    rules = Path(__file__).parents[2] / "routing_rules"
    with pytest.raises(RuleBookError, match=r"partners\.yaml, line 2.*: delivery/rate: "):
        read_declared(rules, 1000, path, lambda _: LAND)
