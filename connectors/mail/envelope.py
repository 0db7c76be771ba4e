"""Mails that only their readers can open: S/MIME (RFC 8551), enveloped to certificates of the partner's.

Business of this file: which certificates will do, and when. What is encrypted is whatever the mail would have said;
there is no way from here to a mail in clear. The keys are RSA's, as the library has it, the content is AES-256's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7EnvelopeBuilder, PKCS7Options
from cryptography.x509.oid import NameOID, PublicKeyAlgorithmOID

from connectors.mail.mime import base64_lines

Certificates = tuple[x509.Certificate, ...]

MOST = 20
_LEAST_BITS = 2048

_WHOLE = re.compile(r"-----BEGIN ((?:X509 )?CERTIFICATE)-----.*?-----END \1-----", re.DOTALL)
_CUT = re.compile(r"---|(?<!\S)[A-Za-z0-9+/]{32,}={0,2}(?!\S)")
"""What is left of a certificate or key whose ends were lost or written wrong: dashes, or a line of base64. Comments
have neither, those that programs write included."""


@lru_cache(maxsize=1024)
def read_certificates(text: str) -> Certificates:
    """Raises ValueError, whose text ends a sentence about the field."""
    try:
        found = tuple(x509.load_pem_x509_certificates(text.encode()))
    except ValueError:
        raise ValueError("must be certificates in PEM") from None
    # The library passes over what is no certificate: a reader left out by a slip, or a key that a setting would show.
    if text.count("-----BEGIN") != len(found) or _CUT.search(_WHOLE.sub("\n", text)):
        raise ValueError("must be certificates in PEM, each of them whole, and no keys")
    if len(found) > MOST:
        raise ValueError(f"must be {MOST} certificates at most")
    for one in found:
        if not _is_strong(one):
            raise ValueError(f"must be certificates with an RSA key of {_LEAST_BITS} bits or more")
        if not _may_encrypt(one):
            raise ValueError("must be certificates that may encrypt keys, not only sign")
        if _is_an_authority_s(one):
            raise ValueError("must be certificates of readers, not of an authority")
    try:
        enveloped(b"", found)
    except Exception:
        # Whatever else stands in the way is found here, not by the first parcel.
        raise ValueError("must be certificates that can be encrypted to") from None
    return found


def _is_strong(certificate: x509.Certificate) -> bool:
    # A key for signatures alone (RSASSA-PSS) is RSA's too, and opens nothing.
    if certificate.public_key_algorithm_oid != PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5:
        return False
    try:
        key = certificate.public_key()
    except Exception:  # the library raises several kinds
        return False
    return isinstance(key, RSAPublicKey) and key.key_size >= _LEAST_BITS


def _may_encrypt(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment
    except x509.ExtensionNotFound:
        return True
    except Exception:  # extensions that nobody can read: the library raises several kinds
        return False


def _is_an_authority_s(certificate: x509.Certificate) -> bool:
    """Whether it is for certifying others, and says of nothing else that its key is for it."""
    told = {type(one.value): one.value for one in certificate.extensions}
    constraints = told.get(x509.BasicConstraints)
    return isinstance(constraints, x509.BasicConstraints) and constraints.ca and x509.KeyUsage not in told


def in_force(certificates: Certificates, now: float) -> Certificates:
    """Those that are good at this moment (seconds since 1970): an old and a new one may stand side by side."""
    at = datetime.fromtimestamp(now, UTC)
    return tuple(one for one in certificates if one.not_valid_before_utc <= at <= one.not_valid_after_utc)


def until_one_cannot_read(text: str) -> datetime:
    """When the last certificate of some reader ends; those that say no address are one. Raises ValueError."""
    ends: dict[tuple[str, ...], datetime] = {}
    for one in read_certificates(text):
        reader = addresses_in(one)
        ends[reader] = max(ends.get(reader, one.not_valid_after_utc), one.not_valid_after_utc)
    return min(ends.values())


def addresses_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """Whose it says it is: in lower case, sorted; none, if it does not say, or not readably."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        told = names.get_values_for_type(x509.RFC822Name)
    except Exception:  # it has none, or one that nobody can read
        told = []
    told += [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)]
    return tuple(sorted({one.casefold() for one in told}))


def share_of(certificates: Certificates) -> int:
    """At most how many bytes of an envelope say how these open it: names and keys stand in the certificates too."""
    return sum(len(one.public_bytes(Encoding.DER)) for one in certificates)


def enveloped(entity: bytes, certificates: Sequence[x509.Certificate]) -> bytes:
    """A MIME entity with its headers, as one that holds it: any of these certificates opens it. Other bytes each
    time."""
    builder = PKCS7EnvelopeBuilder().set_data(entity).set_content_encryption_algorithm(AES256)
    for one in certificates:
        builder = builder.add_recipient(one)
    # Binary: line ends are right already, and must stay.
    told = builder.encrypt(Encoding.DER, [PKCS7Options.Binary])
    return b"\r\n".join(
        (
            b'Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"',
            b"Content-Transfer-Encoding: base64",
            b'Content-Disposition: attachment; filename="smime.p7m"',
            b"",
            *base64_lines(told),
            b"",
        )
    )
