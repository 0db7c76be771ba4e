"""The demo's partners: the communes and inter-communal bodies of one real département, on every channel.

Names and SIREN are real, from the official dataset; establishment numbers, addresses and keys are made up,
and the demo says so. A seed makes every run the same world, with new external ids.
"""

from __future__ import annotations

import base64
import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.domain.partner import made_up_siret
from hub.domain.territory import Place, PlaceType, Territory

DEPARTEMENT = "74"
MINISTRY = "11001401600015-75108"
_OF_COMMUNES = (
    "CERTDC",
    "EtatCivil",
    "recensementCitoyen",
    "depotDossierPACS",
    "JeChangeDeCoordonnees",
    "HebergementTourisme",
)
_ESTABLISHMENT = 9001
_MAILBOXES = 5
_NOT_SUBSCRIBED = 10
_KINDS = {
    "sftp": ("refuse", "hang"),
    "mail": ("mailbox_refused", "hang", "refuse"),
    "webhook": ("http_503", "refuse", "hang"),
}


@dataclass(frozen=True, slots=True)
class DemoPartner:
    """`misbehaves`: how its server fails until it is healed, None when it works from the start."""

    subscriber: str
    name: str
    channel: str
    subscriptions: tuple[tuple[str, str], ...]
    misbehaves: str | None = None
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class World:
    """`communes`: those of the département; `silent`: where nobody subscribes; `former`: former codes that
    lead to one of `communes`."""

    partners: tuple[DemoPartner, ...]
    communes: tuple[str, ...]
    silent: tuple[str, ...]
    former: tuple[str, ...]

    def on(self, channel: str) -> tuple[DemoPartner, ...]:
        return tuple(partner for partner in self.partners if partner.channel == channel)


def plan(territory: Territory, seed: int = 74) -> World:
    chance = random.Random(seed)
    communes = sorted(place.code for place in territory.communes_of(DEPARTEMENT))
    silent = tuple(chance.sample(communes, _NOT_SUBSCRIBED))
    receivers: list[DemoPartner] = []
    for code in communes:
        place = Place(PlaceType.COMMUNE, code)
        siren = territory.siren(place)
        if code in silent or siren is None:
            continue
        wishes = tuple((procedure, str(place)) for procedure in _OF_COMMUNES)
        receivers.append(_partner(siren, code, f"Mairie de {territory.name(place)}", wishes))
    receivers += _inter_communal(territory, communes)
    channels = _channels(len(receivers), chance)
    placed = [_on(partner, channel) for partner, channel in zip(receivers, channels, strict=True)]
    placed = _misbehaving(placed, chance)
    placed.append(_on(DemoPartner(MINISTRY, "Ministère de la santé (DGS)", "", ()), "webhook"))
    former = tuple(
        code for home in communes if (row := territory.commune(home)) is not None for code in row.former
    )
    return World(tuple(placed), tuple(communes), silent, former)


def partners_file(world: World, endpoints: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `HUB_PARTNERS` reads; `endpoints`: settings and secrets by subscriber."""
    return {
        "partners": [
            {
                "subscriber": partner.subscriber,
                "name": partner.name,
                "channel": partner.channel,
                **endpoints[partner.subscriber],
                "subscriptions": [
                    {"procedure": procedure, "place": place} for procedure, place in partner.subscriptions
                ],
            }
            for partner in world.partners
        ]
    }


def _inter_communal(territory: Territory, communes: list[str]) -> list[DemoPartner]:
    """Every second inter-communal body of the département has taken the competence for tourism."""
    sirens = sorted(
        {
            above.code
            for code in communes
            for above in territory.above(Place(PlaceType.COMMUNE, code))
            if above.type is PlaceType.EPCI
        }
    )
    found = []
    for siren in sirens[::2]:
        place = Place(PlaceType.EPCI, siren)
        members = [member.code for member in territory.members_of(siren) if member.code in communes]
        wishes = (("HebergementTourisme", str(place)),)
        found.append(_partner(siren, min(members), str(territory.name(place)), wishes))
    return found


def _partner(siren: str, branch: str, name: str, wishes: tuple[tuple[str, str], ...]) -> DemoPartner:
    return DemoPartner(f"{made_up_siret(siren, _ESTABLISHMENT)}-{branch}", name, "", wishes)


def _channels(count: int, chance: random.Random) -> list[str]:
    """A quarter by SFTP, a quarter by mail, a few that fetch from their mailbox, the others by webhook."""
    rest = count - _MAILBOXES
    quarters = ["sftp"] * (rest // 4) + ["mail"] * (rest // 4)
    channels = ["mailbox"] * _MAILBOXES + quarters + ["webhook"] * (rest - len(quarters))
    chance.shuffle(channels)
    return channels


def _on(partner: DemoPartner, channel: str, misbehaves: str | None = None) -> DemoPartner:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode() if channel == "webhook" else ""
    return DemoPartner(partner.subscriber, partner.name, channel, partner.subscriptions, misbehaves, secret)


def _misbehaving(partners: list[DemoPartner], chance: random.Random) -> list[DemoPartner]:
    """A tenth of them, of every channel that has a server, each kind of fault in turn."""
    candidates = [place for place, partner in enumerate(partners) if partner.channel in _KINDS]
    chosen = chance.sample(candidates, round(len(partners) / 10))
    turns = dict.fromkeys(_KINDS, 0)
    for place in sorted(chosen):
        channel = partners[place].channel
        kind = _KINDS[channel][turns[channel] % len(_KINDS[channel])]
        turns[channel] += 1
        partners[place] = _on(partners[place], channel, kind)
    return partners
