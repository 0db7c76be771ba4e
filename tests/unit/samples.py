"""A little world for unit tests: three communes, an EPCI, one procedure of each shape."""

from __future__ import annotations

from datetime import UTC, datetime

from hub.domain.identity import Subscriber, submission_id
from hub.domain.rule_book import RuleBook
from hub.domain.rules import Competent, FactSpec, FactType, Named, Procedure, Rule, Subscription
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.domain.territory import (
    Commune,
    CommunePart,
    Departement,
    Epci,
    Level,
    Place,
    PlaceType,
    Region,
    Territory,
    Zone,
)

MINISTRY = Subscriber("11001401600015", "75108")
BONNEVILLE = Subscriber("21740042390019", "74042")
MARIGNIER = Subscriber("21740164590016", "74164")
FAUCIGNY = Subscriber("20000017290012", "74042")

RECEIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)


def territory() -> Territory:
    return Territory.build(
        "2026",
        [
            Region("84", "Auvergne-Rhône-Alpes"),
            Departement("74", "Haute-Savoie", "84"),
            Epci("200000172", "CC Faucigny - Glières", "CC"),
            Commune("74042", "Bonneville", "74", "200000172", "217400423", 13320, Zone.METRO, ("74092",)),
            Commune("74164", "Marignier", "74", "200000172", "217401645", 6432, Zone.METRO, ()),
            Commune("74010", "Annecy", "74", None, "200063402", 131272, Zone.METRO, ()),
            CommunePart(PlaceType.COMMUNE_DELEGUEE, "74010", "Annecy", "74010"),
            CommunePart(PlaceType.COMMUNE_DELEGUEE, "74268", "Seynod", "74010"),
        ],
    )


def procedure() -> Procedure:
    return Procedure(
        "CERTDC",
        "Certificat de décès",
        {
            "commune": FactSpec("commune", FactType.PLACE, required=True),
            "loueur": FactSpec("loueur", FactType.SIRET, required=False),
            "nature": FactSpec("nature", FactType.WORD, required=False, values=("a", "b")),
        },
        (
            Rule("national", "national", Named(MINISTRY), ("DD", "VA")),
            Rule("mairie", "mairie", Competent("commune", (Level.COMMUNE,)), ("VA",)),
        ),
        ("DD", "VA", "ZZ"),
    )


def subscription(subscriber: Subscriber, place: str, code: str = "CERTDC") -> Subscription:
    return Subscription(code, subscriber, Place.parse(place))


def book(*subscriptions: Subscription, procedures: tuple[Procedure, ...] | None = None) -> RuleBook:
    return RuleBook.build(procedures or (procedure(),), subscriptions, territory())


def facts(
    commune: str = "74042", *attachments: AttachmentFacts, procedure: str = "CERTDC", **more: str
) -> RoutingFacts:
    return RoutingFacts(
        submission_id("psl", "A-1"), "psl", procedure, {"commune": commune, **more}, attachments, RECEIVED
    )
