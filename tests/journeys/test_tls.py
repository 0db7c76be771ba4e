"""The HTTP door with TLS: a real certificate on a real hub."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.journeys.children import hub as command
from tests.journeys.children import is_a_sentence
from tests.journeys.world import Stage, stage


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub.example")])
    now = datetime.now(UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "hub.crt", folder / "hub.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    private.chmod(0o600)
    return certificate, private


@asynccontextmanager
async def _running(environment: Mapping[str, str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A hub in a process of its own, whatever it speaks; ended afterwards."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hub", "run"),
            env={**os.environ, "COLUMNS": "1000", **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


async def test_https_answers_with_the_certificate_and_plain_http_does_not(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with stage(HUB_TLS_CERTIFICATE=str(certificate), HUB_TLS_KEY=str(key)) as world:
        where = f"127.0.0.1:{world.environment['HUB_PORT']}"
        async with _running(world.environment, world.folder / "hub.log") as process:
            assert process.stdout is not None
            said = (await asyncio.wait_for(process.stdout.readline(), 45)).decode()
            while "answers at" not in said:
                assert said, (world.folder / "hub.log").read_text()
                said = (await asyncio.wait_for(process.stdout.readline(), 45)).decode()
            assert f"https://{where}" in said

            assert await _shown(world, trusting) == ssl.PEM_cert_to_DER_cert(certificate.read_text())
            async with aiohttp.ClientSession() as session:
                async with session.get(f"https://{where}/readyz", ssl=trusting) as answer:
                    assert answer.status == 200
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.get(f"https://{where}/readyz")
                with pytest.raises(aiohttp.ClientError):
                    await session.get(f"http://{where}/readyz")

            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await _shown(world, _only_tls_1_1(certificate))
        assert process.returncode == 0


async def _shown(world: Stage, context: ssl.SSLContext) -> bytes | None:
    """The certificate that the hub shows. Raises SSLError, or is cut off, when they do not agree."""
    port = int(world.environment["HUB_PORT"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown: bytes | None = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    await writer.wait_closed()
    return shown


def _only_tls_1_1(certificate: Path) -> ssl.SSLContext:
    old = ssl.create_default_context(cafile=str(certificate))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    return old


@pytest.mark.parametrize("alone", ["HUB_TLS_CERTIFICATE", "HUB_TLS_KEY"])
async def test_a_certificate_without_its_key_or_a_key_alone_is_refused(tmp_path: Path, alone: str) -> None:
    certificate, key = _certificate(tmp_path)
    path = certificate if alone == "HUB_TLS_CERTIFICATE" else key
    async with stage(**{alone: str(path)}) as world:
        told = await command(world.environment, "run")
        assert told.code == 2
        assert told.errors.strip() == "TLS needs both HUB_TLS_CERTIFICATE and HUB_TLS_KEY"
        told = await command(world.environment, "check")
        assert told.code == 1
        assert told.errors.strip() == "TLS needs both HUB_TLS_CERTIFICATE and HUB_TLS_KEY"


async def test_a_certificate_that_is_not_there_is_refused_with_a_sentence(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    certificate.unlink()
    async with stage(HUB_TLS_CERTIFICATE=str(certificate), HUB_TLS_KEY=str(key)) as world:
        told = await command(world.environment, "run")
        assert told.code == 2
        assert is_a_sentence(told)
