"""Which algorithms may be spoken with a server: modern ones, and by a partner's explicit choice weakened ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_certificate_algs, get_public_key_algs

Family = tuple[str, ...]
"""Kinds of host keys that are asked for together."""


def _known(wanted: Sequence[str], possible: Sequence[bytes]) -> tuple[str, ...]:
    """What this library can do of it: that depends on what it was built with."""
    return tuple(one for one in wanted if one.encode() in possible)


@dataclass(frozen=True, slots=True)
class Algorithms:
    """What may be spoken with a server. `families`: kinds of host keys, each asked for apart where need be."""

    exchange: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    families: tuple[Family, ...]

    @property
    def signatures(self) -> tuple[str, ...]:
        return tuple(one for family in self.families for one in family)

    @property
    def certified(self) -> Family:
        """The same kinds, certified by an authority."""
        return _known([f"{one}-cert-v01@openssh.com" for one in self.signatures], get_certificate_algs())


CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
)
"""First those that a processor has instructions for."""

MODERN = Algorithms(
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
        *MODERN.exchange,
        *_known(("diffie-hellman-group14-sha1", "diffie-hellman-group-exchange-sha1"), get_kex_algs()),
    ),
    (*MODERN.ciphers, *_known(("aes256-cbc", "aes128-cbc", "3des-cbc"), get_encryption_algs())),
    (*MODERN.macs, *_known(("hmac-sha1-etm@openssh.com", "hmac-sha1"), get_mac_algs())),
    (*MODERN.families[:2], (*MODERN.families[2], *_known(("ssh-rsa",), get_public_key_algs()))),
)
ALGORITHMS: Mapping[str, Algorithms] = {"modern": MODERN, "legacy": _LEGACY}
