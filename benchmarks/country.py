"""A country of webhooks for the delivery benchmarks: partners, a store, and deliveries registered by the real rooms.

Business of this file: 9,000 partners, each for one commune; submissions sealed and accepted as intake does it; their
decisions, by the hub's own matching, and their registration; and `hub run` beside it. What is sent is one parcel with
one file, whose link the partner is given. It measures nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import routing_rules
from benchmarks.posts import PROCEDURE
from benchmarks.routers import territory
from benchmarks.sink import Arrival, Sink
from connectors import webhook
from demo.hub import Hub
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.objects.local import LocalAttachments
from hub.adapters.postgres.database import Connection, Database
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.rules.files import read_rules
from hub.domain.decisions import Decision
from hub.domain.delivery import Attempt
from hub.domain.document import Document, OfferedFile
from hub.domain.identity import ParcelKind, Subscriber, submission_id
from hub.domain.matching import decide
from hub.domain.partner import made_up_siret
from hub.domain.rule_book import Snapshot
from hub.domain.submission import Accepted, AttachmentFacts, RoutingFacts, StoredAttachment, Submission
from hub.entrypoints.http.links import Links
from hub.ports.lanes import Claim
from hub.services.parcels import ParcelRoom
from hub.wire import rule_book
from schemas.models.rules import SubscriptionIn
from tests.ports import free_port

WORKERS = 2
"""Dispatch roles, each a process: as many as there are cores, as operators start them."""
PARTNERS = 9_000
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Post = tuple[str, dict[str, str], bytes]
"""Address, headers and body of a request."""

_SENDER = "benchmark"
_PAGE = 500


@dataclass(slots=True)
class Country:
    """`posted`: how many submissions were made so far; `kept`: those that `posts` may be asked for."""

    folder: Path
    dsn: str
    database: Database
    keyring: LocalKeyring
    snapshot: Snapshot
    partners: Sequence[tuple[str, Subscriber]]
    environment: dict[str, str]
    posted: int = 0
    kept: dict[UUID, tuple[Submission, RoutingFacts]] = field(default_factory=dict)

    async def accepted(self, whom: Sequence[int]) -> list[RoutingFacts]:
        """One submission more for each of these partners, by number; what the log would be given of them."""
        intake, facts = PostgresIntake(self.database), list[RoutingFacts]()
        for start in range(0, len(whom), _PAGE):
            batch = [self._submission(partner) for partner in whom[start : start + _PAGE]]
            for one, answer in zip(batch, await intake.accept(batch), strict=True):
                assert isinstance(answer, Accepted)
                files = tuple(stored.facts for stored in one.attachments)
                told = RoutingFacts(one.id, one.sender, one.procedure, one.facts, files, answer.received_at)
                facts.append(told)
                self.kept[one.id] = one, told
        return facts

    def decided(self, facts: Sequence[RoutingFacts]) -> list[Decision]:
        """Each is for one partner."""
        found = [decide(one, self.snapshot) for one in facts]
        assert all(len(one.deliveries) == 1 for one in found)
        return found

    async def registered(self, decisions: Sequence[Decision]) -> None:
        registry = PostgresRegistry(self.database)
        for start in range(0, len(decisions), _PAGE):
            await registry.register(decisions[start : start + _PAGE])

    def posts(self, decisions: Sequence[Decision], arrivals: Sequence[Arrival], sink: Sink) -> list[Post]:
        """What arrived of these, as it was posted and in the same order."""
        at = {decision.deliveries[0]: decision for decision in decisions}
        parcels = ParcelRoom(LocalAttachments(self.folder), self.keyring, str)
        links = Links(self.keyring, self.environment["HUB_PUBLIC_URL"], timedelta(hours=72), time.time)
        key = webhook.signer(SECRET)
        assert key is not None
        signers = webhook.Signers(key)
        found = []
        for arrival in arrivals:
            submission, facts = self.kept[at[arrival.delivery].submission]
            parcel = parcels.build(
                Claim(
                    attempt=Attempt(arrival.delivery, 1, 1),
                    subscriber=self.partners[arrival.partner][1],
                    sequence=arrival.sequence,
                    kind=ParcelKind.SUBMISSION,
                    revision=1,
                    submission=submission.id,
                    sender=submission.sender,
                    external_id=submission.external_id,
                    procedure=submission.procedure,
                    received_at=facts.received_at,
                    sealed=submission.sealed,
                    wrapped_key=submission.wrapped_key,
                    attachments=submission.attachments,
                )
            )
            sent = webhook.body(parcel, [links.link(parcel, file.number) for file in parcel.files])
            headers = {"User-Agent": "aiguillage", **webhook.headers(parcel, sent, signers, time.time())}
            found.append((sink.url(arrival.partner), headers, sent))
        return found

    async def settled(self) -> None:
        """What a server that had been running for a while would have done by itself. The tray is emptied: nobody
        routes here."""
        tray = PostgresTray(self.database)
        while letters := await tray.letters(10_000):
            await tray.discard([letter.position for letter in letters])
        async with self.database.alone() as connection:
            await connection.execute("VACUUM ANALYZE")

    async def open_deliveries(self) -> int:
        async def ask(connection: Connection) -> int:
            found: int = await connection.fetchval("SELECT count(*) FROM delivery WHERE state <> 'delivered'")
            return found

        return await self.database.once(ask)

    @asynccontextmanager
    async def crew(
        self,
        count: int,
        plan: Callable[[], Sequence[tuple[UUID, float]]] | None = None,
        *,
        together: bool = True,
        **settings: str,
    ) -> AsyncIterator[list[Hub]]:
        """So many dispatch roles that begin `together`, at the end of this call, with what was planned before. `plan`
        is asked then: in how many seconds which delivery is due (None: all are). To hold them back until then writes
        every lane twice."""
        if together:
            await self._due("due_at + interval '1 hour'")
        environments = [{**self.environment, **settings, "HUB_PORT": str(free_port())} for _ in range(count)]
        starting = [Hub.start(one, self.folder / "hub.log", "dispatch") for one in environments]
        crew = await asyncio.gather(*starting)
        if together:
            await (self._due("clock_timestamp()") if plan is None else self._due_by(plan()))
        try:
            yield list(crew)
        finally:
            await asyncio.gather(*(hub.stop() for hub in crew))

    async def _due_by(self, plan: Sequence[tuple[UUID, float]]) -> None:
        async def put(connection: Connection) -> None:
            await connection.execute(
                """
                UPDATE delivery SET due_at = clock.now + told.seconds * interval '1 s'
                FROM unnest($1::uuid[], $2::float8[]) AS told (id, seconds), (SELECT clock_timestamp() AS now) AS clock
                WHERE delivery.id = told.id
                """,
                [delivery for delivery, _ in plan],
                [seconds for _, seconds in plan],
            )
            await connection.execute(
                "UPDATE lane SET due_at = (SELECT min(due_at) FROM delivery WHERE delivery.lane = lane.id)"
                " WHERE due_at IS NOT NULL"
            )
            await connection.execute("NOTIFY lanes")

        await self.database.run(put)

    async def _due(self, when: str) -> None:
        async def put(connection: Connection) -> None:
            await connection.execute(f"UPDATE lane SET due_at = {when} WHERE due_at IS NOT NULL")  # noqa: S608
            await connection.execute("NOTIFY lanes")

        await self.database.run(put)

    @asynccontextmanager
    async def hub(self, *roles: str, **settings: str) -> AsyncIterator[Hub]:
        hub = await Hub.start({**self.environment, **settings}, self.folder / "hub.log", *roles)
        try:
            yield hub
        finally:
            await hub.stop()

    def _submission(self, partner: int) -> Submission:
        self.posted += 1
        number, (commune, _) = self.posted, self.partners[partner]
        facts = {"commune_residence": commune}
        file = OfferedFile(1, "demande.xml", "formulaire", "application/xml", 900, "0" * 64)
        document = Document(PROCEDURE, facts, {"last_name": "Exemple"}, {"motif": "x" * 500}, (file,))
        text, key = document.canonical(), self.keyring.fresh()
        name = submission_id(_SENDER, f"B-{number}")
        sealed = self.keyring.seal(key, text, name.bytes)
        stored = StoredAttachment(AttachmentFacts(1, file.type, None), file.size, f"{name}-1")
        digest = self.keyring.digest(text)
        return Submission(
            name, _SENDER, f"B-{number}", PROCEDURE, facts, digest, sealed, key.wrapped, (stored,)
        )


@asynccontextmanager
async def country(folder: Path, sink: Sink, partners: int = PARTNERS) -> AsyncIterator[Country]:
    """Partners and rule book are declared by a hub of its own, as an operator would."""
    towns = _towns(partners)
    subscriptions = [
        {"procedure": PROCEDURE, "subscriber": str(who), "place": f"commune:{code}"} for code, who in towns
    ]
    declared = folder / "partners.json"
    declared.write_text(json.dumps({"partners": list(_partners(towns, sink))}))
    rules = read_rules(Path(routing_rules.__file__).parent)
    told = [SubscriptionIn.model_validate(one) for one in subscriptions]
    book = rule_book(rules.procedures, told, territory())
    async with EmbeddedPostgres(folder / "store") as server:
        environment = {
            "HUB_FOLDER": str(folder / "hub"),
            "HUB_DATABASE_URL": server.dsn,
            "HUB_HOST": "127.0.0.1",
            "HUB_PORT": str(free_port()),
            "HUB_PUBLIC_URL": "https://hub.example",
            "HUB_DISK_RESERVE": "0",
            "HUB_LOG_FORMAT": "json",
            "HUB_OUTGOING_ALLOW": "127.0.0.0/8",
            "HUB_RULES_LEAD": "0",
        }
        declaring = await Hub.start(
            {**environment, "HUB_PARTNERS": str(declared)}, folder / "hub.log", "dispatch"
        )
        await declaring.stop()
        database = await Database.open(server.dsn)
        try:
            keyring = LocalKeyring.from_file(folder / "hub" / "hub.key", create=False)
            snapshot = Snapshot(1, datetime(2026, 1, 1, tzinfo=UTC), book)
            yield Country(folder, server.dsn, database, keyring, snapshot, towns, environment)
        finally:
            await database.close()


def _towns(count: int) -> list[tuple[str, Subscriber]]:
    """Communes, each with its town hall's counter."""
    known = territory()
    found = []
    for place in known.communes():
        siret = made_up_siret(known.siren(place) or "217400423", 9001)
        found.append((place.code, Subscriber(siret, place.code)))
        if len(found) == count:
            break
    return found


def _partners(towns: Sequence[tuple[str, Subscriber]], sink: Sink) -> Iterator[dict[str, Any]]:
    for number, (code, who) in enumerate(towns):
        yield {
            "subscriber": str(who),
            "name": f"Mairie {code}",
            "channel": "webhook",
            "settings": {"url": sink.url(number), "plain": True},
            "secrets": {"secret": SECRET},
            "subscriptions": [{"procedure": PROCEDURE, "place": f"commune:{code}"}],
        }
