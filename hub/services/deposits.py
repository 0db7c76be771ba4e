"""Deposits: the other door of intake. What a sender wrote into its own topic is checked as if it had been posted,
accepted into the store, and only then said to be read; what is refused is told in the sender's topic for refusals.

Whose a deposit is says the topic it was read from, never the record. Everything here may be done again: what was
accepted is recognised, a refusal is told twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import structlog

from hub.domain.deposit import Deposit, Refusal
from hub.domain.errors import Flaw, Invalid, MissingKey, NotGranted, Tampered
from hub.domain.submission import Accepted
from hub.ports.attachments import Attachments
from hub.ports.deposits import Deposits
from hub.ports.log import Entry, LogReader, Record, places
from hub.ports.tokens import Tokens
from hub.ports.uploads import Upload, Uploads
from hub.services.intake import USED_BEFORE, Contradiction, IntakeRoom, Offer, Receipt, Reception

GROUP = "intake"

# What is read at once lies in memory: each may be a megabyte.
_PAGE = 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wire:
    """Between records and values. `read` raises Invalid; `name` tells what a record that has flaws calls itself."""

    read: Callable[[Record], Deposit]
    name: Callable[[Record], str | None]
    write: Callable[[Refusal], Record]


class DepositRoom:
    """`reserve`: the share of the disk that is left free."""

    def __init__(
        self,
        deposits: Deposits,
        intake: IntakeRoom,
        uploads: Uploads,
        tokens: Tokens,
        attachments: Attachments,
        wire: Wire,
        reserve: float,
    ) -> None:
        self._deposits = deposits
        self._intake = intake
        self._uploads = uploads
        self._tokens = tokens
        self._attachments = attachments
        self._wire = wire
        self._reserve = reserve
        self._waits: dict[str, str] = {}

    async def granted(self, sender: str) -> frozenset[str] | None:
        """What may be accepted of this sender now; None: nothing may be read. That is so while it has no valid
        token, and while the disk is full: what it wrote waits."""
        full = await self._attachments.room() < self._reserve
        granted = None if full else await self._tokens.granted(sender)
        cause = "disk_full" if full else "no_token" if granted is None else ""
        if cause and cause != self._waits.get(sender):
            log.warning("deposits.wait", sender=sender, cause=cause)
        self._waits[sender] = cause
        return granted

    async def run_once(self, sender: str, granted: frozenset[str], reader: LogReader, wait: float) -> int:
        """The next page: how many deposits were read. Raises Unavailable when something is away; then all of the
        page is read again."""
        entries = await reader.read(_PAGE, wait)
        if not entries:
            return 0
        page = _Page(sender, granted, self._intake, self._uploads, self._wire)
        try:
            for entry in entries:
                await page.take(entry)
        except BaseException:
            await page.give_up()
            raise
        await page.accept()
        if page.refusals:
            await self._deposits.refuse(sender, [self._wire.write(refusal) for refusal in page.refusals])
        await reader.done(places(entries))
        log.info("deposits.read", sender=sender, deposits=len(entries), refused=len(page.refusals))
        return len(entries)


class _Page:
    """Deposits in the order in which they were written: of two that contradict each other, the first stands."""

    def __init__(
        self, sender: str, granted: frozenset[str], intake: IntakeRoom, uploads: Uploads, wire: Wire
    ) -> None:
        self._sender = sender
        self._granted = granted
        self._intake = intake
        self._uploads = uploads
        self._wire = wire
        self._waiting: list[tuple[Entry, Reception]] = []
        self.refusals: list[Refusal] = []

    async def take(self, entry: Entry) -> None:
        """Accepted or refused; or it waits for `accept`."""
        try:
            deposit = self._read(entry)
        except Invalid as error:
            self._refuse(entry, _kind(error), error.flaws)
            return
        offer = Offer(self._sender, deposit.external_id, deposit.document)
        try:
            await self._intake.may_post(self._granted, deposit.document.procedure)
            if deposit.upload is None:
                self._waiting.append((entry, await self._begun(offer, deposit)))
            else:
                # What came before it stands before it.
                await self.accept()
                await self._take_over(entry, offer, deposit)
        except Invalid as error:
            # Accepted before this process or another one died: its upload is gone since, rules may be others.
            if not isinstance(await self._intake.recognise(offer), Accepted):
                self._refuse(entry, _kind(error), error.flaws)

    def _read(self, entry: Entry) -> Deposit:
        try:
            deposit = self._wire.read(entry.record)
        except Invalid:
            raise
        except Exception as error:
            # A fault of ours: it must not keep all that comes after it waiting.
            log.error("deposit.failed", sender=self._sender, error=type(error).__name__)
            raise Invalid(Flaw("", "failed", "this hub failed; it is logged")) from None
        if deposit.sender not in (None, self._sender):
            raise NotGranted(
                Flaw("/sender", "another_sender", "this topic is another sender's than the one named")
            )
        return deposit

    async def accept(self) -> None:
        """What waits, in one transaction."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        answers = await self._intake.accept([reception for _, reception in waiting])
        for (entry, _), answer in zip(waiting, answers, strict=True):
            self._note(entry, answer)

    async def give_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, reception in waiting:
            await self._intake.give_up(reception)

    async def _begun(self, offer: Offer, deposit: Deposit, upload: Upload | None = None) -> Reception:
        reception = await self._intake.begin(offer, upload)
        await self._intake.store_whole(reception, deposit.contents, deposit.uploaded)
        return reception

    async def _take_over(self, entry: Entry, offer: Offer, deposit: Deposit) -> None:
        """Alone: an upload is taken over by one of those that name it."""
        assert deposit.upload is not None
        upload = await self._uploads.find(self._sender, deposit.upload)
        if upload is None:
            raise Invalid(
                Flaw("/upload", "unknown_upload", "there is no such upload of this sender (any more)")
            )
        try:
            reception = await self._begun(offer, deposit, upload)
        except (MissingKey, Tampered):
            raise Invalid(
                Flaw("/upload", "unreadable", "this upload cannot be opened: send it again")
            ) from None
        (answer,) = await self._intake.accept([reception])
        self._note(entry, answer)

    def _note(self, entry: Entry, answer: Receipt | Contradiction) -> None:
        match answer:
            case Receipt():
                pass
            case Contradiction():
                self._refuse(entry, "conflict", (USED_BEFORE,))
            case _:
                assert_never(answer)

    def _refuse(self, entry: Entry, problem: str, flaws: Sequence[Flaw]) -> None:
        position = entry.position
        self.refusals.append(
            Refusal(position.partition, position.offset, self._wire.name(entry.record), problem, tuple(flaws))
        )
        log.warning(
            "deposit.refused",
            sender=self._sender,
            partition=position.partition,
            offset=position.offset,
            problem=problem,
            rules=sorted({flaw.rule for flaw in flaws})[:10],
        )


def _kind(error: Invalid) -> str:
    if isinstance(error, NotGranted):
        return "forbidden"
    rules = {flaw.rule for flaw in error.flaws}
    return next((kind for kind in ("failed", "too_large") if kind in rules), "invalid")
