"""What every command and every role stands on: an opened store and keyring, and the rooms that only need these."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from hub.adapters.keys.command import KeyProgram
from hub.adapters.keys.file import HubKeys, KeyFile
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.postgres.alarms import PostgresAlarms
from hub.adapters.postgres.bounces import PostgresBounces
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.embedded import EmbeddedPostgres
from hub.adapters.postgres.evidence import PostgresEvidence
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.lane_orders import PostgresLaneOrders
from hub.adapters.postgres.ledger import PostgresLedger
from hub.adapters.postgres.migrations import migrate
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.received import PostgresReceived
from hub.adapters.postgres.replays import PostgresReplays
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.adapters.postgres.shelf import PostgresShelf
from hub.adapters.postgres.tokens import PostgresTokens
from hub.adapters.postgres.views import PostgresViews
from hub.adapters.postgres.wrapped_keys import PostgresWrappedKeys
from hub.adapters.rules.declared import remembering
from hub.adapters.rules.territory import read_territory
from hub.adapters.system.closing import read_closing
from hub.assembly.files import channel_fields, checks, declared_rules
from hub.assembly.mail import relay
from hub.domain.errors import RuleBookError, SettingsError, Tampered, UnknownKey
from hub.domain.review import Finding
from hub.domain.rule_book import RuleBook
from hub.domain.rules import Subscription, Succession
from hub.domain.territory import Territory
from hub.ports.accounts import Ledger
from hub.ports.alarms import Alarms
from hub.ports.bounces import BounceViews
from hub.ports.keyring import Keyring
from hub.ports.lane_orders import LaneOrders
from hub.ports.partners import Partners
from hub.ports.replays import Replays
from hub.ports.rule_books import Change, Item, ItemKind
from hub.ports.shelf import ShelfRows
from hub.ports.tokens import Tokens
from hub.ports.views import ReceivedViews, Views
from hub.services import declaration
from hub.services.declaration import DeclarationRoom
from hub.services.editions import EditionRoom, Proposal
from hub.services.endpoints import EndpointRoom
from hub.services.evidence import EvidenceRoom
from hub.services.onboarding import OnboardingRoom
from hub.services.rotation import RotationRoom
from hub.settings import Settings
from hub.wire import difference, items, read_change, subscription_in, succession_in


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
    def alarms(self) -> Alarms:
        return PostgresAlarms(self.database)

    @property
    def lane_orders(self) -> LaneOrders:
        return PostgresLaneOrders(self.database)

    @property
    def shelf(self) -> ShelfRows:
        return PostgresShelf(self.database)

    @property
    def bounces(self) -> BounceViews:
        return PostgresBounces(self.database)

    @property
    def evidence(self) -> EvidenceRoom:
        return EvidenceRoom(PostgresEvidence(self.database), self.keyring)

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
        return DeclarationRoom(
            self.editions, self.partners, EndpointRoom(self.keyring).seal, checks(relay(self.settings))
        )

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
            checks=checks(relay(self.settings)),
            fields=channel_fields(),
            lead=timedelta(seconds=self.settings.rules_lead),
        )

    @property
    def rotation(self) -> RotationRoom:
        given = self.settings.key_file
        lies_elsewhere = self.settings.key is not None or self.settings.key_command is not None
        file = None if lies_elsewhere else KeyFile(given or _own_key(self.settings))
        return RotationRoom(
            self.keyring,
            PostgresWrappedKeys(self.database),
            file,
            shared=given is None,
            lifetime=timedelta(seconds=self.settings.link_lifetime),
        )

    def read(self, book: RuleBook | None, change: Change) -> RuleBook:
        """What a change makes of a rule book. Raises RuleBookError."""
        return read_change(book, change, self.territory)


def has_store(settings: Settings) -> bool:
    """Whether there is a store to look into; one that is away is there as well. Raises SettingsError."""
    return settings.database_url is not None or _embedded(settings).exists


def _embedded(settings: Settings) -> EmbeddedPostgres:
    return EmbeddedPostgres(settings.folder / "postgres", run_as=os.environ.get("HUB_POSTGRES_USER"))


@asynccontextmanager
async def ground(settings: Settings, *, alone: bool, relocating: bool = False) -> AsyncIterator[Ground]:
    """`alone`: the folder is this process's own (`hub run`); else a running hub's server is joined.
    `relocating`: even a folder whose store was relocated. Raises SettingsError, Unavailable."""
    async with AsyncExitStack() as stack:
        if not relocating:
            refuse_closed(settings)
        settings.folder.mkdir(parents=True, exist_ok=True)
        embedded = None
        if settings.database_url is not None:
            dsn = settings.database_url.get_secret_value()
        else:
            embedded = _embedded(settings)
            found = None if alone else await embedded.running()
            dsn = found if found is not None else await stack.enter_async_context(_started(embedded))
        await migrate(dsn)
        database = await Database.open(dsn, settings.database_connections)
        stack.push_async_callback(database.close)
        keyring = await _keyring(settings, database)
        await _root(keyring, database)
        yield Ground(settings, database, keyring, embedded, remembering(read_territory))


def refuse_closed(settings: Settings) -> None:
    """Two hubs with one store would both accept, and both deliver. Raises SettingsError."""
    if settings.database_url is not None:
        return
    closing = read_closing(settings.folder)
    if closing is not None:
        raise SettingsError(f"the store in {settings.folder} is closed: {closing.sentence}")


@asynccontextmanager
async def _started(embedded: EmbeddedPostgres) -> AsyncIterator[str]:
    async with embedded:
        yield embedded.dsn


def _wish_items(subscriptions: Iterable[Subscription], successions: Iterable[Succession]) -> Iterable[Item]:
    told = items((), map(subscription_in, subscriptions), map(succession_in, successions), ("", b""))
    return (item for item in told.values() if item.kind is not ItemKind.TERRITORY)


def check_keys(settings: Settings) -> None:
    """Asks nobody. Raises SettingsError."""
    told = {
        "HUB_KEY": settings.key,
        "HUB_KEY_COMMAND": settings.key_command,
        "HUB_KEY_FILE": settings.key_file,
    }
    if len(given := [name for name, value in told.items() if value is not None]) > 1:
        raise SettingsError(f"only one of {' and '.join(given)} may be set")


def given_keyring(settings: Settings) -> Keyring | None:
    """The one that the settings name; None: the folder's own. It may take as long as the operator's program. Raises
    SettingsError."""
    check_keys(settings)
    if settings.key is not None:
        return LocalKeyring.from_base64(settings.key.get_secret_value())
    if settings.key_command is not None:
        return LocalKeyring.from_program(partial(_keys_said_by, KeyProgram(settings.key_command)))
    if settings.key_file is not None:
        return LocalKeyring.from_file(settings.key_file, create=False)
    return None


def _keys_said_by(program: KeyProgram) -> HubKeys:
    try:
        return program.keys()
    except SettingsError as error:
        raise SettingsError(f"HUB_KEY_COMMAND: {error}") from None


async def _keyring(settings: Settings, database: Database) -> Keyring:
    given = await asyncio.to_thread(given_keyring, settings)
    if given is not None:
        return given
    path = _own_key(settings)
    if not path.exists() and await PostgresIntake(database).any_accepted():
        # A new key would open nothing of what is there, and nobody would notice before the first attempt.
        raise SettingsError(f"{path} is gone, and what was accepted is sealed under it: put it back")
    return LocalKeyring.from_file(path, create=True)


async def _root(keyring: Keyring, database: Database) -> None:
    """Digests are made under the root that the store keeps. Raises SettingsError."""
    try:
        keyring.take_root(await PostgresWrappedKeys(database).root(keyring.root(), keyring.ids[0]))
    except (UnknownKey, Tampered):
        raise SettingsError(
            "the hub's key is not the one that this store was sealed under: nothing would open"
        ) from None


def _own_key(settings: Settings) -> Path:
    return settings.folder / "hub.key"
