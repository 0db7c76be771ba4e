"""Until when certificates are good: what fields of endpoints that hold some are asked (`Field.until`)."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509


def until_one_ends(pem: str) -> datetime:
    """Of a chain, which each of them breaks. Raises ValueError for what is none."""
    return min(_ends(pem))


def until_all_end(pem: str) -> datetime:
    """Of authorities, of which an old and a new one may stand side by side. Raises ValueError for what is none."""
    return max(_ends(pem))


def _ends(pem: str) -> list[datetime]:
    return [one.not_valid_after_utc for one in x509.load_pem_x509_certificates(pem.encode())]
