"""Collecting: what partners leave in their return folders becomes reports, each file taken away once it is kept.

Business of this room: which folders are due, whom a number means, and that a file is taken away only after its event is
durable, and the document that it returns after it. A partner is not looked at while it is not to be called. Killed in
between, a file is read again and says the same event. A file that nobody can read, or that says what is not allowed,
stays, is told once, and stops none of the others.
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
from hub.domain.errors import HubError, MissingKey, Tampered
from hub.domain.identity import Subscriber
from hub.domain.pace import opens_in
from hub.domain.partner import Endpoint
from hub.domain.reports import Declined, Kept, Report, ReportAnswer, Way
from hub.ports.clock import Clock
from hub.ports.partners import KeptPartner, Partners
from hub.ports.returns import (
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
from hub.services.endpoints import EndpointRoom
from hub.services.reporting import ReportRoom

MOST = 100
"""Files of a folder that are read at one look."""

_AT_ONCE = 20
_LOOK = 4
"""How often the limit for a silent server a look may last, before no other document is begun."""
_SLOWEST = 100_000
"""Bytes a second that a document comes at, at least."""
_LONGEST = timedelta(hours=1)
_UNKNOWN, _AMBIGUOUS = "unknown", "ambiguous"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CollectPace:
    """`every`: from one look at a folder to the next; `limit`: for a silent server."""

    every: timedelta = timedelta(minutes=5)
    limit: timedelta = timedelta(seconds=30)

    def wait(self, failures: int, found: int) -> timedelta:
        """Until the next look, after so many that failed in a row, or one that found so many files."""
        if failures:
            longer: timedelta = self.every * 2.0 ** min(failures - 1, 10)
            return max(self.every, min(longer, _LONGEST))
        return timedelta(0) if found >= MOST else self.every

    def patience(self, size: int) -> timedelta:
        """How long a document of so many bytes may take."""
        return self.limit + timedelta(seconds=size / _SLOWEST)


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

    async def run_once(self) -> int:
        """Looks at the folders that are due; how many those were. Raises Unavailable."""
        hold = _LOOK * self._pace.limit + self._pace.every
        due = await self._folders.due(_AT_ONCE, hold)
        looks = await asyncio.gather(*(self._look(folder) for folder in due), return_exceptions=True)
        for look in looks:
            if isinstance(look, HubError) or (
                isinstance(look, BaseException) and not isinstance(look, Exception)
            ):
                raise look
            if look is not None:
                # It is looked at again when the hold is over.
                log.error("return_folder.failed", error=type(look).__name__)
        return len(due)

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
        taken, left, more = await self._keep(subscriber, found, read)
        fault = await channel.done(endpoint, taken, limit) if taken else None
        if fault is not None:
            await self._failed(folder, fault)
            return
        told = await self._folders.looked(
            subscriber, self._pace.wait(0, MOST if more else len(found)), None, left
        )
        if taken or told:
            log.info(
                "return_folder.read",
                partner=str(subscriber),
                taken=len(taken),
                left=len(left),
                told=list(told),
            )

    async def _failed(self, folder: DueFolder, fault: Deferred | Refused) -> None:
        failures = folder.failures + 1
        log.warning(
            "return_folder.away", partner=str(folder.subscriber), cause=fault.cause, failures=failures
        )
        await self._folders.looked(folder.subscriber, self._pace.wait(failures, 0), fault.cause, ())

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
    ) -> tuple[Sequence[SeenFile], Sequence[LeftFile], bool]:
        """Those that are events now, each before its document, those of which nothing was kept, and whether there was
        no time for others."""
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
        more = False
        for file, answer in zip(files, await self._answers(subscriber, files, reports, read), strict=True):
            if isinstance(answer, Kept):
                taken += [file.seen] if file.document is None else [file.seen, file.document]
            elif answer is None:
                more = True
            else:
                left.append(LeftFile(file.mark, answer))
        return taken, left, more

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
        until = loop.time() + _LOOK * self._pace.limit.total_seconds()
        for returns, group in groupby(
            zip(files, reports, strict=True), lambda pair: pair[0].document is not None
        ):
            if not returns:
                answers = await self._reports.report(subscriber, [report for _, report in group])
                told += map(_told, answers)
                continue
            for file, report in group:
                assert file.document is not None
                if loop.time() > until:
                    told.append(None)
                    continue
                # Others wait for the end of this look: it comes at a pace, or not at all.
                try:
                    async with asyncio.timeout(self._pace.patience(file.document.size).total_seconds()):
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
