"""What a person should look at: deliveries that nobody fetches or acknowledges, and all that stands still too long.

Business of this file: which kinds there are, after how long each is one, and which begin. Who looks, and where they
are told, is not its business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hub.domain.fields import Field
from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint


class AlarmKind(StrEnum):
    UNFETCHED = "unfetched"
    """Lies in its partner's mailbox, and the partner has read nothing of it."""
    UNACKNOWLEDGED = "unacknowledged"
    """Was fetched from the mailbox, and the partner does not say that it has it."""
    UNDECIDED = "undecided"
    """Accepted, and nobody has decided who gets it."""
    WAITING = "waiting"
    """On its way for too long, whatever the attempts came to."""
    PARKED = "parked"
    CLOSED = "closed"
    """A lane whose endpoint refused: nothing is tried until it is opened."""
    FAILING = "failing"
    """A lane whose endpoint has failed for too long."""
    ADDRESS = "address"
    """Of a partner with several, one that did not take what another one took, or gave it back; for three days."""
    UNREADABLE = "unreadable"
    """Lies in its partner's return folder, and says nothing that could be kept."""
    RETURNS = "returns"
    """A return folder that could not be looked at for too long."""
    EXPIRING = "expiring"
    """What an endpoint's settings hold (certificates) is soon of no use any more, or is already."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """`number` of one kind with one partner on one channel ('': nobody's), the oldest `since` then."""

    kind: AlarmKind
    subscriber: str
    channel: str
    since: datetime
    number: int
    cause: str | None = None

    @property
    def place(self) -> tuple[AlarmKind, str, str]:
        return self.kind, self.subscriber, self.channel


@dataclass(frozen=True, slots=True)
class Patience:
    """After how long each is an alarm, or how long before (`expiring`); what is parked and a closed lane are at
    once."""

    unfetched: timedelta = timedelta(days=2)
    unacknowledged: timedelta = timedelta(days=3)
    undecided: timedelta = timedelta(days=1)
    waiting: timedelta = timedelta(days=1)
    failing: timedelta = timedelta(hours=1)
    expiring: timedelta = timedelta(days=30)


def expiring(
    subscriber: Subscriber, endpoint: Endpoint, fields: Iterable[Field], before: timedelta, now: datetime
) -> Alarm | None:
    """`number` fields; the cause names the one that runs out first, with its day."""
    found = sorted(
        (until, one.name)
        for one in fields
        if (until := _until(one, endpoint.settings.get(one.name))) is not None and until - before <= now
    )
    if not found:
        return None
    until, name = found[0]
    cause = f"{name} until {until:%Y-%m-%d}"
    return Alarm(AlarmKind.EXPIRING, str(subscriber), endpoint.channel, until - before, len(found), cause)


def _until(one: Field, value: object) -> datetime | None:
    if one.until is None or not isinstance(value, str):
        return None
    with suppress(ValueError):
        return one.until(value)
    return None


def beginning(before: Iterable[Alarm], now: Iterable[Alarm]) -> Sequence[Alarm]:
    """Those that were not there before."""
    known = {alarm.place for alarm in before}
    return [alarm for alarm in now if alarm.place not in known]
