"""One unmistakable value in everything that is nobody's business: content and applicant, file names and files,
headers, what partners' servers answer, what partners report, and every secret. The journeys run, on each channel, to
servers that take parcels and to servers that do not; then it is readable where it belongs and nowhere else.

It is in no id, code, partner's name or operator's reason: those are told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
import pytest

from demo.hub import Hub
from demo.receivers.smtp import own_certificate
from hub.domain.partner import made_up_siret
from tests.connectors import partners
from tests.connectors.partners import MailTown, SftpTown, WebhookTown, mail_town, sftp_town, webhook_town
from tests.journeys.children import Told
from tests.journeys.children import hub as command
from tests.journeys.marks import (
    MARK,
    PLACES,
    PLAIN,
    WORDS,
    answer,
    finds,
    nothing_in_files,
    nothing_in_tables,
    signing_key,
    value_of,
)
from tests.journeys.world import Stage, at_rest, post, stage

KEY = signing_key("signing-key")
SUBMISSIONS = 7


def _form(number: int, commune: str) -> tuple[dict[str, Any], list[bytes]]:
    content = f"<demande nom='{value_of('filebytes')}'/>\n".encode() * 400
    described = {
        "external_id": f"C-{number:05d}",
        "procedure": "recensementCitoyen",
        "facts": {"commune_residence": commune},
        "applicant": {
            "first_name": value_of("firstname"),
            "last_name": value_of("lastname"),
            "email": f"{value_of('email')}@example.org",
            "phone": value_of("phone")[:30],
        },
        "content": {
            "réponse": value_of("content"),
            value_of("contentkey"): [{"encore": value_of("content")}],
        },
        "attachments": [
            {
                "name": f"{value_of('filename')}.xml",
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
    value = value_of("content")
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


# --- partners -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Towns:
    """On each channel one that takes parcels and one that does not, and says so with the value in its words."""

    hook: WebhookTown
    bad_hook: WebhookTown
    inbox: SftpTown
    bad_inbox: SftpTown
    post: MailTown
    bad_post: MailTown


@asynccontextmanager
async def _towns(folder: Path) -> AsyncIterator[Towns]:
    context, ca = own_certificate()
    for name in ("inbox", "bad"):
        (folder / name).mkdir()
    async with (
        webhook_town() as hook,
        webhook_town() as bad_hook,
        sftp_town(folder / "inbox") as inbox,
        sftp_town(folder / "bad") as bad_inbox,
        mail_town("starttls", context, ca, password=f"{PLAIN}-mail") as mail,
        mail_town("starttls", context, ca, password=f"{PLAIN}-mail") as bad_mail,
    ):
        hook.answers = [answer(200), answer(200)]
        bad_hook.answers = [answer(422) for _ in range(20)]
        bad_inbox.fault = asyncssh.SFTPFailure(WORDS)
        bad_mail.refusals = {"accueil@mairie.test": f"550 {PLAIN}-answer"}
        yield Towns(hook, bad_hook, inbox, bad_inbox, mail, bad_mail)


COMMUNES = ("74042", "74164", "74010", "74081", "74056", "74225", "74281")
"""Of the seven partners, in the order of `Towns`; the last one has a mailbox."""


def _number(place: int) -> str:
    return f"{made_up_siret('217400423', 100 + place)}-{COMMUNES[place]}"


def _declare(world: Stage, towns: Towns) -> None:
    content = {"content": True}
    login = {"username": f"{PLAIN}-user", "password": f"{PLAIN}-mail"}
    query = {"url_query": f"token={PLAIN}-query", "secret": KEY}
    endpoints = [
        (towns.hook.endpoint, content, query),
        (towns.bad_hook.endpoint, content, query),
        (towns.inbox.endpoint, {}, {"password": f"{MARK}-password"}),
        (towns.bad_inbox.endpoint, {}, {"password": f"{MARK}-password"}),
        (towns.post.endpoint, {}, login),
        (towns.bad_post.endpoint, {}, login),
    ]
    told: list[dict[str, Any]] = [
        {"channel": endpoint.channel, "settings": {**endpoint.settings, **more}, "secrets": secrets}
        for endpoint, more, secrets in endpoints
    ]
    told.append({"channel": "mailbox"})
    for place, partner in enumerate(told):
        subscription = {"procedure": "recensementCitoyen", "place": f"commune:{COMMUNES[place]}"}
        partner |= {
            "subscriber": _number(place),
            "name": f"Partenaire {place}",
            "subscriptions": [subscription],
        }
    (world.folder / "partners.json").write_text(json.dumps({"partners": told}))


# --- the journey ----------------------------------------------------------------------------------------


async def test_what_is_nobody_s_business_lies_nowhere_in_clear_but_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partners, "PASSWORD", f"{MARK}-password")
    async with stage(HUB_RETRY_WAITS="0.1,0.1") as world, _towns(tmp_path) as towns:
        _declare(world, towns)
        hub = await world.start()
        sender = await _token(world, "sender", "site", "--procedure", "recensementCitoyen")
        operator = await _token(world, "operator", "o", "--role", "operator")
        mailbox = await _token(world, "partner", _number(6))
        told = {
            "X-Told": f"{PLAIN}-header",
            "User-Agent": f"{PLAIN}-header",
            "Authorization": f"Bearer {sender}",
        }
        async with (
            aiohttp.ClientSession(headers=told) as session,
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {operator}"}) as watching,
        ):
            for number, commune in enumerate(COMMUNES, 1):
                await post(session, hub.url, _form(number, commune))
            await _nothing_in_problems(session, hub)
            await at_rest(hub, watching)
            await _reports(hub, mailbox)
            await _sender_reads_what_was_reported(session, hub)
            # What was refused is sent again, and refused again.
            await hub.open_lanes(watching, "essai")
            replays = await hub.replay(
                watching, [{"cause": cause, "reason": "essai"} for cause in await _causes(hub, watching)]
            )
            counts = await at_rest(hub, watching)
            listed = await hub.deliveries(watching)
            await _nothing_in_pages(watching, hub, listed[0]["submission"], replays[0]["id"])
            deliveries = {one["subscriber"]: one["id"] for one in listed}
        assert (counts["deliveries.delivered"], counts["deliveries.parked"]) == (3, 3)
        assert len(deliveries) == SUBMISSIONS
        await _nothing_in_commands(world, listed[0]["submission"], replays[0]["id"])
        await _answers_are_kept(world, deliveries)
        await nothing_in_tables(world.folder, b"C-00001")
        await hub.stop()
        assert hub.process.returncode == 0
        _nothing_in_files(world)
        _everything_at_the_partners(towns)


async def _token(world: Stage, *words: str) -> str:
    return (await _run(world, "tokens", "create", *words)).out.strip()


async def _run(world: Stage, *words: str, code: int = 0) -> Told:
    told = await command(world.environment, *words)
    assert told.code == code, (words, told.text)
    return told


async def _nothing_in_problems(session: aiohttp.ClientSession, hub: Hub) -> None:
    _, (content,) = _form(99, "74042")
    for described in _refused():
        body = aiohttp.FormData()
        body.add_field("submission", json.dumps(described), content_type="application/json")
        body.add_field("file", content, filename=f"{MARK}.xml", content_type="application/xml")
        await _is_refused(session.post(f"{hub.url}/v1/submissions", data=body))
    path = f"/v1/submissions/{value_of('content')}"
    async with session.get(f"{hub.url}{path}", params={"q": MARK}) as answer:
        assert answer.status in (403, 404)
        assert finds(await answer.read()) == []


async def _is_refused(asked: Any) -> None:
    async with asked as answer:
        said = await answer.read()
        assert 400 <= answer.status < 500, said
        assert finds(said) == [], said
        assert finds(repr(answer.headers).encode()) == []


async def _reports(hub: Hub, token: str) -> None:
    """From the mailbox: a message and a file; and some that cannot be."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        [parcel] = (await hub.read(session, "/v1/mailbox"))["items"]
        url = f"{hub.url}/v1/mailbox/{parcel['delivery']}/events"
        file = {
            "name": f"{value_of('filename')}.txt",
            "media_type": "text/plain",
            "content": base64.b64encode(value_of("filebytes").encode() * 50).decode(),
        }
        good = {"status": "IN_PROGRESS", "message": value_of("content"), "file": file}
        async with session.post(url, json=good) as answer:
            assert answer.status == 201, await answer.text()
            assert finds(await answer.read()) == []
        wrong: list[dict[str, Any]] = [
            {"status": value_of("content")},
            {"message": {"x": value_of("content")}},
            {"message": "x", "unheard": value_of("content")},
            {"file": {**file, "sha256": "0" * 64}},
            {"file": {**file, "content": value_of("filebytes")}},
            {"file": {**file, "media_type": value_of("filename")}},
        ]
        for told in wrong:
            await _is_refused(session.post(url, json=told))


async def _sender_reads_what_was_reported(session: aiohttp.ClientSession, hub: Hub) -> None:
    async with asyncio.timeout(30):
        while not (events := (await hub.read(session, "/v1/events"))["items"]):
            await asyncio.sleep(0.1)
    assert events[0]["message"] == value_of("content")
    async with session.get(f"{hub.url}/v1/events/{events[0]['id']}/file") as answer:
        assert finds(await answer.read()) == ["filebytes"]


async def _causes(hub: Hub, session: aiohttp.ClientSession) -> list[str]:
    return sorted({one["cause"] for one in await hub.deliveries(session, state="parked")})


async def _nothing_in_pages(session: aiohttp.ClientSession, hub: Hub, submission: str, replay: str) -> None:
    paths = (
        "/metrics",
        "/readyz",
        "/v1/deliveries",
        "/v1/deliveries?state=parked",
        "/v1/lanes",
        "/v1/channels",
        "/v1/replays",
        f"/v1/replays/{replay}",
        f"/v1/replays/{replay}/disclosures",
        f"/v1/submissions/{submission}",
    )
    for path in paths:
        async with session.get(f"{hub.url}{path}") as answer:
            assert answer.status == 200, path
            assert finds(await answer.read()) == [], path


async def _nothing_in_commands(world: Stage, submission: str, replay: str) -> None:
    for words in (
        ("deliveries", "--state", "parked"),
        ("reconcile",),
        ("tokens", "list"),
        ("lanes",),
        ("replay", "list"),
        ("replay", "show", replay),
        ("rules", "explain", submission),
        ("partners", "list"),
        ("partners", "export"),
        ("partners", "export", "--format", "csv"),
        ("partners", "import", str(world.folder / "partners.json"), "--dry-run"),
        ("keys", "rotate"),
    ):
        told = await _run(world, *words)
        assert finds(told.text.encode()) == [], words
    for place in (0, 2, 3, 5):
        told = await _run(world, "partners", "test", _number(place), code=1 if place in (3, 5) else 0)
        assert "✓" in told.out
        assert finds(told.text.encode()) == [], place


async def _answers_are_kept(world: Stage, deliveries: dict[str, str]) -> None:
    """As evidence, for who has the key: what the servers answered, word for word."""
    for place in (1, 5):
        told = await _run(world, "deliveries", "answers", deliveries[_number(place)])
        assert f"{PLAIN}-" in told.out


def _nothing_in_files(world: Stage) -> None:
    """The operator's own file holds the secrets: there the same search finds each of them."""
    for partner in json.loads((world.folder / "partners.json").read_text())["partners"]:
        for secret in partner.get("secrets", {}).values():
            assert finds(secret.encode()), partner["subscriber"]
    files = nothing_in_files(world.folder, b"C-00001")
    assert sum("attachments" in path.parts for path in files) == SUBMISSIONS + 1


def _everything_at_the_partners(towns: Towns) -> None:
    """The same search finds every place there: it can find."""
    taken = b"".join(content for _, parcel in towns.inbox.received() for content in parcel.values())
    names = " ".join(name for _, parcel in towns.inbox.received() for name in parcel).encode()
    # A phone number has thirty signs at most.
    assert {*finds(taken), *finds(names), "phone"} == set(PLACES)
    assert value_of("phone")[:30].encode() in taken
    assert len(towns.post.mails) == 1
    assert len(towns.hook.queries) == 1
    assert towns.hook.queries[0] == f"token={PLAIN}-query"
    assert towns.bad_post.mails == []
    assert towns.bad_inbox.received() == []
