"""The hub's own partners file, record by record: one that is wrong spares the others.

Business of this file: from a record as plain data to what it lists. The shape of a record is the schema's.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.adapters.partners.reading import (
    Gathering,
    Places,
    Unreadable,
    first_instant,
    last_instant,
    modelled,
    subscriber,
)
from hub.domain.errors import Invalid
from hub.domain.pace import PartnerPace
from hub.domain.rules import SubscriptionState, Succession
from hub.services.listings import NOBODY, ListedPartner, ListedSubscription, ListedSuccession
from hub.wire.partners import pace
from schemas.models.partners import PartnerIn, PartnerSubscriptionIn
from schemas.models.rules import SuccessionIn


def list_partner(told: object, where: str, places: Places, gathering: Gathering) -> None:
    """A record of `partners`."""
    try:
        if not isinstance(told, dict):
            raise Unreadable("", "an object is expected")
        wishes = told.get("subscriptions", [])
        if not isinstance(wishes, list):
            raise Unreadable("subscriptions", "a list is expected")
        partner = modelled(PartnerIn, {name: told[name] for name in told if name != "subscriptions"})
        number = subscriber(partner.subscriber, "subscriber")
        asked = _pace(partner)
    except Unreadable as why:
        gathering.refuse(where, why)
        return
    said = partner.model_fields_set
    gathering.partners.append(
        ListedPartner(
            where,
            number,
            partner.name,
            partner.channel if "channel" in said else None,
            # Whoever says the channel says the whole of it; else "mailbox" could never be said.
            partner.settings if said & {"channel", "settings"} else None,
            partner.secrets if "secrets" in said else None,
            tuple(_wishes(wishes, where, places, gathering)),
            vendor=(partner.vendor or NOBODY) if "vendor" in said else None,
            pace=asked if "delivery" in said else None,
            sender=(partner.sender or NOBODY) if "sender" in said else None,
        )
    )


def _pace(partner: PartnerIn) -> PartnerPace:
    """Raises Unreadable for its first flaw."""
    try:
        return pace(partner.delivery) or PartnerPace()
    except Invalid as refusal:
        flaw = refusal.flaws[0]
        raise Unreadable(f"delivery{flaw.field.rstrip('/')}", flaw.detail) from None


def _wishes(
    told: list[object], where: str, places: Places, gathering: Gathering
) -> Iterable[ListedSubscription]:
    for index, one in enumerate(told, start=1):
        here = f"{where}, subscription {index}"
        try:
            wish = modelled(PartnerSubscriptionIn, one)
            place = places.read(wish.place, "place")
        except Unreadable as why:
            gathering.refuse(here, why)
            continue
        said = wish.model_fields_set
        yield ListedSubscription(
            here,
            wish.procedure,
            place,
            SubscriptionState(wish.state) if "state" in said else None,
            first_instant(wish.since) if "since" in said else None,
            last_instant(wish.until) if "until" in said else None,
        )


def list_succession(told: object, where: str, gathering: Gathering) -> None:
    """A record of `successions`."""
    try:
        read = modelled(SuccessionIn, told)
        former = subscriber(read.former, "former")
        successor = subscriber(read.subscriber, "subscriber")
    except Unreadable as why:
        gathering.refuse(where, why)
        return
    succession = Succession(former, successor, first_instant(read.since))
    gathering.successions.append(ListedSuccession(where, succession))
