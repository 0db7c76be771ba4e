"""Deciding a submission anew: what the new choice means for the deliveries that are there.

Business of this file: one pure answer for one submission. Both choices are compared by who stands for each
partner today, so a succession is no difference. It reads no rules (`matching` does) and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from hub.domain.decisions import FIRST, Recipient, Routed, Verdict
from hub.domain.identity import ParcelKind, Subscriber, delivery_id
from hub.domain.lifecycle import State, may_move

Heir = Callable[[Subscriber], Subscriber]
"""Who stands for a subscriber at this moment; itself, when nobody succeeded it."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A delivery that is there. `subscriber`: with whom it lies; `chosen`: whether the newest decision names
    it; `withdrawing`: it will be withdrawn when its attempt ends without success."""

    delivery: UUID
    subscriber: Subscriber
    attachments: tuple[int, ...]
    revision: int
    state: State
    chosen: bool
    withdrawing: bool = False


@dataclass(frozen=True, slots=True)
class Fresh:
    """A delivery that is to be planned. `revises`: the one whose next revision it is."""

    delivery: UUID
    recipient: Recipient
    revision: int
    revises: UUID | None = None


@dataclass(frozen=True, slots=True)
class Redecision:
    """`verdict` names `deliveries`, in the order of its recipients. `again` begin a new sending (`back` says
    which of them had been withdrawn or had expired), `fresh` are planned, `withdrawn` end, `kept` only lose the
    mark that they are to be withdrawn. `disclosed` were received by a partner that is not chosen any more.
    `unchanged`: chosen still, and nothing is done to it."""

    verdict: Verdict
    deliveries: tuple[UUID, ...]
    again: tuple[UUID, ...] = ()
    back: frozenset[UUID] = frozenset()
    fresh: tuple[Fresh, ...] = ()
    withdrawn: tuple[UUID, ...] = ()
    kept: tuple[UUID, ...] = ()
    disclosed: tuple[UUID, ...] = ()
    unchanged: tuple[UUID, ...] = ()


RECEIVED = frozenset({State.DELIVERED, State.ACKNOWLEDGED, State.RETURNED})
"""The partner had it in its hands."""
ENDED = frozenset({State.WITHDRAWN, State.EXPIRED})


def redecide(
    submission: UUID,
    verdict: Verdict,
    there: Sequence[Registered],
    heir: Heir,
    wanted: Collection[UUID] | None = None,
) -> Redecision:
    """What the new `verdict` means. `there`: every delivery of this submission. `wanted`: which of those chosen
    both times are sent again (None: all)."""
    return _Comparison(submission, there, heir, wanted).with_(verdict)


class _Comparison:
    def __init__(
        self,
        submission: UUID,
        there: Sequence[Registered],
        heir: Heir,
        wanted: Collection[UUID] | None,
    ) -> None:
        self._submission = submission
        self._heir = heir
        self._wanted = wanted
        self._names = {one.delivery for one in there}
        self._there: dict[Subscriber, list[Registered]] = {}
        for one in sorted(there, key=lambda one: one.delivery.int):
            self._there.setdefault(heir(one.subscriber), []).append(one)
        self.again: list[UUID] = []
        self.back: set[UUID] = set()
        self.fresh: list[Fresh] = []
        self.withdrawn: list[UUID] = []
        self.kept: list[UUID] = []
        self.disclosed: list[UUID] = []
        self.unchanged: list[UUID] = []

    def with_(self, verdict: Verdict) -> Redecision:
        recipients = _by_heir(verdict, self._heir)
        deliveries = []
        for partner, those in self._there.items():
            if partner not in recipients:
                self._no_longer(those)
        for partner, recipient in recipients.items():
            deliveries.append(self._chosen(self._there.get(partner, []), recipient))
        named = Routed(tuple(recipients.values())) if recipients else verdict
        return Redecision(
            named,
            tuple(deliveries),
            tuple(self.again),
            frozenset(self.back),
            tuple(self.fresh),
            tuple(self.withdrawn),
            tuple(self.kept),
            tuple(self.disclosed),
            tuple(self.unchanged),
        )

    def _no_longer(self, those: Sequence[Registered]) -> None:
        for one in those:
            if one.chosen and one.state in RECEIVED:
                self.disclosed.append(one.delivery)
            else:
                self._withdraw(one)

    def _withdraw(self, one: Registered) -> None:
        if one.state not in RECEIVED | ENDED and not one.withdrawing:
            self.withdrawn.append(one.delivery)

    def _chosen(self, those: Sequence[Registered], recipient: Recipient) -> UUID:
        """The name of what the partner gets by the new decision."""
        stands = _standing(those)
        if stands is None or set(stands.attachments) != set(recipient.attachments):
            return self._plan(those, recipient, stands)
        for other in those:
            if other is not stands:
                self._withdraw(other)
        self._send(stands)
        return stands.delivery

    def _plan(self, those: Sequence[Registered], recipient: Recipient, stands: Registered | None) -> UUID:
        for other in those:
            self._withdraw(other)
        revision = max((one.revision for one in those), default=FIRST - 1) + 1
        # A succession that was taken back leaves names behind that lie with somebody else.
        while (name := self._name(recipient, revision)) in self._names:
            revision += 1
        self._names.add(name)
        self.fresh.append(Fresh(name, recipient, revision, None if stands is None else stands.delivery))
        return name

    def _name(self, recipient: Recipient, revision: int) -> UUID:
        return delivery_id(self._submission, recipient.subscriber, ParcelKind.SUBMISSION, revision)

    def _send(self, one: Registered) -> None:
        if one.state in ENDED:
            self.again.append(one.delivery)
            self.back.add(one.delivery)
        elif one.withdrawing:
            self.kept.append(one.delivery)
        elif self._is_wanted(one) and may_move(one.state, State.PLANNED):
            self.again.append(one.delivery)
        else:
            self.unchanged.append(one.delivery)

    def _is_wanted(self, one: Registered) -> bool:
        # What a former choice gave a partner that is chosen again is there already.
        return one.chosen and (self._wanted is None or one.delivery in self._wanted)


def _by_heir(verdict: Verdict, heir: Heir) -> Mapping[Subscriber, Recipient]:
    """Whom a verdict names, by who stands for each; those for whom one stands get together what each would."""
    found: dict[Subscriber, Recipient] = {}
    for recipient in verdict.recipients if isinstance(verdict, Routed) else ():
        partner = heir(recipient.subscriber)
        other = found.get(partner)
        found[partner] = recipient if other is None else _together(other, recipient)
    return found


def _together(one: Recipient, other: Recipient) -> Recipient:
    return Recipient(
        one.subscriber,
        tuple(sorted({*one.attachments, *other.attachments})),
        (*one.reasons, *other.reasons),
        one.mailbox and other.mailbox,
    )


def _standing(those: Sequence[Registered]) -> Registered | None:
    """Which of a partner's deliveries stands for its choice: of those the newest decision names, the one it
    received, else the first that goes on; of former ones, the last revision. `those` are by name."""
    chosen = [one for one in those if one.chosen]
    for kind in (_is_received, _goes_on):
        for one in chosen:
            if kind(one):
                return one
    return max(chosen or those, key=lambda one: (one.revision, -one.delivery.int), default=None)


def _is_received(one: Registered) -> bool:
    return one.state in RECEIVED


def _goes_on(one: Registered) -> bool:
    return one.state not in ENDED and not one.withdrawing
