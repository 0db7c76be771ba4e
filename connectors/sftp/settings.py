"""An endpoint of the channel, read once: where it leads, which keys are believed, how parcels lie there.

Business of this file: what fields cannot say of themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncssh
from asyncssh.public_key import SSHOpenSSHCertificate
from asyncssh.saslprep import SASLPrepError, saslprep

from connectors.fields import Reading
from connectors.layouts import LAYOUTS, Layout, Origin
from connectors.parcels import slug
from connectors.sftp.algorithms import ALGORITHMS, MODERN, Algorithms
from connectors.sftp.certificates import IMPORT_FAULTS, read_certificate
from connectors.sftp.fields import FIELDS
from connectors.sftp.trust import HostKeys, read_host_keys
from hub.domain.pace import HERE
from hub.domain.partner import Endpoint
from hub.ports.connector import Parcel

_WORD = re.compile(r"\{([^{}]*)\}")
_WORDS = frozenset({"procedure", "date", "partner"})


@dataclass(frozen=True, slots=True)
class Hop:
    """A server of SSH, and who we are there."""

    host: str
    port: int
    username: str
    host_keys: HostKeys
    private_key: asyncssh.SSHKey | None = field(repr=False)
    certificate: SSHOpenSSHCertificate | None = field(repr=False)
    """Of that key, by an authority which the server believes."""
    password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """`jump`: through which the server is reached, where that is the only way."""

    server: Hop
    jump: Hop | None
    algorithms: Algorithms
    directory: str
    make_directories: bool
    layout: Layout
    origin: Origin
    end_marker: str | None
    read_back: int
    return_directory: str | None
    return_kept: str | None
    return_max_size: int

    def directory_of(self, parcel: Parcel) -> str:
        """Where it goes. What stands for a word is one folder's name and nothing else."""
        if "{" not in self.directory:
            return self.directory
        words = {
            "procedure": slug(parcel.procedure, 80),
            "date": day(parcel.received_at),
            "partner": slug(str(parcel.subscriber), 80),
        }
        return _WORD.sub(lambda found: words[found[1]], self.directory)

    def marker_of(self, name: str) -> str | None:
        """The path of the end marker of a parcel of this name, from the parcel's own directory."""
        if self.end_marker is None:
            return None
        return f"{name}{self.end_marker}" if self.end_marker.startswith(".") else f"{name}/{self.end_marker}"


def day(moment: datetime) -> str:
    return moment.astimezone(HERE).date().isoformat()


def read(endpoint: Endpoint) -> tuple[Target | None, Sequence[str]]:
    """The target, or what is wrong: sentences that name a field and no value."""
    reading = Reading(endpoint, FIELDS)
    algorithms = ALGORITHMS.get(reading.text("algorithms"), MODERN)
    server = _hop(reading, "", algorithms)
    jump = _hop(reading, "jump_", algorithms) if reading.given("jump_host") else None
    layout = reading.text("layout") if reading.text("layout") in LAYOUTS else "folder"
    directory = _directory(reading)
    marker = reading.text("end_marker") or None
    if marker is not None and not marker.startswith(".") and LAYOUTS[layout].is_packed:
        reading.wrong("end_marker", "must begin with a dot: a zip is no folder that it could lie in")
    if layout == "service-public" and not reading.given("sender_siret"):
        reading.wrong("sender_siret", "is missing: the layout service-public tells who sends")
    for name in ("return_directory", "return_kept"):
        if "\0" in reading.text(name):
            reading.wrong(name, "must be a folder")
    if reading.flaws or server is None:
        return None, reading.flaws
    target = Target(
        server=server,
        jump=jump,
        algorithms=algorithms,
        directory=directory,
        make_directories=reading.flag("make_directories"),
        layout=LAYOUTS[layout],
        origin=Origin(
            reading.text("sender_siret"), reading.text("sender_service"), reading.text("sender_mail") or None
        ),
        end_marker=marker,
        read_back=reading.number("read_back"),
        return_directory=reading.text("return_directory") or None,
        return_kept=reading.text("return_kept") or None,
        return_max_size=reading.number("return_max_size"),
    )
    return target, ()


def _directory(reading: Reading) -> str:
    told = reading.text("directory")
    words = _WORD.findall(told)
    if not set(words) <= _WORDS or set("{}") & set(_WORD.sub("", told)):
        reading.wrong("directory", "must hold no other words in braces than procedure, date and partner")
    elif "date" in words and not reading.flag("make_directories"):
        reading.wrong(
            "make_directories", "must be true where the directory has a date: each day needs a folder"
        )
    return told


def _hop(reading: Reading, of: str, algorithms: Algorithms) -> Hop | None:
    """`of`: what its fields' names begin with."""
    host, port = reading.text(f"{of}host"), reading.number(f"{of}port")
    host_keys = _host_keys(reading, f"{of}host_key", host, port, algorithms)
    private_key = _private_key(reading, f"{of}private_key")
    password = reading.secret(f"{of}password")
    certificate = None if of else _certificate(reading, private_key)
    if of and private_key is None and password is None:
        reading.wrong(f"{of}private_key", f"is missing, and so is {of}password")
    username = reading.text(f"{of}username")
    try:
        saslprep(username)
    except SASLPrepError:
        reading.wrong(f"{of}username", "must be a name that SSH can say (RFC 4013)")
    if host_keys is None:
        return None
    return Hop(host, port, username, host_keys, private_key, certificate, password)


def _host_keys(reading: Reading, name: str, host: str, port: int, algorithms: Algorithms) -> HostKeys | None:
    text = reading.block(name)
    if text is None or not host:
        return None
    found = read_host_keys(text, host, port, algorithms)
    if isinstance(found, str):
        reading.wrong(name, found)
        return None
    return found


def _private_key(reading: Reading, name: str) -> asyncssh.SSHKey | None:
    text = reading.secret(name)
    if text is None:
        return None
    try:
        return asyncssh.import_private_key(text)
    except (*IMPORT_FAULTS, asyncssh.KeyEncryptionError):
        reading.wrong(name, "must be an OpenSSH private key without a passphrase")
        return None


def _certificate(reading: Reading, key: asyncssh.SSHKey | None) -> SSHOpenSSHCertificate | None:
    text = reading.block("certificate")
    if text is None or key is None:
        return None
    found = read_certificate(text, key)
    if isinstance(found, str):
        reading.wrong("certificate", found)
        return None
    return found
