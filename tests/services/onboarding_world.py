"""An onboarding room on a real store, with the real connectors' checks and a real keyring, and a small land:
two communes of Haute-Savoie, Paris with an arrondissement, one former code.

Every name in here is invented, or a town hall's own public number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import asyncssh

from hub.adapters.keys.local import LocalKeyring
from hub.adapters.partners.files import read_partners_file
from hub.adapters.partners.written import ExportForm, write_export
from hub.adapters.postgres.database import Database
from hub.adapters.postgres.partners import PostgresPartners
from hub.adapters.postgres.rule_books import PostgresRuleBooks
from hub.adapters.system.outgoing import GuardedOutgoing
from hub.assembly.files import channel_fields
from hub.domain.identity import Subscriber
from hub.domain.partner import made_up_siret
from hub.domain.rule_book import RuleBook
from hub.domain.rules import Subscription, Succession
from hub.domain.territory import Commune, CommunePart, Departement, Epci, PlaceType, Region, Territory, Zone
from hub.ports.connector import Surroundings
from hub.ports.partners import Partners
from hub.ports.rule_books import Change, Item, ItemKind, RuleBooks
from hub.services.endpoints import EndpointRoom
from hub.services.import_plans import ImportPlan
from hub.services.onboarding import Imported, OnboardingRoom
from hub.services.partner_flaws import Checks
from hub.wire import items, read_change, subscription_in, succession_in
from schemas.models.rules import ProcedureIn

BONNEVILLE = Subscriber("21740042390019", "74042")
MARIGNIER = Subscriber("21740164590016", "74164")
THIRD = Subscriber(made_up_siret("217400423", 77), "74042")
SECRET = "hunter2-MfKQ9r8GKYqrTwjU"

LAND = Territory.build(
    "2026",
    [
        Region("84", "Auvergne-Rhône-Alpes"),
        Region("11", "Île-de-France"),
        Departement("74", "Haute-Savoie", "84"),
        Departement("75", "Paris", "11"),
        Departement("77", "Seine-et-Marne", "11"),
        Epci("200000172", "CC Faucigny - Glières", "CC"),
        Commune("74042", "Bonneville", "74", "200000172", "217400423", 13320, Zone.METRO, ("74092",)),
        Commune("74164", "Marignier", "74", "200000172", "217401645", 6432, Zone.METRO, ()),
        Commune("77188", "Fontaine-le-Port", "77", None, None, 900, Zone.METRO, ()),
        Commune("75056", "Paris", "75", None, "217500016", 2145906, Zone.METRO, ()),
        CommunePart(PlaceType.ARRONDISSEMENT, "75108", "Paris 8e", "75056"),
    ],
)
PROCEDURES = [
    ProcedureIn.model_validate(
        {
            "procedure": code,
            "title": f"Démarche {code}",
            "facts": {"commune": {"type": "place", "required": True}},
            "rules": [
                {
                    "id": "mairie",
                    "recipient": "mairie",
                    "competent": {"place": "commune", "levels": ["arrondissement", "commune", "epci"]},
                }
            ],
        }
    )
    for code in ("EtatCivil", "RCO")
]
CHECKS: Checks = {
    point.name: point.load()(Surroundings(lambda *_: "", lambda: 0.0, GuardedOutgoing())).check
    for point in entry_points(group="hub.connectors")
}


def read(book: RuleBook | None, change: Change) -> RuleBook:
    return read_change(book, change, lambda _: LAND)


def write(subscriptions: Iterable[Subscription], successions: Iterable[Succession]) -> Iterable[Item]:
    told = items((), map(subscription_in, subscriptions), map(succession_in, successions), ("", b""))
    return (item for item in told.values() if item.kind is not ItemKind.TERRITORY)


@dataclass(slots=True)
class Onboarding:
    room: OnboardingRoom
    partners: Partners
    editions: RuleBooks
    endpoints: EndpointRoom
    folder: Path

    @classmethod
    async def begin(cls, database: Database, folder: Path) -> Onboarding:
        """With the rules published, and nobody there."""
        editions = PostgresRuleBooks(database)
        rules = items(PROCEDURES, (), (), ("2026", b"land"))
        await editions.publish(Change(tuple(rules.values())), 0, timedelta(0), "test", "the rules")
        endpoints = EndpointRoom(LocalKeyring(bytes(range(32))))
        return cls.over(PostgresPartners(database), editions, endpoints, folder)

    @classmethod
    def over(
        cls, partners: Partners, editions: RuleBooks, endpoints: EndpointRoom, folder: Path
    ) -> Onboarding:
        room = OnboardingRoom(
            partners,
            editions,
            endpoints,
            read=read,
            write=write,
            checks=CHECKS,
            fields=channel_fields(),
            lead=timedelta(0),
        )
        return cls(room, partners, editions, endpoints, folder)

    async def plan(self, told: str | bytes | Mapping[str, Any], name: str = "", **more: Any) -> ImportPlan:
        """Of a file that says this: JSON for a mapping, else a table."""
        path = self.folder / (name or ("partners.json" if isinstance(told, Mapping) else "partners.csv"))
        if isinstance(told, Mapping):
            told = json.dumps(told)
        path.write_bytes(told.encode() if isinstance(told, str) else told)
        return await self.room.plan(read_partners_file(path, **more))

    async def import_(self, told: str | bytes | Mapping[str, Any], name: str = "", **more: Any) -> Imported:
        """Raises AssertionError when anything in it is refused."""
        plan = await self.plan(told, name, **more)
        assert plan.refused == ()
        return await self.room.carry_out(plan, "test", "a test")

    async def export(self, form: ExportForm) -> Path:
        path = self.folder / f"export.{form}"
        write_export(path, await self.room.export(), form)
        return path

    async def book(self) -> RuleBook:
        (newest,) = await self.editions.editions(1)
        return read(None, await self.editions.changes(0, newest.number))

    async def subscriptions(self) -> Sequence[Subscription]:
        book = await self.book()
        return [book.subscriptions[name] for name in sorted(book.subscriptions)]

    async def secrets_of(self, subscriber: Subscriber) -> Mapping[str, str]:
        kept = await self.partners.get(subscriber)
        assert kept is not None
        return self.endpoints.opened(kept).endpoint.secrets


def record(
    subscriber: Subscriber = BONNEVILLE, *wishes: str | Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """Of the hub's own file; a wish that is a text is a place."""
    return {
        "subscriber": str(subscriber),
        "name": f"Mairie {subscriber.branch}",
        "subscriptions": [
            {"procedure": "EtatCivil", "place": wish} if isinstance(wish, str) else dict(wish)
            for wish in wishes
        ],
        **more,
    }


def listed(*records: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"partners": list(records), **more}


def webhook(url: str = "https://partner.example/hook", **more: Any) -> dict[str, Any]:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    return {"channel": "webhook", "settings": {"url": url}, "secrets": {"secret": secret}, **more}


HOST_KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


def sftp(directory: str = "arrivees", **settings: Any) -> dict[str, Any]:
    return {
        "channel": "sftp",
        "settings": {
            "host": "sftp.example",
            "username": "hub",
            "directory": directory,
            "host_key": HOST_KEY,
            **settings,
        },
        "secrets": {"password": SECRET},
    }
