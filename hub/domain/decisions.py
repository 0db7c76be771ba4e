"""Decisions (d'acheminement): what the router concluded about a submission, with its reasons."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hub.domain.identity import Subscriber


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a subscriber was chosen: the rule, the subscription that answered it (None for a partner the
    rule names), and the territory steps that led there, each a short sentence."""

    rule: str
    recipient: str
    subscription: str | None
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipient:
    """One delivery of a decision: its name, whom it is for, which files (numbers) it carries, and why."""

    delivery: UUID
    subscriber: Subscriber
    attachments: tuple[int, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Routed:
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class Unroutable:
    """The rules name nobody. `tried`: each rule and where it looked, for the operator."""

    tried: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetAside:
    """The rules cannot be applied to this record. `reason` is a stable word."""

    reason: str


Verdict = Routed | Unroutable | SetAside


@dataclass(frozen=True, slots=True)
class Decision:
    """The `number`-th decision of a submission (from 1), by rule-book snapshot `snapshot`."""

    submission: UUID
    number: int
    snapshot: int
    verdict: Verdict
