"""The house: every room of the hub on one ground, each built when a role first asks for it."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import cached_property

from starlette.types import ASGIApp

from hub.adapters.kafka.framing import Framing
from hub.adapters.postgres.bounces import PostgresBounces
from hub.adapters.postgres.events import PostgresEvents
from hub.adapters.postgres.intake import PostgresIntake
from hub.adapters.postgres.journal import PostgresJournal
from hub.adapters.postgres.lanes import PostgresLanes
from hub.adapters.postgres.log import PostgresLog
from hub.adapters.postgres.mailboxes import PostgresMailboxes
from hub.adapters.postgres.numbers import PostgresNumbers
from hub.adapters.postgres.reads import PostgresReads
from hub.adapters.postgres.registry import PostgresRegistry
from hub.adapters.postgres.return_folders import PostgresReturnFolders
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.adapters.postgres.sessions import PostgresSessions
from hub.adapters.postgres.tray import PostgresTray
from hub.adapters.postgres.uploads import PostgresUploads
from hub.adapters.system.clock import SystemClock
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.assembly.files import channel_fields, connectors
from hub.assembly.ground import Ground
from hub.assembly.journey import kafka_deposits, kafka_log, schema_registry
from hub.assembly.mail import digest_hours, relay, return_addresses
from hub.assembly.measures import limits_of, pace_of, page_of, policies_of
from hub.assembly.objects import attachment_store
from hub.domain.alarms import Patience
from hub.entrypoints.http.app import build
from hub.entrypoints.http.links import Links
from hub.entrypoints.http.rooms import Rooms, Vitals
from hub.entrypoints.http.server import Listening
from hub.ports.attachments import Attachments
from hub.ports.connector import Connector, Outgoing, Surroundings
from hub.ports.deposits import Deposits
from hub.ports.log import Log
from hub.ports.returns import Returns
from hub.ports.schemas import SchemaRegistry
from hub.services.alarms import AlarmRoom
from hub.services.bounces import BounceRoom
from hub.services.collecting import CollectingRoom, CollectPace
from hub.services.deposits import DepositRoom, Wire
from hub.services.dispatch import DispatchRoom
from hub.services.endpoints import EndpointRoom
from hub.services.events import EventRoom
from hub.services.intake import IntakeRoom
from hub.services.library import Library
from hub.services.outgoing import NewsRoom, OutgoingRoom
from hub.services.parcels import ParcelRoom
from hub.services.recall import RecallRoom
from hub.services.reconciliation import ReconciliationRoom
from hub.services.registration import RegistrationRoom
from hub.services.replay import ReplayRoom
from hub.services.reporting import ReportRoom
from hub.services.routing import RoutingRoom
from hub.services.shelf import Shelf, ShelfRoom
from hub.services.sweep import SweepRoom, UploadSweep
from hub.services.trying import TrialRoom
from hub.services.uploads import UploadRoom
from hub.settings import Settings
from hub.wire import (
    DecisionWriter,
    SubmissionReader,
    external_id_of,
    read_decision_record,
    read_deposit,
    read_status_report,
    read_unreadable,
    write_news,
    write_refusal,
    write_submission,
    write_unreadable,
)

_MAILBOX_PAGE = "/boite"

_KEPT = timedelta(seconds=4)
"""How long a connection to a partner is of use after a page."""


class House:
    """`stack` closes what a room opened."""

    def __init__(self, base: Ground, stack: AsyncExitStack) -> None:
        self.base = base
        self.clock = SystemClock()
        self.rule_books = PostgresRuleBooks(base.database)
        self.library = Library(self.rule_books, base.read)
        self.silent = 0
        self._stack = stack

    @property
    def settings(self) -> Settings:
        return self.base.settings

    @property
    def url(self) -> str:
        return Listening(
            self.settings.host, self.settings.port, self.settings.tls_certificate is not None
        ).url

    # --- what several rooms share ---

    @cached_property
    def log(self) -> Log:
        if self.settings.kafka is None:
            return PostgresLog(self.base.database, self.settings.log_partitions)
        log = kafka_log(self.settings, self.framing)
        self._stack.push_async_callback(log.close)
        return log

    @cached_property
    def framing(self) -> Framing:
        return Framing(self.registry)

    @cached_property
    def registry(self) -> SchemaRegistry | None:
        registry = schema_registry(self.settings)
        if registry is not None:
            self._stack.push_async_callback(registry.close)
        return registry

    @cached_property
    def deposits(self) -> Deposits | None:
        """None where the log is not Kafka."""
        if self.settings.kafka is None:
            return None
        found = kafka_deposits(self.settings, self.registry)
        self._stack.push_async_callback(found.close)
        return found

    @cached_property
    def tray(self) -> PostgresTray:
        tray = PostgresTray(self.base.database)
        self._stack.push_async_callback(tray.close)
        return tray

    @cached_property
    def attachments(self) -> Attachments:
        return attachment_store(self.settings)

    @cached_property
    def accepted(self) -> PostgresIntake:
        return PostgresIntake(self.base.database)

    @cached_property
    def parcels(self) -> ParcelRoom:
        return ParcelRoom(self.attachments, self.base.keyring, self.library.title)

    @cached_property
    def events(self) -> PostgresEvents:
        return PostgresEvents(self.base.database)

    @cached_property
    def reports(self) -> ReportRoom:
        return ReportRoom(self.events, self.attachments, self.base.keyring, self.library, self.clock)

    @cached_property
    def links(self) -> Links:
        lifetime = timedelta(seconds=self.settings.link_lifetime)
        return Links(self.base.keyring, self.settings.public_url or self.url, lifetime, self.clock.now)

    @cached_property
    def to_partners(self) -> Outgoing:
        return GuardedOutgoing(self.settings.outgoing_allow)

    @cached_property
    def surroundings(self) -> Surroundings:
        """What every connector may use. Raises SettingsError."""
        returns = return_addresses(self.settings, self.base.keyring)
        return Surroundings(
            self.links.link,
            self.clock.now,
            self.to_partners,
            mailbox=f"{(self.settings.public_url or self.url).rstrip('/')}{_MAILBOX_PAGE}",
            relay=relay(self.settings),
            returns=None if returns is None else returns.address,
        )

    # --- the rooms, in the order of the journey ---

    @cached_property
    def intake(self) -> IntakeRoom:
        return IntakeRoom(self.accepted, self.attachments, self.base.keyring, self.library)

    @cached_property
    def uploads(self) -> UploadRoom:
        senders = frozenset[str]() if self.deposits is None else self.deposits.senders
        return UploadRoom(PostgresUploads(self.base.database), self.attachments, self.base.keyring, senders)

    def depositing(self, deposits: Deposits) -> DepositRoom:
        return DepositRoom(
            deposits,
            self.intake,
            PostgresUploads(self.base.database),
            self.base.tokens,
            self.attachments,
            Wire(read_deposit, external_id_of, write_refusal),
            self.settings.disk_reserve,
        )

    @cached_property
    def outgoing(self) -> OutgoingRoom:
        return OutgoingRoom(self.tray, self.log, write_submission, page_of(self.settings))

    @cached_property
    def news(self) -> NewsRoom:
        return NewsRoom(PostgresJournal(self.base.database), self.log, write_news)

    @cached_property
    def recall(self) -> RecallRoom:
        return RecallRoom(self.tray, self.log)

    @cached_property
    def routing(self) -> RoutingRoom:
        read, writer = SubmissionReader().read, DecisionWriter()
        ahead = 1 if self.settings.kafka is None else 4
        return RoutingRoom(self.log, self.library, read, writer, self.shelf, ahead=ahead)

    @cached_property
    def registration(self) -> RegistrationRoom:
        registry = PostgresRegistry(self.base.database)
        return RegistrationRoom(registry, read_decision_record, self.shelf, page_of(self.settings))

    @cached_property
    def shelf(self) -> Shelf:
        return Shelf(self.log, write_unreadable, self.clock)

    @cached_property
    def shelf_room(self) -> ShelfRoom:
        return ShelfRoom(self.shelf, self.base.shelf, read_unreadable)

    @cached_property
    def channels(self) -> Mapping[str, Connector]:
        """Every connector, with the connections that it keeps."""
        return self._connectors()

    def _connectors(self) -> Mapping[str, Connector]:
        known = connectors(self.surroundings)
        for connector in known.values():
            self._stack.push_async_callback(connector.close)
        return known

    @cached_property
    def trials(self) -> TrialRoom:
        # A trial over a connection that was let in before would not try the login.
        return TrialRoom(self.base.partners, EndpointRoom(self.base.keyring).opened, self._connectors())

    @cached_property
    def collecting(self) -> CollectingRoom:
        settings = self.settings
        return CollectingRoom(
            PostgresReturnFolders(self.base.database),
            self.base.partners,
            {name: channel for name, channel in self.channels.items() if isinstance(channel, Returns)},
            self.reports,
            EndpointRoom(self.base.keyring),
            self.clock,
            CollectPace(timedelta(seconds=settings.returns_every), timedelta(seconds=settings.attempt_limit)),
        )

    @cached_property
    def dispatch(self) -> DispatchRoom:
        settings = self.settings
        lanes = PostgresLanes(self.base.database, _KEPT)
        self._stack.push_async_callback(lanes.close)
        return DispatchRoom(
            worker=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            lanes=lanes,
            connectors=self.channels,
            parcels=self.parcels,
            clock=self.clock,
            policies=policies_of(settings),
            open_secrets=EndpointRoom(self.base.keyring).open,
            pace=pace_of(settings),
            digest_hours=digest_hours(settings),
        )

    def bounces(self) -> BounceRoom | None:
        """None: no mail comes back to the hub."""
        addresses = return_addresses(self.settings, self.base.keyring)
        if addresses is None:
            return None
        return BounceRoom(PostgresBounces(self.base.database), addresses, read_status_report)

    @cached_property
    def replay(self) -> ReplayRoom:
        return ReplayRoom(self.base.replays, self.library, self.clock)

    @cached_property
    def reconciliation(self) -> ReconciliationRoom:
        waits = (self.settings.reconcile_recent, self.settings.reconcile_whole)
        return ReconciliationRoom(self.base.ledger, *(timedelta(seconds=wait) for wait in waits))

    @cached_property
    def alarms(self) -> AlarmRoom:
        settings = self.settings
        waits = (
            settings.alarm_unfetched,
            settings.alarm_unacknowledged,
            settings.alarm_undecided,
            settings.alarm_waiting,
            settings.alarm_failing,
            settings.alarm_expiring,
        )
        patience = Patience(*(timedelta(seconds=wait) for wait in waits))
        return AlarmRoom(self.base.alarms, self.base.partners, channel_fields(), patience, self.clock)

    @cached_property
    def sweep(self) -> SweepRoom:
        return SweepRoom(self.attachments, self.accepted)

    def upload_sweep(self, deposits: Deposits) -> UploadSweep:
        return UploadSweep(PostgresUploads(self.base.database), deposits)

    # --- the door ---

    @cached_property
    def vitals(self) -> Vitals:
        return Vitals(self._readiness, self._counts)

    async def _counts(self) -> Mapping[str, int]:
        counts = await self.base.views.counts()
        return counts if self.settings.kafka is None else {**counts, "flows.silent": self.silent}

    def door(self) -> ASGIApp:
        """The whole HTTP API."""
        rooms = Rooms(
            intake=self.intake,
            uploads=self.uploads,
            library=self.library,
            views=self.base.views,
            tokens=self.base.tokens,
            replays=self.base.replays,
            replay_approval=self.settings.replay_approval,
            mailboxes=PostgresMailboxes(self.base.database),
            reads=PostgresReads(self.base.database),
            sessions=PostgresSessions(self.base.database),
            secure=(self.settings.public_url or self.url).startswith("https:"),
            proxies=self.settings.trusted_proxies,
            numbers=PostgresNumbers(self.base.database),
            lanes=self.base.lane_orders,
            channels=channel_fields(),
            trials=self.trials,
            parcels=self.parcels,
            reports=self.reports,
            events=self.events,
            opened_events=EventRoom(self.attachments, self.base.keyring),
            links=self.links,
            attachments=self.attachments,
            clock=self.clock,
            limits=limits_of(self.settings),
        )
        return build(rooms, self.vitals)

    async def _readiness(self) -> Mapping[str, bool]:
        """The store answers, and a rule book is in force. Raises nothing but HubError."""
        await self.library.refresh()
        server = self.base.embedded is None or self.base.embedded.lives
        return {"store": server, "rule_book": (await self.library.newest()).number > 0}
