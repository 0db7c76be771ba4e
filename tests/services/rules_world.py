"""A rule book that tests publish edition by edition, and the rooms that decide by it, on a real store and log.

Everything in here is invented but the SIREN of a town hall: a département of a hundred communes, procedures
that all look alike, and partners of whom the decision tells which edition was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.system.clock import SystemClock
from hub.domain.decisions import Decision, Routed
from hub.domain.identity import Subscriber
from hub.domain.partner import made_up_siret
from hub.domain.rule_book import RuleBook
from hub.domain.submission import Accepted
from hub.domain.territory import Commune, Departement, Region, Territory, Zone
from hub.ports.log import Log, Topic
from hub.ports.rule_books import Change, Item, ItemKey
from hub.services.library import Library
from hub.services.outgoing import OutgoingRoom
from hub.services.registration import RegistrationRoom
from hub.services.routing import RoutingRoom
from hub.services.shelf import Shelf
from hub.wire import (
    DecisionWriter,
    SubmissionReader,
    difference,
    items,
    read_change,
    read_decision_record,
    write_submission,
    write_unreadable,
)
from schemas.models.rules import ProcedureIn, SubscriptionIn
from tests.conformance.samples import submission

AT_ONCE = timedelta(0)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
COMMUNES = tuple(f"74{number:03}" for number in range(1, 101))
LAND = Territory.build(
    "2026",
    [
        Region("84", "Auvergne-Rhône-Alpes"),
        Departement("74", "Haute-Savoie", "84"),
        *(Commune(code, f"Commune {code}", "74", None, None, None, Zone.METRO, ()) for code in COMMUNES),
    ],
)


def partner(number: int) -> Subscriber:
    return Subscriber(made_up_siret("217400423", number), "74042")


def procedure(code: str) -> ProcedureIn:
    return ProcedureIn.model_validate(
        {
            "procedure": code,
            "title": f"Démarche {code}",
            "facts": {"commune": {"type": "place", "required": True}},
            "rules": [
                {
                    "id": "mairie",
                    "recipient": "mairie",
                    "competent": {"place": "commune", "levels": ["commune"]},
                }
            ],
        }
    )


def wish(of: int, code: str = "P00", commune: str = COMMUNES[0]) -> SubscriptionIn:
    """The `of`-th partner's for a procedure and a commune."""
    return SubscriptionIn(procedure=code, subscriber=str(partner(of)), place=f"commune:{commune}")


def read(book: RuleBook | None, change: Change) -> RuleBook:
    """What `Library` reads with."""
    return read_change(book, change, lambda _: LAND)


@dataclass(slots=True)
class Press:
    """Publishes editions, each as what differs from the one before."""

    books: PostgresRuleBooks
    held: dict[ItemKey, Item] = field(default_factory=dict)
    number: int = 0

    async def publish(
        self, wishes: Iterable[SubscriptionIn], codes: Sequence[str] = ("P00",), lead: timedelta = AT_ONCE
    ) -> int:
        """Everything that is to stand; the edition's number."""
        told = items(map(procedure, codes), wishes, (), ("2026", b"a dataset"))
        change = difference(self.held, told)
        self.number = await self.books.publish(change, self.number, lead, "agent", "essai")
        self.held = told
        return self.number

    async def publish_for(self, of: int) -> int:
        """P00 in the first commune is the `of`-th partner's from now on."""
        return await self.publish([wish(of)])


@dataclass(slots=True)
class Desk:
    """Takes submissions in and carries them into the log; `router` is one that just started."""

    database: Database
    log: Log
    _next: count[int] = field(default_factory=count)

    async def receive(self) -> Accepted:
        """A submission of P00 for the first commune."""
        sample = submission(next(self._next), procedure="P00")
        [answer] = await PostgresIntake(self.database).accept(
            [replace(sample, facts={"commune": COMMUNES[0]})]
        )
        assert isinstance(answer, Accepted)
        return answer

    async def carry(self) -> None:
        tray = PostgresTray(self.database)
        room = OutgoingRoom(tray, self.log, write_submission)
        while await room.run_once(0):
            pass
        await tray.close()

    def library(self) -> Library:
        return Library(PostgresRuleBooks(self.database), read)

    def router(self, library: Library | None = None, log: Log | None = None) -> RoutingRoom:
        """Through another log than this desk's, if given."""
        through = self.log if log is None else log
        shelf = Shelf(through, write_unreadable, SystemClock())
        return RoutingRoom(
            through, library or self.library(), SubmissionReader().read, DecisionWriter(), shelf
        )

    async def route(self, router: RoutingRoom, group: str = "routing") -> None:
        """All there is, for a group of readers."""
        async with self.log.reader(Topic.SUBMISSIONS, group) as reader:
            while await router.run_once(reader, 0):
                pass

    async def register(self) -> None:
        async with self.log.reader(Topic.ROUTINGS, "registration") as reader:
            shelf = Shelf(self.log, write_unreadable, SystemClock())
            room = RegistrationRoom(PostgresRegistry(self.database), read_decision_record, shelf)
            while await room.run_once(reader, 0):
                pass

    async def decided(self) -> dict[UUID, list[tuple[int, Subscriber | None]]]:
        """Of each submission, every decision in the log so far: by which edition, for whom."""
        found: dict[UUID, list[tuple[int, Subscriber | None]]] = {}
        async with self.log.reader(Topic.ROUTINGS, "onlookers") as reader:
            while entries := await reader.read(1000, 0):
                for entry in entries:
                    decision = read_decision_record(entry.record)
                    found.setdefault(decision.submission, []).append((decision.snapshot, _who(decision)))
        await self.log.remove_group(Topic.ROUTINGS, "onlookers")
        return found


def desk(database: Database) -> Desk:
    return Desk(database, PostgresLog(database, 2))


def _who(decision: Decision) -> Subscriber | None:
    if not isinstance(decision.verdict, Routed):
        return None
    [recipient] = decision.verdict.recipients
    return recipient.subscriber
