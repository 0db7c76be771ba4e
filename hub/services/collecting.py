"""Collecting: what partners leave in their return folders becomes reports, each file taken away once it is kept.

Business of this room: which folders are due, whom a number means, and that a file is taken away only after its event is
durable, and the document that it returns after it. A partner is not looked at while it is not to be called. Killed in
between, a file is read again and says the same event. A file that nobody can read, or that says what is not allowed,
stays, is told once, and stops none of the others. A look at one folder waits for no look at another, and ends: well
before anybody else would look there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from uuid import UUID

import structlog

from hub.domain.delivery import Deferred, Refused
from hub.domain.errors import MissingKey, Tampered
from hub.domain.identity import Subscriber
from hub.domain.pace import opens_in
from hub.domain.partner import Endpoint
from hub.domain.reports import Declined, Kept, Report, ReportAnswer, Way
from hub.ports.clock import Clock
from hub.ports.partners import KeptPartner, Partners
from hub.ports.returns import (
    WHOLE,
    Acknowledgement,
    DocumentAway,
    DueFolder,
    FoundFile,
    LeftFile,
    NamedDelivery,
    ReturnFolders,
    Returns,
    SeenFile,
)
from hub.services.ending import end
from hub.services.endpoints import EndpointRoom
from hub.services.reporting import ReportRoom

MOST = 100
"""Files of a folder that are read at one look."""

_AT_ONCE = 20
"""Folders that are looked at side by side."""
_IDLE = 1.0
"""Seconds from one question for folders that came due to the next, while others are looked at."""
_MOMENT = 0.05
_SLOWEST = 100_000
"""Bytes a second that a document comes at, at least."""
_LONGEST = timedelta(hours=1)
_UNKNOWN, _AMBIGUOUS = "unknown", "ambiguous"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CollectPace:
    """`every`: from one look at a folder to the next; `limit`: for a silent server; `documents`: for all that one look
    reads."""

    every: timedelta = timedelta(minutes=5)
    limit: timedelta = timedelta(seconds=30)
    documents: timedelta = timedelta(minutes=10)

    @property
    def hold(self) -> timedelta:
        """For how long nobody else looks there: half as long again as reading, documents and taking away may last."""
        return 1.5 * (2 * WHOLE * self.limit + self.documents)

    def wait(self, failures: int, *, more: bool) -> timedelta:
        """Until the next look, after so many that failed in a row, or one that left more to be had at once."""
        if failures:
            longer: timedelta = self.every * 2.0 ** min(failures - 1, 10)
            return max(self.every, min(longer, _LONGEST))
        return timedelta(0) if more else self.every

    def patience(self, size: int) -> timedelta:
        """How long a document of so many bytes may take."""
        return self.limit + timedelta(seconds=size / _SLOWEST)


@dataclass(frozen=True, slots=True)
class _Come:
    """What came of a folder's files. `taken`: events now, each before its document; `left`: nothing of these was kept;
    `more`: there is more, and this look brought something, so that the next one will too."""

    taken: Sequence[SeenFile]
    left: Sequence[LeftFile]
    more: bool


class CollectingRoom:
    """`returns`: the connectors whose channels have return folders."""

    def __init__(
        self,
        folders: ReturnFolders,
        partners: Partners,
        returns: Mapping[str, Returns],
        reports: ReportRoom,
        endpoints: EndpointRoom,
        clock: Clock,
        pace: CollectPace,
    ) -> None:
        self._folders = folders
        self._partners = partners
        self._returns = returns
        self._reports = reports
        self._endpoints = endpoints
        self._clock = clock
        self._pace = pace
        self._known: dict[Subscriber, tuple[KeptPartner, Endpoint]] = {}
        self._looking: set[asyncio.Task[None]] = set()

    async def run_once(self) -> int:
        """Looks at folders that are due, as far as there are places, until one of the looks under way has ended, or a
        second has passed; how many those were. The others go on, until `close`. Raises Unavailable."""
        free = _AT_ONCE - len(self._looking)
        for folder in await self._folders.due(free, self._pace.hold) if free else ():
            look = asyncio.create_task(self._look(folder))
            self._looking.add(look)
            look.add_done_callback(self._ended)
        looking = set(self._looking)
        if looking:
            await asyncio.wait(looking, timeout=_IDLE, return_when=asyncio.FIRST_COMPLETED)
            # A moment more, and one question fills several places.
            await asyncio.wait(looking, timeout=_MOMENT)
        return len(looking)

    async def close(self, grace: float) -> None:
        """Looks under way have `grace` seconds to end."""
        looking = set(self._looking)
        try:
            if looking:
                await asyncio.wait(looking, timeout=grace)
        finally:
            await end(looking)

    def _ended(self, look: asyncio.Task[None]) -> None:
        self._looking.discard(look)
        if not look.cancelled() and (error := look.exception()) is not None:
            # It is looked at again when the hold is over.
            log.error("return_folder.failed", error=type(error).__name__)

    async def _look(self, folder: DueFolder) -> None:
        subscriber = folder.subscriber
        kept = await self._partners.get(subscriber)
        if kept is None:
            return
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        closed_for = opens_in(kept[0].pace, folder.maintenance, now)
        if closed_for > timedelta(0):
            await self._folders.looked(subscriber, closed_for, None, ())
            return
        try:
            endpoint = self._open(kept)
        except (MissingKey, Tampered):
            await self._failed(folder, Refused("hub.secrets_unreadable"))
            return
        channel = self._returns.get(endpoint.channel)
        if channel is None:
            await self._failed(folder, Refused("hub.unknown_channel"))
            return
        limit = self._pace.limit.total_seconds()
        found = await channel.collect(endpoint, limit, MOST, folder.passed)
        if isinstance(found, Deferred | Refused):
            await self._failed(folder, found)
            return
        read = partial(channel.read, endpoint, limit=limit)
        come = await self._keep(subscriber, found, read)
        fault = await channel.done(endpoint, come.taken, limit) if come.taken else None
        if fault is not None:
            await self._failed(folder, fault)
            return
        told = await self._folders.looked(subscriber, self._pace.wait(0, more=come.more), None, come.left)
        if come.taken or told:
            log.info(
                "return_folder.read",
                partner=str(subscriber),
                taken=len(come.taken),
                left=len(come.left),
                told=list(told),
            )

    async def _failed(self, folder: DueFolder, fault: Deferred | Refused) -> None:
        failures = folder.failures + 1
        log.warning(
            "return_folder.away", partner=str(folder.subscriber), cause=fault.cause, failures=failures
        )
        await self._folders.looked(folder.subscriber, self._pace.wait(failures, more=False), fault.cause, ())

    def _open(self, kept: KeptPartner) -> Endpoint:
        """The same object for as long as it is the same: connections are kept for it."""
        subscriber = kept[0].subscriber
        known = self._known.get(subscriber)
        if known is not None and known[0] == kept:
            return known[1]
        endpoint = self._endpoints.opened(kept).endpoint
        self._known[subscriber] = (kept, endpoint)
        return endpoint

    # --- what the files say ---

    async def _keep(
        self,
        subscriber: Subscriber,
        found: Sequence[FoundFile],
        read: Callable[[SeenFile], AsyncIterator[bytes]],
    ) -> _Come:
        left = [LeftFile(file.mark, file.flaw) for file in found if file.flaw is not None]
        numbers = sorted(
            {
                file.said.external_id
                for file in found
                if file.flaw is None
                and file.said is not None
                and file.said.delivery is None
                and file.said.external_id is not None
            }
        )
        named = await self._folders.named(subscriber, numbers) if numbers else {}
        files: list[FoundFile] = []
        reports: list[Report] = []
        for file in found:
            if file.said is None or file.flaw is not None:
                continue
            delivery = meant(file.said, named)
            if isinstance(delivery, UUID):
                files.append(file)
                reports.append(_report(file, file.said, delivery))
            else:
                left.append(LeftFile(file.mark, delivery))
        taken: list[SeenFile] = []
        more, fresh = len(found) >= MOST, False
        for file, answer in zip(files, await self._answers(subscriber, files, reports, read), strict=True):
            if isinstance(answer, Kept):
                fresh = fresh or answer.fresh
                taken += [file.seen] if file.document is None else [file.seen, file.document]
            elif answer is None:
                more = True
            else:
                left.append(LeftFile(file.mark, answer))
        # What was kept before and still lies there may be what its server takes away in words only.
        return _Come(taken, left, more and (fresh or bool(left)))

    async def _answers(
        self,
        subscriber: Subscriber,
        files: Sequence[FoundFile],
        reports: Sequence[Report],
        read: Callable[[SeenFile], AsyncIterator[bytes]],
    ) -> Sequence[Kept | str | None]:
        """Of each, in order: it is kept, or why not; None: there was no time for it. Those that return a document are
        reported one by one: where one cannot be read, the others are kept all the same."""
        told: list[Kept | str | None] = []
        loop = asyncio.get_running_loop()
        until = loop.time() + self._pace.documents.total_seconds()
        begun = False
        for returns, group in groupby(
            zip(files, reports, strict=True), lambda pair: pair[0].document is not None
        ):
            if not returns:
                answers = await self._reports.report(subscriber, [report for _, report in group])
                told += map(_told, answers)
                continue
            for file, report in group:
                assert file.document is not None
                ends = loop.time() + self._pace.patience(file.document.size).total_seconds()
                # The first may take all the time there is: one that is too large for that comes never.
                if begun and ends > until:
                    told.append(None)
                    continue
                begun = True
                try:
                    async with asyncio.timeout_at(min(ends, until)):
                        answers = await self._reports.report(subscriber, [report], {0: read(file.document)})
                except TimeoutError:
                    told.append("document_slow")
                except DocumentAway as away:
                    told.append(str(away))
                else:
                    told += map(_told, answers)
        return told


def _told(answer: ReportAnswer) -> Kept | str:
    return answer.why.value if isinstance(answer, Declined) else answer


def meant(said: Acknowledgement, named: Mapping[str, Sequence[NamedDelivery]]) -> UUID | str:
    """The delivery that is meant, or why that cannot be told. A number means the newest revision of the one submission
    that it can be."""
    if said.delivery is not None:
        return said.delivery
    those = [
        one
        for one in named.get(said.external_id or "", ())
        if said.procedure is None or one.procedure == said.procedure
    ]
    if not those:
        return _UNKNOWN
    if len({one.submission for one in those}) > 1:
        return _AMBIGUOUS
    return max(those, key=lambda one: (one.revision, one.id)).id


def _report(file: FoundFile, said: Acknowledgement, delivery: UUID) -> Report:
    """Its reference is the file: name and bytes, and neither of both in clear."""
    name = hashlib.sha256(f"{file.digest} {file.seen.name}".encode()).hexdigest()
    reference = f"return-{name[:32]}"
    return Report(delivery, said.status, said.message, reference, said.document, Way.RETURN_FOLDER)
