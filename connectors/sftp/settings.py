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
from asyncssh.public_key import get_public_key_algs

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
    """Which keys of a server are believed. `families`: the kinds to ask for, one handshake after the other until one
    is believed."""

    keys: tuple[asyncssh.SSHKey, ...] = field(default=(), repr=False)
    revoked: tuple[asyncssh.SSHKey, ...] = field(default=(), repr=False)
    fingerprints: frozenset[str] = frozenset()
    families: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    host: str
    port: int
    username: str
    host_keys: HostKeys
    algorithms: Algorithms
    private_key: asyncssh.SSHKey | None = field(repr=False)
    password: str | None = field(repr=False)
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
    host, port = reading.text("host"), reading.number("port")
    host_keys = _host_keys(reading, host, port, algorithms)
    private_key = _private_key(reading, reading.secret("private_key"))
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
    if reading.flaws or host_keys is None:
        return None, reading.flaws
    target = Target(
        host=host,
        port=port,
        username=reading.text("username"),
        host_keys=host_keys,
        algorithms=algorithms,
        private_key=private_key,
        password=reading.secret("password"),
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


def _host_keys(reading: Reading, host: str, port: int, algorithms: Algorithms) -> HostKeys | None:
    text = reading.block("host_key")
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
        _wrong(reading, None)
        return None
    if matched[1]:
        _wrong(reading, "must be keys of the server itself, not of an authority")
        return None
    keys += matched[0]
    if not keys and not fingerprints:
        _wrong(reading, "must hold a line for this host and port" if rest else None)
        return None
    families = _families(keys, algorithms, kinds_unknown=bool(fingerprints))
    if not families:
        _wrong(reading, "must be a key of a kind that the chosen algorithms allow")
        return None
    return HostKeys(tuple(keys), tuple(matched[2]), frozenset(fingerprints), families)


def _wrong(reading: Reading, sentence: str | None) -> None:
    reading.wrong("host_key", sentence or next(one.must or "" for one in FIELDS if one.name == "host_key"))


def _families(
    keys: Sequence[asyncssh.SSHKey], algorithms: Algorithms, *, kinds_unknown: bool
) -> tuple[tuple[str, ...], ...]:
    if kinds_unknown:
        return algorithms.families
    pinned = {name.decode() for key in keys for name in key.sig_algorithms}
    found = tuple(name for name in algorithms.signatures if name in pinned)
    return (found,) if found else ()


def _private_key(reading: Reading, text: str | None) -> asyncssh.SSHKey | None:
    if text is None:
        return None
    try:
        return asyncssh.import_private_key(text)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        reading.wrong("private_key", "must be an OpenSSH private key without a passphrase")
        return None
