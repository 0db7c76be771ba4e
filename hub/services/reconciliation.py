"""Reconciliation: do the two equations hold, and if not, where?

*Submissions*: accepted = routed + unroutable + set aside + not yet routed. *Deliveries*: named by
decisions = the sum over all states. Both are read in one transaction; this room only compares.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.ports.store import Accounts, DeliveryAccount, Ledger, SubmissionAccount


class ReconciliationRoom:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def read(self) -> tuple[Accounts, Sequence[str]]:
        """The accounts, and a sentence for each thing that is not accounted for (none: all is well)."""
        accounts = await self._ledger.accounts()
        return accounts, differences(accounts)


def differences(accounts: Accounts) -> Sequence[str]:
    found = [
        f"{line.procedure}: {line.accepted} submissions accepted, {explained(line)} accounted for"
        for line in accounts.submissions
        if line.accepted != explained(line)
    ]
    found += [
        f"{line.procedure}, {line.channel or 'no channel'}: {line.named} deliveries named by decisions,"
        f" {stood(line)} in some state"
        for line in accounts.deliveries
        if line.named != stood(line)
    ]
    found += [f"delivery {name} is named by a decision and not registered" for name in accounts.missing]
    found += [f"delivery {name} is registered and named by no decision" for name in accounts.unnamed]
    return found


def explained(line: SubmissionAccount) -> int:
    return line.routed + line.unroutable + line.set_aside + line.undecided


def stood(line: DeliveryAccount) -> int:
    return sum(line.states.values())
