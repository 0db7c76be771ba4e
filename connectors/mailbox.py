"""The mailbox channel (boîte aux lettres): the partner comes and fetches.

Business of this file: to say so. The parcel lies in the hub from its registration on; the partner reads
and acknowledges it through the hub's own interface, which is not here.
"""

from __future__ import annotations

from collections.abc import Sequence

from connectors.fields import Reading
from hub.domain.delivery import Delivered, Outcome
from hub.domain.fields import Field
from hub.domain.partner import MAILBOX, Endpoint
from hub.domain.trials import Step, StepState
from hub.ports.connector import Connector, Parcel, Surroundings

FIELDS: tuple[Field, ...] = ()
"""A mailbox leads nowhere: there is nothing to say."""


def connector(surroundings: Surroundings) -> Connector:
    return MailboxConnector()


def judge() -> Outcome:
    """A parcel that is registered lies in the mailbox: there is no server that could do otherwise."""
    return Delivered("mailbox")


class MailboxConnector:
    @property
    def channel(self) -> str:
        return MAILBOX

    @property
    def fields(self) -> Sequence[Field]:
        return FIELDS

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return Reading(endpoint, FIELDS).flaws

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        return [judge() for _ in parcels]

    async def try_out(self, endpoint: Endpoint, limit: float, send: bool) -> Sequence[Step]:
        return [
            Step(
                "mailbox",
                StepState.NOTED,
                "La boîte de dépôt ne mène nulle part : le partenaire vient y chercher ses plis, avec un jeton.",
                "A mailbox leads nowhere: the partner comes and fetches its parcels, with a token.",
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""
