"""What must be true of reaching brokers: TLS and names that are believed or refused, and no secret told."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hub.adapters.kafka.brokers import Brokers as Asking
from hub.adapters.kafka.cluster import KafkaCluster
from hub.adapters.kafka.log import KafkaLog
from hub.adapters.kafka.pace import Pace
from hub.adapters.kafka.topics import table
from hub.domain.errors import SettingsError, Unavailable
from tests.certificates import authority
from tests.conformance.log_suite import GROUP, TOPIC, numbers, read_and_do, records
from tests.kafka.broker import Brokers

PASSWORD = "unmistakable 1"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """The right way to a broker that wants TLS, a certificate and a name."""
    trusted = authority(tmp_path_factory.mktemp("tls") / "trusted")
    certificate, key = trusted.sign("broker")
    keystore = trusted.folder / "keystore.pem"
    keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
    listener = "listener.name.sasl_ssl"
    modules = "org.apache.kafka.common.security"
    brokers = Brokers(
        settings=f"""
{listener}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
{listener}.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_hub="{PASSWORD}";
{listener}.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
{listener}.ssl.client.auth=required
{listener}.ssl.keystore.type=PEM
{listener}.ssl.keystore.location={keystore}
{listener}.ssl.truststore.type=PEM
{listener}.ssl.truststore.location={trusted.file}
""",
        formatting=("--add-scram", f"SCRAM-SHA-512=[name=hub,password={PASSWORD}]"),
        listeners=("SASL_SSL",),
    )
    try:
        brokers.start()
        own, own_key = trusted.sign("hub")
        yield KafkaCluster(brokers.address("SASL_SSL"), True, trusted.file, own, own_key, "hub", PASSWORD)
    finally:
        brokers.end()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_over_tls_with_a_name_and_a_certificate_the_log_is_appended_to_and_read(
    secured: KafkaCluster, mechanism: str
) -> None:
    cluster = replace(secured, mechanism=mechanism)
    log = KafkaLog(cluster, table(f"{mechanism}.", 2, 1, {}))
    try:
        await log.append(TOPIC, records(20))
        async with log.reader(TOPIC, GROUP) as reader:
            assert sorted(numbers(await read_and_do(reader, 20))) == list(range(20))
    finally:
        await log.close()


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ("password", "HUB_KAFKA_PASSWORD"),
        ("user", "HUB_KAFKA_USER"),
        ("ca", "HUB_KAFKA_CA"),
        ("certificate", "HUB_KAFKA_CERTIFICATE"),
        ("mechanism", "HUB_KAFKA_MECHANISM"),
    ],
)
async def test_who_is_refused_or_refuses_learns_which_setting_is_wrong_and_no_secret_is_told(
    secured: KafkaCluster, wrong: str, setting: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stranger = authority(tmp_path / "stranger")
    certificate, key = stranger.sign("hub")
    changes: dict[str, dict[str, Any]] = {
        "password": {"password": "another " + PASSWORD},
        "user": {"user": "nobody"},
        "ca": {"ca": stranger.file},
        "certificate": {"certificate": certificate, "key": key},
        "mechanism": {"mechanism": "SCRAM-SHA-256"},
    }
    log = KafkaLog(replace(secured, **changes[wrong]), table("refused.", 2, 1, {}), Pace(patience=5))
    with pytest.raises(SettingsError) as caught:
        await log.append(TOPIC, records(1))
    await log.close()
    assert setting in str(caught.value)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "unmistakable" not in told


async def test_brokers_that_are_not_there_are_unavailable_after_the_patience() -> None:
    asking = Asking(KafkaCluster("127.0.0.1:1"), patience=1)
    clock = asyncio.get_running_loop().time
    begun = clock()
    with pytest.raises(Unavailable):
        await asking.look("any")
    assert 0.9 < clock() - begun < 5
    await asking.close()


def test_a_password_stands_in_no_representation() -> None:
    assert "unmistakable" not in repr(KafkaCluster("broker:9092", user="hub", password=PASSWORD))


@pytest.mark.parametrize(
    "wrong",
    [
        {"bootstrap": ""},
        {"bootstrap": "broker"},
        {"bootstrap": "broker:9092,"},
        {"bootstrap": "broker:port"},
        {"bootstrap": "broker:99999"},
        {"ca": Path("ca.pem")},
        {"tls": True, "certificate": Path("own.pem")},
        {"tls": True, "key": Path("own.key")},
        {"user": "hub"},
        {"password": PASSWORD},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        KafkaCluster(**{"bootstrap": "broker:9092", **wrong})
    assert "unmistakable" not in str(caught.value)


def test_files_that_cannot_be_read_or_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (one, key), (_, other_key) = (authority(tmp_path / name).sign("hub") for name in ("a", "b"))
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert KafkaCluster("broker:9092", tls=True, certificate=one, key=key).arguments()
    wrong: list[dict[str, Any]] = [
        {"ca": tmp_path / "missing.pem"},
        {"ca": key},
        {"certificate": one, "key": other_key},
        {"certificate": one, "key": locked},
    ]
    for files in wrong:
        with pytest.raises(SettingsError):
            KafkaCluster("broker:9092", tls=True, **files).arguments()
