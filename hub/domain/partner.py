"""Partners: who receives, over which channel, and whether the numbers that name them can be true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hub.domain.identity import Subscriber
from hub.domain.pace import PartnerPace

MAILBOX = "mailbox"
"""The channel every partner has: what it does not receive it can come and fetch."""

NOTICE = "notice"
"""Not a channel a partner is served on: its lane of notices, which leave by mail (see `ChannelFallback`)."""

_LA_POSTE = "356000000"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one channel of a partner leads. `settings` may be shown; `secrets` never is."""

    channel: str
    settings: Mapping[str, object]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Partner:
    """A receiving body: its subscriber number, its name, and the one channel it is served on. `vendor`: whose
    software it is served by, a word that groups partners; `pace`: what it asks for, if anything; `sender`: whose events
    are sent to it."""

    subscriber: Subscriber
    name: str
    endpoint: Endpoint
    vendor: str | None = None
    pace: PartnerPace | None = None
    sender: str | None = None


def since_minute(since: datetime) -> int:
    """The revision of a notice about an endpoint that fails since then."""
    return int(since.timestamp()) // 60


def minute_since(revision: int) -> datetime:
    """The inverse, to the minute."""
    return datetime.fromtimestamp(0, UTC) + timedelta(minutes=revision)


def is_siren(text: str) -> bool:
    """Nine digits whose Luhn sum holds."""
    return len(text) == 9 and _is_digits(text) and _luhn(text) % 10 == 0


def is_siret(text: str) -> bool:
    """Fourteen digits: a SIREN, an establishment number, and a Luhn sum over all.

    La Poste (SIREN 356000000) has more establishments than Luhn leaves room for: INSEE lets the plain sum
    of the digits be a multiple of five there.
    """
    if len(text) != 14 or not _is_digits(text) or not is_siren(text[:9]):
        return False
    if text.startswith(_LA_POSTE) and sum(map(int, text)) % 5 == 0:
        return True
    return _luhn(text) % 10 == 0


def made_up_siret(siren: str, establishment: int) -> str:
    """A SIRET whose sum holds, for a real SIREN and an invented establishment (0 to 9999): for demos and
    tests, where it must be said aloud that it is invented."""
    stem = f"{siren}{establishment:04d}"
    return stem + str(-_luhn(stem + "0") % 10)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _luhn(digits: str) -> int:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total
