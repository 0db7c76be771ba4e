"""The mailbox channel (boîte aux lettres): the partner comes and fetches.

Business of this file: to say so. The parcel lies in the hub from its registration on; the partner reads
and acknowledges it through the hub's own interface, which is not here.
"""

from __future__ import annotations

from collections.abc import Sequence

from connectors.settings import Reading
from hub.domain.delivery import Delivered, Outcome
from hub.domain.partner import MAILBOX, Endpoint
from hub.ports.connector import Connector, Parcel, Surroundings


def connector(surroundings: Surroundings) -> Connector:
    return MailboxConnector()


def judge() -> Outcome:
    """A parcel that is registered lies in the mailbox: there is no server that could do otherwise."""
    return Delivered("mailbox")


class MailboxConnector:
    @property
    def channel(self) -> str:
        return MAILBOX

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return Reading(endpoint).finish()

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        return [judge() for _ in parcels]

    async def close(self) -> None:
        """Nothing is open."""
