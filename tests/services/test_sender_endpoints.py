"""Senders' endpoints in the partners file: declared, exported, compared, and refused by their field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hub.adapters.partners.written import ExportForm
from hub.adapters.postgres.database import Database
from tests.services.onboarding_world import BONNEVILLE, MARIGNIER, Onboarding, listed, record, webhook
from tests.services.test_partner_files import planned, reading


async def test_a_sender_s_endpoint_is_kept_compared_exported_and_given_to_another(
    database: str, tmp_path: Path
) -> None:
    opened = await Database.open(database)
    world = await Onboarding.begin(opened, tmp_path)
    told = listed(record(BONNEVILLE, **webhook(), sender="psl"))
    assert (await world.import_(told)).partners == 1
    assert (await world.plan(told)).changes_nothing
    exported = await world.export(ExportForm.JSON)
    assert (await world.plan(exported.read_bytes(), "again.json")).changes_nothing
    assert (await world.plan(listed(record(BONNEVILLE)))).changes_nothing
    # Another may not take it, unless who has it gives it up.
    taking = record(MARIGNIER, **webhook(), sender="psl")
    plan = await world.plan(listed(taking))
    assert not plan.partners.all
    assert [remark.field for remark in plan.refused] == ["sender"]
    both = listed(record(BONNEVILLE, sender=None), taking)
    assert (await world.import_(both)).partners == 2
    for who, sender in ((BONNEVILLE, None), (MARIGNIER, "psl")):
        kept = await world.partners.get(who)
        assert kept is not None
        assert kept[0].sender == sender
    await opened.close()


@pytest.mark.parametrize(
    "told",
    [{"channel": "mailbox", "sender": "psl"}, {**webhook(), "sender": ""}, {**webhook(), "sender": "a b"}],
    ids=["another-channel", "empty", "no-name"],
)
def test_an_endpoint_that_cannot_be_refuses_its_partner_alone(tmp_path: Path, told: dict[str, Any]) -> None:
    plan = planned(reading(tmp_path, listed(record(BONNEVILLE, **told), record(MARIGNIER, **webhook()))))
    assert [step.partner.subscriber for step in plan.partners.all] == [MARIGNIER]
    assert [remark.field for remark in plan.refused] == ["sender"]


async def test_a_table_tells_a_partner_s_vendor_and_sender_and_takes_them_away(
    database: str, tmp_path: Path
) -> None:
    opened = await Database.open(database)
    world = await Onboarding.begin(opened, tmp_path)
    header, who = "siret;guichet;nom;canal;parametres;editeur;emetteur", f"{BONNEVILLE.siret};74042"
    settings = json.dumps({**webhook()["settings"], "secrets": webhook()["secrets"]}).replace('"', '""')
    table = f'{header}\n{who};Bonneville;webhook;"{settings}";=Éditeur;psl\n'
    assert (await world.import_(table, "one.csv")).partners == 1
    assert await named(world) == ("=Éditeur", "psl")
    exported = await world.export(ExportForm.CSV)
    assert (await world.plan(exported.read_bytes(), "again.csv")).changes_nothing
    # An empty cell says nothing.
    assert (await world.plan(f"{header}\n{who};;;;;\n", "empty.csv")).changes_nothing
    assert (await world.import_(f"{header}\n{who};;;;aucun;Aucun\n", "none.csv")).partners == 1
    assert await named(world) == (None, None)
    await opened.close()


async def named(world: Onboarding) -> tuple[str | None, str | None]:
    kept = await world.partners.get(BONNEVILLE)
    assert kept is not None
    return kept[0].vendor, kept[0].sender


def test_two_that_come_for_one_sender_are_both_refused(tmp_path: Path) -> None:
    two = [record(who, **webhook(), sender="psl") for who in (BONNEVILLE, MARIGNIER)]
    plan = planned(reading(tmp_path, listed(*two)))
    assert not plan.partners.all
    assert [remark.field for remark in plan.refused] == ["sender", "sender"]
