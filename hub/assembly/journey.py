"""The log: in the store's own tables, or in Kafka; and the stream router that Kafka lets share its work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from hub.adapters.kafka.brokers import Brokers
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.groups import kafka_name
from hub.adapters.kafka.log import KafkaLog
from hub.adapters.kafka.log_reader import Pace
from hub.adapters.kafka.topics import KafkaTopic, Topics, check, create, flows, table
from hub.domain.errors import SettingsError
from hub.ports.log import Topic
from hub.services import registration, routing
from hub.services.supervision import GROUP as SUPERVISION
from hub.services.supervision import Silent, SupervisionRoom
from hub.settings import Settings
from hub.wire import read_news


def kafka_log(settings: Settings) -> KafkaLog:
    """Raises SettingsError."""
    session = settings.kafka_session
    return KafkaLog(_cluster(settings), _topics(settings), Pace(session=session, grace=max(20, 2 * session)))


def log_arguments(settings: Settings) -> object:
    """What clients of Kafka are given; reads the certificates. Raises SettingsError."""
    _topics(settings)
    return _cluster(settings).arguments()


async def make_topics(settings: Settings) -> list[str]:
    """Those that are missing; their names. Raises SettingsError or Unavailable."""
    brokers = Brokers(_cluster(settings))
    try:
        return await create(brokers, _all_topics(settings))
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


async def stream_router(
    settings: Settings,
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
    journal = _topics(settings)[Topic.JOURNAL].name
    await stream.host(
        stream.Hosted(
            brokers=brokers,
            group=kafka_name(journal, SUPERVISION),
            journal=journal,
            flows=_flows(settings).name,
            partitions=settings.kafka_partitions,
            routing=routed,
            supervision=SupervisionRoom(read_news, settings.silence),
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


def _topics(settings: Settings) -> Topics:
    required = {
        Topic.SUBMISSIONS: [routing.GROUP],
        Topic.ROUTINGS: [registration.GROUP],
        Topic.JOURNAL: [SUPERVISION],
    }
    shape = (settings.kafka_prefix, settings.kafka_partitions, settings.kafka_replicas)
    return table(*shape, required, strangers=[SUPERVISION])


def _flows(settings: Settings) -> KafkaTopic:
    return flows(settings.kafka_prefix, settings.kafka_partitions, settings.kafka_replicas)


def _all_topics(settings: Settings) -> list[KafkaTopic]:
    return [*_topics(settings).values(), _flows(settings)]
