"""Certificates: whom a partner's endpoint makes us believe, and which one we show it.

Business of this file: contexts of TLS, made once for all partners that say the same, and kept within bounds: one that
believes the system's authorities takes a megabyte. What is sent over them is not its business.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from collections import OrderedDict
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

_OF_SYSTEM = 64
_OF_OWN = 2_000
_CERTIFICATES = "must be certificates in PEM"


@dataclass(frozen=True, slots=True)
class Trust:
    """`ca`: authorities in PEM, None for the system's; `certificate` and `key`: what the hub shows of itself."""

    ca: str | None = field(repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)


class Contexts:
    """Of the last partners served: those with authorities of their own, and fewer of the others. A context that is let
    go closes no connection; it is made again when it is asked for, and with it new connections."""

    def __init__(self) -> None:
        self._kept: tuple[_Kept, _Kept] = (OrderedDict(), OrderedDict())

    async def of(self, trust: Trust) -> ssl.SSLContext:
        """Raises ssl.SSLError, ValueError or OSError for what is no certificate or key."""
        system = trust.ca is None
        kept, most = self._kept[system], _OF_SYSTEM if system else _OF_OWN
        found = kept.get(trust)
        if found is None:
            # Reading the system's authorities takes as long as twenty requests.
            found = await asyncio.to_thread(context, trust) if system else context(trust)
            # Somebody else may have made one meanwhile: connections are kept by context.
            found = kept.setdefault(trust, found)
        kept.move_to_end(trust)
        while len(kept) > most:
            kept.popitem(last=False)
        return found


_Kept = OrderedDict[Trust, ssl.SSLContext]


def context(trust: Trust) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=trust.ca)
    made.set_alpn_protocols(["http/1.1"])
    if trust.certificate is not None and trust.key is not None:
        _show(made, f"{trust.key.rstrip()}\n{trust.certificate}")
    return made


def _show(made: ssl.SSLContext, text: str) -> None:
    """The library reads keys from files only: from one in memory, where there is such a thing."""

    def no_passphrase() -> str:
        # Without an answer it would be asked of a terminal.
        return ""

    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("key"), "wb") as file:
            file.write(text.encode())
            file.flush()
            made.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=no_passphrase)
        return
    with tempfile.NamedTemporaryFile() as named:
        named.write(text.encode())
        named.flush()
        made.load_cert_chain(named.name, password=no_passphrase)


def trust_flaw(ca: str) -> str | None:
    try:
        if ssl.create_default_context(cadata=ca).cert_store_stats()["x509_ca"]:
            return None
        # A server may be an authority to itself alone.
        found = x509.load_pem_x509_certificates(ca.encode())
    except (ssl.SSLError, ValueError):
        return _CERTIFICATES
    if any(one.issuer == one.subject for one in found):
        return None
    return "must be certificates of an authority, in PEM"


def certificate_flaw(text: str) -> str | None:
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return _CERTIFICATES
    return None


def key_flaw(text: str, certificate: str) -> str | None:
    """The certificate's own key is meant: of its first one."""
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        return "must be a private key in PEM without a passphrase"
    except Exception:  # an algorithm that the library does not have
        return "must be a private key of an algorithm in use"
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    shown = x509.load_pem_x509_certificates(certificate.encode())[0].public_key().public_bytes(*form)
    if key.public_key().public_bytes(*form) != shown:
        return "must be the key of client_certificate"
    try:
        _show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), f"{text.rstrip()}\n{certificate}")
    except (ssl.SSLError, ValueError):
        return "and client_certificate must be such as TLS takes today: long enough, and not of MD5 or SHA-1"
    return None
