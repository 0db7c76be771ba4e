"""Reporting: what partners say of their deliveries becomes events of the submission, each once.

Business of this room: whose delivery it is, sealing what is said under the submission's key, and storing a returned
file before the one transaction that keeps the event. Killed anywhere before it, a file is left that nobody names, for
the sweep; killed after it, the partner says it again and is recognised.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import assert_never
from uuid import UUID

import structlog

from hub.domain.cases import USUAL, Case, CaseMoves, CaseStatus, allowed
from hub.domain.errors import Flaw, HubError, Invalid, Tampered
from hub.domain.events import (
    NO_LONGER,
    PURGED,
    UNREADABLE,
    KeptFile,
    NewEvent,
    flaws_of,
    naming,
    naming_of_message,
    saying,
)
from hub.domain.identity import Subscriber
from hub.domain.reports import Declined, Kept, NotTaken, Report, ReportAnswer
from hub.ports.attachments import Attachments
from hub.ports.clock import Clock
from hub.ports.events import Events, Reported
from hub.ports.keyring import DataKey, Keyring
from hub.services.library import Library

log = structlog.get_logger()

Contents = Mapping[int, AsyncIterator[bytes]]


@dataclass(slots=True)
class _Received:
    """Reports on their way: those that are ready, by their place, and what is answered already."""

    answers: dict[int, ReportAnswer] = field(default_factory=dict)
    ready: dict[int, NewEvent] = field(default_factory=dict)


class ReportRoom:
    def __init__(
        self, events: Events, attachments: Attachments, keyring: Keyring, library: Library, clock: Clock
    ) -> None:
        self._events = events
        self._attachments = attachments
        self._keyring = keyring
        self._library = library
        self._clock = clock

    async def report(
        self, subscriber: Subscriber, reports: Sequence[Report], contents: Contents | None = None
    ) -> Sequence[ReportAnswer]:
        """One answer for each, in order; what is kept is durable when this returns. `contents`: the bytes of the file
        of the n-th report (from 0), read once, and only if they are needed. Saying the same again is harmless. Raises
        Unavailable."""
        received = _Received()
        try:
            own = await self._own(subscriber, reports, received)
            for place, report in enumerate(reports):
                if place not in received.answers:
                    await self._receive(
                        received, place, report, own[report.delivery], (contents or {}).get(place)
                    )
            moves, edition = await self._moves({one.procedure for one in own.values()})
        except BaseException:
            await self._give_up(received.ready.values())
            raise
        # From here on files may be named by what was kept, also when the answer is lost: then the sweep knows.
        places = sorted(received.ready)
        kept = await self._events.keep(
            subscriber, [received.ready[place] for place in places], moves, edition
        )
        received.answers.update(zip(places, kept, strict=True))
        await self._give_up(
            received.ready[place]
            for place in places
            if not (isinstance(answer := received.answers[place], Kept) and answer.fresh)
        )
        for place, report in enumerate(reports):
            _tell(subscriber, report, received.answers[place])
        return [received.answers[place] for place in range(len(reports))]

    async def case(
        self, subscriber: Subscriber, delivery: UUID
    ) -> tuple[Case, tuple[CaseStatus, ...]] | None:
        """How far the case of this partner's delivery is, and what may be reported of it now; None: it has no such
        delivery."""
        own = await self._events.reported(subscriber, [delivery])
        if delivery not in own:
            return None
        found = own[delivery]
        if found.state in NO_LONGER or not found.wrapped_key:
            return found.case, ()
        moves, _ = await self._moves({found.procedure})
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return found.case, allowed(found.case, moves[found.procedure], subscriber, now)

    async def _own(
        self, subscriber: Subscriber, reports: Sequence[Report], received: _Received
    ) -> Mapping[UUID, Reported]:
        """Whatever can be answered before a file is read, is."""
        names = list(dict.fromkeys(report.delivery for report in reports))
        own = await self._events.reported(subscriber, names)
        others = [name for name in names if name not in own]
        moved = await self._events.moved_away(subscriber, others) if others else set()
        for place, report in enumerate(reports):
            if report.delivery in moved:
                received.answers[place] = Declined(NotTaken.MOVED, _MOVED)
            elif report.delivery not in own:
                received.answers[place] = Declined(NotTaken.UNKNOWN, _UNKNOWN)
            elif flaws := flaws_of(report):
                received.answers[place] = Declined(NotTaken.INVALID, flaws[0], flaws=flaws)
            elif not own[report.delivery].wrapped_key:
                received.answers[place] = Declined(NotTaken.CONFLICT, PURGED)
        return own

    async def _moves(self, procedures: set[str]) -> tuple[Mapping[str, CaseMoves], int]:
        """The tables of today's rule book: what is corrected there holds for cases under way. Of a procedure that it
        has no more, the usual one."""
        snapshot = await self._library.newest()
        known = snapshot.book.procedures
        return {
            code: known[code].case_moves if code in known else USUAL for code in procedures
        }, snapshot.number

    async def _receive(
        self,
        received: _Received,
        place: int,
        report: Report,
        about: Reported,
        content: AsyncIterator[bytes] | None,
    ) -> None:
        try:
            key = self._keyring.unwrap(about.wrapped_key)
        except Tampered:
            log.error("report.unreadable", delivery=str(report.delivery))
            received.answers[place] = Declined(NotTaken.CONFLICT, UNREADABLE)
            return
        file: KeptFile | None = None
        if report.file is not None:
            if content is None:
                received.answers[place] = _invalid(
                    Flaw("/file", "missing_file", "the bytes of this file did not come")
                )
                return
            try:
                file = await self._store(report, key, content)
            except Invalid as error:
                received.answers[place] = _invalid(*error.flaws)
                return
        received.ready[place] = self._seal(report, key, file)

    async def _store(self, report: Report, key: DataKey, content: AsyncIterator[bytes]) -> KeptFile:
        """Raises Invalid when it is not what was described; nothing of it remains then."""
        told = report.file
        assert told is not None
        stored = await self._attachments.put(_at_most(content, told.size), key)
        flaw = None
        if told.size is not None and stored.size != told.size:
            flaw = Flaw("/file/size", "truncated", "fewer bytes came than announced")
        elif told.sha256 is not None and not hmac.compare_digest(stored.sha256.hex(), told.sha256):
            flaw = Flaw("/file/sha256", "digest_mismatch", "the bytes have another digest")
        if flaw is not None:
            await self._remove([stored.name])
            raise Invalid(flaw)
        return KeptFile(told.name, told.media_type, stored.size, stored.sha256.hex(), stored.name)

    def _seal(self, report: Report, key: DataKey, file: KeptFile | None) -> NewEvent:
        text, message = saying(report, file), naming_of_message(report)
        digest = self._keyring.digest(text)
        return NewEvent(
            delivery=report.delivery,
            way=report.way.value,
            status=report.status,
            named=self._keyring.digest(naming(report, file)),
            by_itself=report.reference is not None or file is not None,
            message=None if message is None else self._keyring.digest(message),
            digest=digest,
            sealed=self._keyring.seal(key, text, report.delivery.bytes + digest),
            location=None if file is None else file.location,
            size=None if file is None else file.size,
            with_reference=report.reference is not None,
        )

    async def _give_up(self, events: Iterable[NewEvent]) -> None:
        """Remove their files."""
        await self._remove([one.location for one in events if one.location is not None])

    async def _remove(self, names: Sequence[str]) -> None:
        """Even while this task is being cancelled; what cannot be removed is left to the sweep."""
        if not names:
            return
        try:
            await asyncio.shield(self._attachments.remove(names))
        except (HubError, OSError) as error:
            log.warning("report.left_to_the_sweep", files=len(names), error=type(error).__name__)


_UNKNOWN = Flaw("", "unknown", "there is no such delivery here")
_MOVED = Flaw("", "moved", "this was yours, and followed to whoever took your place")


def _invalid(*flaws: Flaw) -> Declined:
    return Declined(NotTaken.INVALID, flaws[0], flaws=flaws)


def _tell(subscriber: Subscriber, report: Report, answer: ReportAnswer) -> None:
    told = {"delivery": str(report.delivery), "partner": str(subscriber), "way": report.way.value}
    match answer:
        case Kept(fresh=True):
            log.info(
                "event.kept",
                event_id=str(answer.event),
                number=answer.number,
                status=answer.status.value,
                **told,
            )
        case Kept():
            log.info("event.again", event_id=str(answer.event), **told)
        case Declined():
            log.warning("report.declined", why=answer.why.value, rule=answer.flaw.rule, **told)
        case _:
            assert_never(answer)


async def _at_most(chunks: AsyncIterator[bytes], size: int | None) -> AsyncIterator[bytes]:
    """Stops a file that is larger than announced before it fills the disk."""
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if size is not None and seen > size:
            raise Invalid(Flaw("/file/size", "oversized", "more bytes came than announced"))
        yield chunk
