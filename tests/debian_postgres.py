"""A PostgreSQL server that somebody else runs: Debian's, of the oldest version the hub supports, with a password,
and over TLS or not. Nothing of it remains."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.certificates import Authority, authority
from tests.ports import free_port

OLDEST = Path("/usr/lib/postgresql/15/bin")
# With signs that an address must carry in another form.
PASSWORD = "un-mot-de-passe/+@é"
IN_ADDRESS = quote(PASSWORD, safe="")


@dataclass(frozen=True, slots=True)
class Server:
    """`trusted`: who signed its certificate; None: it knows no TLS."""

    port: int
    trusted: Authority | None

    def address(self, user: str, database: str) -> str:
        """As a careful operator writes it: its certificate is asked for, where it has one."""
        plain = f"postgresql://{user}:{IN_ADDRESS}@127.0.0.1:{self.port}/{database}"
        return (
            plain if self.trusted is None else f"{plain}?sslmode=verify-full&sslrootcert={self.trusted.file}"
        )


@contextmanager
def serving(parent: str, *, tls: bool) -> Iterator[Server]:
    """Its owner is `somebody`. Over TLS alone, where it is asked for. Skips where it is not installed."""
    if not (OLDEST / "initdb").exists():
        pytest.skip("no PostgreSQL 15 server here; run: make system")
    folder = Path(tempfile.mkdtemp(prefix="hub-existing-", dir=parent))
    try:
        _lend(folder)
        secret = folder / "password"
        secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
        _lend(secret)
        data, port = folder / "data", free_port()
        initdb = (str(OLDEST / "initdb"), "-D", str(data), "-U", "somebody", "-A", "scram-sha-256")
        _carry_out(folder, *initdb, f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "--no-sync")
        trusted = _with_tls(folder, data) if tls else None
        settings = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off -c max_connections=200"
        control = (str(OLDEST / "pg_ctl"), "-D", str(data), "-w")
        _carry_out(folder, *control, "-l", str(folder / "server.log"), "-o", settings, "start")
        try:
            yield Server(port, trusted)
        finally:
            _carry_out(folder, *control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_tls(folder: Path, data: Path) -> Authority:
    trusted = authority(folder / "trusted")
    certificate, key = trusted.sign("database")
    key.chmod(0o600)
    for each in (folder / "trusted", certificate, key):
        _lend(each)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(f"ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\n")
    # Who comes without TLS is refused.
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    return trusted


def _account() -> str | None:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _lend(path: Path) -> None:
    account = _account()
    if account is not None:
        shutil.chown(path, account)


def _carry_out(folder: Path, *words: str) -> None:
    account = _account()
    given = () if account is None else ("--reuid", account, "--regid", str(pwd.getpwnam(account).pw_gid))
    prefix = ("setpriv", *given, "--clear-groups") if given else ()
    ended = subprocess.run(
        [*prefix, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    assert ended.returncode == 0, ended.stdout.decode()
