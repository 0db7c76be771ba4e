"""Reconciliation: do the two equations hold, and if not, where?

*Submissions*: accepted = routed + unroutable + set aside + not yet routed. *Deliveries*: named by decisions = the sum
over all terms. The ledger keeps numbers and sums of both apart from the rows; this room has what transactions counted
added up, and has the two compared, what is recent often and the whole now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from hub.domain.ledger import WHOLE, Scope, hour_since_epoch
from hub.ports.accounts import Accounts, DeliveryAccount, Ledger, SubmissionAccount

RECENT, ENTIRE = "recent", "whole"
_RECENT_HOURS = 72
_SLIPS = 500
_SHOWN = 20

log = structlog.get_logger()


class ReconciliationRoom:
    """`recent`, `whole`: how long after one check of what was received in the last three days, or of everything, the
    next one is made."""

    def __init__(
        self, ledger: Ledger, recent: timedelta = timedelta(hours=1), whole: timedelta = timedelta(days=1)
    ) -> None:
        self._ledger = ledger
        self._recent = recent
        self._whole = whole

    async def read(self, scope: Scope = WHOLE) -> tuple[Accounts, Sequence[str]]:
        """The accounts, and a sentence for each thing that is not accounted for (none: all is well)."""
        accounts = await self._ledger.accounts(scope)
        return accounts, differences(accounts)

    async def fold(self) -> int:
        """What transactions counted meanwhile, added up; of how many."""
        folded = 0
        while (page := await self._ledger.fold(_SLIPS)) > 0:
            folded += page
            if page < _SLIPS:
                break
        return folded

    async def check(self, now: datetime) -> Sequence[str]:
        """The check that is due, if one is; what it found is noted for all to see and told in the hub's log."""
        noted = await self._ledger.noted()
        for name, wait in ((ENTIRE, self._whole), (RECENT, self._recent)):
            if name in noted and now - noted[name] < wait:
                continue
            # What is not there yet is received later than this; the other clock may be ahead.
            first = hour_since_epoch(now) - _RECENT_HOURS
            found = differences(await self._ledger.accounts(WHOLE if name == ENTIRE else Scope(first=first)))
            await self._ledger.note(name, len(found))
            if name == ENTIRE:
                # It has seen what is recent too.
                await self._ledger.note(RECENT, len(found))
            if found:
                log.error("ledger.differs", check=name, differences=len(found), first=list(found[:_SHOWN]))
            return found
        return ()


def differences(accounts: Accounts) -> Sequence[str]:
    found = [
        f"{line.procedure}: {line.accepted} submissions accepted, {explained(line)} accounted for"
        for line in accounts.submissions
        if line.accepted != explained(line) or line.undecided < 0
    ]
    found += [
        f"{line.procedure}: {line.named} deliveries named by decisions, {stood(line)} in some state"
        for line in accounts.deliveries
        if line.kind == COUNTED and line.named != stood(line)
    ]
    found += [str(difference) for difference in accounts.differences]
    if accounts.unopened:
        found.append(f"{accounts.unopened} more buckets of the ledger differ")
    return found


COUNTED = "submission"
"""The kind of delivery that decisions name; others are counted beside."""


def explained(line: SubmissionAccount) -> int:
    return line.routed + line.unroutable + line.set_aside + line.undecided


def stood(line: DeliveryAccount) -> int:
    return sum(line.terms.values())
