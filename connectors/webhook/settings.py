"""What a webhook's endpoint is told: its fields, read into a target.

Business of this file: which settings and secrets there are, how they go together, and what cannot be said by their
description alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from yarl import URL

from connectors.fields import Reading
from connectors.lifetimes import until_all_end, until_one_ends
from connectors.webhook.authorising import TokenRequest
from connectors.webhook.signing import Signer, Signers, signer
from connectors.webhook.trust import Trust, certificate_flaw, key_flaw, trust_flaw
from hub.domain.fields import Field, FieldKind
from hub.domain.partner import Endpoint

MAX_CONTENT = 1_000_000
LARGEST_MAX_CONTENT = 10_000_000
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_KEY = r"whs(ec|k)_[A-Za-z0-9+/]+={0,2}"
_KEY_MUST = "must be whsec_ and base64 of 24 to 64 bytes, or whsk_ and base64 of a private key of ed25519"
_VISIBLE = r"[!-~]+"

FIELDS = (
    Field(
        "url",
        FieldKind.URL,
        required=True,
        fr="Adresse appelée, en https (en http sur cette machine seulement, ou avec plain), sans requête.",
        en="Address that is called, of https (http on this machine only, or with plain), without a query.",
    ),
    Field(
        "plain",
        FieldKind.FLAG,
        default=False,
        fr="Accepte http ailleurs que sur cette machine.",
        en="Accepts http elsewhere than on this machine.",
    ),
    Field(
        "secret",
        FieldKind.TEXT,
        secret=True,
        required=True,
        pattern=_KEY,
        must=_KEY_MUST,
        fr="Clé de signature (Standard Webhooks) : whsec_ et 24 à 64 octets, ou whsk_ et une clé ed25519, en base64.",
        en="Signing key (Standard Webhooks): whsec_ and 24 to 64 bytes, or whsk_ and a key of ed25519, in base64.",
    ),
    Field(
        "previous_secret",
        FieldKind.TEXT,
        secret=True,
        pattern=_KEY,
        must=_KEY_MUST,
        needs=("rotated_at",),
        fr="Clé de signature précédente : signe aussi, depuis rotated_at et pendant overlap.",
        en="The signing key before: signs too, from rotated_at on for overlap.",
    ),
    Field(
        "rotated_at",
        FieldKind.TEXT,
        pattern=r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})",
        must="must be a moment such as 2026-03-01T09:00:00Z",
        fr="Moment du changement de clé de signature, par exemple 2026-03-01T09:00:00Z.",
        en="When the signing key was changed, such as 2026-03-01T09:00:00Z.",
    ),
    Field(
        "overlap",
        FieldKind.NUMBER,
        default=24,
        least=1,
        most=24 * 90,
        fr="Heures pendant lesquelles l'ancienne clé signe encore après rotated_at.",
        en="Hours for which the key before still signs after rotated_at.",
    ),
    Field(
        "url_query",
        FieldKind.TEXT,
        secret=True,
        # What a query may hold (RFC 3986), percent signs included.
        pattern=r"(?!\?)[!$-;=?-Z_a-z~]+",
        must="must be the URL's query without its question mark, in ASCII",
        fr="Ce qui suit le point d'interrogation de l'adresse : c'est souvent un jeton.",
        en="What follows the question mark of the address: it is often a token.",
    ),
    Field(
        "content",
        FieldKind.FLAG,
        default=False,
        fr="Joint les fichiers à l'annonce, en base64, s'ils ne dépassent pas max_content ensemble.",
        en="Puts the files into the announcement, as base64, unless they exceed max_content together.",
    ),
    Field(
        "max_content",
        FieldKind.NUMBER,
        default=MAX_CONTENT,
        least=1,
        most=LARGEST_MAX_CONTENT,
        fr="Taille des fichiers, en octets, au-delà de laquelle seuls des liens sont envoyés.",
        en="Size of the files, in bytes, above which only links are sent.",
    ),
    Field(
        "ca",
        FieldKind.BLOCK,
        until=until_all_end,
        fr="Certificats (PEM) des autorités à croire, à la place de celles du système.",
        en="Certificates (PEM) of the authorities to believe, instead of the system's.",
    ),
    Field(
        "client_certificate",
        FieldKind.BLOCK,
        until=until_one_ends,
        needs=("client_key",),
        fr="Certificat du hub (PEM, avec ses intermédiaires) pour une authentification mutuelle (mTLS).",
        en="The hub's certificate (PEM, with intermediate ones) for mutual authentication (mTLS).",
    ),
    Field(
        "client_key",
        FieldKind.BLOCK,
        secret=True,
        needs=("client_certificate",),
        fr="Clé privée de ce certificat (PEM), sans phrase de passe.",
        en="Private key of that certificate (PEM), without a passphrase.",
    ),
    Field(
        "token",
        FieldKind.TEXT,
        secret=True,
        pattern=_VISIBLE,
        must="must be visible signs of ASCII",
        fr="Jeton fixe, envoyé dans l'en-tête Authorization (Bearer).",
        en="A token that stays, sent in the header Authorization (Bearer).",
    ),
    Field(
        "token_url",
        FieldKind.URL,
        needs=("client_id", "client_secret"),
        fr="Serveur OAuth 2.0 qui délivre des jetons (client credentials).",
        en="OAuth 2.0 server that gives tokens (client credentials).",
    ),
    Field(
        "client_id",
        FieldKind.TEXT,
        needs=("token_url",),
        fr="Identifiant du hub auprès de ce serveur.",
        en="The hub's name at that server.",
    ),
    Field(
        "client_secret",
        FieldKind.TEXT,
        secret=True,
        needs=("token_url",),
        fr="Secret du hub auprès de ce serveur.",
        en="The hub's secret at that server.",
    ),
    Field(
        "token_login",
        FieldKind.CHOICE,
        choices=("basic", "body"),
        default="basic",
        fr="Où placer identifiant et secret : en-tête (basic) ou formulaire (body).",
        en="Where name and secret go: into the header (basic) or the form (body).",
    ),
    Field(
        "scope",
        FieldKind.TEXT,
        needs=("token_url",),
        fr="Portée demandée pour le jeton.",
        en="The scope that is asked for.",
    ),
    Field(
        "audience",
        FieldKind.TEXT,
        needs=("token_url",),
        fr="Destinataire du jeton, si le serveur le demande.",
        en="Whom the token is for, where the server asks for it.",
    ),
)


@dataclass(frozen=True, slots=True)
class Target:
    """`address`: with the query as it was written: a token means its own signs. `most_content`: bytes of files that go
    along; 0: none. `trust` is None where the system's authorities are believed, and no certificate is shown."""

    address: URL = field(repr=False)
    signers: Signers
    most_content: int
    trust: Trust | None
    token: str | None = field(repr=False)
    token_request: TokenRequest | None


def read(endpoint: Endpoint) -> tuple[Target | None, Sequence[str]]:
    """No target where there are flaws."""
    reading = Reading(endpoint, FIELDS)
    signers = _signers(reading)
    trust = _trust(reading)
    token = reading.secret("token")
    request = _token_request(reading, trust)
    if token is not None and request is not None:
        reading.wrong("token", "must not stand beside token_url")
    _check_scheme(reading, "url", shows_token=token is not None or request is not None)
    _check_scheme(reading, "token_url", shows_token=True)
    if reading.flaws or signers is None:
        return None, reading.flaws
    address = URL(reading.text("url"))
    query = reading.secret("url_query")
    if query is not None:
        address = URL(f"{address}?{query}", encoded=True)
    most = reading.number("max_content") if reading.flag("content") else 0
    return Target(address, signers, most, trust, token, request), ()


def _check_scheme(reading: Reading, name: str, *, shows_token: bool) -> None:
    parts = urlsplit(reading.text(name))
    if parts.scheme != "http" or parts.hostname in _HERE:
        return
    if shows_token:
        reading.wrong(name, "must be https: a token or a client_secret is sent there")
    elif not reading.flag("plain"):
        reading.wrong(name, "must be https, unless plain says that http is meant")


def _signers(reading: Reading) -> Signers | None:
    current = _signer(reading, "secret")
    previous = _signer(reading, "previous_secret")
    if current is None:
        return None
    text = reading.text("rotated_at")
    if previous is None or not text:
        return Signers(current)
    try:
        # Python's own reading takes more than the pattern, but not every number as a month.
        rotated = datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        reading.wrong("rotated_at", "must be a moment such as 2026-03-01T09:00:00Z")
        return None
    return Signers(current, previous, rotated + reading.number("overlap") * 3600)


def _signer(reading: Reading, name: str) -> Signer | None:
    secret = reading.secret(name)
    if secret is None:
        return None
    found = signer(secret)
    if found is None:
        reading.wrong(name, _KEY_MUST)
    return found


def _trust(reading: Reading) -> Trust | None:
    ca, certificate = reading.block("ca"), reading.block("client_certificate")
    key = reading.secret("client_key")
    if ca is not None and (flaw := trust_flaw(ca)):
        reading.wrong("ca", flaw)
    if certificate is not None and (flaw := certificate_flaw(certificate)):
        reading.wrong("client_certificate", flaw)
    elif certificate is not None and key is not None and (flaw := key_flaw(key, certificate)):
        reading.wrong("client_key", flaw)
    return None if ca is None and certificate is None else Trust(ca, certificate, key)


def _token_request(reading: Reading, trust: Trust | None) -> TokenRequest | None:
    secret = reading.secret("client_secret")
    url, client = reading.text("token_url"), reading.text("client_id")
    if not url or not client or secret is None:
        return None
    scope, audience = reading.text("scope"), reading.text("audience")
    if scope and not re.fullmatch(r"[!#-\[\]-~]+( [!#-\[\]-~]+)*", scope):
        reading.wrong("scope", "must be words of visible signs of ASCII, with a space between two")
    return TokenRequest(URL(url), client, secret, scope, audience, reading.text("token_login"), trust)
