"""A whole cluster on three brokers that want TLS, certificates and names: one of them is killed, and who shows the
wrong ones is told which setting to look at.

One cluster serves all tests here, one after the other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import pytest
import pytest_asyncio

from hub.ports.log import Topic
from hub.services import routing
from tests.certificates import Authority, authority
from tests.journeys.apart import Town, database_server, on_kafka, town
from tests.journeys.children import hub as command
from tests.journeys.children import is_a_sentence
from tests.kafka.broker import Brokers
from tests.kafka.rig import KafkaRig
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "unmistakable 2"
ON_THE_LOG = ("outgoing", "routing", "registration", "upkeep")


@dataclass(frozen=True, slots=True)
class Secured:
    """`certified`: the settings where brokers want a certificate alone; `named`: those where they want a name too."""

    brokers: Brokers
    trusted: Authority
    certified: Mapping[str, str]
    named: Mapping[str, str]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    trusted = authority(tmp_path_factory.mktemp("tls") / "trusted")
    certificate, key = trusted.sign("broker")
    keystore = trusted.folder / "keystore.pem"
    keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
    brokers = Brokers(
        3,
        settings=f"""
ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={trusted.file}
listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram} required;
""",
        formatting=("--add-scram", f"SCRAM-SHA-512=[name=hub,password={PASSWORD}]"),
        listeners=("SASL_SSL", "SSL"),
    )
    own, own_key = trusted.sign("hub")
    tls = {
        "HUB_KAFKA_TLS": "true",
        "HUB_KAFKA_CA": str(trusted.file),
        "HUB_KAFKA_CERTIFICATE": str(own),
        "HUB_KAFKA_KEY": str(own_key),
    }
    name = {"HUB_KAFKA_USER": "hub", "HUB_KAFKA_PASSWORD": PASSWORD}
    try:
        brokers.start()
        yield Secured(
            brokers,
            trusted,
            {**tls, "HUB_KAFKA": brokers.address("SSL")},
            {**tls, **name, "HUB_KAFKA": brokers.address("SASL_SSL")},
        )
    finally:
        brokers.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(secured: Secured) -> AsyncIterator[KafkaRig]:
    made = KafkaRig(secured.brokers.bootstrap, replicas=3)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(rig: KafkaRig, secured: Secured) -> AsyncIterator[Town]:
    settings = {**on_kafka(rig), **secured.certified, "HUB_KAFKA_REPLICAS": "3"}
    async with database_server() as server, town(server.dsn, **settings) as found:
        yield found


async def test_with_certificates_alone_and_with_names_too_all_roles_do_their_work(
    here: Town, secured: Secured
) -> None:
    await here.post(60)
    await here.until("submissions.undecided", 0)
    await here.apart.stop(*ON_THE_LOG)
    await here.apart.start_all(ON_THE_LOG, **secured.named)
    await here.post(60)
    await here.accounted_for(within=30)


async def test_when_one_of_three_brokers_is_killed_everything_is_accounted_for(
    here: Town, secured: Secured, rig: KafkaRig
) -> None:
    before = len(here.accepted)
    async with here.posting(400):
        await here.reached(before + 100)
        secured.brokers.kill(await rig.keeper(Topic.SUBMISSIONS, routing.GROUP))
        assert len(here.accepted) < before + 400
    # Whoever was at work with that broker may wait for as long as a verb has patience, and begins again then.
    await here.accounted_for(within=60)


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        ("HUB_KAFKA_PASSWORD", "another unmistakable 3"),
        ("HUB_KAFKA_CA", "stranger"),
        ("HUB_KAFKA_MECHANISM", "SCRAM-SHA-256"),
    ],
)
async def test_a_role_that_brokers_refuse_or_that_refuses_them_says_which_setting_is_wrong_and_no_secret(
    here: Town, secured: Secured, tmp_path_factory: pytest.TempPathFactory, setting: str, wrong: str
) -> None:
    if wrong == "stranger":
        wrong = str(authority(tmp_path_factory.mktemp("tls") / "stranger").file)
    environment = {**here.world.environment, **secured.named, "HUB_PORT": str(free_port()), setting: wrong}
    told = await command(environment, "run", "routing")
    assert told.code == 2
    assert is_a_sentence(told)
    assert setting in told.errors
    assert "unmistakable" not in told.text
