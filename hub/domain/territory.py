"""Territory: the official places of one vintage, and what a code somebody wrote means among them.

Business of this file: the values, the look-ups, and refusing rows that contradict each other. Reading the
dataset is an adapter's business; who is competent for a place is `matching`'s.

A code alone is no key: hundreds of communes déléguées bear the code of their chef-lieu, and régions and
départements share theirs. A place is its type and its code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar, assert_never

from hub.domain.errors import RuleBookError


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
    ABROAD = "abroad"


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
    """The place that a code means today, and how it was reached; no steps: it is the place written."""

    place: Place
    steps: tuple[Step, ...] = ()


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
_RowKind = TypeVar("_RowKind", Region, Departement, Epci, Commune, CommunePart)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Territory:
    """The places of one vintage. Two territories are equal only if they are the same object."""

    vintage: str
    _regions: Mapping[str, Region]
    _departements: Mapping[str, Departement]
    _epcis: Mapping[str, Epci]
    _communes: Mapping[str, Commune]
    _parts: Mapping[PlaceType, Mapping[str, CommunePart]]
    _successors: Mapping[str, str]
    _chains: Mapping[tuple[str | None, str], tuple[Place, ...]]
    """What is above a commune: one tuple for all that share EPCI and département."""
    _departement_communes: Mapping[str, tuple[str, ...]]
    _epci_members: Mapping[str, tuple[str, ...]]

    @classmethod
    def build(cls, vintage: str, rows: Iterable[Row]) -> Territory:
        """Takes rows one by one, each after those it names, so that a reader of a file knows which row
        was refused. Raises RuleBookError: a place stands twice, or a row names what is not there."""
        growing = _Growing()
        for row in rows:
            growing.add(row)
        return cls(
            vintage,
            growing.regions,
            growing.departements,
            growing.epcis,
            growing.communes,
            growing.parts,
            growing.successors,
            growing.chains,
            {code: tuple(found) for code, found in growing.departement_communes.items()},
            {siren: tuple(found) for siren, found in growing.epci_members.items()},
        )

    def resolve(self, code: str, type: PlaceType | None = None) -> Resolution | None:
        """The place of today that a code means; None when it means none.

        Without a type: a current commune, else a municipal arrondissement, else the chef-lieu of a
        commune déléguée or associée, else the successor of a former code, else a country. What is larger
        than a commune must be asked for with its type. With a type, only a code of that type is found;
        for a commune also the commune of a former code or of a municipal arrondissement.
        """
        match type:
            case None:
                return (
                    self._current(code)
                    or self._arrondissement(code)
                    or self._part(PlaceType.COMMUNE_DELEGUEE, code)
                    or self._part(PlaceType.COMMUNE_ASSOCIEE, code)
                    or self._successor(code)
                    or _abroad(code)
                )
            case PlaceType.COMMUNE:
                return (
                    self._current(code)
                    or self._part(PlaceType.ARRONDISSEMENT, code, StepRule.ARRONDISSEMENT_OF)
                    or self._successor(code)
                )
            case PlaceType.COMMUNE_DELEGUEE | PlaceType.COMMUNE_ASSOCIEE:
                return self._part(type, code)
            case PlaceType.ARRONDISSEMENT:
                return self._arrondissement(code)
            case PlaceType.EPCI | PlaceType.DEPARTEMENT | PlaceType.REGION:
                place = Place(type, code)
                return None if self.name(place) is None else Resolution(place)
            case PlaceType.ABROAD:
                return _abroad(code)
            case _:
                assert_never(type)

    def above(self, place: Place) -> tuple[Place, ...]:
        """The places around this one, nearest first: commune, EPCI, département, région, as far as each
        exists. Empty for a région, an EPCI (it may straddle départements), a country, an unknown place."""
        match place.type:
            case PlaceType.COMMUNE:
                commune = self._communes.get(place.code)
                return () if commune is None else self._chains[commune.epci, commune.departement]
            case PlaceType.ARRONDISSEMENT | PlaceType.COMMUNE_DELEGUEE | PlaceType.COMMUNE_ASSOCIEE:
                part = self._parts[place.type].get(place.code)
                if part is None:
                    return ()
                whole = Place(PlaceType.COMMUNE, part.commune)
                return (whole, *self.above(whole))
            case PlaceType.DEPARTEMENT:
                departement = self._departements.get(place.code)
                return () if departement is None else (Place(PlaceType.REGION, departement.region),)
            case PlaceType.EPCI | PlaceType.REGION | PlaceType.ABROAD:
                return ()
            case _:
                assert_never(place.type)

    def name(self, place: Place) -> str | None:
        """None when there is no such place here; countries are not known by name."""
        row: Row | None
        match place.type:
            case PlaceType.COMMUNE:
                row = self._communes.get(place.code)
            case PlaceType.ARRONDISSEMENT | PlaceType.COMMUNE_DELEGUEE | PlaceType.COMMUNE_ASSOCIEE:
                row = self._parts[place.type].get(place.code)
            case PlaceType.EPCI:
                row = self._epcis.get(place.code)
            case PlaceType.DEPARTEMENT:
                row = self._departements.get(place.code)
            case PlaceType.REGION:
                row = self._regions.get(place.code)
            case PlaceType.ABROAD:
                row = None
            case _:
                assert_never(place.type)
        return None if row is None else row.name

    def siren(self, place: Place) -> str | None:
        """Of a commune or an EPCI; the source knows no other, nor those of overseas collectivities'
        communes. It cannot be computed from the commune's code."""
        if place.type is PlaceType.COMMUNE:
            commune = self._communes.get(place.code)
            return None if commune is None else commune.siren
        if place.type is PlaceType.EPCI and place.code in self._epcis:
            return place.code
        return None

    def commune(self, code: str) -> Commune | None:
        """All that is known of a current commune."""
        return self._communes.get(code)

    def communes(self) -> Iterator[Place]:
        """Every current commune, in the order of the rows."""
        return (Place(PlaceType.COMMUNE, code) for code in self._communes)

    def communes_of(self, departement: str) -> tuple[Place, ...]:
        return _communes(self._departement_communes.get(departement, ()))

    def members_of(self, epci: str) -> tuple[Place, ...]:
        """The member communes of the EPCI with this SIREN."""
        return _communes(self._epci_members.get(epci, ()))

    def _current(self, code: str) -> Resolution | None:
        return Resolution(Place(PlaceType.COMMUNE, code)) if code in self._communes else None

    def _arrondissement(self, code: str) -> Resolution | None:
        if code not in self._parts[PlaceType.ARRONDISSEMENT]:
            return None
        return Resolution(Place(PlaceType.ARRONDISSEMENT, code))

    def _part(self, type: PlaceType, code: str, rule: StepRule = StepRule.CHEF_LIEU) -> Resolution | None:
        part = self._parts[type].get(code)
        return None if part is None else _led(str(Place(type, code)), rule, part.commune)

    def _successor(self, code: str) -> Resolution | None:
        successor = self._successors.get(code)
        return None if successor is None else _led(code, StepRule.FORMER_CODE, successor)


def _led(given: str, rule: StepRule, commune: str) -> Resolution:
    place = Place(PlaceType.COMMUNE, commune)
    return Resolution(place, (Step(given, rule, place),))


_FRANCE = "99100"


def _abroad(code: str) -> Resolution | None:
    """The country codes are 99 and three digits. The list of countries is not part of this dataset, so
    any such code is taken as one, but France's own: taking it for a foreign country would send births
    that happened at home to the registrar of those that happened abroad."""
    if len(code) == 5 and code.startswith("99") and code.isascii() and code.isdigit() and code != _FRANCE:
        return Resolution(Place(PlaceType.ABROAD, code))
    return None


def _communes(codes: Iterable[str]) -> tuple[Place, ...]:
    return tuple(Place(PlaceType.COMMUNE, code) for code in codes)


def _no_parts() -> dict[PlaceType, dict[str, CommunePart]]:
    return {PlaceType.COMMUNE_DELEGUEE: {}, PlaceType.COMMUNE_ASSOCIEE: {}, PlaceType.ARRONDISSEMENT: {}}


@dataclass(slots=True)
class _Growing:
    """A territory while its rows come in; nobody sees it before it is whole."""

    regions: dict[str, Region] = field(default_factory=dict)
    departements: dict[str, Departement] = field(default_factory=dict)
    epcis: dict[str, Epci] = field(default_factory=dict)
    communes: dict[str, Commune] = field(default_factory=dict)
    parts: dict[PlaceType, dict[str, CommunePart]] = field(default_factory=_no_parts)
    successors: dict[str, str] = field(default_factory=dict)
    chains: dict[tuple[str | None, str], tuple[Place, ...]] = field(default_factory=dict)
    departement_communes: dict[str, list[str]] = field(default_factory=dict)
    epci_members: dict[str, list[str]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        match row:
            case Region():
                _put(self.regions, PlaceType.REGION, row.code, row)
            case Departement():
                _need(self.regions, PlaceType.REGION, row.region, f"departement {row.code}")
                _put(self.departements, PlaceType.DEPARTEMENT, row.code, row)
            case Epci():
                _put(self.epcis, PlaceType.EPCI, row.siren, row)
            case Commune():
                self._add_commune(row)
            case CommunePart():
                if row.type not in self.parts:
                    raise RuleBookError(f"{row.type}:{row.code} is of a type that is no part of a commune")
                _need(self.communes, PlaceType.COMMUNE, row.commune, f"{row.type} {row.code}")
                _put(self.parts[row.type], row.type, row.code, row)
            case _:
                assert_never(row)

    def _add_commune(self, row: Commune) -> None:
        _need(self.departements, PlaceType.DEPARTEMENT, row.departement, f"commune {row.code}")
        if row.epci is not None:
            _need(self.epcis, PlaceType.EPCI, row.epci, f"commune {row.code}")
            self.epci_members.setdefault(row.epci, []).append(row.code)
        _put(self.communes, PlaceType.COMMUNE, row.code, row)
        self.departement_communes.setdefault(row.departement, []).append(row.code)
        for former in row.former:
            if former in self.successors:
                raise RuleBookError(
                    f"commune {row.code}: former code {former} leads to commune {self.successors[former]} too"
                )
            self.successors[former] = row.code
        if (row.epci, row.departement) not in self.chains:
            self.chains[row.epci, row.departement] = self._chain(row.epci, row.departement)

    def _chain(self, epci: str | None, departement: str) -> tuple[Place, ...]:
        larger = (
            Place(PlaceType.DEPARTEMENT, departement),
            Place(PlaceType.REGION, self.departements[departement].region),
        )
        return larger if epci is None else (Place(PlaceType.EPCI, epci), *larger)


def _put(rows: dict[str, _RowKind], type: PlaceType, code: str, row: _RowKind) -> None:
    if code in rows:
        raise RuleBookError(f"{type} {code} stands twice")
    rows[code] = row


def _need(rows: Mapping[str, Row], type: PlaceType, code: str, who: str) -> None:
    if code not in rows:
        raise RuleBookError(f"{who} names {type} {code}, which is not there")
