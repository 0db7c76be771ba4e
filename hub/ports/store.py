"""The store: the system of record. Whatever was answered with a 202 is in it.

One small port for each room of the journey, so that a room sees only its own verbs. All speak in batches;
each verb is one transaction, durable when it returns. Times are the database's clock: callers hand in
durations. Every transaction over several rows takes them in one fixed order of tables (submission, upload,
lane, partner, delivery), each sorted by key, and is run again when the database breaks a deadlock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from hub.domain.circuit import UNKNOWN, Standing
from hub.domain.decisions import Decision, Verdict
from hub.domain.delivery import Attempt, Conclusion
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.ledger import WHOLE, Discrepancy, Scope, Term
from hub.domain.lifecycle import State
from hub.domain.partner import Endpoint, Partner
from hub.domain.replays import Chosen, ReplayOrder, ReplayState, ReplayVerb
from hub.domain.submission import Acceptance, RoutingFacts, StoredAttachment, Submission

# --- intake -------------------------------------------------------------------------------------------


class Intake(Protocol):
    async def accept(self, batch: Sequence[Submission]) -> Sequence[Acceptance]:
        """One answer for each, in order. Inserts name, key, sealed content, receipt time and a letter for
        the router, or returns what is there. Ids in a batch are distinct. An upload is taken over by one:
        raises Unavailable for all of the batch when one names an upload that is gone."""
        ...

    async def recognise(self, id: UUID, digest: bytes) -> Acceptance | None:
        """What accepting a submission of this id and digest would answer if the id was accepted before; None if
        it was not."""
        ...

    async def named(self, locations: Sequence[str]) -> set[str]:
        """Which of these attachment-store names an accepted submission or an upload names (for the sweep)."""
        ...


# --- outgoing -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letter:
    """Something accepted that the log does not know yet."""

    position: int
    content: RoutingFacts


class Tray(Protocol):
    async def letters(self, limit: int) -> Sequence[Letter]:
        """The oldest letters."""
        ...

    async def discard(self, positions: Sequence[int]) -> None:
        """The log has them."""
        ...

    async def wait(self, seconds: float) -> None:
        """Until a letter may have come, or this long."""
        ...

    async def put_back(self, life: str) -> int:
        """A letter again for each submission that is not decided, if letters were last put back for another
        life of the log than this one; how many."""
        ...

    async def carried_until(self) -> datetime:
        """What was received before this has no letter here; so the log was given it, and all of that before
        this call."""
        ...

    async def put_back_lost(self, before: datetime) -> int:
        """A letter again for each submission that was received before this, is not decided and has none; how
        many."""
        ...


JournalPlace = tuple[int, int]
"""Where a line of the journal stands among the others."""


@dataclass(frozen=True, slots=True)
class News:
    """A line of the journal, with what it is about: the procedure, and of a delivery the partner it is with
    now."""

    at: datetime
    event: str
    submission: UUID | None
    delivery: UUID | None
    procedure: str | None
    subscriber: Subscriber | None


class Journal(Protocol):
    """The journal as news to be carried elsewhere. Who asks for the first time begins at that moment."""

    async def news(self, limit: int) -> Sequence[tuple[JournalPlace, News]]:
        """The oldest that were not carried yet. No line is passed by that commits later."""
        ...

    async def carried(self, place: JournalPlace) -> None:
        """The log has this one and all before it."""
        ...


# --- the rule book ------------------------------------------------------------------------------------


class ItemKind(StrEnum):
    """What an edition of the rule book is made of."""

    PROCEDURE = "procedure"
    """Key: the procedure's code. Content: its rule file as canonical JSON."""
    SUBSCRIPTION = "subscription"
    """Key: procedure/place/subscriber. Content: canonical JSON."""
    SUCCESSION = "succession"
    """Key: the subscriber that was. Content: canonical JSON, {"since": a date, "subscriber": the new one}."""
    TERRITORY = "territory"
    """Key: the vintage; one of them in each edition. Content: the dataset's own bytes."""


ItemKey = tuple[ItemKind, str]


@dataclass(frozen=True, slots=True)
class Item:
    """Equal content of one key is one item, kept once for all the editions in a row that hold it."""

    kind: ItemKind
    key: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """From one edition to another: `put` stand there with this content, `dropped` no longer do."""

    put: tuple[Item, ...] = ()
    dropped: tuple[ItemKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Edition:
    """A published snapshot, without its items. `pruned`: they are gone, nothing was decided by them."""

    number: int
    effective_from: datetime
    published_at: datetime
    author: str
    reason: str
    pruned: bool


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Every edition in force now or earlier is among `editions` (number, effective_from; by number, and so
    by time) or was known before: a submission received up to `until` can be decided."""

    editions: tuple[tuple[int, datetime], ...]
    until: datetime


class RuleBooks(Protocol):
    async def publish(self, change: Change, based_on: int, lead: timedelta, author: str, reason: str) -> int:
        """A new edition, in force `lead` from now; its number. A change that changes nothing makes none,
        and returns `based_on`. The first edition ever (`based_on` 0) is in force at once and for all that
        came before. Raises Superseded when `based_on` is not the newest edition's number."""
        ...

    async def confirm(self, known: int) -> Confirmation:
        """The editions after number `known` (0: all of them), read under the lock that publishing takes.
        What an edition is, once told, never changes."""
        ...

    async def changes(self, since: int, number: int) -> Change:
        """What turns edition `since` (0: nothing at all) into edition `number`, in either direction. Raises
        RuleBookError when one was never published, Pruned when its items are gone."""
        ...

    async def editions(self, limit: int) -> Sequence[Edition]:
        """The newest first."""
        ...

    async def prune(self, age: timedelta) -> Sequence[int]:
        """Let go of the items of editions by which nothing was decided and nothing is to be decided: they
        were superseded more than `age` ago, no decision names them, and no accepted submission received
        under them is undecided. The numbers of those pruned now."""
        ...


# --- partners -----------------------------------------------------------------------------------------

KeptPartner = tuple[Partner, bytes | None, bytes | None]
"""A partner without its secrets, its sealed secrets, and the wrapped key they are sealed under."""


class Partners(Protocol):
    async def keep(self, partners: Sequence[KeptPartner]) -> None:
        """These are the partners' names, channels, settings and secrets from now on (None: no secrets);
        others stay. Subscribers are distinct. A partner's running number is never touched; what waits in
        a lane stays in it, even when the channel changes."""
        ...

    async def replace(self, changes: Sequence[tuple[KeptPartner | None, KeptPartner]]) -> None:
        """The same for each from what was seen of it (None: it was not there), all of them or none. Raises
        Superseded when one is no longer as it was seen."""
        ...

    async def get(self, subscriber: Subscriber) -> KeptPartner | None: ...

    async def list(self) -> Sequence[KeptPartner]:
        """All of them, by subscriber."""
        ...


# --- registration -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registered:
    """What a batch of decisions came to: new decisions, new deliveries, and records that name no accepted
    submission (shown beside the accounts, never in them)."""

    decisions: int
    deliveries: int
    strays: int


class Registry(Protocol):
    async def register(self, decisions: Sequence[Decision]) -> Registered:
        """Each decision once; a planned delivery for each recipient, with the next number of its partner,
        its lane awake. What is there by the same decision is skipped. A recipient that is succeeded at this
        moment is named still; the delivery is its successor's from the beginning."""
        ...


# --- dispatch -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lane:
    """One partner on one channel. `endpoint` is where its rows leave today, without secrets: those are
    `sealed_secrets`, under the key wrapped in `wrapped_key` (both None: there are none). That is by the
    partner's channel of today, except for a mailbox's lane, which stays one. `standing`: how its endpoint
    does; `failing`: for how long it has failed or been closed (None: neither); `closed`: why nothing is tried;
    `pace` and `maintenance` as the partner declared them, as JSON."""

    id: int
    subscriber: Subscriber
    endpoint: Endpoint
    sealed_secrets: bytes | None = field(default=None, repr=False)
    wrapped_key: bytes | None = field(default=None, repr=False)
    standing: Standing = UNKNOWN
    failing: timedelta | None = None
    closed: str | None = None
    vendor: str | None = None
    pace: Mapping[str, object] | None = None
    maintenance: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery taken for an attempt, with all that its parcel is made of."""

    attempt: Attempt
    subscriber: Subscriber
    sequence: int
    kind: ParcelKind
    revision: int
    submission: UUID
    sender: str
    external_id: str
    procedure: str
    received_at: datetime
    sealed: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)
    attachments: tuple[StoredAttachment, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A lane that was leased, and what was claimed of it. `claims` is None for a lane that is closed or left, or
    whose partner has a pace or a maintenance of its own: what of it goes now is asked with `Lanes.claim`."""

    lane: Lane
    claims: tuple[Claim, ...] | None


@dataclass(frozen=True, slots=True)
class Page:
    """What came of a lane that was taken. `rest`: it is not due again before this is over; `standing`: how its
    endpoint does from now on. `closes`: its endpoint refused, for this cause, when this delivery was tried: the
    lane is closed. `blocked`: none of what is due may go yet, so it is due with the next row that becomes so."""

    lane: int
    conclusions: tuple[Conclusion, ...] = ()
    rest: timedelta = timedelta(0)
    standing: Standing = UNKNOWN
    closes: tuple[str, UUID] | None = None
    blocked: bool = False


class Lanes(Protocol):
    async def take(
        self, worker: str, healthy: int, failing: int, page: int, length: timedelta
    ) -> Sequence[Taken]:
        """Lanes that are due and held by nobody, now held by `worker` for `length`: at most so many whose
        endpoint does not fail, and so many whose does (one row of each is claimed, to try). Of each the next due
        rows are claimed, at most `page` and at most as many as its standing lets go at once. In flight from now
        on, for as long as the lane is held; a row that was in flight in an earlier lease is claimed as a new
        attempt. A row that is to be withdrawn is withdrawn instead. Of a
        lane that was left for another, or whose partner is succeeded, nothing is claimed here."""
        ...

    async def lease(self, worker: str, limit: int, length: timedelta) -> Sequence[Lane]:
        """The same of any lanes, and nothing claimed."""
        ...

    async def claim(
        self, worker: str, lane: int, limit: int, ordered: Collection[str] = (), *, closes: bool = False
    ) -> Sequence[Claim]:
        """Of a lane that `worker` holds, what `take` claims. Of an `ordered` procedure only its first row in
        motion; `closes`: and not even that while an earlier one is parked. A lane that was left for another,
        or whose partner is succeeded, gives its rows away instead: to the lane that took over; to the successor's
        (its channel's; its mailbox's only what a rule wants there), under the same names and the successor's next
        numbers, due at once there. What lies in the mailbox of who is succeeded moves with it, and lies there or,
        where the successor is served otherwise, is planned again. Raises LeaseLost if `worker` does not hold the
        lane."""
        ...

    async def renew(self, worker: str, lanes: Sequence[int], length: timedelta) -> set[int]:
        """Lengthen the leases, and with them the holds of their rows in flight; the lanes still held."""
        ...

    async def conclude(self, worker: str, pages: Sequence[Page]) -> Sequence[UUID]:
        """Write what came of attempts, and the lanes' next wake-ups; gives the lanes back. Stale bad news
        (another attempt has begun, or the row is at rest) is refused, good news of the same sending is
        welcome; one row's illegal move fails no other's. What failed and is to be withdrawn, is. Of what moved to
        a successor meanwhile, only the journal learns what came of it. Returns the deliveries whose news was
        refused."""
        ...

    async def fall_back(self, worker: str, lane: int) -> None:
        """Leave a lane that `worker` holds for its partner's mailbox, while its endpoint is away: what waits
        moves there, but for the row that is due first, which goes on trying it. The partner is told, once. Raises
        LeaseLost if `worker` does not hold the lane."""
        ...

    async def rest_vendor(self, vendor: str, rest: timedelta, spread: timedelta) -> int:
        """Let the failing or idle lanes of this software vendor's partners rest for that long, and so much
        longer each as chance has it, at most `spread`; how many. Those under way are not touched."""
        ...

    async def wake_vendor(self, vendor: str, spread: timedelta) -> int:
        """Its lanes that rest are due again, one after the other within `spread`; how many."""
        ...

    async def next_due(self) -> float | None:
        """Seconds until the next lane is due (0 if one is now), None when all sleep."""
        ...

    async def wait(self, seconds: float) -> None:
        """Until a lane may have become due, or this long."""
        ...


# --- replay -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preview:
    """What a choice matches at this moment: how many (deliveries, or submissions), how many bytes of files, and
    some of them."""

    matched: int
    bytes: int
    examples: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """An order to send again, and how far it is. `matched` items are fixed when it is given. `sent` again so far,
    `skipped` because they had moved on by themselves. By the rules of today also: next revisions planned
    (`revised`), deliveries to who was not chosen before (`planned`), `withdrawn`, `unchanged`, and `disclosed`:
    received by who is not chosen any more."""

    id: UUID
    order: ReplayOrder
    state: ReplayState
    created_at: datetime
    approved_by: str | None
    matched: int
    bytes: int
    sent: int
    skipped: int
    revised: int
    planned: int
    withdrawn: int
    unchanged: int
    disclosed: int
    pending: int
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Disclosure:
    """A delivery that its partner received and that no decision names any more; or may have received, when its
    last attempt was lost (not `certain`)."""

    delivery: UUID
    submission: UUID
    subscriber: Subscriber
    state: State
    certain: bool


@dataclass(frozen=True, slots=True)
class TodaysRules:
    """The rule book in force now: its number, and what it says of a submission."""

    snapshot: int
    decide: Callable[[RoutingFacts], Verdict]


RulesNow = Callable[[], Awaitable[TodaysRules]]
"""Asked when they are needed. Raises RuleBookError when they cannot be read."""


@dataclass(frozen=True, slots=True)
class Rerouted:
    """What a decision by hand came to: its number, the delivery it names instead, and whether the former partner
    had received the other one."""

    decision: int
    delivery: UUID
    disclosed: bool


class Replays(Protocol):
    async def preview(self, chosen: Chosen, examples: int = 10) -> Preview: ...

    async def begin(self, id: UUID, order: ReplayOrder, approval: int | None = None) -> Replay:
        """Fix what is matched. Of more than `approval` items, it waits for another operator to approve it. The
        same id again: the replay that is there, whatever else is said. Raises Invalid."""
        ...

    async def send_again(self, limit: int, rules: RulesNow | None = None) -> int:
        """Treat a page of the running replay that waits for longest, at its rate: plan deliveries again, as new
        sendings, or decide their submissions anew; how many items were treated. Without `rules`, those by the
        rules of today wait. Raises RuleBookError, nothing done."""
        ...

    async def turn(self, id: UUID, verb: ReplayVerb, operator: str) -> Replay | None:
        """Approve, pause, resume or cancel it; None: there is none. When this returns, nothing more is planned
        by one that is paused or cancelled. Raises IllegalMove."""
        ...

    async def replay(self, id: UUID) -> Replay | None: ...

    async def newest(self, limit: int) -> Sequence[Replay]: ...

    async def disclosures(self, id: UUID, after: UUID | None, limit: int) -> Sequence[Disclosure]:
        """By delivery, above `after`: also what was received only after it had been withdrawn."""
        ...

    async def reroute(self, delivery: UUID, to: Subscriber, author: str, reason: str) -> Rerouted | None:
        """A decision by hand: another delivery is planned instead of this one, which is withdrawn, if its partner
        has not received it. None: there is no such delivery. Raises Invalid, naming /to or /delivery."""
        ...


# --- the mailbox --------------------------------------------------------------------------------------


class Mailboxes(Protocol):
    async def acknowledge(self, subscriber: Subscriber, deliveries: Sequence[UUID]) -> Sequence[UUID]:
        """The partner says it has these; those of them that are acknowledged now (again: still). Its own are
        those of whom it stands for at this moment: a partner that is succeeded has none any more."""
        ...


# --- accounts -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubmissionAccount:
    """accepted = routed + unroutable + set_aside + undecided, for one procedure."""

    procedure: str
    accepted: int
    routed: int
    unroutable: int
    set_aside: int
    undecided: int


@dataclass(frozen=True, slots=True)
class DeliveryAccount:
    """named = the sum of `terms`, for one procedure and kind of delivery. `named` is counted from the decisions,
    `terms` from the deliveries. Other kinds than submissions (news, notices) are named by none: they are counted
    beside."""

    procedure: str
    kind: str
    named: int
    terms: Mapping[Term, int]


@dataclass(frozen=True, slots=True)
class StandingAccount:
    """Where the deliveries of one kind and procedure are now: with this partner ('' where none was asked for), on
    this channel."""

    kind: str
    procedure: str
    partner: str
    channel: str
    terms: Mapping[Term, int]


@dataclass(frozen=True, slots=True)
class Accounts:
    """The two equations, read in one transaction, and compared with what transactions counted. `standing` breaks the
    right side of the second one down. `strays`: records beside the accounts."""

    submissions: tuple[SubmissionAccount, ...]
    """None where a partner is asked for: the first equation knows no partners."""
    deliveries: tuple[DeliveryAccount, ...]
    standing: tuple[StandingAccount, ...]
    differences: tuple[Discrepancy, ...]
    unopened: int
    """Buckets that differ as well, and were not looked into for ids."""
    strays: int


class Ledger(Protocol):
    async def accounts(self, scope: Scope = WHOLE) -> Accounts: ...

    async def note(self, check: str, differences: int) -> None:
        """What this check (`recent`, `whole`) found, for all to see."""
        ...

    async def noted(self) -> Mapping[str, datetime]:
        """When each check was last made."""
        ...

    async def fold(self, limit: int) -> int:
        """Add what transactions counted up into buckets: the oldest so many transactions, fewer if there are fewer;
        how many. 0 also while somebody else is at it."""
        ...
