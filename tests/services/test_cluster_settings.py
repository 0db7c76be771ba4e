"""Settings of a cluster that contradict themselves are told before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.assembly.checking import flaws_in
from hub.settings import Settings

SECRET = "un-mot-de-passe"


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"kafka": "broker"}, "host:port"),
        ({"kafka": "broker:9092", "kafka_ca": "ca.pem"}, "TLS to them is off"),
        ({"kafka": "broker:9092", "kafka_tls": True, "kafka_certificate": "c.pem"}, "needs its key"),
        ({"kafka": "broker:9092", "kafka_tls": True, "kafka_ca": "/nulle/part.pem"}, "cannot be read"),
        ({"kafka": "broker:9092", "kafka_user": "hub"}, "needs a password"),
        ({"kafka": "broker:9092", "kafka_prefix": "é"}, "does not allow"),
        ({"kafka": "broker:9092", "schema_registry": "registry"}, "http(s)://host:port/path"),
        ({"kafka": "broker:9092", "schema_registry": f"http://hub:{SECRET}@r"}, "settings of its own"),
        ({"kafka": "broker:9092", "schema_registry": "http://r", "schema_registry_user": "a"}, "a password"),
        (
            {"kafka": "broker:9092", "schema_registry": "https://r", "schema_registry_ca": "/nulle/part.pem"},
            "cannot be read",
        ),
        ({"kafka": "broker:9092", "schema_registry_password": SECRET}, "HUB_SCHEMA_REGISTRY not"),
        ({"schema_registry": "http://registry"}, "the log is not Kafka"),
        ({"deposits": "site"}, "HUB_KAFKA"),
        ({"kafka": "broker:9092", "deposits": "un.site"}, "letters, digits"),
        ({"attachments": "s3://a..b//c"}, "s3://bucket/prefix"),
        ({"attachments": "s3://bucket", "s3_access_key": SECRET}, "needs its secret key"),
        ({"attachments": "s3://bucket", "s3_endpoint": f"https://hub:{SECRET}@s3"}, "https://host:port"),
        ({"attachments": "s3://bucket", "s3_ca": "/nulle/part.pem"}, "cannot be read"),
        ({"tls_key": "key.pem"}, "HUB_TLS_CERTIFICATE"),
    ],
    ids=lambda value: None if isinstance(value, str) else ", ".join(value),
)
def test_what_contradicts_itself_is_told_in_a_sentence_without_any_secret(
    told: dict[str, object], word: str
) -> None:
    [sentence] = flaws_in(Settings.model_validate(told))
    assert word in sentence
    assert SECRET not in sentence


def test_settings_of_a_whole_cluster_are_in_order(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "kafka": "a:9092, b:9092",
            "kafka_user": "hub",
            "kafka_password": SECRET,
            "schema_registry": "https://registry.example/apis/ccompat/v7",
            "schema_registry_user": "hub",
            "schema_registry_password": SECRET,
            "attachments": "s3://bucket/hub",
            "s3_endpoint": "https://s3.example:443",
            "s3_access_key": "hub",
            "s3_secret_key": SECRET,
        }
    )
    assert flaws_in(settings) == []
