"""Bounces (avis de non-remise): mails that a server took, and that came back.

Pure. Business of this file: the receipt that says which addresses took a mail, the return address that nobody guesses,
and when what a mail delivered is delivered no more. A return address names the mail (a delivery or an issue), its
sending, and one address; it alone is believed, for whoever writes a report can write anything into it.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

Sign = Callable[[bytes], bytes]
"""A keyed signature of at least 32 bytes."""

BOUNCED = "mail.bounced"
"""The cause of what came back from every address that took it."""

ADDRESS_REFUSED = "mail.address_refused"
"""Why one of several addresses is noted that did not take what another one took."""

_RECEIPT = re.compile(r"<(?P<mail>[0-9a-f-]{36})@[^>]*> to (?P<places>[0-9, ]+) of (?P<number>[0-9]+)")
_MOST = 255
"""Addresses of a mail that are looked through, whatever a receipt says."""
_PREFIX = "r-"
_LENGTH, _TAG, _MARK = 35, 4, 12
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class MailReceipt:
    """Which of so many addresses took a mail, by their places from 1."""

    mail: UUID
    places: tuple[int, ...]
    number: int

    @property
    def untaken(self) -> tuple[int, ...]:
        """The places of the others."""
        return tuple(place for place in range(1, min(self.number, _MOST) + 1) if place not in self.places)

    def written(self, domain: str) -> str:
        """What stands in the journal; the mail by its Message-ID."""
        return f"<{self.mail}@{domain}> to {', '.join(map(str, self.places))} of {self.number}"


def read_receipt(text: str) -> MailReceipt | None:
    """None: it is another channel's."""
    found = _RECEIPT.fullmatch(text)
    if found is None:
        return None
    places = tuple(int(place) for place in found["places"].split(", "))
    return MailReceipt(UUID(found["mail"]), places, int(found["number"]))


@dataclass(frozen=True, slots=True)
class Return:
    """What a return address says: which mail came back, of which sending (0 for an issue), from which of the
    addresses it was sent to. `tag` tells these apart when the partner's settings have changed."""

    mail: UUID
    sending: int
    place: int
    tag: bytes

    def address(self, addresses: Sequence[str], sign: Sign) -> str | None:
        """Which of these it is; None: none any more."""
        return next((one for one in addresses if _tag(one, sign) == self.tag), None)


def return_address(mail: UUID, sending: int, place: int, address: str, sign: Sign) -> str:
    """The local part: letters and digits that survive a server that changes capitals, 58 of the 64 it may have."""
    told = mail.bytes + sending.to_bytes(2, "big") + bytes([place]) + _tag(address, sign)
    return _PREFIX + base64.b32encode(told + sign(told)[:_MARK]).decode().lower()


def read_return_address(local: str, sign: Sign) -> Return | None:
    """None: the hub never gave it out."""
    if not local.isascii() or not local.lower().startswith(_PREFIX):
        return None
    try:
        told = base64.b32decode(local[len(_PREFIX) :], casefold=True)
    except ValueError:
        return None
    told, mark = told[:-_MARK], told[-_MARK:]
    if len(told) + len(mark) != _LENGTH or not hmac.compare_digest(sign(told)[:_MARK], mark):
        return None
    return Return(UUID(bytes=told[:16]), int.from_bytes(told[16:18], "big"), told[18], told[19:])


def _tag(address: str, sign: Sign) -> bytes:
    return sign(b"address " + address.encode())[:_TAG]


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A report by a mail server (RFC 3464), as far as it is read: whether it says that the mail will not arrive, and
    the code it gives for that (RFC 3463)."""

    failed: bool
    status: str | None = None


def failure(actions: Iterable[tuple[str, str]]) -> StatusReport:
    """`actions` and codes, of each recipient that a report speaks of. One that was reached, or may be still, is not
    lost, whatever became of others behind the same address."""
    told = [(action.strip().lower(), status.strip()) for action, status in actions]
    failed = [status for action, status in told if action == "failed"]
    if not failed or len(failed) < len(told):
        return StatusReport(False)
    found = _STATUS.match(failed[0])
    return StatusReport(True, None if found is None else found[0])


class BounceEffect(StrEnum):
    """What came of a report."""

    NOTED = "noted"
    PARKED = "parked"
    """Every address that took it gave it back: what it delivered is parked."""
    KNOWN = "known"
    """It was noted before, and changes nothing more."""
    UNDER_WAY = "under_way"
    """Nobody knows yet which addresses took it: to be told again later."""
    FORGOTTEN = "forgotten"
    """There is no such mail."""


def is_lost(accepted: Collection[int], bounced: Collection[int]) -> bool:
    """Whether a mail reached nobody: by the places of the addresses that took it, and of those it came back from."""
    return bool(accepted) and set(accepted) <= set(bounced)
