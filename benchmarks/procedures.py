"""Sixty démarches for benchmarks, of ten shapes that rules take in practice; none is a real one.

Business of this file: the procedures, who receives them, and how popular each is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from random import Random
from typing import Final

from hub.domain.conditions import All, Any, Condition, Equals, Exists, In, Not, NotIn, Prefix, Range
from hub.domain.identity import Subscriber
from hub.domain.partner import made_up_siret
from hub.domain.rules import (
    QUARANTINE,
    Competent,
    Everyone,
    FactSpec,
    FactType,
    Named,
    Period,
    Procedure,
    Rule,
    Transfer,
)
from hub.domain.territory import Level

STATE: Final = "110014016"
"""A SIREN of the State, for the made-up establishments of its bodies."""
NOW: Final = datetime(2026, 7, 1, tzinfo=UTC)
"""Around this instant submissions come in; periods begin and end on both sides of it."""
FILES: Final = ("formulaire", "recapitulatif", "piece", "medical")
MOTIVES: Final = ("ordinaire", "urgent", "duplicata", "rectification")


class Body(Enum):
    """Who may receive a procedure's submissions."""

    TOWN_HALL = 1
    EPCI = 2
    DEPARTEMENT = 3
    BRIGADE = 4
    NATIONAL = 5
    CONSULATE = 6


def national_procedures(count: int, epcis: Sequence[str], dice: Random) -> tuple[Procedure, ...]:
    """`epcis`: the SIRENs among which some procedures declare transfers."""
    return tuple(_procedure(number, epcis, dice) for number in range(count))


def receives(code: str, body: Body) -> bool:
    return body in _SHAPES[_shape(code)][1]


def popularity(code: str) -> float:
    """How often it is asked for beside the others."""
    return 1 / (int(code.rpartition("-")[2]) + 4)


def _procedure(number: int, epcis: Sequence[str], dice: Random) -> Procedure:
    shape = _ORDER[number % len(_ORDER)]
    make, _ = _SHAPES[shape]
    code = f"{shape}-{number:02d}"
    transfers = _transfers(epcis, dice) if shape == "intercommunal" and number % 3 else ()
    return Procedure(code, f"Démarche {number}", _FACTS, make(number), FILES, transfers)


def _shape(code: str) -> str:
    return code.partition("-")[0]


_FACTS: Mapping[str, FactSpec] = {
    "commune": FactSpec("commune", FactType.PLACE, required=True),
    "motif": FactSpec("motif", FactType.WORD, required=True, values=MOTIVES),
    "montant": FactSpec("montant", FactType.NUMBER, required=True),
    "date": FactSpec("date", FactType.DATE, required=True),
    "etablissement": FactSpec("etablissement", FactType.SIRET, required=False),
}

_LOCAL = (
    Level.ARRONDISSEMENT,
    Level.COMMUNE_DELEGUEE,
    Level.COMMUNE_ASSOCIEE,
    Level.COMMUNE,
    Level.ARRONDISSEMENTS,
)
_TOWN_HALL = Competent("commune", _LOCAL)
_DEPARTEMENT = Competent("commune", (Level.DEPARTEMENT,))
_ADMINISTRATIVE = ("formulaire", "recapitulatif", "piece")


def _plain(number: int) -> tuple[Rule, ...]:
    return (Rule("mairie", "mairie", _TOWN_HALL),)


def _certificate(number: int) -> tuple[Rule, ...]:
    """Two bodies, one of which must not see everything."""
    return (
        Rule("ministere", "national", Named(_body(number)), FILES),
        Rule("mairie", "mairie", _TOWN_HALL, _ADMINISTRATIVE),
    )


_CONDITIONS: tuple[Condition, ...] = (
    In("motif", frozenset(("ordinaire", "rectification"))),
    All((NotIn("motif", frozenset(("urgent",))), Range("montant", None, Decimal(6_000)))),
    Any((Prefix("etablissement", "2"), Not(Exists("etablissement")))),
    All((Range("date", "2026-01-01", None), Not(Equals("motif", "urgent")))),
)


def _conditioned(number: int) -> tuple[Rule, ...]:
    """Two rules that part the submissions between them."""
    when = _CONDITIONS[number % len(_CONDITIONS)]
    return (
        Rule("mairie", "mairie", _TOWN_HALL, when=when),
        Rule("departement", "mairie", _DEPARTEMENT, _ADMINISTRATIVE, Not(when), otherwise="sinon"),
        Rule("sinon", "mairie", Named(_body(number), mailbox=True)),
    )


def _intercommunal(number: int) -> tuple[Rule, ...]:
    return (Rule("competent", "competent", Competent("commune", (Level.EPCI, *_LOCAL))),)


def _falling(number: int) -> tuple[Rule, ...]:
    return (
        Rule("mairie", "mairie", _TOWN_HALL, otherwise="departement"),
        Rule("departement", "mairie", _DEPARTEMENT, otherwise=QUARANTINE),
    )


def _urgent(number: int) -> tuple[Rule, ...]:
    """What is urgent goes to one body at once, the rest to the town hall."""
    when = Any((Equals("motif", "urgent"), Range("montant", Decimal(9_500), None)))
    return (
        Rule("urgence", "mairie", Named(_body(number)), when=when, priority=10),
        Rule("mairie", "mairie", _TOWN_HALL),
    )


def _dated(number: int) -> tuple[Rule, ...]:
    """The rule changed; files of a new type go to the new one only."""
    change = NOW + timedelta(days=number - 30)
    return (
        Rule("avant", "mairie", Competent("commune", (Level.COMMUNE,)), period=Period(until=change)),
        Rule("depuis", "mairie", _TOWN_HALL, FILES[:2], period=Period(since=change)),
    )


def _civil(number: int) -> tuple[Rule, ...]:
    """What happened abroad goes to the consulate, or to the one office for all countries."""
    abroad = Prefix("commune", "99")
    return (
        Rule("etranger", "etat-civil", Competent("commune", (Level.ABROAD,)), when=abroad),
        Rule("mairie", "etat-civil", _TOWN_HALL, when=Not(abroad)),
    )


def _departmental(number: int) -> tuple[Rule, ...]:
    return (Rule("departement", "departement", _DEPARTEMENT),)


def _patrol(number: int) -> tuple[Rule, ...]:
    return (Rule("brigade", "brigade", Competent("commune", (Level.COMMUNE, Level.DEPARTEMENT))),)


def _broadcast(number: int) -> tuple[Rule, ...]:
    return (Rule("organismes", "organismes", Everyone()),)


_SHAPES: Mapping[str, tuple[Callable[[int], tuple[Rule, ...]], tuple[Body, ...]]] = {
    "plain": (_plain, (Body.TOWN_HALL,)),
    "certificate": (_certificate, (Body.TOWN_HALL,)),
    "conditioned": (_conditioned, (Body.TOWN_HALL, Body.DEPARTEMENT)),
    "intercommunal": (_intercommunal, (Body.TOWN_HALL, Body.EPCI)),
    "falling": (_falling, (Body.TOWN_HALL, Body.DEPARTEMENT)),
    "urgent": (_urgent, (Body.TOWN_HALL,)),
    "dated": (_dated, (Body.TOWN_HALL,)),
    "civil": (_civil, (Body.TOWN_HALL, Body.CONSULATE)),
    "departmental": (_departmental, (Body.DEPARTEMENT,)),
    "patrol": (_patrol, (Body.BRIGADE,)),
    "broadcast": (_broadcast, (Body.NATIONAL,)),
}

_ORDER = (
    *("plain", "certificate", "conditioned", "intercommunal", "plain"),
    *("conditioned", "falling", "patrol", "intercommunal", "plain"),
    *("certificate", "urgent", "dated", "plain", "conditioned"),
    *("civil", "departmental", "intercommunal", "broadcast", "certificate"),
)


def _body(number: int) -> Subscriber:
    return Subscriber(made_up_siret(STATE, number % 10), "75108")


def _transfers(epcis: Sequence[str], dice: Random) -> tuple[Transfer, ...]:
    """Two EPCIs in three have the competence; of these some had it, or will."""
    found = []
    for siren in epcis:
        chance = dice.random()
        if chance < 0.6:
            found.append(Transfer(siren, period=Period(since=datetime(2020, 1, 1, tzinfo=UTC))))
        elif chance < 0.67:
            change = NOW + timedelta(days=dice.randrange(-200, 200))
            found.append(
                Transfer(siren, period=Period(since=change) if chance < 0.64 else Period(until=change))
            )
    return tuple(found)
