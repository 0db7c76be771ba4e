"""The mailbox's page, as a program that lies sees it: sessions, forms of others, refusals, and what is written down."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.domain.errors import Unavailable
from hub.ports.rule_books import Change, Item, ItemKind
from schemas.models.rules import SuccessionIn
from tests.conformance.samples import execute, rows
from tests.services.http_world import World, inline, offer, open_world
from tests.services.page_world import CONTENT, NOWHERE, Browser, fill
from tests.unit.samples import BONNEVILLE


@pytest_asyncio.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(database, tmp_path) as world:
        yield world


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


async def test_what_a_page_does_not_take_is_refused_by_a_page(world: World) -> None:
    browser = Browser(world)
    await browser.log_in()
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/boite", "/boite/aide", "/boite/rien", f"/boite/plis/{NOWHERE}"):
            page = await browser.ask(method, path)
            assert (page.status, "Action impossible" in page.text) == (405, True), (method, path)
            assert page.headers["Content-Type"].startswith("text/html")
    assert (await browser.get(f"/boite/plis/{NOWHERE}/confirmer")).status == 404
    assert (await browser.get("/boite/")).headers["Location"] == "/boite"


async def test_head_is_told_of_each_page_what_get_is_and_notes_no_reading(world: World) -> None:
    name = await fill(world)
    browser = Browser(world)
    out = await browser.ask("HEAD", "/boite")
    assert (out.status, out.headers["Location"]) == (303, "/boite/connexion?suite=/boite")
    await browser.log_in()
    paths = [
        f"/boite{path}"
        for path in (
            "",
            "/remis",
            "/confirmes",
            "/recherche?q=x",
            "/aide",
            "/style.css",
            "/connexion",
            "/rien",
        )
    ]
    parcel = f"/boite/plis/{name}"
    paths += [parcel, f"{parcel}/fichiers/1", f"{parcel}/archive", f"{parcel}/confirmer"]
    paths += [f"/boite/plis/{NOWHERE}", f"{parcel}/fichiers/7"]
    # As if no list had shown it yet.
    await execute(
        world.database,
        "UPDATE delivery SET shown_at = NULL",
        "DELETE FROM journal WHERE event = 'delivery.shown'",
    )
    seen = [await browser.ask("HEAD", path) for path in paths]
    read = "SELECT FROM journal WHERE event IN ('delivery.shown', 'delivery.fetched')"
    assert await rows(world.database, read) == []
    assert "À relever</span>" in (await browser.get("/boite")).text
    assert len(await rows(world.database, read)) == 1
    for path, told in zip(paths, seen, strict=True):
        whole = await browser.get(path)
        assert (told.status, told.body) == (whole.status, b""), path
        for header in ("Content-Type", "Content-Security-Policy", "Content-Disposition", "ETag", "Location"):
            assert told.headers.get(header) == whole.headers.get(header), (path, header)
    assert seen[paths.index(f"{parcel}/fichiers/1")].headers["Content-Length"] == str(len(CONTENT))


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
