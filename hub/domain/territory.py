"""Territory: the official places of one vintage, and what a code somebody wrote means among them.

Business of this file: the look-ups, and refusing rows that contradict each other. The values are `places`';
reading the dataset is an adapter's business; who is competent for a place is `matching`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from sys import intern
from typing import Any, TypeVar, assert_never

from hub.domain.errors import RuleBookError
from hub.domain.places import (
    ANY_COUNTRY,
    ANY_COUNTRY_SLOT,
    FRANCE,
    NOTHING_AROUND,
    SLOT_OF,
    SLOT_OF_TYPE,
    Commune,
    CommunePart,
    Departement,
    Epci,
    Level,
    Place,
    PlaceType,
    Region,
    Resolution,
    Row,
    Step,
    StepRule,
    Zone,
)

__all__ = [
    "ANY_COUNTRY",
    "ANY_COUNTRY_SLOT",
    "FRANCE",
    "SLOT_OF",
    "Commune",
    "CommunePart",
    "Departement",
    "Epci",
    "Level",
    "Place",
    "PlaceType",
    "Region",
    "Resolution",
    "Row",
    "Step",
    "StepRule",
    "Territory",
    "Zone",
]

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
    _parts_of: Mapping[tuple[str, PlaceType], tuple[Place, ...]]
    _successors: Mapping[str, str]
    _chains: Mapping[tuple[str | None, str], tuple[Place, ...]]
    """What is above a commune: one tuple for all that share EPCI and département."""
    _departement_communes: Mapping[str, tuple[str, ...]]
    _epci_members: Mapping[str, tuple[str, ...]]
    divided: frozenset[str]
    """The communes that have municipal arrondissements."""
    codes: dict[str, Resolution]
    """What each bare code means (as `resolve` without a type), countries excepted: the matcher's way in."""

    @classmethod
    def build(cls, vintage: str, rows: Iterable[Row]) -> Territory:
        """Takes rows one by one, each after those it names, so that a reader of a file knows which row
        was refused. Raises RuleBookError: a place stands twice, or a row names what is not there."""
        growing = _Growing()
        for row in rows:
            growing.add(row)
        territory = cls(
            vintage,
            growing.regions,
            growing.departements,
            growing.epcis,
            growing.communes,
            growing.parts,
            {whole: tuple(found) for whole, found in growing.parts_of.items()},
            growing.heirs(),
            growing.chains,
            {code: tuple(found) for code, found in growing.departement_communes.items()},
            {siren: tuple(found) for siren, found in growing.epci_members.items()},
            frozenset(growing.divided),
            growing.codes,
        )
        for code in chain(*growing.parts.values(), growing.successors):
            if code not in territory.codes:
                resolution = territory.resolve(code)
                assert resolution is not None
                territory.codes[code] = resolution
        return territory

    def read(self, value: str) -> Resolution | None:
        """What a place fact means: a code (`64445`), or a code with its type (`commune_deleguee:01015`)."""
        found = self.codes.get(value)
        if found is not None or ":" not in value:
            return found or _abroad(value)
        try:
            place = Place.parse(value)
        except ValueError:
            return None
        return self.resolve(place.code, place.type)

    def resolve(self, code: str, type: PlaceType | None = None) -> Resolution | None:
        """The place of today that a code means; None when it means none.

        Without a type: a current commune, else a municipal arrondissement, else the chef-lieu of a
        commune déléguée or associée, else the successor of a former code, else a country. What is larger
        than a commune must be asked for with its type. With a type, only a code of that type is found;
        for a commune also the commune of a former code or of a municipal arrondissement. A former commune
        that is a part of another one today is where that part is, whoever else claims its code.
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
            case PlaceType.EPCI | PlaceType.DEPARTEMENT | PlaceType.REGION | PlaceType.NATIONAL:
                place = Place(type, code)
                return None if self.name(place) is None else Resolution(place, (), self._around_larger(place))
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
            case PlaceType.EPCI | PlaceType.REGION | PlaceType.NATIONAL | PlaceType.ABROAD:
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
            case PlaceType.NATIONAL:
                return "France" if place.code == FRANCE else None
            case PlaceType.ABROAD:
                row = None
            case _:
                assert_never(place.type)
        return None if row is None else row.name

    def knows(self, place: Place) -> bool:
        """Whether it is a place of this vintage."""
        if place.type is PlaceType.ABROAD:
            return place.code == ANY_COUNTRY or _is_country(place.code)
        return self.name(place) is not None

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
        return self.places(PlaceType.COMMUNE)

    def places(self, type: PlaceType) -> Iterator[Place]:
        """Every place of this type, in the order of the rows; none for countries, which have no rows."""
        match type:
            case PlaceType.COMMUNE:
                codes: Iterable[str] = self._communes
            case PlaceType.ARRONDISSEMENT | PlaceType.COMMUNE_DELEGUEE | PlaceType.COMMUNE_ASSOCIEE:
                codes = self._parts[type]
            case PlaceType.EPCI:
                codes = self._epcis
            case PlaceType.DEPARTEMENT:
                codes = self._departements
            case PlaceType.REGION:
                codes = self._regions
            case PlaceType.NATIONAL:
                codes = (FRANCE,)
            case PlaceType.ABROAD:
                codes = ()
            case _:
                assert_never(type)
        return (Place(type, code) for code in codes)

    def communes_of(self, departement: str) -> tuple[Place, ...]:
        return _communes(self._departement_communes.get(departement, ()))

    def members_of(self, epci: str) -> tuple[Place, ...]:
        """The member communes of the EPCI with this SIREN."""
        return _communes(self._epci_members.get(epci, ()))

    def parts_of(self, commune: str, type: PlaceType) -> tuple[Place, ...]:
        """The communes déléguées or associées, or the municipal arrondissements, of a current commune."""
        return self._parts_of.get((commune, type), ())

    def _current(self, code: str) -> Resolution | None:
        return self.codes[code] if code in self._communes else None

    def _arrondissement(self, code: str) -> Resolution | None:
        part = self._parts[PlaceType.ARRONDISSEMENT].get(code)
        if part is None:
            return None
        return Resolution(Place(PlaceType.ARRONDISSEMENT, code), (), self._around_part(part))

    def _part(self, type: PlaceType, code: str, rule: StepRule = StepRule.CHEF_LIEU) -> Resolution | None:
        part = self._parts[type].get(code)
        if part is None:
            return None
        whole = self.codes[part.commune].place
        return Resolution(whole, (Step(f"{type}:{code}", rule, whole),), self._around_part(part))

    def _successor(self, code: str) -> Resolution | None:
        successor = self._successors.get(code)
        if successor is None:
            return None
        found = self.codes[successor]
        return Resolution(found.place, (Step(code, StepRule.FORMER_CODE, found.place),), found.around)

    def _around_part(self, part: CommunePart) -> tuple[str | None, ...]:
        whole = _with(self.codes[part.commune].around, _ARRONDISSEMENTS_SLOT, None)
        return _with(whole, SLOT_OF_TYPE[part.type], f"{part.type}:{part.code}")

    def _around_larger(self, place: Place) -> tuple[str | None, ...]:
        return _around((place, *self.above(place)))


# Looking a member up in its enumeration takes longer than most else that is done for each commune.
_COMMUNE, _EPCI, _DEPARTEMENT = PlaceType.COMMUNE, PlaceType.EPCI, PlaceType.DEPARTEMENT
_COMMUNE_SLOT = SLOT_OF[Level.COMMUNE]
_ARRONDISSEMENTS_SLOT = SLOT_OF[Level.ARRONDISSEMENTS]
_FRANCE_ABROAD = "99100"
_THE_REPUBLIC = str(Place(PlaceType.NATIONAL, FRANCE))
_ALL_COUNTRIES = str(Place(PlaceType.ABROAD, ANY_COUNTRY))


def _abroad(code: str) -> Resolution | None:
    """The country codes are 99 and three digits. The list of countries is not part of this dataset, so
    any such code is taken as one, but France's own: taking it for a foreign country would send births
    that happened at home to the registrar of those that happened abroad."""
    if not _is_country(code):
        return None
    place = Place(PlaceType.ABROAD, code)
    return Resolution(place, (), (*_BEFORE_COUNTRY, f"{PlaceType.ABROAD}:{code}", _ALL_COUNTRIES))


def _around(places: Iterable[Place]) -> tuple[str | None, ...]:
    """These, and the Republic, which looks after its own abroad too."""
    around = list(NOTHING_AROUND)
    for place in places:
        around[SLOT_OF_TYPE[place.type]] = str(place)
    around[SLOT_OF[Level.NATIONAL]] = _THE_REPUBLIC
    return tuple(around)


_BEFORE_COUNTRY = _around(())[: SLOT_OF[Level.ABROAD]]
"""The country stands last but one, all of them last."""


def _is_country(code: str) -> bool:
    return (
        len(code) == 5
        and code.startswith(ANY_COUNTRY)
        and code.isascii()
        and code.isdigit()
        and code != _FRANCE_ABROAD
    )


def _communes(codes: Iterable[str]) -> tuple[Place, ...]:
    return tuple(Place(PlaceType.COMMUNE, code) for code in codes)


def _no_parts() -> dict[PlaceType, dict[str, CommunePart]]:
    return {PlaceType.COMMUNE_DELEGUEE: {}, PlaceType.COMMUNE_ASSOCIEE: {}, PlaceType.ARRONDISSEMENT: {}}


def _lists() -> defaultdict[Any, list[Any]]:
    return defaultdict(list)


@dataclass(slots=True)
class _Growing:
    """A territory while its rows come in; nobody sees it before it is whole."""

    regions: dict[str, Region] = field(default_factory=dict)
    departements: dict[str, Departement] = field(default_factory=dict)
    epcis: dict[str, Epci] = field(default_factory=dict)
    communes: dict[str, Commune] = field(default_factory=dict)
    parts: dict[PlaceType, dict[str, CommunePart]] = field(default_factory=_no_parts)
    parts_of: defaultdict[tuple[str, PlaceType], list[Place]] = field(default_factory=_lists)
    divided: set[str] = field(default_factory=set)
    successors: dict[str, str] = field(default_factory=dict)
    chains: dict[tuple[str | None, str], tuple[Place, ...]] = field(default_factory=dict)
    surroundings: dict[tuple[str | None, str], tuple[str | None, ...]] = field(default_factory=dict)
    departement_communes: defaultdict[str, list[str]] = field(default_factory=_lists)
    epci_members: defaultdict[str, list[str]] = field(default_factory=_lists)
    codes: dict[str, Resolution] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        match row:
            # Nine rows in ten are communes.
            case Commune():
                self._add_commune(row)
            case CommunePart():
                self._add_part(row)
            case Region():
                _put(self.regions, PlaceType.REGION, row.code, row)
            case Departement():
                _need(self.regions, PlaceType.REGION, row.region, PlaceType.DEPARTEMENT, row.code)
                _put(self.departements, PlaceType.DEPARTEMENT, row.code, row)
            case Epci():
                _put(self.epcis, PlaceType.EPCI, row.siren, row)
            case _:
                assert_never(row)

    def _add_commune(self, row: Commune) -> None:
        code, epci, departement = row.code, row.epci, row.departement
        _need(self.departements, _DEPARTEMENT, departement, _COMMUNE, code)
        if epci is not None:
            _need(self.epcis, _EPCI, epci, _COMMUNE, code)
            self.epci_members[epci].append(code)
        _put(self.communes, _COMMUNE, code, row)
        self.departement_communes[departement].append(code)
        for former in row.former:
            if former in self.successors:
                raise RuleBookError(
                    f"commune {code}: former code {former} leads to commune {self.successors[former]} too"
                )
            self.successors[former] = code
        shared = self.surroundings.get((epci, departement)) or self._surround(epci, departement)
        place = Place(_COMMUNE, code)
        self.codes[code] = Resolution(place, (), _with(shared, _COMMUNE_SLOT, intern(f"commune:{code}")))

    def _surround(self, epci: str | None, departement: str) -> tuple[str | None, ...]:
        """Thousands of communes lie in the same few: one chain, and one text of each place, for all."""
        larger = (
            Place(PlaceType.DEPARTEMENT, departement),
            Place(PlaceType.REGION, self.departements[departement].region),
        )
        chained = larger if epci is None else (Place(PlaceType.EPCI, epci), *larger)
        self.chains[epci, departement] = chained
        self.surroundings[epci, departement] = _around(chained)
        return self.surroundings[epci, departement]

    def _add_part(self, row: CommunePart) -> None:
        if row.type not in self.parts:
            raise RuleBookError(f"{row.type}:{row.code} is of a type that is no part of a commune")
        _need(self.communes, PlaceType.COMMUNE, row.commune, row.type, row.code)
        _put(self.parts[row.type], row.type, row.code, row)
        self.parts_of[row.commune, row.type].append(Place(row.type, row.code))
        if row.type is PlaceType.ARRONDISSEMENT and row.commune not in self.divided:
            self.divided.add(row.commune)
            whole = self.codes[row.commune]
            text = f"{Level.ARRONDISSEMENTS}:{row.commune}"
            around = _with(whole.around, _ARRONDISSEMENTS_SLOT, text)
            self.codes[row.commune] = Resolution(whole.place, (), around)

    def heirs(self) -> dict[str, str]:
        """Where former codes lead. Now and then the source gives one to a commune that does not have its land
        (a merger that was undone in part), and lists it as a part of another: the part is what is there."""
        heirs = dict(self.successors)
        for type in (PlaceType.COMMUNE_ASSOCIEE, PlaceType.COMMUNE_DELEGUEE):
            heirs.update((code, part.commune) for code, part in self.parts[type].items() if code in heirs)
        return heirs


def _with(around: tuple[str | None, ...], slot: int, text: str | None) -> tuple[str | None, ...]:
    changed = list(around)
    changed[slot] = text
    return tuple(changed)


def _put(rows: dict[str, _RowKind], type: PlaceType, code: str, row: _RowKind) -> None:
    if code in rows:
        raise RuleBookError(f"{type} {code} stands twice")
    rows[code] = row


def _need(rows: Mapping[str, Row], type: PlaceType, code: str, by: PlaceType, by_code: str) -> None:
    if code not in rows:
        raise RuleBookError(f"{by} {by_code} names {type} {code}, which is not there")
