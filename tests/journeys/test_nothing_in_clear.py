"""What a citizen wrote is readable at the partner and nowhere else: not in files, logs, pages or errors."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from demo.hub import Hub
from tests.journeys.children import hub as command
from tests.journeys.world import BONNEVILLE, MARIGNIER, Stage, at_rest, post, stage

# A word for each place, so that a find says which place it came from.
PLACES = ("firstname", "lastname", "email", "phone", "content", "contentkey", "filename", "filebytes")
MARK = "Zqxjkv-Pérégrin"


def _value(place: str) -> str:
    return f"{MARK}-{place}"


def _marks(place: str) -> tuple[bytes, ...]:
    """The value as it may lie somewhere: as text, JSON escaped, base64, two bytes a letter."""
    value = _value(place)
    coded = tuple(base64.b64encode(value.encode()[start:])[4:-6] for start in range(3))
    return (
        value.encode(),
        json.dumps(value)[1:-1].encode(),
        f"Zqxjkv-P\\xc3\\xa9r\\xc3\\xa9grin-{place}".encode(),
        value.encode("utf-16-le"),
        *coded,
    )


def _finds(content: bytes) -> list[str]:
    """The places whose value stands in it. Anything that begins like one of ours is a find as well."""
    found = [place for place in PLACES if any(mark in content for mark in _marks(place))]
    return found or (["somewhere"] if b"zqxjkv" in content.lower() else [])


def _form(number: int, commune: str) -> tuple[dict[str, Any], list[bytes]]:
    content = f"<demande nom='{_value('filebytes')}'/>\n".encode() * 400
    described = {
        "external_id": f"C-{number:05d}",
        "procedure": "recensementCitoyen",
        "facts": {"commune_residence": commune},
        "applicant": {
            "first_name": _value("firstname"),
            "last_name": _value("lastname"),
            "email": f"{_value('email')}@example.org",
            "phone": _value("phone")[:30],
        },
        "content": {"réponse": _value("content"), _value("contentkey"): [{"encore": _value("content")}]},
        "attachments": [
            {
                "name": f"{_value('filename')}.xml",
                "type": "formulaire",
                "media_type": "application/xml",
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        ],
    }
    return described, [content]


def _refused() -> Iterator[dict[str, Any]]:
    """The same form with its values where they do not belong."""
    good, _ = _form(99, "74042")
    value = _value("content")
    yield {**good, "external_id": f"{value} {value}"}
    yield {**good, "procedure": value}
    yield {**good, "facts": {"commune_residence": value}}
    yield {**good, "facts": {"commune_residence": {"type": value, "code": value}}}
    yield {**good, "applicant": value}
    yield {**good, "applicant": {"first_name": {"x": value}, "phone": value * 3}}
    yield {**good, "content": value}
    yield {**good, "content": [value]}
    yield {**good, "attachments": [{**good["attachments"][0], "sha256": value, "size": value}]}
    yield {**good, "attachments": [{**good["attachments"][0], "media_type": value, "type": value}]}
    yield {**good, "attachments": [{**good["attachments"][0], "recipients": [value]}]}
    yield {**good, "attachments": [{**good["attachments"][0], "content": value}]}


def _mark_one_partner_as_gone(world: Stage) -> None:
    """The receiver knows no such hook and answers 404: what is for it is parked."""
    path = world.folder / "partners.json"
    told = json.loads(path.read_text("utf-8"))
    for partner in told["partners"]:
        if partner["subscriber"] == MARIGNIER:
            partner["settings"]["url"] += "-parti"
    path.write_text(json.dumps(told))


async def test_what_a_citizen_wrote_lies_nowhere_in_clear_but_at_the_partner() -> None:
    async with stage() as world:
        _mark_one_partner_as_gone(world)
        hub = await world.start()
        token = await hub.token("sender", "site", "--procedure", "recensementCitoyen")
        operator = await hub.token("operator", "o")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            await post(session, hub.url, _form(1, "74042"))
            await post(session, hub.url, _form(2, "74164"))
            await _nothing_in_problems(session, hub)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as session:
            counts = await at_rest(hub, session)
            await _nothing_in_pages(session, hub)
        await _read_on_the_mailboxs_page(hub, await hub.token("partner", BONNEVILLE))
        assert (counts["deliveries.delivered"], counts["deliveries.parked"]) == (1, 1)
        await _nothing_in_commands(world)
        async with asyncio.timeout(30):
            while (await world.receiver.status()).pending:
                await asyncio.sleep(0.1)
        await hub.stop()
        assert hub.process.returncode == 0

        assert _finds((world.folder / "hub.log").read_bytes()) == []
        files = [path for path in (world.folder / "hub").rglob("*") if path.is_file()]
        # Else this would look at an empty folder and find it clean.
        assert any("pg_wal" in path.parts for path in files)
        assert any("base" in path.parts for path in files)
        assert sum("attachments" in path.parts for path in files) == 2
        # Nor would it find anything in files that are compressed: the sender's own name does lie there.
        assert any(b"C-00001" in path.read_bytes() for path in files if "pg_wal" in path.parts)
        assert any(b"C-00001" in path.read_bytes() for path in files if "base" in path.parts)
        for path in files:
            assert _finds(path.read_bytes()) == [], path
        _everything_at_the_partner(world.folder / "partners")


async def _read_on_the_mailboxs_page(hub: Hub, token: str) -> None:
    """By the partner, which sees it all; what it does wrong repeats nothing of it."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.post(f"{hub.url}/boite/connexion", data={"code": token}) as page:
            assert page.status == 200
        async with session.get(f"{hub.url}/boite/remis") as page:
            listed = await page.text()
        assert _finds(listed.encode()) == []
        [path] = re.findall(r'href="(/boite/plis/[0-9a-f-]+)"', listed)
        async with session.get(hub.url + path) as page:
            assert {"lastname", "content", "contentkey", "filename"} <= set(_finds(await page.read()))
        for wrong in (f"{path}/fichiers/9", f"{path}/fichiers/{_value('content')}"):
            async with session.get(hub.url + wrong) as page:
                assert page.status == 404
                assert _finds(await page.read()) == []
        for action in ("confirmer", "signaler", "rien"):
            async with session.post(f"{hub.url}{path}/{action}", data={"message": _value("content")}) as page:
                assert page.status in (403, 405)
                assert _finds(await page.read()) == []


async def _nothing_in_problems(session: aiohttp.ClientSession, hub: Hub) -> None:
    _, (content,) = _form(99, "74042")
    for described in _refused():
        body = aiohttp.FormData()
        body.add_field("submission", json.dumps(described), content_type="application/json")
        body.add_field("file", content, filename=f"{MARK}.xml", content_type="application/xml")
        async with session.post(f"{hub.url}/v1/submissions", data=body) as answer:
            said = await answer.read()
            assert 400 <= answer.status < 500, said
            assert _finds(said) == [], said
            assert _finds(repr(answer.headers).encode()) == []
    path = f"/v1/submissions/{_value('content')}"
    async with session.get(f"{hub.url}{path}", params={"q": MARK}) as answer:
        assert answer.status in (403, 404)
        assert _finds(await answer.read()) == []


async def _nothing_in_pages(session: aiohttp.ClientSession, hub: Hub) -> None:
    for path in ("/metrics", "/readyz", "/v1/deliveries", "/v1/deliveries?state=parked"):
        async with session.get(f"{hub.url}{path}") as answer:
            assert answer.status == 200, path
            assert _finds(await answer.read()) == [], path


async def _nothing_in_commands(world: Stage) -> None:
    for words in (("deliveries",), ("deliveries", "--state", "parked"), ("reconcile",), ("tokens", "list")):
        told = await command(world.environment, *words)
        assert (told.code, told.errors) == (0, ""), words
        assert _finds(told.text.encode()) == [], words


def _everything_at_the_partner(folder: Path) -> None:
    """The same search finds every place there: it can find."""
    told = b"".join(path.read_bytes() for path in (folder / BONNEVILLE).rglob("*") if path.is_file())
    # A phone number has thirty signs at most.
    assert {*_finds(told), "phone"} == set(PLACES)
    assert _value("phone")[:30].encode() in told
    assert not (folder / MARIGNIER).exists()
