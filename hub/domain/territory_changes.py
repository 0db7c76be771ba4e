"""What differs between two vintages of the territory: the places that are gone, new, or moved.

Business of this file: comparing two territories. What becomes of whoever subscribed for a place that is gone
is the rule book's; writing it for a person is not here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hub.domain.territory import Commune, Place, PlaceType, Territory


@dataclass(frozen=True, slots=True)
class Gone:
    """A place that is none any more. `now` is where its land lies, among the places of the newer vintage: the
    commune of a commune or a part; what most of its communes are in first, for what is larger."""

    place: Place
    name: str
    now: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A place that was none before. `was` are the places of the older vintage that its land lay in."""

    place: Place
    name: str
    was: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """A commune that stayed, and changed its EPCI; None: in no EPCI."""

    commune: Place
    name: str
    was: Place | None
    now: Place | None


@dataclass(frozen=True, slots=True)
class TerritoryChanges:
    """Each in the order of the places' texts."""

    gone: tuple[Gone, ...] = ()
    arrived: tuple[Arrived, ...] = ()
    moved: tuple[Moved, ...] = ()


def differences(old: Territory, new: Territory) -> TerritoryChanges:
    """What happened between the two, as far as places say it; new names alone are no difference."""
    return TerritoryChanges(
        tuple(Gone(place, _name(old, place), _land(place, old, new)) for place in _only_in(old, new)),
        tuple(Arrived(place, _name(new, place), _land(place, new, old)) for place in _only_in(new, old)),
        tuple(_moved(old, new)),
    )


def _only_in(one: Territory, other: Territory) -> list[Place]:
    found = (place for type in PlaceType for place in one.places(type) if not other.knows(place))
    return sorted(found, key=str)


def _moved(old: Territory, new: Territory) -> Iterable[Moved]:
    for place in sorted(new.communes(), key=str):
        was, now = old.commune(place.code), new.commune(place.code)
        if was is not None and now is not None and was.epci != now.epci:
            yield Moved(place, now.name, _epci(was), _epci(now))


def _land(place: Place, one: Territory, other: Territory) -> tuple[Place, ...]:
    """Where `other` has the land of a place of `one`."""
    match place.type:
        case PlaceType.EPCI:
            return _most(one.members_of(place.code), one, other, _epci)
        case PlaceType.DEPARTEMENT:
            return _most(one.communes_of(place.code), one, other, _departement)
        case _:
            return tuple(_heirs(place, one, other))


def _most(
    communes: Iterable[Place], one: Territory, other: Territory, around: Callable[[Commune], Place | None]
) -> tuple[Place, ...]:
    found: Counter[Place] = Counter()
    for commune in communes:
        for heir in _heirs(commune, one, other):
            row = other.commune(heir.code)
            larger = None if row is None else around(row)
            if larger is not None:
                found[larger] += 1
    return tuple(sorted(found, key=lambda larger: (-found[larger], str(larger))))


def _heirs(place: Place, one: Territory, other: Territory) -> dict[Place, None]:
    """By its own code; and for a commune that took others in, by theirs, so that a commune under a new code
    is led back to those it was made of."""
    row = one.commune(place.code) if place.type is PlaceType.COMMUNE else None
    codes = [place.code] if place.type in _SMALL else []
    if row is not None and other.resolve(place.code) is None:
        codes += row.former
    found: dict[Place, None] = {}
    for code in codes:
        resolution = other.resolve(code, PlaceType.COMMUNE) or other.resolve(code)
        if resolution is not None:
            found[resolution.place] = None
    return found


_SMALL = frozenset(
    {
        PlaceType.COMMUNE,
        PlaceType.COMMUNE_DELEGUEE,
        PlaceType.COMMUNE_ASSOCIEE,
        PlaceType.ARRONDISSEMENT,
    }
)


def _epci(commune: Commune) -> Place | None:
    return None if commune.epci is None else Place(PlaceType.EPCI, commune.epci)


def _departement(commune: Commune) -> Place:
    return Place(PlaceType.DEPARTEMENT, commune.departement)


def _name(territory: Territory, place: Place) -> str:
    name = territory.name(place)
    assert name is not None
    return name
