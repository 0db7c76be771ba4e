"""Certificates of OpenSSH: an account's, which the hub shows a server, and how long any of them is good.

Business of this file: reading one, and when it is in force. Who believes it is not known here.
"""

from __future__ import annotations

from datetime import UTC, datetime

import asyncssh
from asyncssh.packet import PacketDecodeError
from asyncssh.public_key import CERT_TYPE_USER, SSHOpenSSHCertificate

IMPORT_FAULTS = (asyncssh.KeyImportError, PacketDecodeError, ValueError, OverflowError)
"""What the library says of a key, a certificate or a list of them that is none."""

_LAST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


def out_of_force(certificate: SSHOpenSSHCertificate, now: float) -> str | None:
    # The library has no public words for these.
    if now < certificate._valid_after:
        return "early"
    return "expired" if now >= certificate._valid_before else None


def ends_at(certificate: SSHOpenSSHCertificate) -> datetime | None:
    """None: it never does, or later than calendars go."""
    # Whoever signs one says any number of 64 bits.
    end = certificate._valid_before
    return datetime.fromtimestamp(end, UTC) if end <= _LAST else None


def why_denied(certificate: SSHOpenSSHCertificate, now: float) -> str:
    """What is wrong with an account's certificate that its server did not take, as far as it can be seen from here: a
    server may know a certificate's names for accounts by a list of its own."""
    return f"certificate_{out_of_force(certificate, now) or 'refused'}"


def read_certificate(text: str, key: asyncssh.SSHKey) -> SSHOpenSSHCertificate | str:
    """An account's; or what is wrong with it: “must …”. Whether it is in force is the server's to say."""
    found = _of_user(text)
    if found is None:
        return "must be an OpenSSH certificate of a user, in one line"
    return found if found.key.public_data == key.public_data else "must be of private_key"


def until_it_ends(text: str) -> datetime | None:
    """When an account's certificate ends, as `ends_at`. Raises ValueError for what is none."""
    found = _of_user(text)
    if found is None:
        raise ValueError("no certificate of an account")
    return ends_at(found)


def _of_user(text: str) -> SSHOpenSSHCertificate | None:
    try:
        found = asyncssh.import_certificate(text) if len(text.strip().splitlines()) == 1 else None
    except IMPORT_FAULTS:
        return None
    if not isinstance(found, SSHOpenSSHCertificate) or found._cert_type != CERT_TYPE_USER:
        return None
    return found
