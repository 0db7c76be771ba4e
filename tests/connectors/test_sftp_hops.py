"""Certificates of OpenSSH, for servers and for accounts, and servers that are reached through another one: with
OpenSSH's own server on either side."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import asyncssh
import pytest

from connectors.sftp import SftpConnector
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.domain.partner import Endpoint
from hub.domain.trials import StepState
from hub.ports.connector import Surroundings
from tests.connectors.openssh import OpenSsh, missing, openssh
from tests.connectors.partners import closed_port, outgoing, some_parcel, surroundings

LIMIT = 10.0
HERE = "127.0.0.1"
AUTHORITY = asyncssh.generate_private_key("ssh-ed25519")
STRANGER = asyncssh.generate_private_key("ssh-ed25519")
CHANGED = Refused("sftp.host_key_changed", About.ENDPOINT)
DENIED = Refused("sftp.permission_denied", About.ENDPOINT)


def line(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    """It has a certificate of the authority for this machine's address, and lets in whom the authority certifies."""
    if (why := missing()) is not None:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("certified")
    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    certificate = AUTHORITY.generate_host_certificate(key, "host", principals=[HERE], valid_before="+1d")
    (folder / "other").write_bytes(key.export_private_key())
    (folder / "other").chmod(0o600)
    (folder / "other-cert.pub").write_bytes(certificate.export_certificate())
    (folder / "authority.pub").write_bytes(AUTHORITY.export_public_key())
    lines = (
        f"HostKey {folder}/other",
        f"HostCertificate {folder}/other-cert.pub",
        f"TrustedUserCAKeys {folder}/authority.pub",
    )
    with openssh(folder, *lines) as served:
        yield served


@pytest.fixture(scope="module")
def jump(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    with openssh(tmp_path_factory.mktemp("jump")) as served:
        yield served


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    """It lets nobody through."""
    with openssh(tmp_path_factory.mktemp("wall"), "AllowTcpForwarding no") as served:
        yield served


@pytest.fixture
async def sftp() -> AsyncIterator[SftpConnector]:
    made = SftpConnector(surroundings())
    yield made
    await made.close()


def told(endpoint: Endpoint, **settings: object) -> Endpoint:
    return replace(endpoint, settings={**endpoint.settings, **settings})


async def outcome(sftp: SftpConnector, endpoint: Endpoint) -> object:
    assert not sftp.check(endpoint)
    [found] = await sftp.deliver(endpoint, [some_parcel()], LIMIT)
    return found


# --- certificates -------------------------------------------------------------------------------------


async def test_a_server_is_believed_by_its_authority_whatever_its_key(
    sftp: SftpConnector, certified: OpenSsh
) -> None:
    endpoint = told(certified.endpoint, host_key=f"@cert-authority {HERE},[{HERE}]:* {line(AUTHORITY)}")
    assert isinstance(await outcome(sftp, endpoint), Delivered)
    steps = await sftp.try_out(endpoint, LIMIT, False)
    assert all(one.state is not StepState.WRONG for one in steps), steps


@pytest.mark.parametrize(
    "lines",
    [
        f"@cert-authority * {line(STRANGER)}",
        f"@cert-authority * {line(AUTHORITY)}\n@revoked * {line(AUTHORITY)}",
        f"@cert-authority * {line(STRANGER)}\nSHA256:{'A' * 43}",
    ],
    ids=["of-another", "revoked", "beside-another-key"],
)
async def test_a_server_is_not_believed_by_another_authority(
    sftp: SftpConnector, certified: OpenSsh, lines: str
) -> None:
    endpoint = told(certified.endpoint, host_key=lines)
    assert await outcome(sftp, endpoint) == CHANGED
    steps = await sftp.try_out(endpoint, LIMIT, False)
    assert [(one.name, one.cause) for one in steps if one.state is StepState.WRONG] == [
        ("host_key", "sftp.host_key_changed")
    ]


async def test_a_certificate_for_another_name_is_none(sftp: SftpConnector, certified: OpenSsh) -> None:
    endpoint = told(certified.endpoint, host="localhost", host_key=f"@cert-authority * {line(AUTHORITY)}")
    assert await outcome(sftp, endpoint) == CHANGED


def user_certificate(
    key: asyncssh.SSHKey, until: str = "+1d", who: str = "", by: asyncssh.SSHKey = AUTHORITY
) -> str:
    made = by.generate_user_certificate(
        key, "hub", principals=[who or getpass.getuser()], valid_after="20200101", valid_before=until
    )
    return made.export_certificate().decode()


async def test_an_account_is_let_in_by_its_certificate(sftp: SftpConnector, certified: OpenSsh) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    login = {"private_key": key.export_private_key().decode()}
    endpoint = replace(told(certified.endpoint, certificate=user_certificate(key)), secrets=login)
    assert isinstance(await outcome(sftp, endpoint), Delivered)
    assert ("certificate", StepState.WELL) in [
        (one.name, one.state) for one in await sftp.try_out(endpoint, LIMIT, False)
    ]
    assert await outcome(sftp, replace(certified.endpoint, secrets=login)) == DENIED
    for other in (
        user_certificate(key, until="20200202"),
        user_certificate(key, who="somebody-else"),
        user_certificate(key, by=STRANGER),
    ):
        endpoint = replace(told(certified.endpoint, certificate=other), secrets=login)
        assert await outcome(sftp, endpoint) == DENIED


async def test_a_certificate_that_cannot_be_the_account_s_is_refused_at_import(
    sftp: SftpConnector, certified: OpenSsh
) -> None:
    of_host = AUTHORITY.generate_host_certificate(STRANGER, "host").export_certificate().decode()
    for text, must in (
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "must be an OpenSSH certificate of a user"),
        (of_host, "must be an OpenSSH certificate of a user"),
        (user_certificate(STRANGER), "must be of private_key"),
    ):
        assert list(sftp.check(told(certified.endpoint, certificate=text))) == [f"certificate {must}"]


# --- through another server ---------------------------------------------------------------------------


def through(server: OpenSsh, behind: OpenSsh, **settings: object) -> Endpoint:
    way = {
        f"jump_{name}": server.endpoint.settings[name] for name in ("host", "port", "username", "host_key")
    }
    secrets = {**behind.endpoint.secrets, "jump_private_key": server.endpoint.secrets["private_key"]}
    return Endpoint("sftp", {**behind.endpoint.settings, **way, **settings}, secrets)


async def test_a_parcel_goes_through_one_server_to_another(
    sftp: SftpConnector, certified: OpenSsh, jump: OpenSsh
) -> None:
    endpoint = through(jump, certified)
    before = certified.names()
    assert isinstance(await outcome(sftp, endpoint), Delivered)
    assert len(certified.names()) == len(before) + 1
    assert jump.names() == []
    assert isinstance(await outcome(sftp, endpoint), Delivered)
    steps = await sftp.try_out(endpoint, LIMIT, False)
    assert "jump" in [one.name for one in steps if one.state is StepState.WELL]
    assert all(one.state is not StepState.WRONG for one in steps), steps


async def test_only_the_first_of_both_is_asked_of_the_guard(certified: OpenSsh, jump: OpenSsh) -> None:
    """What stands behind it has a name in its partner's network, which means nothing here."""
    asked: list[str] = []

    class Noting:
        def __init__(self) -> None:
            self.guard = outgoing()

        def __getattr__(self, name: str) -> object:
            return getattr(self.guard, name)

        async def connect(self, host: str, port: int, limit: float) -> object:
            asked.append(f"{host}:{port}")
            return await self.guard.connect(host, port, limit)

    plain = surroundings()
    made = SftpConnector(Surroundings(plain.link, plain.now, Noting()))  # type: ignore[arg-type]
    assert isinstance(await outcome(made, through(jump, certified)), Delivered)
    await made.close()
    assert asked == [f"{HERE}:{jump.endpoint.settings['port']}"]


async def test_what_is_wrong_is_told_of_the_server_where_it_is(
    sftp: SftpConnector, certified: OpenSsh, jump: OpenSsh, wall: OpenSsh
) -> None:
    good = through(jump, certified)
    other = asyncssh.generate_private_key("ssh-ed25519")
    foreign = {"jump_private_key": other.export_private_key().decode()}
    with closed_port() as nobody:
        for endpoint, expected in (
            (told(good, jump_host_key=line(other)), Refused("sftp.jump_host_key_changed", About.ENDPOINT)),
            (
                replace(good, secrets={**good.secrets, **foreign}),
                Refused("sftp.jump_permission_denied", About.ENDPOINT),
            ),
            (told(good, jump_port=nobody), Deferred("sftp.jump_connection_refused")),
            (through(wall, certified), Refused("sftp.jump_forwarding_denied", About.ENDPOINT)),
            (told(good, port=nobody), Deferred("sftp.unreachable")),
            (told(good, host_key=line(other)), CHANGED),
            (replace(good, secrets={**good.secrets, "private_key": foreign["jump_private_key"]}), DENIED),
        ):
            assert await outcome(sftp, endpoint) == expected
            steps = await sftp.try_out(endpoint, LIMIT, False)
            assert [one.cause for one in steps if one.state is StepState.WRONG] == [expected.cause]


async def test_when_the_server_that_is_jumped_through_dies_the_next_page_begins_anew(
    sftp: SftpConnector, certified: OpenSsh, jump: OpenSsh
) -> None:
    endpoint = through(jump, certified)
    assert isinstance(await outcome(sftp, endpoint), Delivered)
    [kept] = sftp._sessions._kept.values()
    assert kept.session.jump is not None
    kept.session.jump.abort()
    assert isinstance(await outcome(sftp, endpoint), Delivered)
    [anew] = sftp._sessions._kept.values()
    assert anew.session is not kept.session
    # Both go when one of them is let go.
    anew.session.close()
    assert anew.session.jump is not None
    await anew.session.jump.wait_closed()


def test_a_jump_needs_an_account_and_a_key_of_its_own(certified: OpenSsh) -> None:
    sftp = SftpConnector(surroundings())
    alone = told(certified.endpoint, jump_host="rebond.mairie.test")
    assert {flaw.split(" ", 1)[0] for flaw in sftp.check(alone)} == {
        "jump_host",
        "jump_private_key",
    }
