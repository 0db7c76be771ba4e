"""Places: what they are called, where they stand around each other, and the rows that a vintage lists them in.

Business of this file: the values. What exists, and what a code means, is `territory`'s, by which other rooms
get these words too.

A code alone is no key: hundreds of communes déléguées bear the code of their chef-lieu, and régions and
départements share theirs. A place is its type and its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PlaceType(StrEnum):
    COMMUNE = "commune"
    COMMUNE_DELEGUEE = "commune_deleguee"
    COMMUNE_ASSOCIEE = "commune_associee"
    ARRONDISSEMENT = "arrondissement"
    """Municipal, of Paris, Lyon or Marseille; never the arrondissement of a sous-préfecture."""
    EPCI = "epci"
    """An intercommunality that levies taxes of its own; its code is its SIREN."""
    DEPARTEMENT = "departement"
    REGION = "region"
    """Overseas collectivities stand here too, and among the départements, each under its own code."""
    NATIONAL = "national"
    """The whole Republic: `national:FR` alone."""
    ABROAD = "abroad"
    """A country by its code (`99109`), or all of them (`99`)."""


FRANCE = "FR"
ANY_COUNTRY = "99"


class Level(StrEnum):
    """Where around a place a subscriber is looked for. One of each stands around a place, or none."""

    ARRONDISSEMENT = "arrondissement"
    ARRONDISSEMENTS = "arrondissements"
    """Downwards: all municipal arrondissements, of a submission that names only their commune."""
    COMMUNE_DELEGUEE = "commune_deleguee"
    COMMUNE_ASSOCIEE = "commune_associee"
    COMMUNE = "commune"
    EPCI = "epci"
    DEPARTEMENT = "departement"
    REGION = "region"
    NATIONAL = "national"
    ABROAD = "abroad"
    """The country named, then whoever serves all of them."""


SLOT_OF: Mapping[Level, int] = {level: slot for slot, level in enumerate(Level)}
"""Where in `Resolution.around` the place of a level stands."""
ANY_COUNTRY_SLOT = len(SLOT_OF)
SLOT_OF_TYPE: Mapping[PlaceType, int] = {type: SLOT_OF[Level(type.value)] for type in PlaceType}
"""The same, of a place by its type."""
NOTHING_AROUND: tuple[str | None, ...] = (None,) * (ANY_COUNTRY_SLOT + 1)


@dataclass(frozen=True, slots=True)
class Place:
    """A place by its name in the official geographic code. It may exist or not: ask a territory."""

    type: PlaceType
    code: str

    def __str__(self) -> str:
        return f"{self.type}:{self.code}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """The inverse of `str`. Raises ValueError, without quoting what was written."""
        word, _, code = text.partition(":")
        if word not in _TYPE_WORDS or not code:
            raise ValueError("a place is written as type:code")
        return cls(PlaceType(word), code)


_TYPE_WORDS = frozenset(PlaceType)


class StepRule(StrEnum):
    """Why one code led to another place."""

    FORMER_CODE = "former_code"
    CHEF_LIEU = "chef_lieu"
    ARRONDISSEMENT_OF = "arrondissement_of"


@dataclass(frozen=True, slots=True)
class Step:
    """`given` led to `place` by `rule`; for explanations."""

    given: str
    rule: StepRule
    place: Place

    def __str__(self) -> str:
        return f"{self.given} → {self.place} ({self.rule})"


@dataclass(frozen=True, slots=True)
class Resolution:
    """The place that a code means today, and how it was reached; no steps: it is the place written.

    `around` are the places it lies in, itself included, as texts: one for each level (by `SLOT_OF`, then
    all countries), None where there is none.
    """

    place: Place
    steps: tuple[Step, ...] = ()
    around: tuple[str | None, ...] = field(default=NOTHING_AROUND, compare=False, repr=False)


class Zone(StrEnum):
    METRO = "metro"
    DROM = "drom"
    COM = "com"


@dataclass(frozen=True, slots=True)
class Region:
    code: str
    name: str


@dataclass(frozen=True, slots=True)
class Departement:
    code: str
    name: str
    region: str


@dataclass(frozen=True, slots=True)
class Epci:
    """`kind` is the State's own word: CC, CA, CU, METRO, MET69."""

    siren: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Commune:
    """`epci` is a SIREN; `population` the legal one, None where nobody is counted; `former` the codes of
    the communes it took in and those it bore itself."""

    code: str
    name: str
    departement: str
    epci: str | None
    siren: str | None
    population: int | None
    zone: Zone
    former: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CommunePart:
    """A commune déléguée or associée, or a municipal arrondissement, of the current `commune`."""

    type: PlaceType
    code: str
    name: str
    commune: str


Row = Region | Departement | Epci | Commune | CommunePart
