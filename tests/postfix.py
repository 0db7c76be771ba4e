"""Debian's Postfix with a configuration and a queue of its own, for tests of what real mail servers do.

It takes mail for `mairie.test`: into a mailbox; not at all for `refuse@`; for `gone@` and `lost@` it takes it, and then
finds that it cannot be delivered; what is for `nowhere@` it throws away. What comes for `retours.test` it hands to a
door for bounces.
"""

from __future__ import annotations

import email
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from tests.certificates import authority
from tests.conftest import quickest

HERE = "127.0.0.1"
POSTFIX = "/usr/sbin/postfix"


@dataclass(frozen=True)
class Postfix:
    """`port` speaks SMTP with STARTTLS, by a certificate that `ca` signed; `returns`: where it expects the door for
    bounces."""

    folder: Path
    port: int
    returns: int
    ca: str

    def mails(self) -> list[EmailMessage[str, str]]:
        """What lies in the mailbox, oldest first."""
        there = sorted((self.folder / "mail/box/new").glob("*"), key=lambda one: one.stat().st_mtime_ns)
        return [
            email.message_from_bytes(one.read_bytes(), _class=EmailMessage, policy=default) for one in there
        ]

    def empty(self) -> None:
        for one in (self.folder / "mail/box/new").glob("*"):
            one.unlink()


@contextmanager
def postfix() -> Iterator[Postfix]:
    if not os.path.exists(POSTFIX):
        pytest.skip("no Postfix here; run: make system")
    if os.geteuid() != 0:
        pytest.skip("a Postfix of one's own is started as root")
    folder = Path(tempfile.mkdtemp(prefix="hub-postfix-", dir=quickest()))
    folder.chmod(0o711)
    found = _laid_out(folder)
    server = subprocess.Popen(
        [POSTFIX, "-c", str(folder / "etc"), "start-fg"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await_door(found.port, server)
        yield found
    finally:
        subprocess.run([POSTFIX, "-c", str(folder / "etc"), "stop"], capture_output=True, check=False)
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _laid_out(folder: Path) -> Postfix:
    for name in ("etc", "queue", "data", "mail"):
        (folder / name).mkdir(mode=0o755)
    owner = pwd.getpwnam("postfix")
    os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
    nobody = pwd.getpwnam("nobody")
    os.chown(folder / "mail", nobody.pw_uid, nobody.pw_gid)
    signed = authority(folder / "ca")
    certificate, key = signed.sign("mx")
    port, returns = _free_port(), _free_port()
    etc = folder / "etc"
    (etc / "access").write_text("refuse@mairie.test 550 5.1.1 these words must go nowhere\n")
    (etc / "transport").write_text(
        "gone@mairie.test nouser:\nlost@mairie.test nouser:\nnowhere@mairie.test discard:\n"
        f"retours.test lmtp:inet:{HERE}:{returns}\n"
    )
    # As a mailbox program that knows no such user (sysexits.h).
    (folder / "nouser").write_text("exit 67\n")
    (etc / "main.cf").write_text(
        f"""
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = mx.mairie.test
mydestination =
inet_interfaces = {HERE}
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
local_recipient_maps =
relay_domains = retours.test
virtual_mailbox_domains = mairie.test
virtual_mailbox_maps = static:box/
virtual_mailbox_base = {folder}/mail
virtual_minimum_uid = 1
virtual_uid_maps = static:{nobody.pw_uid}
virtual_gid_maps = static:{nobody.pw_gid}
transport_maps = texthash:{etc}/transport
smtpd_recipient_restrictions = check_recipient_access texthash:{etc}/access, permit_mynetworks, reject
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtpd_client_connection_count_limit = 0
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
"""
    )
    services = (
        "cleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n"
    )
    services += "".join(f"{name} unix - - n - 0 bounce\n" for name in ("bounce", "defer", "trace"))
    services += "".join(
        f"{name} unix - - n - - {program}\n"
        for name, program in (
            ("smtp", "smtp"),
            ("lmtp", "lmtp"),
            ("error", "error"),
            ("retry", "error"),
            ("proxymap", "proxymap"),
            ("discard", "discard"),
        )
    )
    services += "".join(f"{name} unix - - n - 1 {name}\n" for name in ("tlsmgr", "anvil", "scache"))
    (etc / "master.cf").write_text(
        f"{HERE}:{port} inet n - n - - smtpd\n{services}"
        "virtual unix - n n - - virtual\nflush unix n - n - 0 flush\n"
        f"nouser unix - n n - - pipe\n  user=nobody argv=/bin/sh {folder}/nouser\n"
        "postlog unix-dgram n - n - 1 postlogd\n"
    )
    return Postfix(folder, port, returns, signed.file.read_text())


def _free_port() -> int:
    with socket.socket() as door:
        door.bind((HERE, 0))
        return int(door.getsockname()[1])


def _await_door(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and server.poll() is None:
        with suppress(OSError), socket.create_connection((HERE, port), 1) as door:
            door.settimeout(10)
            if door.recv(100).startswith(b"220"):
                return
        time.sleep(0.05)
    raise AssertionError("Postfix did not start")
