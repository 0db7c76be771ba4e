"""OpenSSH's own server on a loopback port: what most partners have. One for a file of tests, or a benchmark."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import DEVNULL, Popen, run

import asyncssh

from hub.domain.partner import Endpoint

HERE = "127.0.0.1"
SSHD = "/usr/sbin/sshd"


@dataclass
class OpenSsh:
    """`root`: what the account's directory `within` is on this machine's disk."""

    root: Path
    within: str
    endpoint: Endpoint
    login: Path
    server: Popen[bytes]

    def names(self, folder: str = ".") -> list[str]:
        return sorted(found.name for found in (self.root / folder).iterdir())

    def at(self, folder: str, **settings: object) -> Endpoint:
        """The same partner, with another folder below its directory."""
        told = {**self.endpoint.settings, "directory": f"{self.within}/{folder}", **settings}
        return replace(self.endpoint, settings=told)

    def fresh(self, name: str) -> tuple[Path, Endpoint]:
        """A folder of this name, empty, and the endpoint that leads there."""
        (self.root / name).mkdir()
        return self.root / name, self.at(name)


@dataclass(frozen=True)
class Authority:
    """Certifies keys with OpenSSH's own tool; its key and theirs lie in `folder`."""

    folder: Path
    key: asyncssh.SSHKey

    def of_host(self, key: asyncssh.SSHKey, *names: str, valid: str = "+30d", kind: str | None = None) -> str:
        """`valid`, `kind`: as ssh-keygen's -V and -t take them; `kind` is of the signature."""
        return self._certify(key, ["-h", "-n", ",".join(names)], valid, kind)

    def of_account(self, key: asyncssh.SSHKey, name: str = "", valid: str = "+30d") -> str:
        return self._certify(key, ["-n", name or getpass.getuser()], valid, None)

    def _certify(self, key: asyncssh.SSHKey, told: list[str], valid: str, kind: str | None) -> str:
        ours, theirs = self.folder / "authority", self.folder / "theirs.pub"
        ours.write_bytes(self.key.export_private_key())
        ours.chmod(0o600)
        theirs.write_bytes(key.export_public_key())
        more = ["-t", kind] if kind else []
        run(
            ["ssh-keygen", "-q", "-s", ours, "-I", "a test", "-V", valid, *told, *more, theirs],
            check=True,
            stderr=DEVNULL,
        )
        return (self.folder / "theirs-cert.pub").read_text().strip()


def line_of(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


def missing() -> str | None:
    """Why there can be no such server here."""
    if not os.path.exists(SSHD):
        return "no OpenSSH server here; run: make system"
    if pwd.getpwuid(os.geteuid()).pw_shell.endswith(("nologin", "false")):
        return "an SSH server serves no account without a shell; run as another: su -s /bin/sh USER"
    return None


@contextmanager
def openssh(folder: Path, *lines: str, chroot: bool = False) -> Iterator[OpenSsh]:
    """`folder` is for its keys and, without `chroot`, for what it is sent; with it (as root alone), the account sees
    nothing but a folder of its own. `lines` are added to its configuration."""
    if os.geteuid() == 0:
        # Where the server's unprivileged half is locked up; made at boot by the system's own service.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    # The server wants every folder above a locked one to be nobody's but root's.
    locked = Path(tempfile.mkdtemp(prefix="hub-sshd-", dir="/run")) if chroot else None
    try:
        if locked is not None:
            locked.chmod(0o755)
            lines = (*lines, f"ChrootDirectory {locked}")
        root = (locked or folder) / "depot"
        root.mkdir()
        with _served(folder, root, "/depot" if chroot else str(root), lines) as served:
            yield served
    finally:
        if locked is not None:
            shutil.rmtree(locked)


@contextmanager
def _served(folder: Path, root: Path, within: str, lines: tuple[str, ...]) -> Iterator[OpenSsh]:
    login = asyncssh.generate_private_key("ssh-ed25519")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    for name, key in (("login", login), ("host_key", host_key)):
        (folder / name).write_bytes(key.export_private_key())
        (folder / name).chmod(0o600)
    (folder / "authorized").write_bytes(login.export_public_key())
    with socket.socket() as door:
        door.bind((HERE, 0))
        port = door.getsockname()[1]
    settings = (
        f"ListenAddress {HERE}:{port}",
        f"HostKey {folder}/host_key",
        f"AuthorizedKeysFile {folder}/authorized",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "Subsystem sftp internal-sftp",
        "ForceCommand internal-sftp",
        *lines,
    )
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    # Newer ones turn a client away that failed a few times: here all tests are one. Older ones do not know the word.
    forgiving, given = ["-o", "PerSourcePenalties=no"], ["-f", str(folder / "sshd_config")]
    if run([SSHD, "-t", *forgiving, *given], stderr=DEVNULL, check=False).returncode:
        forgiving = []
    server = Popen([SSHD, "-D", "-e", *forgiving, *given], stderr=DEVNULL)
    try:
        _await_door(port, server)
        told = {
            "host": HERE,
            "port": port,
            "username": getpass.getuser(),
            "directory": within,
            "host_key": host_key.export_public_key().decode().strip(),
        }
        endpoint = Endpoint("sftp", told, {"private_key": login.export_private_key().decode()})
        yield OpenSsh(root, within, endpoint, folder / "login", server)
    finally:
        server.terminate()
        server.wait(10)


def _await_door(port: int, server: Popen[bytes]) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError), socket.create_connection((HERE, port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("sshd did not start")
