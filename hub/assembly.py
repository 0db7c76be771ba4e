"""Assembly: from settings to a running hub. The only file that names adapters; nobody but the command line
knows it."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path

import structlog
from starlette.types import ASGIApp

from hub.adapters.keys.local import LocalKeyring
from hub.adapters.objects.local import LocalAttachments
from hub.adapters.partners.files import read_partners_file
from hub.adapters.partners.written import ExportForm, write_export, written
from hub.adapters.pictures.coverage import render as render_coverage
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.migrations import migrate, store_id
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.received import PostgresReceived
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.replays import PostgresReplays
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.adapters.postgres.tokens import PostgresTokens
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.postgres.views import PostgresViews
from hub.adapters.rules.declared import Declared, read_declared, remembering
from hub.adapters.rules.territory import load_territory, read_territory
from hub.adapters.rules.vintages import fetched, list_vintages
from hub.adapters.rules.vintages import update as update_territory
from hub.adapters.system.clock import SystemClock
from hub.domain.errors import RuleBookError, SettingsError, Unavailable
from hub.domain.retry import RetryPolicy
from hub.domain.review import Finding, Severity
from hub.domain.rule_book import RuleBook
from hub.domain.rules import Subscription, Succession
from hub.domain.territory import Territory
from hub.entrypoints import workers
from hub.entrypoints.http.app import build
from hub.entrypoints.http.limits import Limits
from hub.entrypoints.http.links import Links
from hub.entrypoints.http.rooms import Rooms
from hub.entrypoints.http.server import Listening, serve
from hub.ports.connector import Connector, Surroundings
from hub.ports.keyring import Keyring
from hub.ports.store import Change, Item, ItemKind, Ledger, Partners, Replays
from hub.ports.tokens import Tokens
from hub.ports.views import ReceivedViews, Views
from hub.services import declaration
from hub.services.declaration import DeclarationRoom, flaws_in_partners
from hub.services.dispatch import DispatchRoom, Pace
from hub.services.editions import EditionRoom, Proposal
from hub.services.endpoints import EndpointRoom
from hub.services.import_plans import Checks
from hub.services.intake import IntakeRoom
from hub.services.library import Library
from hub.services.onboarding import OnboardingRoom
from hub.services.outgoing import OutgoingRoom
from hub.services.parcels import ParcelRoom
from hub.services.registration import RegistrationRoom
from hub.services.replay import ReplayRoom
from hub.services.routing import RoutingRoom
from hub.services.sweep import SweepRoom
from hub.settings import Settings
from hub.wire import (
    difference,
    items,
    read_change,
    read_decision_record,
    read_submission_record,
    subscription_in,
    succession_in,
    write_decision,
    write_submission,
)

# What the command line may name of what only this file knows.
__all__ = [
    "ExportForm",
    "Ground",
    "Running",
    "declared_rules",
    "faults",
    "fetched",
    "findings",
    "ground",
    "has_store",
    "list_vintages",
    "load_territory",
    "read_partners_file",
    "render_coverage",
    "rules_folder",
    "run",
    "settle_memory",
    "update_territory",
    "write_export",
    "written",
]

log = structlog.get_logger()


# --- what lies in files -------------------------------------------------------------------------------


def declared(settings: Settings, territory: Callable[[bytes], Territory] | None = None) -> Declared:
    """Read every file. Raises RuleBookError."""
    read = remembering(read_territory) if territory is None else territory
    return read_declared(rules_folder(settings), settings.rules_most, settings.partners, read)


def declared_rules(settings: Settings, territory: Callable[[bytes], Territory] | None = None) -> Declared:
    """The same without the partners file."""
    return declared(settings.model_copy(update={"partners": None}), territory)


def faults(settings: Settings) -> list[str]:
    """What `hub check` finds: a sentence for each fault in settings, rules, cases and partners."""
    try:
        files = declared(settings)
        told = [finding.sentence for finding in _reviewed(files) if finding.severity is Severity.FAULT]
        return [*flaws_in(settings), *told, *flaws_in_partners(files, checks())]
    except RuleBookError as error:
        return str(error).splitlines()


def findings(settings: Settings) -> Sequence[Finding]:
    """What is to be said of the rule files and their cases, by themselves."""
    try:
        return _reviewed(declared_rules(settings))
    except RuleBookError as error:
        return declaration.faults(error)


def _reviewed(files: Declared) -> Sequence[Finding]:
    files.check()
    # Those whom a partners file names need not be all there are.
    return declaration.findings(files, files.book(), None, datetime.now(UTC))


def flaws_in(settings: Settings) -> list[str]:
    """What contradicts itself in the settings."""
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        return ["TLS needs both HUB_TLS_CERTIFICATE and HUB_TLS_KEY"]
    return []


def rules_folder(settings: Settings) -> Path:
    if settings.rules is not None:
        return settings.rules
    spec = importlib.util.find_spec("routing_rules")
    if spec is None or spec.origin is None:
        raise SettingsError("no rules folder: set HUB_RULES")
    return Path(spec.origin).parent


def connectors(surroundings: Surroundings) -> dict[str, Connector]:
    """Every connector that is installed, by channel."""
    return {point.name: point.load()(surroundings) for point in entry_points(group="hub.connectors")}


def checks() -> Checks:
    """What each channel's connector finds wrong with an endpoint."""
    known = connectors(Surroundings(link=lambda *_: "", now=lambda: 0.0))
    return {channel: connector.check for channel, connector in known.items()}


# --- what every command stands on ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ground:
    """An opened store and keyring. `notice`: a sentence for the operator about where the data lie.
    `territory` reads a dataset."""

    settings: Settings
    database: Database
    keyring: Keyring
    embedded: EmbeddedPostgres | None
    territory: Callable[[bytes], Territory]

    @property
    def notice(self) -> str | None:
        return None if self.embedded is None else self.embedded.notice

    @property
    def views(self) -> Views:
        return PostgresViews(self.database)

    @property
    def tokens(self) -> Tokens:
        return PostgresTokens(self.database)

    @property
    def replays(self) -> Replays:
        return PostgresReplays(self.database)

    @property
    def ledger(self) -> Ledger:
        return PostgresLedger(self.database)

    @property
    def partners(self) -> Partners:
        return PostgresPartners(self.database)

    @property
    def received(self) -> ReceivedViews:
        return PostgresReceived(self.database)

    @property
    def editions(self) -> EditionRoom:
        lead = timedelta(seconds=self.settings.rules_lead)
        return EditionRoom(PostgresRuleBooks(self.database), self.read, difference, lead)

    @property
    def declaration(self) -> DeclarationRoom:
        return DeclarationRoom(self.editions, self.partners, EndpointRoom(self.keyring).seal, checks())

    async def imagined(self) -> RuleBook:
        """What the rule files would make of the rule book; their cases are not tried. Raises RuleBookError."""
        files = await asyncio.to_thread(declared_rules, self.settings, self.territory)
        await asyncio.to_thread(files.check)
        return (await self.editions.propose(files.rule_items())).book

    async def propose(self) -> tuple[Sequence[Finding], Proposal | None]:
        """What the rule files would make of the rule book; None when one of the findings is a fault."""
        try:
            files = await asyncio.to_thread(declared_rules, self.settings, self.territory)
        except RuleBookError as error:
            return declaration.faults(error), None
        return await self.declaration.propose(files, datetime.now(UTC))

    @property
    def onboarding(self) -> OnboardingRoom:
        return OnboardingRoom(
            self.partners,
            PostgresRuleBooks(self.database),
            EndpointRoom(self.keyring),
            read=self.read,
            write=_wish_items,
            checks=checks(),
            lead=timedelta(seconds=self.settings.rules_lead),
        )

    def read(self, book: RuleBook | None, change: Change) -> RuleBook:
        """What a change makes of a rule book. Raises RuleBookError."""
        return read_change(book, change, self.territory)


def has_store(settings: Settings) -> bool:
    """Whether there is a store to look into; one that is away is there as well."""
    return settings.database_url is not None or (settings.folder / "postgres").exists()


@asynccontextmanager
async def ground(settings: Settings, *, alone: bool) -> AsyncIterator[Ground]:
    """`alone`: the folder is this process's own (`hub run`); else a running hub's server is joined."""
    async with AsyncExitStack() as stack:
        settings.folder.mkdir(parents=True, exist_ok=True)
        embedded = None
        if settings.database_url is not None:
            dsn = settings.database_url.get_secret_value()
        else:
            embedded = EmbeddedPostgres(
                settings.folder / "postgres", run_as=os.environ.get("HUB_POSTGRES_USER")
            )
            found = None if alone else await embedded.running()
            dsn = found if found is not None else await stack.enter_async_context(_started(embedded))
        await migrate(dsn)
        database = await Database.open(dsn, settings.database_connections)
        stack.push_async_callback(database.close)
        keyring = await _keyring(settings, database)
        yield Ground(settings, database, keyring, embedded, remembering(read_territory))


@asynccontextmanager
async def _started(embedded: EmbeddedPostgres) -> AsyncIterator[str]:
    async with embedded:
        yield embedded.dsn


def _wish_items(subscriptions: Iterable[Subscription], successions: Iterable[Succession]) -> Iterable[Item]:
    told = items((), map(subscription_in, subscriptions), map(succession_in, successions), ("", b""))
    return (item for item in told.values() if item.kind is not ItemKind.TERRITORY)


async def _keyring(settings: Settings, database: Database) -> Keyring:
    if settings.key is not None:
        return LocalKeyring.from_base64(settings.key.get_secret_value())
    if settings.key_file is not None:
        return LocalKeyring.from_file(settings.key_file, create=False)
    path = settings.folder / "hub.key"
    counts = await PostgresViews(database).counts()
    if not path.exists() and counts["submissions.accepted"]:
        # A new key would open nothing of what is there, and nobody would notice before the first attempt.
        raise SettingsError(f"{path} is gone, and what was accepted is sealed under it: put it back")
    return LocalKeyring.from_file(path, create=True)


# --- the running hub ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Running:
    """Told when the hub is ready to be used. `notices`: sentences for the operator."""

    url: str
    notices: tuple[str, ...]
    snapshot: int


async def run(settings: Settings, stopping: asyncio.Event, ready: Callable[[Running], None]) -> None:
    """The whole hub in this process, until `stopping` is set. Raises SettingsError, RuleBookError or
    Unavailable when it cannot start."""
    if found := flaws_in(settings):
        raise SettingsError("\n".join(found))
    reading = asyncio.create_task(asyncio.to_thread(declared, settings))
    async with AsyncExitStack() as stack:
        # The database starts meanwhile.
        stack.callback(reading.cancel)
        base = await stack.enter_async_context(ground(settings, alone=True))
        await _check_attachments(base)
        clock = SystemClock()
        endpoints = EndpointRoom(base.keyring)
        notices = await base.declaration.begin(reading)
        library = Library(PostgresRuleBooks(base.database), base.read)
        snapshot = (await library.newest()).number
        attachments = LocalAttachments(settings.folder / "attachments")
        intake_store = PostgresIntake(base.database)
        parcels = ParcelRoom(attachments, base.keyring, library.title)
        here = Listening(settings.host, settings.port, settings.tls_certificate is not None).url
        lifetime = timedelta(seconds=settings.link_lifetime)
        links = Links(base.keyring, settings.public_url or here, lifetime, clock.now)
        known = connectors(Surroundings(link=links.link, now=clock.now))
        for connector in known.values():
            stack.push_async_callback(connector.close)
        journey = PostgresLog(base.database, settings.log_partitions)
        lanes = PostgresLanes(base.database)
        tray = PostgresTray(base.database)
        for waiting in (lanes, tray):
            stack.push_async_callback(waiting.close)
        dispatch = DispatchRoom(
            worker=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            lanes=lanes,
            connectors=known,
            parcels=parcels,
            clock=clock,
            policy=lambda _: _policy(settings),
            open_secrets=endpoints.open,
            pace=Pace(settings.lanes_at_once, settings.page, timedelta(seconds=settings.lease)),
        )
        app = build(
            Rooms(
                intake=IntakeRoom(intake_store, attachments, base.keyring, library),
                library=library,
                views=base.views,
                tokens=base.tokens,
                replays=base.replays,
                mailboxes=PostgresMailboxes(base.database),
                parcels=parcels,
                links=links,
                attachments=attachments,
                clock=clock,
                limits=_limits(settings),
                readiness=lambda: _readiness(base, library),
            )
        )
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "outgoing": lambda: workers.carry_letters(
                OutgoingRoom(tray, journey, write_submission), stopping
            ),
            "routing": lambda: workers.route(
                RoutingRoom(journey, library, read_submission_record, write_decision), journey, stopping
            ),
            "registration": lambda: workers.register(
                RegistrationRoom(PostgresRegistry(base.database), read_decision_record), journey, stopping
            ),
            "dispatch": lambda: dispatch.run(stopping, settings.stop_grace),
            "replay": lambda: workers.replay(ReplayRoom(base.replays, clock), stopping),
            "refresh": lambda: workers.refresh(library, stopping),
            "trim": lambda: workers.trim(journey, stopping),
            "prune": lambda: workers.prune(PostgresRuleBooks(base.database), stopping),
            "sweep": lambda: workers.sweep(SweepRoom(attachments, intake_store), stopping),
        }
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_watch(base, stopping), name="watch")
            for name, life in loops.items():
                tasks.create_task(workers.keep(name, life, stopping), name=name)
            async with _door(settings, app):
                settle_memory()
                where = () if base.notice is None else (base.notice,)
                ready(Running(here, (*where, *notices), snapshot))
                await stopping.wait()


@asynccontextmanager
async def _door(settings: Settings, app: ASGIApp) -> AsyncIterator[None]:
    """Raises SettingsError when the address cannot be had, or the certificate not be used."""
    tls = (settings.tls_certificate, settings.tls_key)
    async with AsyncExitStack() as stack:
        try:
            door = serve(app, settings.host, settings.port, *tls, settings.stop_grace)
            await stack.enter_async_context(door)
        except OSError as error:
            where = f"the HTTP door at {settings.host}:{settings.port}"
            raise SettingsError(f"{where} cannot be opened: {error.strerror}") from error
        yield


async def _check_attachments(base: Ground) -> None:
    """The sweep removes what the store does not name: with another store it would remove everything. Raises
    SettingsError when the attachments here belong to another one."""
    mark = base.settings.folder / "attachments.store"
    store = await store_id(base.database)
    told = mark.read_text("ascii").strip() if mark.exists() else ""
    if not told:
        mark.write_text(f"{store}\n", encoding="ascii")
    elif told != store:
        raise SettingsError(
            f"the attachments in {base.settings.folder} belong to another database than this one: set"
            " HUB_DATABASE_URL or HUB_FOLDER as they were"
        )


def settle_memory() -> None:
    """What is loaded by now (the territory, the rule book) stays: the collector need not walk through its
    half million objects again and again, nor after every 700 of the small ones that a request makes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _watch(base: Ground, stopping: asyncio.Event) -> None:
    """Ends the hub when its embedded database has ended: whoever started the hub starts both again."""
    while base.embedded is not None and not stopping.is_set():
        if not base.embedded.lives:
            raise Unavailable("the embedded database has ended; start the hub again")
        await workers.rest(stopping, 1.0)


async def _readiness(base: Ground, library: Library) -> Mapping[str, bool]:
    """The store answers, and a rule book is in force. Raises nothing but HubError."""
    await library.refresh()
    server = base.embedded is None or base.embedded.lives
    return {"store": server, "rule_book": (await library.newest()).number > 0}


def _policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        tuple(timedelta(seconds=wait) for wait in settings.retry_waits),
        timedelta(seconds=settings.attempt_limit),
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        body=settings.body_limit,
        document=settings.json_limit,
        rate=settings.rate_limit,
        burst=max(int(settings.rate_limit), 1),
        in_flight=settings.in_flight_limit,
        longest_post=settings.post_time,
        reserve=settings.disk_reserve,
    )
