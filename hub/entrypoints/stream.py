"""The stream router: a Faust app that hosts routing, and watches the journal. The only file that imports faust.

Business of this file: what Faust is good for here: supervising a service, taking part in a group, and keeping a
table of flows beside its topic, so that whoever takes over a partition has its histories. Routing itself runs as a
service of the app on batches of its own: an agent is given one record at a time, and commits past records still at
work when it takes several at once (its issue 606).

Faust opens no port here: health and metrics are told at the door that every role has.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import faust
import structlog
from faust.app import BootStrategy
from faust.types import ServiceT, StreamT

from hub.domain.errors import Invalid, SettingsError, Unavailable
from hub.ports.log import Entry, Position, Record
from hub.services.supervision import Silent, SupervisionRoom

_LOOK_EVERY = 300.0
_AGAIN_AFTER = 1.0

log = structlog.get_logger()

Result = TypeVar("Result")
Dressed = tuple[bytes | None, bytes | None, Any]
"""A record as Kafka has it: key, value, headers."""


@dataclass(frozen=True, slots=True)
class Brokers:
    """`context` None: without TLS; `user` None: without SASL."""

    servers: Sequence[str]
    context: ssl.SSLContext | None = None
    user: str | None = None
    password: str = field(default="", repr=False)
    mechanism: str = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True)
class Hosted:
    """`group` reads the topic `journal`, which has so many `partitions`; `flows` is the compacted topic, with as
    many, in which the table of flows is kept. `folder` may be made and used. A member of the group that says nothing
    for `session` seconds is dead. `routing` runs until it is stopped. `undress` makes a record of what Kafka has, and
    `set_aside` is told of one that is no line of the journal: both are asked again while they raise Unavailable or
    SettingsError. `silent` is told all flows that are, every few minutes."""

    brokers: Brokers
    group: str
    journal: str
    flows: str
    partitions: int
    folder: Path
    session: float
    routing: Callable[[], Awaitable[None]]
    supervision: SupervisionRoom
    undress: Callable[[Dressed], Awaitable[Record]]
    set_aside: Callable[[Entry, Invalid], Awaitable[None]]
    silent: Callable[[Sequence[Silent]], None]
    look_every: float = _LOOK_EVERY


async def host(hosted: Hosted, stopping: asyncio.Event) -> None:
    """Until `stopping` is set. Raises when the app crashes or stops by itself; it cannot be started again: call
    this again."""
    app = build(hosted)
    # Not as a context: one that cannot be entered is not left, and routing, which began first, would go on for ever.
    try:
        await app.start()
        await app.wait(stopping.wait())
    finally:
        await app.stop()
    if not stopping.is_set():
        # It may also stop by itself, without a word: whoever keeps it must begin again.
        raise Unavailable("the stream router stopped by itself")


def build(hosted: Hosted) -> faust.App:
    app = faust.App(
        hosted.group,
        broker=[f"kafka://{server}" for server in hosted.brokers.servers],
        broker_credentials=_credentials(hosted.brokers),
        web_enabled=False,
        store="memory://",
        # It makes a folder of its own, which stays empty: not where somebody happens to start the hub.
        datadir=str(hosted.folder),
        autodiscover=False,
        # Topics are made by `hub topics`, all of them in one place.
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=hosted.partitions,
        broker_session_timeout=hosted.session,
        broker_heartbeat_interval=hosted.session / 10,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
    )
    flows = app.Table(
        "flows",
        default=dict,
        partitions=hosted.partitions,
        changelog_topic=app.topic(
            hosted.flows,
            key_serializer="json",
            value_serializer="json",
            partitions=hosted.partitions,
            compacting=True,
            acks=False,
            internal=True,
        ),
    )
    journal = app.topic(
        hosted.journal,
        key_serializer="raw",
        value_serializer="raw",
        key_type=bytes,
        value_type=bytes,
    )

    async def count(stream: StreamT[Any]) -> None:
        # One by one: the table keeps a flow in the partition of the record at hand, and whoever takes that
        # partition over must find it there.
        async for event in stream.events():
            message = event.message
            record = await _until_answered(hosted.undress, (message.key, message.value, message.headers))
            try:
                hosted.supervision.note(flows, record, datetime.now(UTC))
            except Invalid as error:
                entry = Entry(Position(message.partition, message.offset), record)
                await _until_answered(hosted.set_aside, entry, error)

    app.agent(journal, name="flows")(count)
    app.boot_strategy = _Boot(app, _routing(hosted.routing))
    app.service(_looking(hosted, flows))
    app.finalize()
    return app


async def _until_answered(ask: Callable[..., Awaitable[Result]], *told: Any) -> Result:
    """An agent that raises is begun again behind the record it had."""
    while True:
        try:
            return await ask(*told)
        except (Unavailable, SettingsError) as error:
            log.error("journal.waits", reason=str(error), exc_info=error)
            await asyncio.sleep(_AGAIN_AFTER)


def _credentials(brokers: Brokers) -> faust.SASLCredentials | faust.SSLCredentials | None:
    if brokers.user is not None:
        return faust.SASLCredentials(
            username=brokers.user,
            password=brokers.password,
            ssl_context=brokers.context,
            mechanism=brokers.mechanism,
        )
    return None if brokers.context is None else faust.SSLCredentials(brokers.context)


class _Boot(BootStrategy):
    """Routing first, and by itself: a service that is added to an app begins when the app has its partitions and
    its tables, and for those it waits until a member that was killed counts as dead."""

    def __init__(self, app: faust.App, routing: type[faust.Service]) -> None:
        super().__init__(app)
        self._routing = routing

    def server(self) -> Iterable[ServiceT]:
        yield self._routing(loop=self.app.loop, beacon=self.app.beacon)
        yield from super().server()


def _routing(life: Callable[[], Awaitable[None]]) -> type[faust.Service]:
    class Routing(faust.Service):
        @faust.Service.task
        async def work(self) -> None:
            await life()

    return Routing


def _looking(hosted: Hosted, flows: Any) -> type[faust.Service]:
    class Looking(faust.Service):
        @faust.Service.task
        async def look(self) -> None:
            while not self.should_stop:
                await self.sleep(hosted.look_every)
                hosted.silent(hosted.supervision.look(flows, datetime.now(UTC)))

    return Looking
