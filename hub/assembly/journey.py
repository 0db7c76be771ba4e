"""The log: in the store's own tables, or in Kafka; and the stream router that Kafka lets share its work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from hub.adapters.kafka.brokers import LATEST, Brokers
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.deposits import KafkaDeposits, Shape, deposit_topics, principal_of, rights_of
from hub.adapters.kafka.framing import Framing
from hub.adapters.kafka.groups import kafka_name
from hub.adapters.kafka.log import KafkaLog
from hub.adapters.kafka.pace import Pace
from hub.adapters.kafka.rights import give, writers
from hub.adapters.kafka.topics import KafkaTopic, Topics, check, create, flows, table
from hub.adapters.registry.client import HttpSchemaRegistry, RegistryAddress
from hub.domain.errors import SettingsError, Unavailable
from hub.ports.log import Topic
from hub.ports.schemas import SchemaRegistry
from hub.services import deposits, registration, routing
from hub.services.shelf import GROUP as SHELF
from hub.services.shelf import Shelf, Unread
from hub.services.supervision import GROUP as SUPERVISION
from hub.services.supervision import Silent, SupervisionRoom
from hub.settings import Settings
from hub.wire import read_news

_AT_THE_START = 3.0


def kafka_log(settings: Settings, framing: Framing) -> KafkaLog:
    """Raises SettingsError."""
    return KafkaLog(_cluster(settings), _topics(settings), _pace(settings), framing)


def kafka_deposits(settings: Settings, registry: SchemaRegistry | None) -> KafkaDeposits:
    """Raises SettingsError."""
    return KafkaDeposits(_cluster(settings), _shape(settings), settings.deposits, _pace(settings), registry)


def schema_registry(settings: Settings) -> HttpSchemaRegistry | None:
    """None where none is set. Raises SettingsError."""
    address = _registry_address(settings)
    return None if address is None else HttpSchemaRegistry(address)


def log_arguments(settings: Settings) -> object:
    """What clients of Kafka and of the schema registry are given; reads the certificates. Raises SettingsError."""
    _all_topics(settings)
    address = _registry_address(settings)
    return _cluster(settings).arguments(), None if address is None else address.context()


async def check_brokers(settings: Settings) -> None:
    """Raises SettingsError when the log's brokers refuse this hub, or it them. Those that are away are waited for by
    whoever needs them."""
    brokers = Brokers(_cluster(settings), _AT_THE_START)
    try:
        with suppress(Unavailable):
            await brokers.reach()
    finally:
        await brokers.close()


async def make_topics(settings: Settings) -> list[str]:
    """Those that are missing; their names. Raises SettingsError or Unavailable."""
    return await _make(settings, _all_topics(settings))


async def _make(settings: Settings, topics: Iterable[KafkaTopic]) -> list[str]:
    brokers = Brokers(_cluster(settings))
    try:
        return await create(brokers, topics)
    finally:
        await brokers.close()


async def differing_topics(settings: Settings) -> list[str]:
    """A sentence for each difference between the topics there and what the hub needs. Raises SettingsError
    or Unavailable."""
    brokers = Brokers(_cluster(settings))
    try:
        return await check(brokers, _all_topics(settings))
    finally:
        await brokers.close()


async def give_rights(settings: Settings) -> list[str]:
    """What senders need to write deposits and read refusals, where brokers ask for it: a sentence for each right
    that was missing. Raises SettingsError or Unavailable."""
    brokers = Brokers(_cluster(settings))
    try:
        wanted = [right for sender in settings.deposits for right in rights_of(_shape(settings), sender)]
        return [str(right) for right in await give(brokers, wanted)]
    finally:
        await brokers.close()


async def excessive_rights(settings: Settings) -> list[str]:
    """A sentence for each principal that may write where it must not: into a sender's topic, if it is neither that
    sender nor this hub; into the hub's own, if it is a sender or anybody. Raises SettingsError or Unavailable."""
    shape = _shape(settings)
    senders = {principal_of(sender): shape.deposits(sender).name for sender in settings.deposits}
    if not senders:
        return []
    own = {f"User:{settings.kafka_user}"}
    found = []
    brokers = Brokers(_cluster(settings))
    try:
        for topic in _all_topics(settings):
            there = await writers(brokers, topic.name)
            if topic.foreign:
                wrong = {one for one in there - own if senders.get(one) != topic.name}
            else:
                wrong = there & {*senders, "User:*"}
            found += [f"{one} may write into {topic.name}, and must not" for one in sorted(wrong)]
    finally:
        await brokers.close()
    return found


async def written_topics(settings: Settings) -> list[str]:
    """The topics of the journey to which something was appended in their present life. Raises SettingsError
    or Unavailable."""
    brokers = Brokers(_cluster(settings))
    try:
        names = [one.name for one in _topics(settings).values()]
        return [name for name in names if any((await brokers.offsets(name, LATEST)).values())]
    finally:
        await brokers.close()


async def make_schemas(settings: Settings) -> list[str]:
    """Register the published schemas that the schema registry does not have; their names. Raises SettingsError
    or Unavailable."""
    registry = schema_registry(settings)
    if registry is None:
        return []
    try:
        missing = await registry.missing()
        await registry.ids()
        return missing
    finally:
        await registry.close()


async def missing_schemas(settings: Settings) -> list[str]:
    """A sentence for each published schema that the schema registry does not have. Raises SettingsError or
    Unavailable."""
    registry = schema_registry(settings)
    if registry is None:
        return []
    try:
        return [f"the schema registry does not have {name}" for name in await registry.missing()]
    finally:
        await registry.close()


async def stream_router(
    settings: Settings,
    framing: Framing,
    shelf: Shelf,
    routed: Callable[[], Awaitable[None]],
    silent: Callable[[Sequence[Silent]], None],
    stopping: asyncio.Event,
) -> None:
    """Hosts `routed` until it is stopped, and watches the journal beside it."""
    # Here, not above: it takes half a second to import, and every command would wait for it.
    from hub.entrypoints import stream

    cluster = _cluster(settings)
    arguments = cluster.arguments()
    brokers = stream.Brokers(
        tuple(cluster.addresses),
        arguments.get("ssl_context"),
        cluster.user,
        cluster.password or "",
        cluster.mechanism,
    )
    journal, flows_kept = _topics(settings)[Topic.JOURNAL], _flows(settings)
    # It makes none by itself, and without them it would end, again and again.
    await _make(settings, [journal, flows_kept])
    await stream.host(
        stream.Hosted(
            brokers=brokers,
            group=kafka_name(journal.name, SUPERVISION),
            journal=journal.name,
            flows=flows_kept.name,
            partitions=settings.kafka_partitions,
            folder=settings.folder / "stream",
            session=settings.kafka_session,
            routing=routed,
            supervision=SupervisionRoom(read_news, settings.silence),
            undress=lambda dressed: framing.read(*dressed),
            set_aside=lambda entry, error: shelf.put(Topic.JOURNAL, [Unread(entry, error)]),
            silent=silent,
        ),
        stopping,
    )


def _cluster(settings: Settings) -> KafkaCluster:
    if settings.kafka is None:
        raise SettingsError("no Kafka is set: HUB_KAFKA says where its brokers are found")
    password = settings.kafka_password
    return KafkaCluster(
        settings.kafka,
        tls=settings.kafka_tls,
        ca=settings.kafka_ca,
        certificate=settings.kafka_certificate,
        key=settings.kafka_key,
        user=settings.kafka_user,
        password=None if password is None else password.get_secret_value(),
        mechanism=settings.kafka_mechanism,
    )


def _registry_address(settings: Settings) -> RegistryAddress | None:
    said = (settings.schema_registry_user, settings.schema_registry_password, settings.schema_registry_ca)
    if settings.schema_registry is None:
        if any(said):
            raise SettingsError(
                "a name or a certificate for a schema registry is set, and HUB_SCHEMA_REGISTRY not"
            )
        return None
    user, password, ca = said
    secret = None if password is None else password.get_secret_value()
    return RegistryAddress(settings.schema_registry, user, secret, ca)


def _topics(settings: Settings) -> Topics:
    required = {
        Topic.SUBMISSIONS: [routing.GROUP],
        Topic.ROUTINGS: [registration.GROUP],
        Topic.JOURNAL: [SUPERVISION],
        Topic.SET_ASIDE: [SHELF],
    }
    shape = (settings.kafka_prefix, settings.kafka_partitions, settings.kafka_replicas)
    return table(*shape, required, strangers=[SUPERVISION])


def _flows(settings: Settings) -> KafkaTopic:
    return flows(settings.kafka_prefix, settings.kafka_partitions, settings.kafka_replicas)


def _all_topics(settings: Settings) -> list[KafkaTopic]:
    own = deposit_topics(_shape(settings), settings.deposits)
    return [*_topics(settings).values(), _flows(settings), *own]


def _shape(settings: Settings) -> Shape:
    return Shape(settings.kafka_prefix, settings.deposits_partitions, settings.kafka_replicas, deposits.GROUP)


def _pace(settings: Settings) -> Pace:
    session = settings.kafka_session
    return Pace(session=session, grace=max(20, 2 * session))
