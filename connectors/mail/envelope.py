"""Mails that only their readers can open: S/MIME (RFC 8551), enveloped to certificates of the partner's.

Business of this file: which certificates will do, and when. What is encrypted is whatever the mail would have said;
there is no way from here to a mail in clear. The keys are RSA's, as the library has it, the content is AES-256's.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7EnvelopeBuilder, PKCS7Options

Certificates = tuple[x509.Certificate, ...]

MOST = 20
_LEAST_BITS = 2048
_LINE = 76


@lru_cache(maxsize=1024)
def read_certificates(text: str) -> Certificates:
    """Raises ValueError, whose text ends a sentence about the field."""
    try:
        found = tuple(x509.load_pem_x509_certificates(text.encode()))
    except ValueError:
        raise ValueError("must be certificates in PEM") from None
    if len(found) > MOST:
        raise ValueError(f"must be {MOST} certificates at most")
    for one in found:
        key = _public_key(one)
        if not isinstance(key, RSAPublicKey) or key.key_size < _LEAST_BITS:
            raise ValueError(f"must be certificates with an RSA key of {_LEAST_BITS} bits or more")
        if not _may_encrypt(one):
            raise ValueError("must be certificates that may encrypt keys, not only sign")
    return found


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except Exception:  # an algorithm that the library does not have
        return None


def _may_encrypt(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment
    except x509.ExtensionNotFound:
        return True
    except ValueError:
        return False


def in_force(certificates: Certificates, now: float) -> Certificates:
    """Those that are good at this moment (seconds since 1970): an old and a new one may stand side by side."""
    at = datetime.fromtimestamp(now, UTC)
    return tuple(one for one in certificates if one.not_valid_before_utc <= at <= one.not_valid_after_utc)


def enveloped(entity: bytes, certificates: Sequence[x509.Certificate]) -> bytes:
    """A MIME entity with its headers, as one that holds it: any of these certificates opens it. Other bytes each
    time."""
    builder = PKCS7EnvelopeBuilder().set_data(entity).set_content_encryption_algorithm(AES256)
    for one in certificates:
        builder = builder.add_recipient(one)
    # Binary: line ends are right already, and must stay.
    told = base64.b64encode(builder.encrypt(Encoding.DER, [PKCS7Options.Binary]))
    return b"\r\n".join(
        (
            b'Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"',
            b"Content-Transfer-Encoding: base64",
            b'Content-Disposition: attachment; filename="smime.p7m"',
            b"",
            *(told[at : at + _LINE] for at in range(0, len(told), _LINE)),
            b"",
        )
    )
