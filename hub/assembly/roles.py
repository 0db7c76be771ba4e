"""Roles: what one process of the hub does, all of it or a part; and running it until it is stopped."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from starlette.types import ASGIApp

from hub.assembly.checking import flaws_in
from hub.assembly.files import declared
from hub.assembly.ground import Ground, ground
from hub.assembly.house import House
from hub.assembly.journey import check_brokers, stream_router
from hub.assembly.objects import check_owner
from hub.domain.errors import SettingsError, Unavailable
from hub.entrypoints import workers
from hub.entrypoints.http.app import build_vitals
from hub.entrypoints.http.server import serve
from hub.entrypoints.lmtp import receive_bounces
from hub.services.ending import end
from hub.services.supervision import Silent
from hub.settings import Settings


class Role(StrEnum):
    """Each may run in as many processes as wanted; every process has a door, at which health and metrics
    are told."""

    INTAKE = "intake"
    """The whole HTTP API: what senders, partners and operators knock at; and senders' topics."""
    OUTGOING = "outgoing"
    ROUTING = "routing"
    REGISTRATION = "registration"
    DISPATCH = "dispatch"
    UPKEEP = "upkeep"
    """Replays, letters written again, what was set aside, trimming the log, letting go of rule books, sweeping the
    attachment store, the ledger and the alarms."""


_WRITING = 5.0
"""Seconds that dispatch has, after the grace of its deliveries, to write what they came to."""

Life = Callable[[], Awaitable[None]]
Stopping = asyncio.Event


def _refreshing(house: House, stopping: Stopping) -> Mapping[str, Life]:
    return {"refresh": lambda: workers.refresh(house.library, stopping)}


def _intake(house: House, stopping: Stopping) -> Mapping[str, Life]:
    lives = dict(_refreshing(house, stopping))
    port, bounces = house.settings.bounces_port, house.bounces()
    if port is not None and bounces is not None:
        lives["bounces"] = partial(receive_bounces, bounces, house.settings.bounces_host, port, stopping)
    if (deposits := house.deposits) is not None:
        room = house.depositing(deposits)
        lives |= {
            f"deposits of {sender}": partial(workers.take_deposits, room, deposits, sender, stopping)
            for sender in sorted(deposits.senders)
        }
    return lives


def _outgoing(house: House, stopping: Stopping) -> Mapping[str, Life]:
    lives: dict[str, Life] = {"outgoing": lambda: workers.carry_letters(house.outgoing, stopping)}
    if house.settings.kafka is not None:
        # Nobody reads the embedded log's journal, so nobody would ever let it be trimmed.
        lives["news"] = lambda: workers.carry_news(house.news, stopping)
    return lives


def _routing(house: House, stopping: Stopping) -> Mapping[str, Life]:
    async def route() -> None:
        await workers.route(house.routing, house.log, stopping)

    async def host() -> None:
        def told(silent: Collection[Silent]) -> None:
            house.silent = len(silent)

        async def outlives() -> None:
            await workers.keep("routing", route, stopping)

        await stream_router(house.settings, house.framing, house.shelf, outlives, told, stopping)

    routing: dict[str, Life] = {"routing": route} if house.settings.kafka is None else {"stream": host}
    return {**routing, **_refreshing(house, stopping)}


def _upkeep(house: House, stopping: Stopping) -> Mapping[str, Life]:
    lives: dict[str, Life] = {
        "replay": lambda: workers.replay(house.replay, stopping),
        "recall": lambda: workers.recall(house.recall, stopping),
        "trim": lambda: workers.trim(house.log, stopping),
        "shelf": lambda: workers.keep_shelf(house.shelf_room, house.log, stopping),
        "prune": lambda: workers.prune(house.rule_books, stopping),
        "sweep": lambda: workers.sweep(house.sweep, stopping),
        "ledger": lambda: workers.fold(house.reconciliation, stopping),
        "reconcile": lambda: workers.reconcile(house.reconciliation, house.clock, stopping),
        "alarms": lambda: workers.look(house.alarms, stopping),
    }
    if (deposits := house.deposits) is not None:
        uploads = house.upload_sweep(deposits)
        lives["uploads"] = lambda: workers.sweep(uploads, stopping)
        lives["deposits"] = lambda: workers.trim_deposits(deposits, stopping)
    return lives


_LIVES: Mapping[Role, Callable[[House, Stopping], Mapping[str, Life]]] = {
    Role.INTAKE: _intake,
    Role.OUTGOING: _outgoing,
    Role.ROUTING: _routing,
    Role.REGISTRATION: lambda house, stopping: {
        "registration": lambda: workers.register(house.registration, house.log, stopping)
    },
    Role.DISPATCH: lambda house, stopping: {
        "dispatch": lambda: house.dispatch.run(stopping, house.settings.stop_grace),
        "collecting": lambda: workers.collect(house.collecting, house.settings.stop_grace, stopping),
        **_refreshing(house, stopping),
    },
    Role.UPKEEP: _upkeep,
}

_WITHOUT_LOG = frozenset({Role.INTAKE, Role.DISPATCH})
"""But for intake that reads deposits."""
_WITH_ATTACHMENTS = frozenset({Role.INTAKE, Role.DISPATCH, Role.UPKEEP})


@dataclass(frozen=True, slots=True)
class Running:
    """Told when the hub is ready to be used. `notices`: sentences for the operator."""

    url: str
    roles: Collection[Role]
    notices: tuple[str, ...]
    snapshot: int


async def run(
    settings: Settings,
    stopping: Stopping,
    ready: Callable[[Running], None],
    roles: Collection[Role] = frozenset(Role),
) -> None:
    """These roles in this process, until `stopping` is set. Raises SettingsError, RuleBookError or
    Unavailable when it cannot start."""
    if found := [*flaws_in(settings), *_flaws_in_roles(settings, roles)]:
        raise SettingsError("\n".join(found))
    reading = asyncio.create_task(asyncio.to_thread(declared, settings))
    async with AsyncExitStack() as stack:
        # The database starts meanwhile.
        stack.callback(reading.cancel)
        base = await stack.enter_async_context(ground(settings, alone=True))
        if not _WITH_ATTACHMENTS.isdisjoint(roles):
            await check_owner(base)
        if settings.kafka is not None and (settings.deposits or not _WITHOUT_LOG.issuperset(roles)):
            await check_brokers(settings)
        notices = await base.declaration.begin(reading)
        house = House(base, stack)
        snapshot = (await house.library.newest()).number
        app = house.door() if Role.INTAKE in roles else build_vitals(house.vitals)
        lives = {
            name: life
            for role in Role
            if role in roles
            for name, life in _LIVES[role](house, stopping).items()
        }
        async with asyncio.TaskGroup() as tasks:
            begun = [tasks.create_task(_watch(base, stopping), name="watch")]
            for name, life in lives.items():
                begun.append(tasks.create_task(workers.keep(name, life, stopping), name=name))
            async with _door(settings, app):
                settle_memory()
                where = () if base.notice is None else (base.notice,)
                ready(Running(house.url, roles, (*where, *notices), snapshot))
                await stopping.wait()
                until = asyncio.get_running_loop().time() + settings.stop_grace + _WRITING
            # Whatever takes longer than deliveries may is ended here, where the store can still be closed well, and not
            # by the system.
            await asyncio.wait(begun, timeout=max(until - asyncio.get_running_loop().time(), 0))
            await end(begun)


def _flaws_in_roles(settings: Settings, roles: Collection[Role]) -> list[str]:
    found = []
    if settings.database_url is None and set(roles) != set(Role):
        found.append("roles apart from each other need a store that all of them reach: set HUB_DATABASE_URL")
    if settings.public_url is None and Role.DISPATCH in roles and Role.INTAKE not in roles:
        found.append(
            "parcels carry links to the HTTP API, which this process does not serve: set HUB_PUBLIC_URL"
        )
    return found


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


def settle_memory() -> None:
    """What is loaded by now (the territory, the rule book) stays: the collector need not walk through its
    half million objects again and again, nor after every 700 of the small ones that a request makes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)


async def _watch(base: Ground, stopping: asyncio.Event) -> None:
    """Ends the hub when its embedded database has ended: whoever started the hub starts both again."""
    while base.embedded is not None and not stopping.is_set():
        if not base.embedded.lives:
            raise Unavailable("the embedded database has ended; start the hub again")
        await workers.rest(stopping, 1.0)
