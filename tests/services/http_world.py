"""A little hub for the tests of the HTTP API: the real application on a real socket, a real database, files
in a folder, and a rule book of one procedure and two kinds of recipients.

Every name and number in here is invented, or of a town hall's own public record.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp

from connectors.mailbox import MailboxConnector
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.objects.local import LocalAttachments
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.events import PostgresEvents
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lane_orders import PostgresLaneOrders
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.numbers import PostgresNumbers
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.reads import PostgresReads
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.replays import PostgresReplays
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.adapters.postgres.sessions import PostgresSessions
from hub.adapters.postgres.tokens import PostgresTokens
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.postgres.uploads import PostgresUploads
from hub.adapters.postgres.views import PostgresViews
from hub.adapters.system.clock import SystemClock
from hub.assembly.files import channel_fields
from hub.domain.identity import Subscriber
from hub.domain.matching import decide
from hub.domain.partner import Endpoint, Partner
from hub.entrypoints.http.app import build
from hub.entrypoints.http.limits import Limits
from hub.entrypoints.http.links import Links
from hub.entrypoints.http.rooms import Rooms, Vitals
from hub.entrypoints.http.server import serve
from hub.ports.rule_books import Change
from hub.ports.tokens import OperatorIdentity, PartnerIdentity, Role, SenderIdentity
from hub.services.endpoints import EndpointRoom
from hub.services.events import EventRoom
from hub.services.intake import IntakeRoom
from hub.services.library import Library
from hub.services.parcels import ParcelRoom
from hub.services.reporting import ReportRoom
from hub.services.trying import TrialRoom
from hub.services.uploads import UploadRoom
from hub.wire import items, read_change
from schemas.models.rules import ProcedureIn, SubscriptionIn
from tests.conformance.motion import conclude, delivered
from tests.unit.samples import BONNEVILLE, MINISTRY, territory

SENDER = "essai-osl"
OTHER_SENDER = "autre-osl"
ROOMY = Limits(rate=10_000, burst=10_000, reserve=0.0)

_PROCEDURES: list[dict[str, Any]] = [
    {
        "procedure": "CERTDC",
        "title": "Certificat de décès",
        "facts": {
            "commune": {"type": "place", "required": True},
            "loueur": {"type": "siret"},
            "nature": {"type": "word", "values": ["a", "b"]},
            "etage": {"type": "word"},
        },
        "attachment_types": ["DD", "VA", "ZZ"],
        "rules": [
            {
                "id": "national",
                "recipient": "national",
                "partner": str(MINISTRY),
                "attachments": ["DD", "VA"],
            },
            {
                "id": "mairie",
                "recipient": "mairie",
                "competent": {"place": "commune", "levels": ["commune"]},
                "attachments": ["VA"],
            },
        ],
    },
    {
        "procedure": "AUTRE",
        "title": "Une autre démarche",
        "facts": {"commune": {"type": "place", "required": True}},
        "rules": [{"id": "national", "recipient": "national", "partner": str(MINISTRY)}],
    },
]
_LITTLE = territory()
_SUBSCRIPTIONS = [{"procedure": "CERTDC", "subscriber": str(BONNEVILLE), "place": "commune:74042"}]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rules(self) -> set[tuple[str, str]]:
        """(field, rule) of each flaw of a problem document."""
        assert self.headers["Content-Type"] == "application/problem+json"
        return {(flaw["field"], flaw["rule"]) for flaw in self.json["errors"]}


@dataclass(slots=True)
class World:
    """`folder` is where the attachments lie."""

    url: str
    rooms: Rooms
    vitals: Vitals
    database: Database
    folder: Path
    client: aiohttp.ClientSession
    tokens: dict[str, str]
    _goods: int = field(default=0)

    async def call(self, method: str, path: str, who: str | None = SENDER, **more: Any) -> Answer:
        headers = dict(more.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {self.tokens[who]}"
        url = path if path.startswith("http") else self.url + path
        async with self.client.request(method, url, headers=headers, **more) as told:
            return Answer(told.status, told.headers, await told.read())

    async def post(self, body: Any, who: str | None = SENDER, **more: Any) -> Answer:
        """As JSON."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **more.pop("headers", {})}
        return await self.call("POST", "/v1/submissions", who, data=text, headers=headers, **more)

    async def post_parts(
        self, body: Any, files: Sequence[bytes], who: str | None = SENDER, name: str = "file"
    ) -> Answer:
        """As multipart."""
        with aiohttp.MultipartWriter("form-data") as form:
            part = form.append_json(body)
            part.set_content_disposition("form-data", name="submission")
            for content in files:
                part = form.append(content)
                part.set_content_disposition("form-data", name=name, filename="x.pdf")
            return await self.call("POST", "/v1/submissions", who, data=form)

    async def post_lines(self, lines: Sequence[bytes], who: str | None = SENDER) -> list[Any]:
        answer = await self.call(
            "POST",
            "/v1/submissions:batch",
            who,
            data=b"\n".join(lines),
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert answer.status == 200, answer.body
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        return [json.loads(line) for line in answer.body.splitlines()]

    async def ids(self) -> list[UUID]:
        async def work(connection: Any) -> list[UUID]:
            return [row["id"] for row in await connection.fetch("SELECT id FROM submission")]

        return await self.database.run(work)

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    async def holds_nothing_and_works(self) -> None:
        """No submission, no file, and the next good post is taken."""
        assert await self.ids() == []
        await until(lambda: self.files() == [])
        await self.still_works()

    async def still_works(self) -> None:
        self._goods += 1
        answer = await self.post_parts(
            offer([b"un fichier"], external_id=f"bon-{self._goods}"), [b"un fichier"]
        )
        assert answer.status == 202, answer.body

    async def route(self) -> None:
        """Decide and register all that was accepted."""
        tray = PostgresTray(self.database)
        letters = await tray.letters(1000)
        snapshot = await self.rooms.library.newest()
        decisions = [decide(letter.content, snapshot) for letter in letters]
        await PostgresRegistry(self.database).register(decisions)
        await tray.discard([letter.position for letter in letters])

    async def deliver(self) -> None:
        """Everything that is due, into the mailboxes."""
        lanes = PostgresLanes(self.database)
        for lane in await lanes.lease("essai", 100, timedelta(minutes=1)):
            claims = await lanes.claim("essai", lane.id, 1000)
            await conclude(lanes, "essai", lane.id, [delivered(claim.attempt, "mailbox") for claim in claims])


@asynccontextmanager
async def open_world(
    dsn: str, folder: Path, limits: Limits = ROOMY, grace: float = 5.0
) -> AsyncIterator[World]:
    """`dsn`: a migrated, empty database."""
    database = await Database.open(dsn)
    try:
        rooms = await rooms_on(database, folder, limits)
        vitals = Vitals(ready({"store": True}), rooms.views.counts)
        tokens = await _tokens(rooms.tokens)
        async with (
            serve(build(rooms, vitals), "127.0.0.1", 0, grace=grace) as listening,
            aiohttp.ClientSession() as client,
        ):
            yield World(listening.url, rooms, vitals, database, folder / "attachments", client, tokens)
    finally:
        await database.close()


def itself(port: Any) -> Any:
    return port


async def rooms_on(
    database: Database, folder: Path, limits: Limits = ROOMY, over: Callable[[Any], Any] = itself
) -> Rooms:
    """With a rule book and two mailboxes. `over` is put around each port that a room of the journey is given."""
    books = PostgresRuleBooks(database)
    told = items(
        map(ProcedureIn.model_validate, _PROCEDURES),
        map(SubscriptionIn.model_validate, _SUBSCRIPTIONS),
        (),
        (_LITTLE.vintage, b"essai"),
    )
    # A hub that starts again finds the rule book it published.
    newest = max((number for number, _ in (await books.confirm(0)).editions), default=0)
    await books.publish(Change(tuple(told.values())), newest, timedelta(0), "essai", "premier plan")
    await PostgresPartners(database).keep(
        [
            (Partner(MINISTRY, "Ministère d'essai", Endpoint("mailbox", {})), None, None),
            (Partner(BONNEVILLE, "Mairie de Bonneville", Endpoint("mailbox", {})), None, None),
        ]
    )
    library = Library(over(books), lambda book, change: read_change(book, change, lambda _: _LITTLE))
    keyring = LocalKeyring(bytes(range(32)))
    attachments = over(LocalAttachments(folder / "attachments"))
    clock = SystemClock()
    return Rooms(
        intake=IntakeRoom(over(PostgresIntake(database)), attachments, keyring, library),
        uploads=UploadRoom(PostgresUploads(database), attachments, keyring, frozenset({SENDER})),
        library=library,
        views=PostgresViews(database),
        tokens=PostgresTokens(database),
        replays=over(PostgresReplays(database)),
        replay_approval=2,
        mailboxes=PostgresMailboxes(database),
        reads=PostgresReads(database),
        sessions=PostgresSessions(database),
        secure=False,
        proxies=(),
        numbers=PostgresNumbers(database),
        lanes=PostgresLaneOrders(database),
        channels=channel_fields(),
        trials=TrialRoom(
            PostgresPartners(database), EndpointRoom(keyring).opened, {"mailbox": MailboxConnector()}
        ),
        parcels=ParcelRoom(attachments, keyring, library.title),
        reports=ReportRoom(over(PostgresEvents(database)), attachments, keyring, library, clock),
        events=PostgresEvents(database),
        opened_events=EventRoom(attachments, keyring),
        attachments=attachments,
        links=Links(keyring, "https://hub.example", timedelta(hours=1), clock.now),
        clock=clock,
        limits=limits,
    )


def ready(parts: Mapping[str, bool]) -> Callable[[], Awaitable[Mapping[str, bool]]]:
    async def told() -> Mapping[str, bool]:
        return parts

    return told


async def _tokens(tokens: Any) -> dict[str, str]:
    hour = timedelta(hours=1)
    mine = frozenset({"CERTDC"})
    return {
        SENDER: await tokens.create(SenderIdentity(SENDER, mine), hour),
        OTHER_SENDER: await tokens.create(SenderIdentity(OTHER_SENDER, mine), hour),
        "ministry": await tokens.create(PartnerIdentity(MINISTRY), hour),
        "bonneville": await tokens.create(PartnerIdentity(BONNEVILLE), hour),
        "stranger": await tokens.create(PartnerIdentity(Subscriber("11001401600015", "1")), hour),
        "reader": await tokens.create(OperatorIdentity("lectrice", Role.READER), hour),
        "operator": await tokens.create(OperatorIdentity("exploitant", Role.OPERATOR), hour),
        "approver": await tokens.create(OperatorIdentity("responsable", Role.APPROVER), hour),
        "expired": await tokens.create(SenderIdentity(SENDER, mine), timedelta(seconds=-1)),
    }


def offer(files: Sequence[bytes] = (), external_id: str = "dossier-1", **more: Any) -> dict[str, Any]:
    """A good submission; the bytes of its files go beside it."""
    return {
        "external_id": external_id,
        "procedure": "CERTDC",
        "facts": {"commune": "74042"},
        "applicant": {"last_name": "Secrète"},
        "attachments": [attachment(content, f"acte {n}.pdf") for n, content in enumerate(files, start=1)],
        **more,
    }


def attachment(content: bytes, name: str = "acte.pdf", /, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "VA",
        "media_type": "application/pdf",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **more,
    }


def inline(content: bytes, name: str = "acte.pdf", /, **more: Any) -> dict[str, Any]:
    return attachment(content, name, content=base64.b64encode(content).decode(), **more)


def line(external_id: str, **more: Any) -> bytes:
    return json.dumps(offer(external_id=external_id, **more)).encode()


def multipart(boundary: bytes, body: object, *files: bytes) -> bytes:
    """The bytes of a multipart body, for those that are to be cut or spoilt."""

    def part(name: bytes, content: bytes) -> bytes:
        return b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (boundary, name, content)

    parts = part(b"submission", json.dumps(body).encode()) + b"".join(part(b"file", file) for file in files)
    return parts + b"--%s--\r\n" % boundary


async def raw(url: str, *pieces: bytes, break_off: bool = False, wait: float = 0.05) -> bytes:
    """Bytes on a socket, one after the other; what came back until the other side closed, or nothing when
    this side breaks off."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(wait)
        return b"" if break_off else await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
