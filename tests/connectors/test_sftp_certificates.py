"""Certificates of OpenSSH, for servers and for accounts: made by its own tool, shown to and by its own server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
import pytest

from connectors.sftp import SftpConnector
from connectors.sftp.fields import FIELDS
from hub.domain.delivery import About, Delivered, Refused
from hub.domain.partner import Endpoint
from hub.domain.trials import Step, StepState
from tests.connectors.openssh import HERE, Authority, OpenSsh, line_of, missing, openssh
from tests.connectors.partners import some_parcel, surroundings, with_settings

LIMIT = 10.0


def fresh(kind: str = "ssh-ed25519") -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(kind)


STRANGER = fresh()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if (why := missing()) is not None:
        pytest.skip(why)
    return Authority(tmp_path_factory.mktemp("authority"), fresh("ssh-rsa"))


@contextmanager
def served(
    folder: Path, certificate: str | None, key: asyncssh.SSHKey, authority: Authority
) -> Iterator[OpenSsh]:
    """A server with this key and certificate, that lets in whom the authority certifies."""
    (folder / "other").write_bytes(key.export_private_key())
    (folder / "other").chmod(0o600)
    (folder / "authority.pub").write_bytes(authority.key.export_public_key())
    lines = [f"HostKey {folder}/other", f"TrustedUserCAKeys {folder}/authority.pub"]
    if certificate is not None:
        (folder / "other-cert.pub").write_text(certificate + "\n")
        lines.append(f"HostCertificate {folder}/other-cert.pub")
    with openssh(folder, *lines) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[OpenSsh]:
    key = fresh("ecdsa-sha2-nistp256")
    with served(tmp_path_factory.mktemp("server"), authority.of_host(key, HERE), key, authority) as found:
        yield found


@pytest.fixture
async def sftp() -> AsyncIterator[SftpConnector]:
    made = SftpConnector(surroundings())
    yield made
    await made.close()


async def outcome(sftp: SftpConnector, endpoint: Endpoint) -> object:
    assert not sftp.check(endpoint)
    [found] = await sftp.deliver(endpoint, [some_parcel()], LIMIT)
    return found


async def trial(sftp: SftpConnector, endpoint: Endpoint) -> list[Step]:
    return list(await sftp.try_out(endpoint, LIMIT, False))


def wrong(steps: list[Step]) -> list[tuple[str, str | None]]:
    return [(one.name, one.cause) for one in steps if one.state is StepState.WRONG]


# --- of servers ---------------------------------------------------------------------------------------


async def test_a_server_may_change_its_key_under_its_authority(
    sftp: SftpConnector, server: OpenSsh, authority: Authority, tmp_path: Path
) -> None:
    pinned = f"@cert-authority {HERE},[{HERE}]:* {line_of(authority.key)}"
    assert isinstance(await outcome(sftp, with_settings(server.endpoint, host_key=pinned)), Delivered)
    key = fresh("ssh-rsa")
    with served(tmp_path, authority.of_host(key, "a.test", HERE), key, authority) as changed:
        endpoint = with_settings(changed.endpoint, host_key=pinned)
        assert isinstance(await outcome(sftp, endpoint), Delivered)
        steps = await trial(sftp, endpoint)
    assert not wrong(steps)
    print_of_authority = authority.key.get_fingerprint()
    assert [one.name for one in steps if print_of_authority in one.en] == ["host_key"]


async def test_a_key_that_is_told_beside_an_authority_is_believed_by_itself(
    sftp: SftpConnector, server: OpenSsh
) -> None:
    own = asyncssh.import_private_key((server.login.parent / "other").read_bytes())
    endpoint = with_settings(
        server.endpoint, host_key=f"@cert-authority * {line_of(STRANGER)}\n{own.get_fingerprint()}"
    )
    assert isinstance(await outcome(sftp, endpoint), Delivered)
    steps = await trial(sftp, endpoint)
    assert [one.name for one in steps if own.get_fingerprint() in one.en] == ["host_key"]


@pytest.mark.parametrize(
    ("lines", "flaw"),
    [
        ("@cert-authority * {stranger}", "host_authority_unknown"),
        ("@cert-authority * {stranger}\nSHA256:" + "A" * 43, "host_authority_unknown"),
        ("@cert-authority * {authority}\n@revoked * {authority}", "host_key_revoked"),
        ("@cert-authority * {authority}\n@revoked * {server}", "host_key_revoked"),
        ("@cert-authority [{host}]:{port} {authority}\n@revoked {host} {authority}", "host_key_revoked"),
        ("@cert-authority {host} {authority}\n@revoked [{host}]:{port} {authority}", "host_key_revoked"),
        ("[{host}]:{port} {server}\n@revoked {host} {server}", "host_key_revoked"),
        ("{host} {server}\n@revoked [{host}]:{port} {server}", "host_key_revoked"),
    ],
    ids=[
        "of-another",
        "beside-another-key",
        "revoked-authority",
        "revoked-key",
        "authority-without-port",
        "authority-with-port",
        "key-without-port",
        "key-with-port",
    ],
)
async def test_a_server_is_not_believed_by_another_authority_nor_what_is_revoked(
    sftp: SftpConnector, server: OpenSsh, authority: Authority, lines: str, flaw: str
) -> None:
    own = asyncssh.import_private_key((server.login.parent / "other").read_bytes())
    lines = lines.format(
        stranger=line_of(STRANGER),
        authority=line_of(authority.key),
        server=line_of(own),
        host=HERE,
        port=server.endpoint.settings["port"],
    )
    endpoint = with_settings(server.endpoint, host_key=lines)
    assert await outcome(sftp, endpoint) == Refused(f"sftp.{flaw}", About.ENDPOINT)
    assert wrong(await trial(sftp, endpoint)) == [("host_key", f"sftp.{flaw}")]


@pytest.mark.parametrize(
    ("names", "valid", "kind", "flaw"),
    [
        ([HERE], "20200101:20200202", None, "host_certificate_expired"),
        ([HERE], "20990101:20990202", None, "host_certificate_early"),
        (["another.test"], "+1d", None, "host_certificate_for_another"),
        ([HERE], "+1d", "ssh-rsa", "no_common_algorithm"),
        ([], "", None, "host_certificate_missing"),
    ],
    ids=["expired", "early", "another-name", "signed-with-sha1", "none"],
)
async def test_why_a_server_s_certificate_is_not_believed_is_told(
    sftp: SftpConnector,
    authority: Authority,
    tmp_path: Path,
    names: list[str],
    valid: str,
    kind: str | None,
    flaw: str,
) -> None:
    key = fresh()
    certificate = authority.of_host(key, *names, valid=valid, kind=kind) if names else None
    with served(tmp_path, certificate, key, authority) as found:
        endpoint = with_settings(found.endpoint, host_key=f"@cert-authority * {line_of(authority.key)}")
        assert await outcome(sftp, endpoint) == Refused(f"sftp.{flaw}", About.ENDPOINT)
        assert [cause for _, cause in wrong(await trial(sftp, endpoint))] == [f"sftp.{flaw}"]


async def test_a_name_is_the_same_however_it_is_written(
    sftp: SftpConnector, authority: Authority, tmp_path: Path
) -> None:
    key = fresh()
    with served(tmp_path, authority.of_host(key, "localhost"), key, authority) as found:
        lines = f"@cert-authority [LocalHost]:{found.endpoint.settings['port']} {line_of(authority.key)}"
        endpoint = with_settings(found.endpoint, host="LOCALHOST", host_key=lines)
        assert isinstance(await outcome(sftp, endpoint), Delivered)


@pytest.mark.parametrize(
    "line",
    [
        "@cert-authority * ssh-ed25519 AAAA",
        "@revoked * {key}x=",
        "@revoked *",
        "@another * {key}",
        "* cut",
        "{certificate}",
        "|1|x|y {key}",
    ],
)
def test_a_line_that_does_not_read_is_refused_not_passed_over(
    server: OpenSsh, authority: Authority, line: str
) -> None:
    good = line_of(authority.key)
    line = line.format(
        key=good.split(" ")[0] + " " + good.split(" ")[1][:-9], certificate=user_line(authority)
    )
    flaws = SftpConnector(surroundings()).check(with_settings(server.endpoint, host_key=f"{good}\n{line}"))
    assert [flaw.split(" ", 1)[0] for flaw in flaws] == ["host_key"]
    assert "AAAA" not in flaws[0]


def user_line(authority: Authority) -> str:
    return authority.of_account(STRANGER)


# --- of accounts --------------------------------------------------------------------------------------


def as_account(server: OpenSsh, key: asyncssh.SSHKey, certificate: str) -> Endpoint:
    secrets = {"private_key": key.export_private_key().decode()}
    return replace(with_settings(server.endpoint, certificate=certificate), secrets=secrets)


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp384"])
async def test_an_account_is_let_in_by_its_certificate(
    sftp: SftpConnector, server: OpenSsh, authority: Authority, kind: str
) -> None:
    key = fresh(kind)
    endpoint = as_account(server, key, authority.of_account(key))
    assert isinstance(await outcome(sftp, endpoint), Delivered)
    steps = await trial(sftp, endpoint)
    assert not wrong(steps)
    day = datetime.now(UTC) + timedelta(days=30)
    [known] = [one for one in steps if one.name == "certificate"]
    assert f"{day:%Y-%m}" in known.en
    assert f"{day:%m/%Y}" in known.fr


def test_when_an_account_s_certificate_runs_out_is_known(authority: Authority) -> None:
    key = fresh()
    [field] = [one for one in FIELDS if one.until is not None]
    assert field.name == "certificate"
    assert field.until is not None
    found = field.until(authority.of_account(key, valid="20300101Z:20310203040506Z") + "\n")
    assert found == datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    for never in ("always:forever", "0x1:0x7fffffffffffffff", f"0x1:{2**62:#x}"):
        assert field.until(authority.of_account(key, valid=never)) is None
    with pytest.raises(ValueError, match="certificate"):
        field.until(authority.of_host(key, HERE))


async def test_a_certificate_that_is_good_longer_than_calendars_go_is_so_for_ever(
    sftp: SftpConnector, tmp_path: Path, authority: Authority
) -> None:
    long, key = f"0x1:{2**62:#x}", fresh()
    with served(tmp_path, authority.of_host(key, HERE, valid=long), key, authority) as server:
        endpoint = as_account(server, key, authority.of_account(key, valid=long))
        pinned = f"@cert-authority * {line_of(authority.key)}"
        steps = await trial(sftp, with_settings(endpoint, host_key=pinned))
    assert not wrong(steps)
    assert len([one for one in steps if "for ever" in one.en]) == 2


@pytest.mark.parametrize(
    ("valid", "name", "foreign", "flaw"),
    [
        ("20200101:20200202", "", False, "certificate_expired"),
        ("20990101:20990202", "", False, "certificate_early"),
        ("+1d", "somebody-else", False, "certificate_refused"),
        ("+1d", "", True, "certificate_refused"),
    ],
    ids=["expired", "early", "for-another", "of-another-authority"],
)
async def test_a_certificate_that_is_not_taken_is_told_and_the_bare_key_is_not_tried(
    sftp: SftpConnector,
    server: OpenSsh,
    authority: Authority,
    tmp_path: Path,
    valid: str,
    name: str,
    foreign: bool,
    flaw: str,
) -> None:
    """The server would let this key in by itself."""
    key = asyncssh.import_private_key(server.login.read_bytes())
    by = Authority(tmp_path, STRANGER) if foreign else authority
    endpoint = as_account(server, key, by.of_account(key, name, valid))
    assert await outcome(sftp, endpoint) == Refused(f"sftp.{flaw}", About.ENDPOINT)
    steps = await trial(sftp, endpoint)
    assert wrong(steps) == [("login", f"sftp.{flaw}")]
    assert "certificate" in [one.name for one in steps]


def test_a_certificate_that_cannot_be_the_account_s_is_refused_at_import(
    server: OpenSsh, authority: Authority
) -> None:
    key = asyncssh.import_private_key(server.login.read_bytes())
    good = authority.of_account(key)
    for text, must in (
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "must be an OpenSSH certificate of a user, in one line"),
        (authority.of_host(STRANGER, HERE), "must be an OpenSSH certificate of a user, in one line"),
        (f"{good}\n{good}", "must be an OpenSSH certificate of a user, in one line"),
        (user_line(authority), "must be of private_key"),
    ):
        flaws = SftpConnector(surroundings()).check(with_settings(server.endpoint, certificate=text))
        assert list(flaws) == [f"certificate {must}"]


def test_what_was_cut_anywhere_is_a_flaw_and_no_fault_of_ours(server: OpenSsh, authority: Authority) -> None:
    key = asyncssh.import_private_key(server.login.read_bytes())
    connector, good = SftpConnector(surroundings()), authority.of_account(key)
    body = good.split(" ")[1]
    for at in range(4, len(body), 24):
        assert connector.check(
            with_settings(server.endpoint, certificate=f"{good.split(' ')[0]} {body[:at]}")
        )
    private = key.export_private_key().decode()
    for at in range(1, len(private) - 40, 16):
        assert connector.check(replace(server.endpoint, secrets={"private_key": private[:at]}))


# --- nothing of whom the hub runs as ------------------------------------------------------------------

OPENED: list[str] = []
WATCHED: list[str] = []


def _watch(event: str, told: tuple[object, ...]) -> None:
    if WATCHED and event in {"open", "os.listdir", "os.scandir", "socket.connect", "subprocess.Popen"}:
        OPENED.extend(str(one) for one in told if WATCHED[0] in str(one))


sys.addaudithook(_watch)


async def test_nothing_of_the_account_that_the_hub_runs_as_is_looked_at(
    server: OpenSsh, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key would be let in, its known hosts believe the server, its configuration and its agent lead elsewhere."""
    home = tmp_path / ".ssh"
    (home / "crt").mkdir(parents=True)
    (home / "config").write_text("Host *\n  User nobody\n  ProxyCommand /bin/false\n")
    (home / "known_hosts").write_text(f"* {server.endpoint.settings['host_key']}\n")
    (home / "id_ed25519").write_bytes(server.login.read_bytes())
    for name in ("id_rsa", "id_ecdsa", "ca-bundle.crt"):
        (home / name).write_text("")
    agent = str(tmp_path / "agent")
    asked: list[object] = []
    listening = await asyncio.start_unix_server(lambda *guest: asked.append(guest), agent)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    sftp, stranger = SftpConnector(surroundings()), fresh()
    mine = {"private_key": stranger.export_private_key().decode()}
    WATCHED.append(str(tmp_path))
    try:
        assert Path("~").expanduser() == tmp_path
        assert isinstance(await outcome(sftp, server.endpoint), Delivered)
        assert not wrong(await trial(sftp, server.endpoint))
        for refused, cause in (
            (replace(server.endpoint, secrets=mine), "permission_denied"),
            (replace(server.endpoint, secrets={"password": "x"}), "permission_denied"),
            (with_settings(server.endpoint, host_key=line_of(STRANGER)), "host_key_changed"),
        ):
            assert await outcome(sftp, refused) == Refused(f"sftp.{cause}", About.ENDPOINT)
            assert [told for _, told in wrong(await trial(sftp, refused))] == [f"sftp.{cause}"]
        assert OPENED == []
        assert asked == []
        (home / "id_rsa").read_text()
        assert len(OPENED) == 1, "the watch sees what is opened there"
    finally:
        WATCHED.clear()
        OPENED.clear()
        await sftp.close()
        listening.close()
