"""Onboarding: partners, their subscriptions and successions, on an operator's order.

Business of this room: doing what an import plans; changing states; successions; and gathering what an export
tells. The partners are written first, then one new edition of the rule book: so no decision ever names a
partner that is not known, and whoever is killed in between, and begins again, ends where he wanted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hub.domain.errors import RuleBookError, Superseded
from hub.domain.fields import Field, masked
from hub.domain.identity import Subscriber
from hub.domain.partner import MAILBOX, Endpoint, Partner
from hub.domain.rule_book import RuleBook
from hub.domain.rules import Period, Subscription, SubscriptionState, Succession
from hub.ports.partners import KeptPartner, Partners
from hub.ports.rule_books import Change, Item, RuleBooks
from hub.services.endpoints import EndpointRoom
from hub.services.import_plans import ImportPlan, PartnerStep, plan_import
from hub.services.listings import Listing
from hub.services.partner_flaws import Checks

Read = Callable[[RuleBook | None, Change], RuleBook]
Write = Callable[[Iterable[Subscription], Iterable[Succession]], Iterable[Item]]

_SUSPENDED = SubscriptionState.SUSPENDED
_TRIES = 5
_PAGE = 5_000
"""Partners of one transaction."""


@dataclass(frozen=True, slots=True)
class Imported:
    """How much was written. `edition`: the newest of the rule book, new if it changed at all."""

    edition: int
    partners: int
    subscriptions: int
    successions: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """How many subscriptions are `changed`, were so `already`, and were `left` in another state. `edition`:
    the newest of the rule book, new if it changed at all."""

    edition: int
    changed: int
    already: int
    left: Mapping[SubscriptionState, int]


@dataclass(frozen=True, slots=True)
class Exported:
    """All partners by their numbers, with what they subscribe to; their secrets are still sealed."""

    partners: tuple[KeptPartner, ...]
    subscriptions: Mapping[Subscriber, tuple[Subscription, ...]]
    successions: tuple[Succession, ...]


class OnboardingRoom:
    """`read` says what a change makes of a rule book, `write` how the store keeps subscriptions and
    successions (see `hub.wire`); `checks` know which settings a channel takes, `fields` which of
    them may be shown."""

    def __init__(
        self,
        partners: Partners,
        editions: RuleBooks,
        endpoints: EndpointRoom,
        *,
        read: Read,
        write: Write,
        checks: Checks,
        fields: Mapping[str, Sequence[Field]],
        lead: timedelta,
    ) -> None:
        self._partners = partners
        self._editions = editions
        self._endpoints = endpoints
        self._read = read
        self._write = write
        self._checks = checks
        self._fields = fields
        self._lead = lead

    async def plan(self, listing: Listing, procedures: Collection[str] = ()) -> ImportPlan:
        """What importing this would do now; it writes nothing. `procedures` were named by the operator, once
        for all lines. Raises RuleBookError when there is none of these, when the rule book that would come of
        it contradicts itself, or none was published yet."""
        number, book = await self._newest()
        unknown = set(procedures) - book.procedures.keys()
        if unknown:
            there = ", ".join(sorted(book.procedures))
            raise RuleBookError(f"the rule book has no procedure {min(unknown)}; it has: {there}")
        known = {kept[0].subscriber: kept for kept in await self._partners.list()}
        opened = self._endpoints.opened
        plan = await asyncio.to_thread(plan_import, listing, number, book, known, opened, self._checks)
        await asyncio.to_thread(self._read, book, self._change(plan.subscriptions.all, plan.successions.all))
        return plan

    async def carry_out(self, plan: ImportPlan, author: str, reason: str) -> Imported:
        """Do it. When others changed the rule book or a partner meanwhile, the same listing is planned
        again on what is there then. Raises RuleBookError as `plan`, Superseded when others change it each
        time."""
        partners = 0
        for _ in range(_TRIES):
            try:
                for start in range(0, len(plan.partners.all), _PAGE):
                    page = plan.partners.all[start : start + _PAGE]
                    await self._partners.replace([(step.seen, self._kept(step)) for step in page])
                    partners += len(page)
                edition = await self._publish(
                    plan.based_on, plan.subscriptions.all, plan.successions.all, author, reason
                )
            except Superseded:
                plan = await self.plan(plan.listing)
                continue
            return Imported(edition, partners, len(plan.subscriptions.all), len(plan.successions.all))
        raise Superseded

    async def suspend(
        self, subscriber: Subscriber, procedures: Collection[str], author: str, reason: str
    ) -> StateChange:
        """Its active subscriptions to these procedures; none named: to all. What is refused or inactive is no
        business of a suspension: taking it back must not make it receive. Raises RuleBookError when it
        subscribes to nothing of the kind."""

        def changed(one: Subscription) -> Subscription:
            return replace(one, state=_SUSPENDED) if one.state is SubscriptionState.ACTIVE else one

        return await self._set_state(subscriber, procedures, _SUSPENDED, changed, author, reason)

    async def activate(
        self,
        subscriber: Subscriber,
        procedures: Collection[str],
        author: str,
        reason: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> StateChange:
        """Its suspended subscriptions; of procedures that are named, all, whatever their state. `since` and
        `until` (None: as they are) bound when those count; each begins a day in France, for days are what is
        kept. Raises RuleBookError when it subscribes to nothing of the kind, or it would end before it
        begins."""

        def changed(one: Subscription) -> Subscription:
            if not procedures and one.state is not _SUSPENDED:
                return one
            period = Period(since or one.period.since, until or one.period.until)
            return replace(one, state=SubscriptionState.ACTIVE, period=period)

        return await self._set_state(
            subscriber, procedures, SubscriptionState.ACTIVE, changed, author, reason
        )

    async def _set_state(
        self,
        subscriber: Subscriber,
        procedures: Collection[str],
        state: SubscriptionState,
        changed: Callable[[Subscription], Subscription],
        author: str,
        reason: str,
    ) -> StateChange:
        left: Counter[SubscriptionState] = Counter()

        def wanted(book: RuleBook) -> tuple[Sequence[Subscription], Sequence[Succession]]:
            those = [one for one in book.subscriptions.values() if one.subscriber == subscriber]
            missing = set(procedures) - {one.procedure for one in those}
            if missing or not those:
                told = f" to {min(missing)}" if missing else " to anything"
                raise RuleBookError(f"{subscriber} does not subscribe{told}")
            named = [one for one in those if not procedures or one.procedure in procedures]
            left.clear()
            left.update(one.state for one in named if changed(one) == one)
            return [changed(one) for one in named], ()

        done = await self._amend(wanted, author, reason)
        already = left.pop(state, 0)
        return StateChange(done.edition, done.subscriptions, already, dict(left))

    async def succeed(self, succession: Succession, author: str, reason: str) -> Imported:
        """Its `since` begins a day in France. Raises RuleBookError when one of the two is unknown, or
        successions would run in a circle."""
        known = {kept[0].subscriber for kept in await self._partners.list()}
        if succession.subscriber not in known:
            raise RuleBookError(f"{succession.subscriber} is no partner: import it first")

        def wanted(book: RuleBook) -> tuple[Sequence[Subscription], Sequence[Succession]]:
            subscribers = {one.subscriber for one in book.subscriptions.values()}
            if succession.former not in known and succession.former not in subscribers:
                raise RuleBookError(f"{succession.former} neither is a partner nor subscribes to anything")
            return (), [succession]

        return await self._amend(wanted, author, reason)

    async def export(self) -> Exported:
        """Partners, subscriptions and successions as the newest edition of the rule book has them."""
        _, book = await self._newest()
        subscriptions: dict[Subscriber, list[Subscription]] = {}
        for name in sorted(book.subscriptions):
            one = book.subscriptions[name]
            subscriptions.setdefault(one.subscriber, []).append(one)
        known = {kept[0].subscriber: kept for kept in await self._partners.list()}
        for subscriber in subscriptions.keys() - known.keys():
            # As the store would name it with its first delivery.
            mailbox = Partner(subscriber, str(subscriber), Endpoint(MAILBOX, {}))
            known[subscriber] = (mailbox, None, None)
        return Exported(
            tuple(self._shown(known[subscriber]) for subscriber in sorted(known)),
            {subscriber: tuple(those) for subscriber, those in subscriptions.items()},
            tuple(book.successions[former] for former in sorted(book.successions)),
        )

    def _shown(self, kept: KeptPartner) -> KeptPartner:
        """As it may be told: what its channel calls a secret today may stand among settings of before."""
        partner, secrets, key = kept
        fields = self._fields.get(partner.endpoint.channel)
        if fields is None:
            return kept
        settings = masked(fields, partner.endpoint.settings)
        if settings == partner.endpoint.settings:
            return kept
        return replace(partner, endpoint=Endpoint(partner.endpoint.channel, settings)), secrets, key

    async def _amend(
        self,
        wanted: Callable[[RuleBook], tuple[Sequence[Subscription], Sequence[Succession]]],
        author: str,
        reason: str,
    ) -> Imported:
        for _ in range(_TRIES):
            number, book = await self._newest()
            subscriptions, successions = wanted(book)
            changed = [one for one in subscriptions if book.subscriptions.get(one.id) != one]
            moved = [one for one in successions if book.successions.get(one.former) != one]
            await asyncio.to_thread(self._read, book, self._change(changed, moved))
            try:
                edition = await self._publish(number, changed, moved, author, reason)
            except Superseded:
                continue
            return Imported(edition, 0, len(changed), len(moved))
        raise Superseded

    async def _publish(
        self,
        based_on: int,
        subscriptions: Sequence[Subscription],
        successions: Sequence[Succession],
        author: str,
        reason: str,
    ) -> int:
        change = await asyncio.to_thread(self._change, subscriptions, successions)
        return await self._editions.publish(change, based_on, self._lead, author, reason)

    def _change(self, subscriptions: Sequence[Subscription], successions: Sequence[Succession]) -> Change:
        return Change(tuple(self._write(subscriptions, successions)))

    def _kept(self, step: PartnerStep) -> KeptPartner:
        if step.seen is None or not step.same_secrets:
            return self._endpoints.seal(step.partner)
        endpoint = step.partner.endpoint
        bare = replace(step.partner, endpoint=Endpoint(endpoint.channel, endpoint.settings))
        return bare, step.seen[1], step.seen[2]

    async def _newest(self) -> tuple[int, RuleBook]:
        """The newest edition published, whether in force yet or not: what comes next is based on it."""
        number = next((edition.number for edition in await self._editions.editions(1)), 0)
        if number == 0:
            raise RuleBookError("no rule book was published yet: start the hub, or apply rules")
        change = await self._editions.changes(0, number)
        return number, await asyncio.to_thread(self._read, None, change)
