"""Declaration: what an operator's files say, beside what is in force.

Business of this room: making them the first rule book, telling when they differ from a later one, and
checking them as a whole before they are proposed. They never change by themselves what is in force: neither
a restart nor a second process with other files may turn the routing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import structlog

from hub.domain.errors import HubError, RuleBookError, SettingsError, Superseded
from hub.domain.identity import Subscriber
from hub.domain.partner import Partner, is_siret
from hub.domain.review import Finding, Severity, review
from hub.domain.rule_book import RuleBook
from hub.ports.partners import KeptPartner, Partners
from hub.ports.rule_books import Item, ItemKey, ItemKind
from hub.services.editions import EditionRoom, Proposal
from hub.services.partner_flaws import (
    SENT_ELSEWHERE,
    Checks,
    crowded,
    crowded_by,
    flaw_in_sender,
    flaws_in_pace,
    sent_elsewhere,
)

# How often, and after which seconds, a first start looks whether another that wrote partners publishes.
_LOOKS = 50
_PAUSE = 0.2

log = structlog.get_logger()

MOST_TOLD = 50


class Declared(Protocol):
    """The files, read (see the rules' adapter)."""

    @property
    def partners(self) -> Sequence[Partner] | None:
        """None: no file names any."""
        ...

    def rule_items(self) -> Mapping[ItemKey, Item]:
        """Rules and territory, as the store keeps them."""
        ...

    def items(self) -> Mapping[ItemKey, Item]:
        """These, with the subscriptions and successions of the partners file."""
        ...

    def check(self) -> None:
        """Whether each procedure's rules stand by themselves. Raises RuleBookError, naming file and line."""
        ...

    def failing_cases(self) -> Sequence[str]:
        """A sentence for each case beside the rules that does not hold. Raises RuleBookError."""
        ...

    def book(self) -> RuleBook:
        """The rule book of these files alone. Raises RuleBookError, naming file and line."""
        ...

    def pointed(self, where: Sequence[str | int]) -> str | None:
        """File and line to which a RuleBookError's `where` leads, or (`partners`, a subscriber); None: to
        nothing that stands in these files."""
        ...


class DeclarationRoom:
    """`seal` makes a partner what the store may keep."""

    def __init__(
        self,
        editions: EditionRoom,
        partners: Partners,
        seal: Callable[[Partner], KeptPartner],
        checks: Checks,
    ) -> None:
        self._editions = editions
        self._partners = partners
        self._seal = seal
        self._checks = checks

    async def begin(self, reading: Awaitable[Declared], at: datetime | None = None) -> tuple[str, ...]:
        """Before anything else runs: publish the first rule book, if there is none; else a sentence for the
        operator wherever the files say something else. Of several that start at once one publishes; the
        others overwrite nothing. Raises SettingsError or RuleBookError when there is neither a rule book nor
        files to make one of."""
        history = await self._editions.history(1)
        if not history:
            files = await reading
            if await self._publish_first(files, datetime.now(UTC) if at is None else at):
                return ()
            log.info("rules.published_by_another")
            return await self._notices(files, (await self._editions.newest()).number)
        newest = history[0].number
        try:
            return await self._notices(await reading, newest)
        except HubError as error:
            log.warning("rules.files_unusable", error=str(error))
            return (f"the files cannot be used, rule book {newest} stays in force: hub check says why",)

    async def propose(self, files: Declared, at: datetime) -> tuple[Sequence[Finding], Proposal | None]:
        """The rules of the files with the subscriptions in force, and all there is to say of them; None when
        one of the findings is a fault."""
        try:
            await asyncio.to_thread(files.check)
            proposal = await self._editions.propose(files.rule_items())
            # Before the first rule book nobody can be known.
            known = {kept[0].subscriber for kept in await self._partners.list()}
            partners = known if proposal.based_on else None
            found = await asyncio.to_thread(findings, files, proposal.book, partners, at)
        except RuleBookError as error:
            return faults(error, files), None
        if any(finding.severity is Severity.FAULT for finding in found):
            return found, None
        return found, proposal

    async def _publish_first(self, files: Declared, at: datetime) -> bool:
        """Whether it was published here, and not by another. What `hub check` refuses is refused here too."""
        await asyncio.to_thread(files.check)
        proposal = await self._first_proposal(files)
        found = await asyncio.to_thread(findings, files, proposal.book, None, at)
        flaws = [one.sentence for one in found if one.severity is Severity.FAULT]
        flaws += flaws_in_partners(files, self._checks)
        if flaws:
            more = [f"… and {len(flaws) - MOST_TOLD} more: hub check"] if len(flaws) > MOST_TOLD else []
            raise SettingsError("\n".join([*flaws[:MOST_TOLD], *more]))
        for _ in range(_LOOKS):
            if proposal.based_on or await self._editions.history(1):
                return False
            try:
                # Partners come first, so that no decision ever names one that is not known.
                if await self._declare(files.partners or ()):
                    await self._editions.publish(proposal, "hub run", "files read at the first start")
                    return True
            except Superseded:
                # What that process wrote is there now.
                continue
            await asyncio.sleep(_PAUSE)
        raise SettingsError(
            "partners are known that the files describe otherwise, and there is no rule book: a first start"
            " with other files broke off. Publish one by hub rules apply, then give hub partners import"
        )

    async def _first_proposal(self, files: Declared) -> Proposal:
        """Raises RuleBookError, naming file and line."""
        try:
            return await self._editions.propose(files.items())
        except RuleBookError as error:
            raise RuleBookError("\n".join(one.sentence for one in faults(error, files))) from None

    async def _declare(self, partners: Sequence[Partner]) -> bool:
        """Whether all of them are known now as they are told here. One that is known otherwise is another
        process's, which is about to publish its rule book: nothing is written. Those known already are left
        alone: a start that died here wrote them. Raises Superseded when another wrote meanwhile."""
        known = {kept[0].subscriber: kept[0] for kept in await self._partners.list()}
        fresh = [partner for partner in partners if partner.subscriber not in known]
        if not all(_is_known(partner, known) for partner in partners if partner.subscriber in known):
            return False
        await self._partners.replace([(None, self._seal(partner)) for partner in fresh])
        return True

    async def _notices(self, files: Declared, newest: int) -> tuple[str, ...]:
        rules, wishes = await self._editions.as_declared(files.items())
        known = {kept[0].subscriber: kept[0] for kept in await self._partners.list()}
        notices = []
        if not rules:
            notices.append(f"the rule files differ from rule book {newest} in force: hub rules diff")
        if not wishes or not all(_is_known(partner, known) for partner in files.partners or ()):
            notices.append("the partners file says what is not in force: hub partners import FILE --dry-run")
        return tuple(notices)


def findings(
    files: Declared, book: RuleBook, partners: set[Subscriber] | None, at: datetime
) -> Sequence[Finding]:
    """Cases that do not hold, and what a review of this book finds; `partners` None: not to be looked at.
    Raises RuleBookError when a case cannot be tried."""
    failing = [Finding(Severity.FAULT, ("cases",), sentence) for sentence in files.failing_cases()]
    return [*failing, *(_pointed(finding, files) for finding in review(book, partners, at))]


def faults(error: RuleBookError, files: Declared | None = None) -> Sequence[Finding]:
    """Why the files make no rule book: each line of it a fault."""
    found = [Finding(Severity.FAULT, error.where, line) for line in str(error).splitlines()]
    return found if files is None else [_pointed(finding, files) for finding in found]


def _pointed(finding: Finding, files: Declared) -> Finding:
    place = files.pointed(finding.where)
    return finding if place is None else replace(finding, sentence=f"{place}: {finding.sentence}")


def flaws_in_partners(files: Declared, checks: Checks) -> Sequence[str]:
    """A sentence for each thing for which an import would refuse a partner: its number, its endpoint, or
    another one that is served in the same folder."""
    partners = files.partners or ()
    asks = any(partner.pace is not None for partner in partners)
    procedures = {key for kind, key in files.rule_items() if kind is ItemKind.PROCEDURE} if asks else set()
    together = crowded({partner.subscriber: partner.endpoint for partner in partners}, {})
    elsewhere = set(sent_elsewhere({partner.subscriber: partner.sender for partner in partners}, {}))
    found = []
    for partner in partners:
        flaws = []
        if not is_siret(partner.subscriber.siret):
            flaws.append("the check sum of this SIRET is wrong; look for a mistyped digit")
        check = checks.get(partner.endpoint.channel)
        if check is None:
            flaws.append(f"no connector for {partner.endpoint.channel}")
        else:
            flaws += check(partner.endpoint)
        flaws += flaws_in_pace(partner.pace, checks, procedures)
        if partner.subscriber in together:
            flaws.append(crowded_by(together[partner.subscriber]))
        if (flaw := flaw_in_sender(partner)) is not None:
            flaws.append(flaw)
        if partner.subscriber in elsewhere:
            flaws.append(SENT_ELSEWHERE)
        place = files.pointed(("partners", str(partner.subscriber))) if flaws else None
        before = "" if place is None else f"{place}: "
        found += [f"{before}partner {partner.subscriber}: {flaw}" for flaw in flaws]
    return found


def _is_known(partner: Partner, known: Mapping[Subscriber, Partner]) -> bool:
    """By this name, channel, settings, vendor, sender and pace; secrets are not compared."""
    there = known.get(partner.subscriber)
    return (
        there is not None
        and there.name == partner.name
        and there.endpoint.channel == partner.endpoint.channel
        and there.endpoint.settings == partner.endpoint.settings
        and there.vendor == partner.vendor
        and there.sender == partner.sender
        and there.pace == partner.pace
    )
