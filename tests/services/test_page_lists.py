"""The lists of the mailbox's page: several parcels acknowledged in one step, one found by reference or number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.conformance.samples import rows
from tests.services.http_world import World, open_world
from tests.services.page_world import NOWHERE, Browser, fill


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world


async def confirm(browser: Browser, key: str, *names: str, agreed: bool = True) -> tuple[int, str, str]:
    """Status, where to, and the page."""
    told = [("cle", key), *(("pli", name) for name in names), *([("accord", "oui")] if agreed else [])]
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
        client.post(
            f"{browser.world.url}/boite/confirmer",
            data=aiohttp.FormData(told),
            headers={"Cookie": cookies},
            allow_redirects=False,
        ) as answer,
    ):
        return answer.status, answer.headers.get("Location", ""), await answer.text()


async def states(world: World, names: list[str]) -> list[str]:
    found = await rows(world.database, "SELECT id, state FROM delivery WHERE id = ANY($1::uuid[])", names)
    told = {str(row["id"]): row["state"] for row in found}
    return [told[name] for name in names]


async def test_an_agent_acknowledges_several_parcels_that_were_opened_in_one_step(world: World) -> None:
    names = [await fill(world, external_id=f"A-{number}") for number in range(3)]
    browser = Browser(world)
    await browser.log_in()
    key = (await browser.get("/boite")).key
    # What nobody opened is not offered to be ticked.
    assert 'name="pli"' not in (await browser.get("/boite")).text
    for name in names[:2]:
        assert (await browser.get(f"/boite/plis/{name}/fichiers/1")).status == 200
    listed = (await browser.get("/boite")).text
    assert [name in listed.partition("<table")[2] for name in names] == [True] * 3
    assert listed.count('name="pli"') == 2
    status, _, told = await confirm(browser, key, names[0], names[1], agreed=False)
    assert (status, "J’ai enregistré" in told) == (422, True)
    status, _, told = await confirm(browser, key)
    assert (status, "Cochez au moins un pli" in told) == (422, True)
    assert (await confirm(browser, "0" * 64, *names))[0] == 403
    assert await states(world, names) == ["delivered"] * 3
    # Twice, and with one that is nobody's: harmless.
    for _ in range(2):
        status, where, _ = await confirm(browser, key, names[0], NOWHERE, names[1])
        assert status == 303
    assert await states(world, names) == ["acknowledged", "acknowledged", "delivered"]
    after = await browser.get(where)
    assert ("A-0" in after.text, "A-1" in after.text, after.status) == (True, True, 200)
    assert (await confirm(browser, key, NOWHERE))[0] == 404


async def test_all_that_was_opened_of_a_page_is_ticked_by_a_link_and_stays_ticked_when_a_box_was_forgotten(
    world: World,
) -> None:
    names = [await fill(world, external_id=f"A-{number}") for number in range(3)]
    browser = Browser(world)
    await browser.log_in()
    for name in names[:2]:
        assert (await browser.get(f"/boite/plis/{name}")).status == 200
    page = await browser.get("/boite")
    assert page.text.count(" checked>") == 0
    assert 'href="/boite?tout=1#liste">Cocher les 2 plis consultés' in page.text
    ticked = await browser.get("/boite?tout=1")
    assert ticked.text.count(" checked>") == 2
    assert 'href="/boite?#liste">Ne plus rien cocher' in ticked.text
    status, _, told = await confirm(browser, page.key, names[1], agreed=False)
    assert (status, told.count(" checked>"), f'value="{names[1]}" checked' in told) == (422, 1, True)
    # Nothing was acknowledged by looking.
    assert await states(world, names) == ["delivered"] * 3


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        ("A-1", True),
        ("2", True),
        ("a-1", True),
        ("a-", True),
        ("-1", False),
        ("0", False),
        ("9" * 30, False),
        ("%00", False),
    ],
    ids=[
        "reference",
        "number",
        "another case",
        "the beginning",
        "the end",
        "zero",
        "a long number",
        "no text",
    ],
)
async def test_a_parcel_is_found_by_its_reference_or_the_beginning_of_it_or_its_number(
    world: World, sought: str, found: bool
) -> None:
    for number in range(2):
        await fill(world, external_id=f"A-{number}")
    browser = Browser(world)
    await browser.log_in()
    page = await browser.get(f"/boite/recherche?q={sought}")
    assert page.status == 200
    assert ("Aucun pli" not in page.text) is found, page.text.partition("<main")[2]
    assert (page.text.count("/boite/plis/") > 0) is found


async def test_nobody_finds_what_is_another_partner_s(world: World) -> None:
    await fill(world, external_id="A-1")
    browser = Browser(world)
    await browser.log_in("stranger")
    for sought in ("A-1", "1"):
        assert "Aucun pli" in (await browser.get(f"/boite/recherche?q={sought}")).text
