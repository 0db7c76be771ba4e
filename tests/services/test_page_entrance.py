"""The entrance of the mailbox's page: tokens, sessions, and how often anybody may try."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest_asyncio

from hub.domain.addresses import read_networks
from hub.entrypoints.http.app import build
from hub.entrypoints.http.server import serve
from hub.ports.tokens import PartnerIdentity
from tests.conformance.samples import execute, rows
from tests.services.http_world import World, open_world
from tests.services.page_world import Browser, fill
from tests.unit.samples import BONNEVILLE


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world


async def test_a_partner_s_token_opens_a_session_that_the_browser_keeps_from_scripts_and_other_sites(
    world: World,
) -> None:
    browser = Browser(world)
    first = await browser.get("/boite")
    assert (first.status, first.headers["Location"]) == (303, "/boite/connexion?suite=/boite")
    answer = await browser.log_in()
    assert (answer.status, answer.headers["Location"]) == (303, "/boite")
    assert {"HttpOnly", "Path=/boite", "SameSite=strict"} <= set(answer.cookie.split("; "))
    assert "Max-Age" not in answer.cookie
    assert "Expires" not in answer.cookie
    page = await browser.get("/boite")
    assert page.status == 200
    assert "Mairie de Bonneville" in page.text
    assert "Rien à relever" in page.text
    # The secret stands in no row.
    [row] = await rows(world.database, "SELECT hash, token FROM page_session")
    assert browser.cookies["boite"].encode() not in row["hash"]


async def test_over_tls_the_session_goes_over_tls_alone(world: World) -> None:
    app = build(replace(world.rooms, secure=True), world.vitals)
    async with serve(app, "127.0.0.1", 0) as listening:
        answer = await Browser(world, listening.url).log_in()
        assert answer.cookie.startswith("__Host-boite=")
        # Without these a browser takes none of this name.
        assert {"Secure", "Path=/"} <= set(answer.cookie.split("; "))
        assert "Domain" not in answer.cookie


async def test_whatever_is_no_partner_s_valid_token_gets_one_and_the_same_refusal(world: World) -> None:
    browser = Browser(world)
    told = set()
    codes = [world.tokens[who] for who in ("essai-osl", "operator", "expired")]
    for code in (*codes, "", " ", "x", "hub_" + "0" * 12 + "_" + "A" * 43, "x" * 600, "é\0", "' OR true --"):
        page = await browser.post("/boite/connexion", {"code": code})
        assert page.status == 403
        assert browser.cookies == {}
        told.add(page.body)
    assert len(told) == 1
    assert "pas reconnu" in told.pop().decode()
    huge = await browser.post("/boite/connexion", {"code": "x" * 30_000})
    assert (huge.status, "trop long" in huge.text) == (413, True)


async def test_a_session_ends_with_its_token_when_it_rests_when_it_is_old_and_by_leaving(
    world: World,
) -> None:
    tokens = world.rooms.tokens

    async def fresh() -> tuple[Browser, str]:
        token = await tokens.create(PartnerIdentity(BONNEVILLE), timedelta(hours=1))
        world.tokens["new"] = token
        browser = Browser(world)
        await browser.log_in("new")
        assert (await browser.get("/boite")).status == 200
        return browser, token

    async def ended(browser: Browser) -> bool:
        page = await browser.get("/boite/confirmes")
        return page.headers.get("Location") == "/boite/connexion?suite=/boite/confirmes&fin=1"

    browser, token = await fresh()
    await tokens.revoke(token.split("_")[1])
    assert await ended(browser)
    for column, much in (("used_at", "31 minutes"), ("begun_at", "601 minutes")):
        browser, _ = await fresh()
        await execute(world.database, f"UPDATE page_session SET {column} = {column} - interval '{much}'")
        assert await ended(browser)
    browser, _ = await fresh()
    secret = browser.cookies["boite"]
    left = await browser.post("/boite/deconnexion", {"cle": (await browser.get("/boite")).key})
    assert "déconnecté" in left.text
    assert browser.cookies["boite"] == ""
    browser.cookies["boite"] = secret
    assert await ended(browser)
    for odd in ("x", "é", "A" * 43, "A" * 5000):
        assert await ended(Browser(world, cookies={"boite": odd}))


async def test_a_session_that_is_used_goes_on(world: World) -> None:
    browser = Browser(world)
    await browser.log_in()
    await execute(world.database, "UPDATE page_session SET used_at = used_at - interval '20 minutes'")
    assert (await browser.get("/boite")).status == 200
    [row] = await rows(
        world.database, "SELECT used_at > clock_timestamp() - interval '1 minute' AS used FROM page_session"
    )
    assert row["used"]


async def test_a_token_has_so_many_sessions_and_the_next_one_ends_the_oldest(world: World) -> None:
    first = Browser(world)
    await first.log_in()
    for _ in range(20):
        await Browser(world).log_in()
    assert (await first.get("/boite")).status == 303
    assert len(await rows(world.database, "SELECT FROM page_session")) == 20


async def test_who_logs_in_goes_on_where_it_was_and_nowhere_else(world: World) -> None:
    name = await fill(world)
    for asked, goes in (
        (f"/boite/plis/{name}", f"/boite/plis/{name}"),
        ("/boite/aide", "/boite/aide"),
        ("//hostile.example", "/boite"),
        ("https://hostile.example/boite", "/boite"),
        ("/boite/\\hostile", "/boite"),
        ("/boite\r\nX-Odd: 1", "/boite"),
        ("/boitehostile", "/boite"),
        ("/v1/mailbox", "/boite"),
        ("", "/boite"),
    ):
        browser = Browser(world)
        entrance = await browser.get("/boite/connexion?suite=" + quote(asked, safe=""))
        assert f'name="suite" value="{goes}"' in entrance.text
        assert (await browser.log_in(suite=asked)).headers["Location"] == goes


async def test_who_tries_too_often_waits_and_is_told_so(world: World) -> None:
    browser = Browser(world)
    for _ in range(60):
        await browser.post("/boite/connexion", {"code": "x"})
    page = await browser.log_in()
    assert (page.status, "Trop d’essais" in page.text) == (429, True)
    assert int(page.headers["Retry-After"]) >= 1
    assert browser.cookies == {}


async def test_a_link_of_another_site_is_followed_once_more_from_here(world: World) -> None:
    """A strict cookie does not come along from there; a browser that has none is asked to log in after that."""
    name = await fill(world)
    browser = Browser(world)
    there = await browser.get(f"/boite/plis/{name}", Sec_Fetch_Site="cross-site")
    assert there.status == 200
    assert f'content="0; url=/boite/plis/{name}"' in there.text
    again = await browser.get(f"/boite/plis/{name}", Sec_Fetch_Site="same-origin")
    assert again.headers["Location"] == f"/boite/connexion?suite=/boite/plis/{name}"


async def test_who_tries_too_often_is_counted_by_what_a_proxy_that_is_believed_says(world: World) -> None:
    proxies = read_networks("127.0.0.0/8")
    app = build(replace(world.rooms, proxies=proxies), world.vitals)
    async with serve(app, "127.0.0.1", 0) as listening:
        somebody = Browser(world, listening.url)
        for number in range(60):
            # What it says of itself before the proxy adds its address changes nothing.
            told = f"198.51.100.{number}, 203.0.113.1"
            await somebody.post("/boite/connexion", {"code": "x"}, X_Forwarded_For=told)
        assert (await somebody.log_in_from("203.0.113.1")).status == 429
        assert (await somebody.log_in_from("203.0.113.2")).status == 303


async def test_who_is_no_proxy_is_counted_by_its_own_address(world: World) -> None:
    browser = Browser(world)
    for number in range(60):
        await browser.post("/boite/connexion", {"code": "x"}, X_Forwarded_For=f"203.0.113.{number}")
    assert (await browser.log_in_from("203.0.113.99")).status == 429
