"""Decisions (d'acheminement): what the router concluded about a submission, with its reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from hub.domain.identity import ParcelKind, Subscriber, delivery_id

# These are made by the million: tuples with names, a third of a dataclass's price.


class Reason(NamedTuple):
    """Why a subscriber was chosen: the rule, the subscription that answered it (None for a partner the
    rule names), and the steps that led there, each a short sentence."""

    rule: str
    recipient: str
    subscription: str | None
    steps: tuple[str, ...]


class Recipient(NamedTuple):
    """Whom the rules choose, which files (numbers) it gets, and why. `mailbox`: by its mailbox, whatever
    its channel."""

    subscriber: Subscriber
    attachments: tuple[int, ...]
    reasons: tuple[Reason, ...]
    mailbox: bool = False


class Routed(NamedTuple):
    """The rules name these, by subscriber."""

    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class Unroutable:
    """The rules name nobody. `tried`: each rule and where it looked, for the operator."""

    tried: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetAside:
    """The rules cannot be applied to this record, or say that a person must look at it. `reason` is a stable
    word, perhaps with the id of a rule."""

    reason: str


Verdict = Routed | Unroutable | SetAside


FIRST = 1
"""The number of the decision that every submission gets, and the revision of what it plans."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The `number`-th decision of a submission (from 1), by rule-book snapshot `snapshot`. `deliveries` are
    the names of what it plans, one for each recipient of its verdict, in their order."""

    submission: UUID
    number: int
    snapshot: int
    verdict: Verdict
    deliveries: tuple[UUID, ...] = ()

    @classmethod
    def first(cls, submission: UUID, snapshot: int, verdict: Verdict) -> Decision:
        """With the names that follow from whom it is for."""
        recipients = verdict.recipients if isinstance(verdict, Routed) else ()
        names = tuple(
            delivery_id(submission, recipient.subscriber, ParcelKind.SUBMISSION, FIRST)
            for recipient in recipients
        )
        return cls(submission, FIRST, snapshot, verdict, names)

    def named(self) -> Iterator[tuple[UUID, Recipient]]:
        """Each delivery with its recipient."""
        recipients = self.verdict.recipients if isinstance(self.verdict, Routed) else ()
        return zip(self.deliveries, recipients, strict=True)
