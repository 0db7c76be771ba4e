"""Events: what is kept of what partners say, each once; and whether a report becomes one.

Business of this file: what names a report, so that it is recognised when it comes again; what it may say; and what it
means for the case of its delivery, given how that stands. The store asks this under the delivery's lock.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from hub.domain.cases import Case, CaseMoves, CaseStatus, allowed
from hub.domain.document import canonical
from hub.domain.errors import Flaw
from hub.domain.identity import Subscriber, event_id
from hub.domain.lifecycle import State
from hub.domain.reports import (
    LONGEST_FILE_NAME,
    LONGEST_MESSAGE,
    LONGEST_REFERENCE,
    MOST_EVENTS,
    Declined,
    NotTaken,
    Report,
    ReturnedFile,
)

NO_LONGER = frozenset({State.WITHDRAWN, State.EXPIRED, State.RETURNED})
"""States in which a delivery is not, or not any more, its partner's. In all others it may say something of it: also of
what is still being tried, or was parked, for it has it then, whatever its server answered."""

_HAS_IT = frozenset(CaseStatus) - {CaseStatus.HUBEE_NOTIFIED, CaseStatus.SI_INTG_ERROR}
"""Whoever reports one of these has the parcel. Who could not take it in does not; a message may ask where it is."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A returned file, whole and sealed in the attachment store. `sha256` in lower-case hex."""

    name: str = field(repr=False)
    media_type: str
    size: int
    sha256: str
    location: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A report, sealed and ready to be judged. `named`: the keyed digest of what names it; `by_itself`: that is its
    reference or its file, else it is what it says, and the number of the status it finds names it too. `message`: the
    same digest of its message alone, if it has one. `digest`: of all that it says."""

    delivery: UUID
    way: str
    status: CaseStatus | None
    named: bytes
    by_itself: bool
    message: bytes | None
    digest: bytes
    sealed: bytes = field(repr=False)
    location: str | None = None
    size: int | None = None
    with_reference: bool = False


# --- what a report may say ----------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def flaws_of(report: Report) -> tuple[Flaw, ...]:
    """Every rule that what it says breaks, by itself."""
    found = []
    if report.status is None and report.message is None and report.file is None:
        found.append(Flaw("", "empty", "a report says a status, a message or a file"))
    if report.message is not None:
        found += _flaws_of_text("/message", report.message, LONGEST_MESSAGE, _CONTROL)
    if report.reference is not None:
        found += _flaws_of_text("/reference", report.reference, LONGEST_REFERENCE, _LINE)
    if report.file is not None:
        found += _flaws_of_file(report.file)
    return tuple(found)


def _flaws_of_text(where: str, text: str, longest: int, signs: re.Pattern[str]) -> list[Flaw]:
    found = []
    if not text.strip():
        found.append(Flaw(where, "blank", "it must not be empty"))
    if len(text) > longest:
        found.append(Flaw(where, "too_long", f"it has at most {longest} signs"))
    if signs.search(text):
        found.append(Flaw(where, "signs", "it has signs that cannot be printed"))
    return found


def _flaws_of_file(file: ReturnedFile) -> list[Flaw]:
    found = _flaws_of_text("/file/name", file.name, LONGEST_FILE_NAME, _LINE)
    if not _MEDIA_TYPE.fullmatch(file.media_type):
        found.append(Flaw("/file/media_type", "media_type", "a media type is written type/subtype"))
    if file.size is not None and file.size < 0:
        found.append(Flaw("/file/size", "size", "a size is not negative"))
    if file.sha256 is not None and not _SHA256.fullmatch(file.sha256):
        found.append(Flaw("/file/sha256", "sha256", "a digest is 64 hexadecimal digits, in lower case"))
    return found


# --- what names it ------------------------------------------------------------------------------------


def naming(report: Report, file: KeptFile | None) -> bytes:
    """The text whose keyed digest names it."""
    if report.reference is not None:
        return canonical(["reference", report.reference])
    if file is not None:
        return canonical(["file", file.name, file.sha256])
    return canonical(["said", report.status, report.message])


def naming_of_message(report: Report) -> bytes | None:
    """As `naming` of one that says nothing but this message."""
    return None if report.message is None else naming(replace(report, status=None, reference=None), None)


def saying(report: Report, file: KeptFile | None) -> bytes:
    """All that it says, in one canonical form: what is sealed, and told apart when a reference comes again."""
    told = (
        None
        if file is None
        else {
            "name": file.name,
            "media_type": file.media_type,
            "size": file.size,
            "sha256": file.sha256,
        }
    )
    return canonical(
        {"status": report.status, "message": report.message, "reference": report.reference, "file": told}
    )


# --- what it means ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CaseStanding:
    """How the delivery of a report stands, under its lock. `event`: that its case status came from; `events`: how many
    it has."""

    state: State
    case: Case
    event: UUID | None
    purged: bool = False
    events: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """It is this event, which is there."""

    event: UUID


@dataclass(frozen=True, slots=True)
class Keep:
    """It becomes an event of this name. `case`: how the case stands after it; the same where it does not change.
    `acknowledges`: its partner has the parcel, which was not known."""

    event: UUID
    status: CaseStatus | None
    case: Case
    acknowledges: bool


Judgement = Again | Keep | Declined


def names_of(new: NewEvent, standing: CaseStanding) -> tuple[UUID, ...]:
    """The events that it may be, if they are there: to be looked up before it is judged."""
    if new.by_itself:
        return (event_id(new.delivery, new.named),)
    found = [event_id(new.delivery, new.named, standing.case.number)]
    if new.message is not None and new.status is not None:
        found.append(event_id(new.delivery, new.message, standing.case.number))
    return tuple(found)


def judge(
    new: NewEvent,
    standing: CaseStanding,
    known: Mapping[UUID, bytes],
    moves: CaseMoves,
    by: Subscriber,
    now: datetime,
) -> Judgement:
    """`known`: of `names_of`, those that are there, with the digest of all they say."""
    names, case = names_of(new, standing), standing.case
    if names[0] in known:
        if new.with_reference and known[names[0]] != new.digest:
            flaw = Flaw("/reference", "used_before", "this reference was used before for another report")
            return Declined(NotTaken.CONFLICT, flaw)
        return Again(names[0])
    if standing.state in NO_LONGER:
        flaw = Flaw(
            "", standing.state.value, f"this delivery is {standing.state.value}: it is not yours any more"
        )
        return Declined(NotTaken.CONFLICT, flaw)
    if standing.purged:
        return Declined(NotTaken.CONFLICT, PURGED)
    if standing.events >= MOST_EVENTS:
        flaw = Flaw("", "too_many", f"of one delivery, at most {MOST_EVENTS} events are kept")
        return Declined(NotTaken.CONFLICT, flaw)
    status = new.status
    if status is case.status and not new.by_itself and standing.event is not None:
        # It repeats what its case is. A message of its own is not lost: it is an event that changes nothing.
        if new.message is None or event_id(new.delivery, new.named, case.number - 1) == standing.event:
            return Again(standing.event)
        if names[1] in known:
            return Again(names[1])
        return Keep(names[1], None, case, acknowledges=False)
    if status is None or status is case.status is not CaseStatus.HUBEE_NOTIFIED:
        return Keep(names[0], status, case, acknowledges=False)
    following = allowed(case, moves, by, now)
    if status not in following:
        return Declined(NotTaken.CONFLICT, _forbidden(case.status, following), following)
    after = Case(status, case.number + 1, case.status, now, by)
    acknowledges = status in _HAS_IT and standing.state is not State.ACKNOWLEDGED
    return Keep(names[0], status, after, acknowledges)


PURGED = Flaw("", "purged", "what was delivered is purged: nothing can be said of it any more")
UNREADABLE = Flaw("", "unreadable", "what was delivered cannot be opened any more; the hub's operator knows")


def _forbidden(status: CaseStatus, following: Collection[CaseStatus]) -> Flaw:
    told = ", ".join(following) or "nothing"
    return Flaw("/status", "move", f"the case is {status}; what may follow now: {told}")
