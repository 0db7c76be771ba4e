"""Connections to partners' servers, logged in: through the hub's guard, or through a server that is jumped through.

Business of this file: that each kind of key that may be believed is asked for, that nothing of the account this process
runs under is used, that a server behind another one is looked at as far as that can be done from here, and whose fault
it is.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import asyncssh

from connectors.sftp.algorithms import Algorithms, Family
from connectors.sftp.certificates import why_denied
from connectors.sftp.judging import ForwardingDenied, NotReached
from connectors.sftp.settings import Hop
from connectors.sftp.trust import Distrusted, LoginDenied, Witness
from hub.ports.connector import ForbiddenAddress, Outgoing

_SUDDEN = 2
"""Attempts at a kind of key when connections break off."""
_NO_WAY = (asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, asyncssh.OPEN_UNKNOWN_CHANNEL_TYPE)

_RSA_NOW, _RSA_BEFORE = b"rsa-sha2-256-cert-v01@openssh.com", b"ssh-rsa-cert-v01@openssh.com"
"""What OpenSSH calls an RSA key's certificate since 7.8, and called it before."""

T = TypeVar("T")


async def first_believed(
    families: Sequence[Family], attempt: Callable[[Family], Awaitable[T]]
) -> tuple[int, T]:
    """What the first attempt brings whose kind of key is believed, and its place. That a key was found and not believed
    is told first, then a connection that broke off, then that there is no key of a kind."""
    untrusted: Distrusted | None = None
    broken: Exception | None = None
    none_of_kind: Exception | None = None
    for place, family in enumerate(families):
        # Asked for a kind that it has not, a server may leave so quickly that nobody hears why; and any may break off.
        for _ in range(_SUDDEN):
            try:
                return place, await attempt(family)
            except Distrusted as fault:
                untrusted = untrusted if untrusted is not None and untrusted.tells_more else fault
            except asyncssh.KeyExchangeFailed as fault:
                none_of_kind = fault
            except (ConnectionResetError, asyncssh.ConnectionLost) as fault:
                broken = fault
                if len(families) > 1:
                    continue
            break
    told = untrusted or broken or none_of_kind
    assert told is not None
    raise told


async def log_in(
    outgoing: Outgoing,
    server: Hop,
    algorithms: Algorithms,
    family: Family,
    limit: float,
    jump: asyncssh.SSHClientConnection | None = None,
) -> asyncssh.SSHClientConnection:
    """Through the guard, or through `jump`: one channel, and nothing else is asked of that. The caller bounds its
    time."""
    name = server.host.lower()
    way = (
        {"sock": await outgoing.connect(server.host, server.port, limit)}
        if jump is None
        else {"tunnel": jump}
    )
    try:
        return await asyncssh.connect(
            server.host,
            server.port,
            **way,
            client_factory=lambda: Witness(server.host_keys, name, algorithms),
            username=server.username,
            known_hosts=(
                list(server.host_keys.keys),
                list(server.host_keys.authorities),
                list(server.host_keys.revoked),
            ),
            # The name that a certificate must be for.
            host_key_alias=name,
            server_host_key_algs=family,
            client_keys=_login_keys(server),
            password=server.password,
            preferred_auth=("publickey",) if server.private_key else ("password", "keyboard-interactive"),
            kex_algs=algorithms.exchange,
            encryption_algs=algorithms.ciphers,
            mac_algs=algorithms.macs,
            signature_algs=algorithms.signatures,
            compression_algs=None,
            utf8_decode_errors="replace",
            **OURS_ALONE,
        )
    except asyncssh.PermissionDenied:
        if server.certificate is None:
            raise
        raise LoginDenied(why_denied(server.certificate, time.time())) from None
    except asyncssh.ChannelOpenError as fault:
        raise (ForwardingDenied if fault.code in _NO_WAY else NotReached) from None


OURS_ALONE: Mapping[str, Any] = {
    "config": None,
    "agent_path": None,
    "agent_forwarding": False,
    "gss_host": None,
    "x509_trusted_certs": None,
    "x509_trusted_cert_paths": [],
}
"""Only what the partner's settings say: nothing of the account this process runs under."""


def _login_keys(server: Hop) -> list[asyncssh.SSHKeyPair] | None:
    if server.private_key is None:
        return None
    if server.certificate is None:
        return list(asyncssh.load_keypairs([server.private_key]))
    # The bare key, which the library offers after it, is not what was agreed on.
    pair, again = (asyncssh.load_keypairs([(server.private_key, server.certificate)])[0] for _ in range(2))
    if pair.algorithm != _RSA_BEFORE:
        return [pair]
    # One kind with two names. The library's own way to try both ends where there is no other key behind.
    pair.algorithm = _RSA_NOW
    return [pair, again]


def check_behind(outgoing: Outgoing, host: str) -> None:
    """Raises ForbiddenAddress for a literal address that the guard forbids: a machine's own, its site's, its metadata,
    wherever it is said. A name is not looked up here, where it would mean something else."""
    address = _literal(host)
    if address is None:
        return
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    at = (str(address), 0) if address.version == 4 else (str(address), 0, 0, 0)
    # Whether this machine speaks that protocol is not the question.
    try:
        outgoing.open((family, socket.SOCK_STREAM, 0, "", at)).close()
    except ForbiddenAddress:
        raise
    except OSError:
        return


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    with suppress(ValueError):
        return ipaddress.ip_address(name)
    # 127.1, 0x7f000001: old ways of writing one, which systems still read.
    with suppress(OSError, UnicodeEncodeError):
        return ipaddress.IPv4Address(socket.inet_aton(name))
    return None
