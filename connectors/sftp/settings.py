"""An endpoint of the channel, read once: where it leads, which keys are believed, how parcels lie there.

Business of this file: what fields cannot say of themselves. Several keys are believed while a server changes its own; a
fingerprint does not say of which kind its key is, so each kind is asked for in turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncssh
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import (
    CERT_TYPE_USER,
    SSHOpenSSHCertificate,
    get_certificate_algs,
    get_public_key_algs,
)

from connectors.fields import Reading
from connectors.layouts import LAYOUTS, Layout, Origin
from connectors.parcels import slug
from connectors.sftp.fields import FIELDS
from hub.domain.pace import HERE
from hub.domain.partner import Endpoint
from hub.ports.connector import Parcel

_WORD = re.compile(r"\{([^{}]*)\}")
_WORDS = frozenset({"procedure", "date", "partner"})
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_KIND = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9@.-]+ ")


def _known(wanted: Sequence[str], possible: Sequence[bytes]) -> tuple[str, ...]:
    """What this library can do of it: that depends on what it was built with."""
    return tuple(one for one in wanted if one.encode() in possible)


@dataclass(frozen=True, slots=True)
class Algorithms:
    """What may be spoken with a server. `families`: kinds of host keys, each asked for apart where need be."""

    exchange: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    families: tuple[tuple[str, ...], ...]

    @property
    def signatures(self) -> tuple[str, ...]:
        return tuple(one for family in self.families for one in family)


CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
)
"""First those that a processor has instructions for."""

_MODERN = Algorithms(
    _known(
        (
            "mlkem768x25519-sha256",
            "curve25519-sha256",
            "curve25519-sha256@libssh.org",
            "ecdh-sha2-nistp256",
            "ecdh-sha2-nistp384",
            "ecdh-sha2-nistp521",
            "diffie-hellman-group16-sha512",
            "diffie-hellman-group18-sha512",
            "diffie-hellman-group14-sha256",
            "diffie-hellman-group-exchange-sha256",
        ),
        get_kex_algs(),
    ),
    _known(CIPHERS, get_encryption_algs()),
    _known(
        (
            "hmac-sha2-256-etm@openssh.com",
            "hmac-sha2-512-etm@openssh.com",
            "hmac-sha2-256",
            "hmac-sha2-512",
        ),
        get_mac_algs(),
    ),
    (
        _known(("ssh-ed25519",), get_public_key_algs()),
        _known(("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"), get_public_key_algs()),
        _known(("rsa-sha2-512", "rsa-sha2-256"), get_public_key_algs()),
    ),
)
_LEGACY = Algorithms(
    (
        *_MODERN.exchange,
        *_known(("diffie-hellman-group14-sha1", "diffie-hellman-group-exchange-sha1"), get_kex_algs()),
    ),
    (*_MODERN.ciphers, *_known(("aes256-cbc", "aes128-cbc", "3des-cbc"), get_encryption_algs())),
    (*_MODERN.macs, *_known(("hmac-sha1-etm@openssh.com", "hmac-sha1"), get_mac_algs())),
    (*_MODERN.families[:2], (*_MODERN.families[2], *_known(("ssh-rsa",), get_public_key_algs()))),
)
ALGORITHMS: Mapping[str, Algorithms] = {"modern": _MODERN, "legacy": _LEGACY}


@dataclass(frozen=True, slots=True)
class HostKeys:
    """Which keys of a server are believed, and which `authorities` may say so of others. `families`: the kinds to ask
    for, one handshake after the other until one is believed."""

    keys: tuple[asyncssh.SSHKey, ...] = field(default=(), repr=False)
    authorities: tuple[asyncssh.SSHKey, ...] = field(default=(), repr=False)
    revoked: tuple[asyncssh.SSHKey, ...] = field(default=(), repr=False)
    fingerprints: frozenset[str] = frozenset()
    families: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Hop:
    """A server of SSH, and who we are there."""

    host: str
    port: int
    username: str
    host_keys: HostKeys
    private_key: asyncssh.SSHKey | None = field(repr=False)
    certificate: asyncssh.SSHCertificate | None = field(repr=False)
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
    algorithms = ALGORITHMS.get(reading.text("algorithms"), _MODERN)
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
    if host_keys is None:
        return None
    return Hop(host, port, reading.text(f"{of}username"), host_keys, private_key, certificate, password)


def _host_keys(reading: Reading, name: str, host: str, port: int, algorithms: Algorithms) -> HostKeys | None:
    text = reading.block(name)
    if text is None or not host:
        return None
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    fingerprints = {line.rstrip("=") for line in lines if _FINGERPRINT.fullmatch(line)}
    bare = [line for line in lines if _KIND.match(line)]
    rest = [line for line in lines if not _FINGERPRINT.fullmatch(line) and not _KIND.match(line)]
    try:
        keys = [asyncssh.import_public_key(line) for line in bare]
        known = asyncssh.import_known_hosts("\n".join(rest) + "\n") if rest else None
        matched = known.match(host, "", None if port == 22 else port) if known is not None else ([], [], [])
    except (asyncssh.KeyImportError, ValueError):
        reading.wrong(name, _MUST)
        return None
    keys += matched[0]
    authorities, revoked = matched[1], matched[2]
    if not keys and not fingerprints and not authorities:
        reading.wrong(name, "must hold a line for this host and port" if rest else _MUST)
        return None
    families = (
        *((_certified(algorithms),) if authorities else ()),
        *(_families(keys, algorithms, kinds_unknown=bool(fingerprints)) if keys or fingerprints else ()),
    )
    if not families:
        reading.wrong(name, "must be a key of a kind that the chosen algorithms allow")
        return None
    return HostKeys(tuple(keys), tuple(authorities), tuple(revoked), frozenset(fingerprints), families)


_MUST = next(one.must or "" for one in FIELDS if one.name == "host_key")


def _certified(algorithms: Algorithms) -> tuple[str, ...]:
    return _known([f"{one}-cert-v01@openssh.com" for one in algorithms.signatures], get_certificate_algs())


def _families(
    keys: Sequence[asyncssh.SSHKey], algorithms: Algorithms, *, kinds_unknown: bool
) -> tuple[tuple[str, ...], ...]:
    if kinds_unknown:
        return algorithms.families
    pinned = {name.decode() for key in keys for name in key.sig_algorithms}
    found = tuple(name for name in algorithms.signatures if name in pinned)
    return (found,) if found else ()


def _private_key(reading: Reading, name: str) -> asyncssh.SSHKey | None:
    text = reading.secret(name)
    if text is None:
        return None
    try:
        return asyncssh.import_private_key(text)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        reading.wrong(name, "must be an OpenSSH private key without a passphrase")
        return None


def _certificate(reading: Reading, key: asyncssh.SSHKey | None) -> asyncssh.SSHCertificate | None:
    """Whether it is still in force is the server's to say."""
    text = reading.block("certificate")
    if text is None or key is None:
        return None
    try:
        found = asyncssh.import_certificate(text)
    except (asyncssh.KeyImportError, ValueError):
        found = None
    # The library has no public word for whose it is.
    if not isinstance(found, SSHOpenSSHCertificate) or found._cert_type != CERT_TYPE_USER:
        reading.wrong("certificate", "must be an OpenSSH certificate of a user")
        return None
    if found.key.public_data != key.public_data:
        reading.wrong("certificate", "must be of private_key")
        return None
    return found
