"""Assembly: from settings to a running hub. The only file that names adapters; nobody but the command line
knows it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import importlib.util
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path

import structlog
from starlette.types import ASGIApp

from hub.adapters.keys.local import LocalKeyring
from hub.adapters.objects.local import LocalAttachments
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.migrations import migrate, store_id
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.replays import PostgresReplays
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.adapters.postgres.tokens import PostgresTokens
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.postgres.views import PostgresViews
from hub.adapters.rules.cases import failing_cases
from hub.adapters.rules.files import RuleFolder, read_partners, read_rules
from hub.adapters.rules.territory import load_territory
from hub.adapters.system.clock import SystemClock
from hub.domain.errors import RuleBookError, SettingsError, Unavailable
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint, Partner
from hub.domain.retry import RetryPolicy
from hub.domain.territory import Territory
from hub.entrypoints import workers
from hub.entrypoints.http.app import build
from hub.entrypoints.http.limits import Limits
from hub.entrypoints.http.links import Links
from hub.entrypoints.http.rooms import Rooms
from hub.entrypoints.http.server import Listening, serve
from hub.ports.connector import Connector, Surroundings
from hub.ports.keyring import Keyring
from hub.ports.store import Ledger, Replays, RuleBooks
from hub.ports.tokens import Tokens
from hub.ports.views import Views
from hub.services.dispatch import DispatchRoom, Pace
from hub.services.endpoints import EndpointRoom
from hub.services.intake import IntakeRoom
from hub.services.library import Library
from hub.services.outgoing import OutgoingRoom
from hub.services.parcels import ParcelRoom
from hub.services.registration import RegistrationRoom
from hub.services.replay import ReplayRoom
from hub.services.routing import RoutingRoom
from hub.services.sweep import SweepRoom
from hub.settings import Settings
from hub.wire import (
    read_decision_record,
    read_rule_book,
    read_submission_record,
    rule_book,
    subscriptions_of,
    write_decision,
    write_rule_book,
    write_submission,
)
from schemas.models.partners import PartnersFile
from schemas.models.rules import RuleBookFile, SubscriptionIn

log = structlog.get_logger()


# --- what lies in files -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Declared:
    """What the operator declared in files: rules with their cases and territory, the rule book they make
    with the partners' subscriptions, and the partners (None: as before)."""

    rules: RuleFolder
    book: RuleBookFile
    territories: Mapping[str, Territory]
    partners: tuple[Partner, ...] | None


def declared(settings: Settings) -> Declared:
    """Read and check every file. Raises RuleBookError."""
    folder = rules_folder(settings)
    rules = read_rules(folder)
    territories = territories_in(folder)
    newest = max(territories)
    told = None if settings.partners is None else read_partners(settings.partners)
    subscriptions = [] if told is None else _subscriptions(told)
    book = RuleBookFile(territory=newest, procedures=list(rules.procedures), subscriptions=subscriptions)
    rule_book(book.procedures, book.subscriptions, territories[newest])
    return Declared(rules, book, territories, None if told is None else _partners(told))


def faults(settings: Settings) -> list[str]:
    """What `hub check` finds: a sentence for each fault in rules, cases and partners."""
    try:
        return flaws_in(settings, declared(settings))
    except RuleBookError as error:
        return [str(error)]


def flaws_in(settings: Settings, found: Declared) -> list[str]:
    """What is wrong with what was declared. Raises RuleBookError."""
    sentences = list(failing_cases(found.rules, found.territories[found.book.territory]))
    known = connectors(Surroundings(link=lambda *_: "", now=lambda: 0.0))
    for partner in found.partners or ():
        connector = known.get(partner.endpoint.channel)
        if connector is None:
            sentences.append(f"partner {partner.subscriber}: no connector for {partner.endpoint.channel}")
            continue
        sentences += [f"partner {partner.subscriber}: {fault}" for fault in connector.check(partner.endpoint)]
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        sentences.append("TLS needs both HUB_TLS_CERTIFICATE and HUB_TLS_KEY")
    return sentences


def rules_folder(settings: Settings) -> Path:
    if settings.rules is not None:
        return settings.rules
    spec = importlib.util.find_spec("routing_rules")
    if spec is None or spec.origin is None:
        raise SettingsError("no rules folder: set HUB_RULES")
    return Path(spec.origin).parent


def territories_in(folder: Path) -> dict[str, Territory]:
    """Each vintage of the territory beside the rules."""
    found = {
        path.name.partition(".")[0]: load_territory(path)
        for path in sorted((folder / "territory").glob("*.tsv.gz"))
    }
    if not found:
        raise RuleBookError(f"{folder / 'territory'}: no territory is here")
    return found


def connectors(surroundings: Surroundings) -> dict[str, Connector]:
    """Every connector that is installed, by channel."""
    return {point.name: point.load()(surroundings) for point in entry_points(group="hub.connectors")}


def _subscriptions(told: PartnersFile) -> list[SubscriptionIn]:
    return [
        SubscriptionIn(
            procedure=subscription.procedure, subscriber=partner.subscriber, place=subscription.place
        )
        for partner in told.partners
        for subscription in partner.subscriptions
    ]


def _partners(told: PartnersFile) -> tuple[Partner, ...]:
    found: dict[Subscriber, Partner] = {}
    for partner in told.partners:
        subscriber = Subscriber.parse(partner.subscriber)
        if subscriber in found:
            raise RuleBookError(f"partner {subscriber} stands twice")
        endpoint = Endpoint(partner.channel, partner.settings, partner.secrets)
        found[subscriber] = Partner(subscriber, partner.name, endpoint)
    return tuple(found.values())


# --- what every command stands on ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ground:
    """An opened store and keyring. `notice`: a sentence for the operator about where the data lie."""

    settings: Settings
    database: Database
    keyring: Keyring
    embedded: EmbeddedPostgres | None

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
        yield Ground(settings, database, await _keyring(settings, database), embedded)


@asynccontextmanager
async def _started(embedded: EmbeddedPostgres) -> AsyncIterator[str]:
    async with embedded:
        yield embedded.dsn


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
    """Told when the hub is ready to be used."""

    url: str
    notice: str | None
    snapshot: int


async def run(settings: Settings, stopping: asyncio.Event, ready: Callable[[Running], None]) -> None:
    """The whole hub in this process, until `stopping` is set. Raises SettingsError, RuleBookError or
    Unavailable when it cannot start."""
    reading = asyncio.create_task(asyncio.to_thread(_in_order, settings))
    async with AsyncExitStack() as stack:
        # The database starts meanwhile; nothing is published before the files are found in order.
        stack.callback(reading.cancel)
        base = await stack.enter_async_context(ground(settings, alone=True))
        await _check_attachments(base)
        files = await reading
        clock = SystemClock()
        editions = PostgresRuleBooks(base.database)
        endpoints = EndpointRoom(base.keyring)
        snapshot = await _publish(base, editions, files, endpoints)
        library = Library(editions, lambda content: read_rule_book(content, files.territories))
        await library.newest()
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
            "sweep": lambda: workers.sweep(SweepRoom(attachments, intake_store), stopping),
        }
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_watch(base, stopping), name="watch")
            for name, life in loops.items():
                tasks.create_task(workers.keep(name, life, stopping), name=name)
            async with _door(settings, app):
                _settle_memory()
                ready(Running(here, base.notice, snapshot))
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


def _in_order(settings: Settings) -> Declared:
    files = declared(settings)
    if found := flaws_in(settings, files):
        raise SettingsError("\n".join(found))
    return files


async def _publish(base: Ground, editions: RuleBooks, files: Declared, endpoints: EndpointRoom) -> int:
    """Make what the files say the rule book in force, if it is not already. Partners come first, so that
    no decision ever names one that is not known."""
    book = files.book
    if files.partners is None:
        book = await _with_known_subscriptions(editions, book)
    else:
        await PostgresPartners(base.database).keep([endpoints.seal(partner) for partner in files.partners])
    content = write_rule_book(book)
    digest = hashlib.sha256(content).digest()
    lead = timedelta(seconds=base.settings.rules_lead)
    return await editions.publish(content, digest, lead, author="hub run", reason="files read at start")


async def _with_known_subscriptions(editions: RuleBooks, book: RuleBookFile) -> RuleBookFile:
    """Without a partners file, whoever subscribed goes on to subscribe."""
    known = (await editions.confirm()).editions
    if not known:
        return book
    newest = await editions.edition(known[-1][0])
    return book.model_copy(update={"subscriptions": subscriptions_of(newest.content)})


def _settle_memory() -> None:
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
