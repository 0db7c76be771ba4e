"""Whom a server is believed to be: by its key, a fingerprint of it, or an authority's certificate; and why it is not.

Business of this file: what an operator told of a server's keys, and what a server shows. The library decides; it tells
why in words alone, so what was shown is looked at again for the cause.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncssh
from asyncssh.packet import SSHPacket
from asyncssh.public_key import (
    CERT_TYPE_HOST,
    SSHOpenSSHCertificate,
    SSHOpenSSHCertificateV01,
    decode_ssh_certificate,
    decode_ssh_public_key,
)

from connectors.sftp.algorithms import Algorithms, Family
from connectors.sftp.certificates import IMPORT_FAULTS, out_of_force
from connectors.sftp.fields import FIELDS

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_KIND = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9@.-]+\s")
_MUST = next(one.must or "" for one in FIELDS if one.name == "host_key")
_AUTHORITY, _REVOKED = "@cert-authority", "@revoked"
_CHANGED = "host_key_changed"
_ON_TOKENS = ("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")
"""Kinds of keys on security keys: authorities have them, servers do not."""


# --- what an operator told ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HostKeys:
    """Which keys of a server are believed, and which `authorities` may say so of others. `families`: the kinds to ask
    for, one handshake after the other until one is believed."""

    keys: tuple[asyncssh.SSHKey, ...] = field(default=(), repr=False)
    authorities: tuple[asyncssh.SSHKey, ...] = field(default=(), repr=False)
    revoked: tuple[asyncssh.SSHKey, ...] = field(default=(), repr=False)
    fingerprints: frozenset[str] = frozenset()
    families: tuple[Family, ...] = ()

    def hold(self, key: asyncssh.SSHKey) -> bool:
        """Whether it is believed by itself."""
        return key not in self.revoked and (key in self.keys or fingerprint(key) in self.fingerprints)


def fingerprint(key: asyncssh.SSHKey) -> str:
    return key.get_fingerprint("sha256").rstrip("=")


def read_host_keys(text: str, host: str, port: int, algorithms: Algorithms) -> HostKeys | str:
    """Or what is wrong with it: “must …”. A line that does not read is wrong, be it another host's: what it was to
    revoke would be believed."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    fingerprints = {line.rstrip("=") for line in lines if _FINGERPRINT.fullmatch(line)}
    rest = [line for line in lines if not _FINGERPRINT.fullmatch(line)]
    try:
        keys = [asyncssh.import_public_key(line) for line in rest if _KIND.match(line)]
        known = [_known_line(line) for line in rest if not _KIND.match(line)]
        # A name is written as one likes, and means the same.
        told, authorities = _matched(known, host.lower(), None if port == 22 else port)
        revoked = _revoked(known, host.lower(), port)
    except IMPORT_FAULTS:
        return _MUST
    keys += told
    if not keys and not fingerprints and not authorities:
        return "must hold a line for this host and port" if known else _MUST
    families = _families(keys, algorithms, kinds_unknown=bool(fingerprints)) if keys or fingerprints else ()
    if authorities:
        # The last finds nothing that would be believed, but what there is instead of a certificate.
        families = (algorithms.certified, *(families or (algorithms.signatures,)))
    if not families:
        return "must be a key of a kind that the chosen algorithms allow"
    return HostKeys(tuple(keys), tuple(authorities), tuple(revoked), frozenset(fingerprints), families)


def _known_line(line: str) -> str:
    """The library passes over a line whose key it cannot read. Raises ValueError, KeyImportError."""
    marker, hosts, key = line.split(None, 2) if line.startswith("@") else ("", *line.split(None, 1))
    if marker and marker not in (_AUTHORITY, _REVOKED):
        raise ValueError
    asyncssh.import_public_key(key)
    return f"{marker} {hosts if hosts.startswith('|') else hosts.lower()} {key}".strip()


def _matched(
    lines: Sequence[str], host: str, port: int | None
) -> tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]:
    """The keys and the authorities of lines with this port; where there are none, of those without one."""
    found = asyncssh.import_known_hosts("\n".join(lines) + "\n").match(host, "", port)
    return found[0], found[1]


def _revoked(lines: Sequence[str], host: str, port: int) -> list[asyncssh.SSHKey]:
    """Of lines with the port and of those without it, whatever other lines there are: the library looks at one or the
    other, by what is believed. So it is asked for these alone, as though they were believed."""
    own = [line.replace(_REVOKED, _AUTHORITY, 1) for line in lines if line.startswith(_REVOKED)]
    return [key for at in (port, None) for key in _matched(own, host, at)[1]]


def _families(
    keys: Sequence[asyncssh.SSHKey], algorithms: Algorithms, *, kinds_unknown: bool
) -> tuple[Family, ...]:
    if kinds_unknown:
        return algorithms.families
    pinned = {name.decode() for key in keys for name in key.sig_algorithms}
    found = tuple(name for name in algorithms.signatures if name in pinned)
    return (found,) if found else ()


# --- what a server shows ------------------------------------------------------------------------------


class Distrusted(asyncssh.HostKeyNotVerifiable):
    """`flaw`: what is wrong with the key or certificate, the reason of a cause."""

    def __init__(self, flaw: str) -> None:
        # The server is told this text.
        super().__init__("host key not believed")
        self.flaw = flaw

    @property
    def tells_more(self) -> bool:
        return self.flaw != _CHANGED


class LoginDenied(asyncssh.PermissionDenied):
    """With a certificate; `flaw` as above."""

    def __init__(self, flaw: str) -> None:
        super().__init__("certificate not believed")
        self.flaw = flaw


class Witness(asyncssh.SSHClient):
    """Believes keys by their fingerprints; those that are given whole, and what an authority certified, the library has
    believed before it asks. `certificate`: what the server showed."""

    def __init__(self, keys: HostKeys, host: str, algorithms: Algorithms) -> None:
        self._keys = keys
        self._host = host
        self._signatures = (*algorithms.signatures, *_ON_TOKENS)
        self.certificate: SSHOpenSSHCertificate | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        believe = conn.validate_server_host_key

        def looked_at(shown: bytes) -> asyncssh.SSHKey:
            found = _read(shown)
            try:
                key = believe(shown)
            except asyncssh.HostKeyNotVerifiable:
                raise Distrusted(why_not(found, self._keys, self._host, time.time())) from None
            if isinstance(found, SSHOpenSSHCertificate):
                if _signed_by(shown, found) not in self._signatures:
                    raise Distrusted("no_common_algorithm")
                self.certificate = found
            return key

        # The library has no word for it, and asks this of every key, be it a new one of an old session.
        conn.validate_server_host_key = looked_at  # type: ignore[method-assign,assignment]

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return fingerprint(key) in self._keys.fingerprints


def _read(shown: bytes) -> asyncssh.SSHKey | asyncssh.SSHCertificate | None:
    for decode in (decode_ssh_certificate, decode_ssh_public_key):
        try:
            return decode(shown)
        except IMPORT_FAULTS:
            continue
    return None


def _signed_by(shown: bytes, certificate: SSHOpenSSHCertificate) -> str:
    """The algorithm of its authority's signature, which the library takes whatever it is."""
    packet = SSHPacket(shown)
    packet.get_string()
    SSHOpenSSHCertificateV01._decode(packet, type(certificate.key))
    packet.get_string()
    return SSHPacket(packet.get_string()).get_string().decode("ascii", "replace")


def why_not(
    shown: asyncssh.SSHKey | asyncssh.SSHCertificate | None, keys: HostKeys, host: str, now: float
) -> str:
    """What is wrong with what a server showed, that was not believed."""
    if isinstance(shown, SSHOpenSSHCertificate):
        if shown.signing_key in keys.revoked or shown.key in keys.revoked:
            return "host_key_revoked"
        if shown.signing_key not in keys.authorities:
            return "host_authority_unknown"
        if (flaw := out_of_force(shown, now)) is not None:
            return f"host_certificate_{flaw}"
        if shown._cert_type != CERT_TYPE_HOST or (shown.principals and host not in shown.principals):
            return "host_certificate_for_another"
    elif isinstance(shown, asyncssh.SSHKey):
        if shown in keys.revoked:
            return "host_key_revoked"
        if keys.authorities and not keys.keys and not keys.fingerprints:
            return "host_certificate_missing"
    return _CHANGED
