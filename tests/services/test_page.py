"""The mailbox's page, as a program that lies sees it: sessions, forms of others, refusals, and what is written down."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import aiohttp
import pytest
import pytest_asyncio

from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.errors import Unavailable
from hub.entrypoints.http.app import build
from hub.entrypoints.http.server import serve
from hub.ports.rule_books import Change, Item, ItemKind
from hub.ports.tokens import PartnerIdentity
from schemas.models.rules import SuccessionIn
from tests.conformance.samples import execute, rows
from tests.services.http_world import World, inline, offer, open_world
from tests.unit.samples import BONNEVILLE

CONTENT = bytes(range(256)) * 20
NOWHERE = str(UUID(int=4 << 76))
FORM = "application/x-www-form-urlencoded"


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    headers: Mapping[str, str]
    body: bytes
    cookie: str = ""

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def key(self) -> str:
        found = re.search(r'name="cle" value="([0-9a-f]{64})"', self.text)
        assert found is not None, self.text
        return found[1]


@dataclass(slots=True)
class Browser:
    """One that follows nothing by itself."""

    world: World
    url: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> Page:
        return await self._ask("GET", path, headers, None)

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Page:
        return await self._ask("POST", path, headers, fields)

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], data: Mapping[str, str] | None
    ) -> Page:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            told["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        jar = aiohttp.DummyCookieJar()
        async with (
            aiohttp.ClientSession(cookie_jar=jar) as client,
            client.request(
                method, (self.url or self.world.url) + path, headers=told, data=data, allow_redirects=False
            ) as answer,
        ):
            body = await answer.read()
            for name, morsel in answer.cookies.items():
                self.cookies[name] = morsel.value
            return Page(answer.status, answer.headers, body, answer.headers.get("Set-Cookie", ""))

    async def log_in(self, who: str = "bonneville", **more: str) -> Page:
        return await self.post("/boite/connexion", {"code": self.world.tokens[who], **more})


async def fill(world: World, **more: Any) -> str:
    """A parcel in Bonneville's mailbox: its name."""
    answer = await world.post(offer(attachments=[inline(CONTENT, "acte.pdf")], **more))
    assert answer.status == 202, answer.body
    await world.route()
    await world.deliver()
    listed = await world.call("GET", "/v1/mailbox", "bonneville")
    return str(listed.json["items"][-1]["delivery"])


# --- the entrance -------------------------------------------------------------------------------------


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


# --- forms --------------------------------------------------------------------------------------------


async def test_a_form_that_is_not_of_this_session_does_nothing(world: World) -> None:
    name = await fill(world)
    mine, other = Browser(world), Browser(world)
    await mine.log_in()
    await other.log_in()
    foreign = (await other.get("/boite")).key
    own = (await mine.get("/boite")).key
    for path in (f"/boite/plis/{name}/confirmer", f"/boite/plis/{name}/signaler", "/boite/deconnexion"):
        fields = {"accord": "oui", "statut": "DONE", "message": "fait"}
        for key in ({}, {"cle": ""}, {"cle": foreign}, {"cle": "é"}, {"cle": own[:-1]}):
            page = await mine.post(path, fields | key)
            assert (page.status, "Action refusée" in page.text) == (403, True)
        across = await mine.post(path, fields | {"cle": own}, Sec_Fetch_Site="cross-site")
        assert across.status == 403
        odd = await mine.post(path, fields | {"cle": own}, Content_Type="text/plain")
        assert odd.status == 415
    [row] = await rows(world.database, "SELECT state FROM delivery WHERE id = $1", UUID(name))
    assert row["state"] == "delivered"
    assert await rows(world.database, "SELECT FROM event") == []
    assert (await mine.get("/boite")).status == 200
    nobody = await Browser(world).post(f"/boite/plis/{name}/confirmer", {"cle": own, "accord": "oui"})
    assert nobody.headers["Location"] == "/boite/connexion?suite=/boite"


async def test_an_agent_acknowledges_once_the_box_is_ticked_and_reads_it_again_after(world: World) -> None:
    name = await fill(world)
    browser = Browser(world)
    await browser.log_in()
    key = (await browser.get(f"/boite/plis/{name}")).key
    assert (await browser.post(f"/boite/plis/{name}/confirmer", {"cle": key})).status == 422
    for _ in range(2):
        done = await browser.post(f"/boite/plis/{name}/confirmer", {"cle": key, "accord": "oui"})
        assert (done.status, done.headers["Location"]) == (303, f"/boite?confirme={name}")
    listed = await browser.get(done.headers["Location"])
    assert "est confirmée" in listed.text
    assert "Rien à relever" in listed.text
    assert "dossier-1" in (await browser.get("/boite/confirmes")).text
    page = await browser.get(f"/boite/plis/{name}")
    assert "Confirmer la réception" not in page.text
    assert (await browser.get(f"/boite/plis/{name}/fichiers/1")).body == CONTENT


async def test_what_an_agent_reports_becomes_an_event_once(world: World) -> None:
    name = await fill(world)
    browser = Browser(world)
    await browser.log_in()
    page = await browser.get(f"/boite/plis/{name}")
    path = f"/boite/plis/{name}/signaler"
    empty = await browser.post(path, {"cle": page.key, "statut": "", "message": " "})
    assert (empty.status, "Choisissez un état" in empty.text) == (422, True)
    assert (await browser.post(path, {"cle": page.key, "statut": "CLOSED"})).status == 422
    long = await browser.post(path, {"cle": page.key, "message": "<b>" + "x" * 1500})
    assert long.status == 422
    assert "&lt;b&gt;xxx" in long.text
    for _ in range(2):
        sent = await browser.post(
            path, {"cle": page.key, "statut": "SI_RECEIVED", "message": "Bien reçu,\r\nmerci"}
        )
        assert (sent.status, sent.headers["Location"]) == (303, f"/boite/plis/{name}?signale=1#suivi")
    told = await browser.get(f"/boite/plis/{name}?signale=1")
    assert "C’est enregistré" in told.text
    assert "<strong>Reçu</strong>" in told.text
    assert len(await rows(world.database, "SELECT FROM event")) == 1
    wrong = await browser.post(path, {"cle": page.key, "statut": "SENT"})
    assert (wrong.status, "ne peut pas suivre" in wrong.text) == (422, True)


# --- what is shown ------------------------------------------------------------------------------------


async def test_another_partner_s_parcel_is_as_one_that_does_not_exist_on_every_page(world: World) -> None:
    name = await fill(world)
    browser = Browser(world)
    await browser.log_in("ministry")
    key = (await browser.get("/boite")).key
    for path in ("", "/fichiers/0", "/fichiers/1", "/archive"):
        answers = [await browser.get(f"/boite/plis/{id}{path}") for id in (name, NOWHERE, "x", "%00")]
        assert {answer.status for answer in answers} == {404}
        assert len({answer.body for answer in answers}) == 1
    for path in ("confirmer", "signaler"):
        fields = {"cle": key, "accord": "oui", "message": "Bonjour"}
        answers = [await browser.post(f"/boite/plis/{id}/{path}", fields) for id in (name, NOWHERE)]
        assert {answer.status for answer in answers} == {404}
        assert len({answer.body for answer in answers}) == 1
    assert "confirmée" not in (await browser.get(f"/boite?confirme={name}")).text.replace(
        "Réception confirmée", ""
    )


async def test_what_followed_to_a_successor_is_told_to_have_and_not_to_whom(world: World) -> None:
    name = await fill(world)
    browser = Browser(world)
    await browser.log_in()
    told = SuccessionIn(former=str(BONNEVILLE), subscriber="11001401600015-1").model_dump_json(
        exclude={"former"}, exclude_defaults=True
    )
    succession = Item(ItemKind.SUCCESSION, str(BONNEVILLE), told.encode())
    await PostgresRuleBooks(world.database).publish(
        Change((succession,)), 1, timedelta(0), "essai", "fusion de communes"
    )
    listed = await browser.get("/boite")
    assert "Rien à relever" in listed.text
    confirmed = await browser.post(f"/boite/plis/{name}/confirmer", {"cle": listed.key, "accord": "oui"})
    for page in (
        confirmed,
        await browser.get(f"/boite/plis/{name}"),
        await browser.get(f"/boite/plis/{name}/archive"),
        await browser.get(f"/boite/plis/{name}/fichiers/1"),
    ):
        assert (page.status, "Pli transféré" in page.text) == (410, True)
        assert "11001401600015" not in page.text
    successor = Browser(world)
    await successor.log_in("stranger")
    assert (await successor.get(f"/boite/plis/{name}/fichiers/1")).body == CONTENT


async def test_all_files_of_a_parcel_come_as_one_archive(world: World) -> None:
    files = [
        inline(CONTENT, "été.pdf"),
        inline(b"", "vide.txt", type="VA"),
        inline(b"x" * 500_000, "été.pdf"),
    ]
    answer = await world.post(offer(attachments=files))
    assert answer.status == 202, answer.body
    await world.route()
    await world.deliver()
    [item] = (await world.call("GET", "/v1/mailbox", "bonneville")).json["items"]
    browser = Browser(world)
    await browser.log_in()
    page = await browser.get(f"/boite/plis/{item['delivery']}/archive")
    assert page.headers["Content-Disposition"].startswith("attachment;")
    with zipfile.ZipFile(io.BytesIO(page.body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["submission.json", "été.pdf", "vide.txt", "3-été.pdf"]
        assert archive.read("été.pdf") == CONTENT
        assert len(archive.read("3-été.pdf")) == 500_000
    again = await browser.get(f"/boite/plis/{item['delivery']}/archive")
    assert again.body == page.body
    [line] = {
        (row["actor"], row["detail"])
        for row in await rows(
            world.database, "SELECT actor, detail FROM journal WHERE event = 'delivery.fetched'"
        )
    }
    assert line == (f"partner:{BONNEVILLE}", "files 0, 1, 2, 3, delivered")


async def test_every_read_on_the_page_is_a_line_of_the_journal(world: World) -> None:
    name = await fill(world)
    await execute(world.database, "UPDATE delivery SET shown_at = NULL", "TRUNCATE journal")
    browser = Browser(world)
    await browser.log_in()
    await browser.get("/boite")
    await browser.get("/boite")
    await browser.get(f"/boite/plis/{name}")
    await browser.get(f"/boite/plis/{name}/fichiers/1", Range="bytes=0-9")
    lines = await rows(world.database, "SELECT event, delivery, actor, detail FROM journal ORDER BY id")
    reader = f"partner:{BONNEVILLE}"
    assert [tuple(line) for line in lines] == [
        ("delivery.shown", UUID(name), reader, ""),
        ("delivery.fetched", UUID(name), reader, "file 0, delivered"),
        ("delivery.fetched", UUID(name), reader, "file 1, delivered, bytes 0-9"),
    ]


async def test_what_the_citizen_wrote_is_text_and_nothing_else(world: World) -> None:
    hostile = "<script>alert('x')</script>\"'>{{ 12345 * 1001 }}\u202e"
    name = await fill(
        world,
        external_id="<script>alert(1)</script>",
        applicant={"first_name": hostile, "last_name": "O'Neil"},
        content={hostile: [hostile, {"a": None, "b": True, "c": [], "d": 1.5}], "très_long": "x" * 20_000},
    )
    browser = Browser(world)
    await browser.log_in()
    for path in ("/boite", f"/boite/plis/{name}"):
        page = await browser.get(path)
        assert page.status == 200
        assert "<script" not in page.text
        assert "&lt;script&gt;alert(1)" in page.text
        assert "12357345" not in page.text
        assert "\u202e" not in page.text
    assert "Tout n’est pas affiché" in page.text


async def test_no_page_may_be_framed_scripted_or_kept_whatever_it_answers(world: World) -> None:
    name = await fill(world)
    browser = Browser(world)
    pages = [await browser.get("/boite/connexion"), await browser.get("/boite"), await browser.log_in()]
    pages += [
        await browser.get(path)
        for path in (
            "/boite",
            "/boite/remis",
            "/boite/aide",
            f"/boite/plis/{name}",
            "/boite/rien",
            "/boite/plis/x",
        )
    ]
    pages.append(await browser.post("/boite/deconnexion", {}))
    for page in pages:
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
        assert "script" not in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert not re.search(r"<script|style=|https?://|onclick", page.text)
    for path in ("fichiers/1", "archive"):
        page = await browser.get(f"/boite/plis/{name}/{path}")
        assert page.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert page.headers["Content-Disposition"].startswith("attachment;")


async def test_a_purged_parcel_says_so_and_one_that_does_not_open_too(world: World) -> None:
    name = await fill(world)
    browser = Browser(world)
    await browser.log_in()
    await execute(world.database, "UPDATE submission SET sealed = sealed || '\\x00'::bytea")
    page = await browser.get(f"/boite/plis/{name}")
    assert (page.status, "ne peut pas être ouvert" in page.text) == (200, True)
    await execute(world.database, "DELETE FROM submission_key")
    page = await browser.get(f"/boite/plis/{name}")
    assert (page.status, "a été effacé" in page.text) == (200, True)
    assert "effacés" in (await browser.get("/boite")).text
    for path in ("fichiers/1", "archive"):
        assert (await browser.get(f"/boite/plis/{name}/{path}")).status == 404


async def test_when_something_is_away_or_fails_the_page_says_so_in_french_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(world)
    await browser.log_in()
    for error, status, sentence in (
        (Unavailable("secret words"), 503, "momentanément indisponible"),
        (ValueError("secret words"), 500, "n’a pas pu être affichée"),
    ):

        async def fails(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(type(world.rooms.mailboxes), "look", fails)
        page = await browser.get("/boite")
        assert (page.status, sentence in page.text) == (status, True)
        assert "secret" not in page.text
        assert page.headers["Content-Type"].startswith("text/html")


async def test_lists_go_on_page_by_page(world: World) -> None:
    for number in range(30):
        answer = await world.post(offer(external_id=f"lot-{number:02d}"))
        assert answer.status == 202
    await world.route()
    await world.deliver()
    browser = Browser(world)
    await browser.log_in()
    first = await browser.get("/boite")
    assert re.findall(r"lot-\d\d", first.text) == [f"lot-{number:02d}" for number in range(25)]
    assert 'href="/boite?apres=25"' in first.text
    rest = await browser.get("/boite?apres=25")
    assert re.findall(r"lot-\d\d", rest.text) == [f"lot-{number:02d}" for number in range(25, 30)]
    for odd in ("x", "-1", "9" * 30, "%00", "1e3"):
        page = await browser.get(f"/boite?apres={odd}")
        assert (page.status, "lot-00" in page.text) == (200, True)
