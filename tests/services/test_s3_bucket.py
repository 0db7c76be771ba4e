"""How a bucket is reached: settings that contradict themselves are said at once, and over TLS only a store
whose certificate is known is spoken to."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub.adapters.objects.bucket import Bucket
from hub.adapters.objects.s3 import S3Attachments
from hub.domain.errors import SettingsError, Unavailable
from tests.conformance.attachment_places import KEY, chunked, whole
from tests.conformance.attachment_server import ACCESS_KEY, SECRET_KEY, Server, serving


@pytest.mark.parametrize(
    "address",
    [
        "s3://essai",
        "s3://essai/",
        "s3://es.sai-2/a",
        "s3://essai/a/b",
        "s3://essai/a/b/",
        "s3://essai/.a/b..c",
    ],
)
def test_an_address_is_a_bucket_and_perhaps_a_prefix(address: str) -> None:
    Bucket(address).open()


@pytest.mark.parametrize(
    "given",
    [
        {"address": ""},
        {"address": "essai"},
        {"address": "https://essai"},
        {"address": "s3://"},
        {"address": "s3://Essai"},
        {"address": "s3://essai/a//b"},
        {"address": "s3://essai/../b"},
        {"address": "s3://essai/a/./b"},
        {"address": "s3://essai/é"},
        {"address": "s3://essai/a b"},
        {"address": "s3://essai\n"},
        {"endpoint": "store.example"},
        {"endpoint": "ftp://store.example"},
        {"endpoint": f"https://moi:{SECRET_KEY}@store.example"},
        {"access_key": ACCESS_KEY},
        {"secret_key": SECRET_KEY},
        {"ca": Path("/nowhere/at/all.pem")},
        {"ca": Path(__file__)},
    ],
)
def test_settings_that_cannot_be_used_are_said_without_a_secret(given: dict[str, object]) -> None:
    bucket = Bucket(**{"address": "s3://essai/a", **given})  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as caught:
        S3Attachments(bucket)
    told = "".join(traceback.format_exception(caught.value)) + repr(bucket)
    assert SECRET_KEY not in told.replace(str(given.get("endpoint")), "")
    assert ACCESS_KEY not in told


async def test_no_variable_of_the_environment_overrules_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_BUCKET",
    ):
        monkeypatch.setenv(name, "of-somebody-else")
    monkeypatch.setenv("AWS_UNSIGNED_PAYLOAD", "true")
    with serving() as server:
        bucket = server.bucket()
        stored = await S3Attachments(bucket.settings()).put(chunked(b"content"), KEY)
        assert set(bucket.all()) == {stored.name}
        assert all("of-somebody-else" not in asked.signed for asked in server.asked)
        assert all(f"{ACCESS_KEY}/" in asked.signed for asked in server.asked)
        kept = hashlib.sha256(bucket.all()[stored.name]).hexdigest()
        assert server.asked[0].signed.endswith(f" {kept}")


@dataclass(frozen=True, slots=True)
class Certified:
    """The certificate of 127.0.0.1, its key, and that of who signed it."""

    server: Path
    key: Path
    signer: Path


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    folder = tmp_path_factory.mktemp("certified")
    found = Certified(folder / "server.pem", folder / "server.key", folder / "signer.pem")
    signers, servers = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signer = _certificate("signer.example", signers, signers, x509.BasicConstraints(True, 0))
    server = _certificate("store.example", servers, signers, here)
    found.signer.write_bytes(signer.public_bytes(Encoding.PEM))
    found.server.write_bytes(server.public_bytes(Encoding.PEM))
    found.key.write_bytes(servers.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return found


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer.example")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(extension, critical=True)
        .sign(signer, hashes.SHA256())
    )


@pytest.fixture
def server(certified: Certified) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified.server, certified.key)
    with serving(context) as server:
        yield server


async def test_a_store_whose_certificate_is_known_is_spoken_to_over_tls(
    server: Server, certified: Certified
) -> None:
    assert server.endpoint.startswith("https://")
    attachments = S3Attachments(server.bucket().settings(ca=certified.signer))
    stored = await attachments.put(chunked(b"content"), KEY)
    assert await whole(attachments, stored.name) == b"content"


async def test_a_store_whose_certificate_nobody_vouches_for_is_unavailable(server: Server) -> None:
    bucket = server.bucket()
    with pytest.raises(Unavailable):
        await S3Attachments(bucket.settings(patience=1.0)).put(chunked(b"content"), KEY)
    assert bucket.all() == {}
