"""What is between the hub and its database when TLS is asked for: a server that proves who it is, or a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.adapters.postgres.database import connect
from hub.domain.errors import SettingsError
from tests.certificates import authority
from tests.debian_postgres import IN_ADDRESS, PASSWORD, Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("/tmp", tls=True) as server:
        yield server


async def refused(dsn: str) -> str:
    with pytest.raises(SettingsError) as told:
        await connect(dsn)
    assert PASSWORD not in str(told.value)
    assert IN_ADDRESS not in str(told.value)
    return str(told.value)


async def test_a_server_that_proves_who_it_is_is_spoken_to_over_tls_alone(server: Server) -> None:
    connection = await connect(server.address("somebody", "postgres"))
    try:
        assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    finally:
        await connection.close()
    plain = server.address("somebody", "postgres").partition("?")[0]
    assert "refused" in await refused(f"{plain}?sslmode=disable")


async def test_a_certificate_that_does_not_fit_is_told_in_a_sentence(server: Server, tmp_path: Path) -> None:
    address = server.address("somebody", "postgres")
    elsewhere = address.replace("127.0.0.1", "localhost")
    assert "does not fit the address: Hostname mismatch" in await refused(elsewhere)
    # Who asks for less gets less: by whom it was signed is looked at, for whom is not.
    await (await connect(elsewhere.replace("verify-full", "verify-ca"))).close()
    assert server.trusted is not None
    trusted = str(server.trusted.file)
    stranger = authority(tmp_path / "stranger")
    told = await refused(address.replace(trusted, str(stranger.file)))
    assert "does not fit the address: " in told
    nothing = tmp_path / "nothing.pem"
    assert f"sslrootcert of the database address: {nothing}" in await refused(
        address.replace(trusted, str(nothing))
    )
    nothing.write_text("no certificate")
    assert "is none" in await refused(address.replace(trusted, str(nothing)))
    assert "ClientConfigurationError" in await refused(address.replace("verify-full", "verify-all"))


async def test_a_server_without_tls_is_not_spoken_to_when_tls_is_asked_for(tmp_path: Path) -> None:
    trusted = authority(tmp_path / "trusted")
    with serving("/tmp", tls=False) as server:
        asked = f"?sslmode=verify-full&sslrootcert={trusted.file}"
        assert "asks for TLS" in await refused(server.address("somebody", "postgres") + asked)
        # Nothing was asked for.
        await (await connect(server.address("somebody", "postgres"))).close()
