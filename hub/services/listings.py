"""Listings: what a file of partners lists, whatever its form; and remarks on places in it.

Business of this file: the values between whoever reads such files and whoever plans an import. A line says
what it says: that a place, a procedure or a partner exists is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hub.domain.identity import Subscriber
from hub.domain.pace import PartnerPace
from hub.domain.rules import SubscriptionState, Succession
from hub.domain.territory import Place

NOBODY = ""
"""Said of a vendor, or of a sender: there is none."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to tell of a place in the file: why it is refused, or what was made of it. `where`: a line,
    or a record by its number; `field`: as it is called in the file."""

    where: str
    field: str
    sentence: str

    def __str__(self) -> str:
        return ", ".join(part for part in (self.where, self.field) if part) + f": {self.sentence}"


@dataclass(frozen=True, slots=True)
class ListedSubscription:
    """None: the file does not say. `place` as it is written: it may not exist."""

    where: str
    procedure: str
    place: Place
    state: SubscriptionState | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedPartner:
    """A partner as one line or record tells of it; None: it does not say. `whole`: a subscription that is
    refused takes the line along; else it is refused alone. `vendor` or `sender` NOBODY, and a pace that asks for
    nothing, say that there is to be none."""

    where: str
    subscriber: Subscriber
    name: str | None = None
    channel: str | None = None
    settings: Mapping[str, object] | None = None
    secrets: Mapping[str, str] | None = field(default=None, repr=False)
    subscriptions: tuple[ListedSubscription, ...] = ()
    whole: bool = False
    vendor: str | None = None
    sender: str | None = None
    pace: PartnerPace | None = None


@dataclass(frozen=True, slots=True)
class ListedSuccession:
    where: str
    succession: Succession


@dataclass(frozen=True, slots=True)
class Listing:
    """A file, read. `refused` are the places where it could not be; `state` what its new subscriptions are
    that do not say; `words` how it calls a field that is not called as in the partners file."""

    partners: tuple[ListedPartner, ...]
    successions: tuple[ListedSuccession, ...] = ()
    refused: tuple[Remark, ...] = ()
    notes: tuple[Remark, ...] = ()
    state: SubscriptionState = SubscriptionState.ACTIVE
    words: Mapping[str, str] = field(default_factory=dict)
