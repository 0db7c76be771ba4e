"""What differs between two vintages of the territory, on a few made-up rows."""

from __future__ import annotations

from hub.domain.territory import (
    Commune,
    CommunePart,
    Departement,
    Epci,
    Place,
    PlaceType,
    Region,
    Row,
    Territory,
    Zone,
)
from hub.domain.territory_changes import Arrived, Gone, Moved, TerritoryChanges, differences

GROUND: tuple[Row, ...] = (Region("84", "Auvergne-Rhône-Alpes"), Departement("01", "Ain", "84"))
NORTH, SOUTH, WHOLE = (
    Epci("200000001", "North", "CC"),
    Epci("200000002", "South", "CC"),
    Epci("200000003", "Whole", "CA"),
)


def commune(code: str, epci: Epci | None = None, *former: str) -> Commune:
    siren = None if epci is None else epci.siren
    return Commune(code, f"Commune {code}", "01", siren, None, 100, Zone.METRO, former)


def deleguee(code: str, whole: str) -> CommunePart:
    return CommunePart(PlaceType.COMMUNE_DELEGUEE, code, f"Part {code}", whole)


def between(old: tuple[Row, ...], new: tuple[Row, ...]) -> TerritoryChanges:
    return differences(Territory.build("2030", (*GROUND, *old)), Territory.build("2031", (*GROUND, *new)))


place = Place.parse


def places(*texts: str) -> tuple[Place, ...]:
    return tuple(map(Place.parse, texts))


def test_a_vintage_does_not_differ_from_itself_nor_by_names_alone() -> None:
    renamed = Commune("01001", "Other", "01", None, None, 7, Zone.METRO, ())
    assert between((commune("01001"),), (renamed,)) == TerritoryChanges()


def test_a_commune_that_was_merged_is_gone_to_where_its_code_leads() -> None:
    changes = between(
        (commune("01001"), commune("01002")), (commune("01001", None, "01002"), deleguee("01002", "01001"))
    )
    assert changes.gone == (Gone(place("commune:01002"), "Commune 01002", places("commune:01001")),)
    assert changes.arrived == (
        Arrived(place("commune_deleguee:01002"), "Part 01002", places("commune:01002")),
    )


def test_a_commune_whose_code_leads_nowhere_is_gone_to_no_place() -> None:
    changes = between((commune("01001"), commune("01002")), (commune("01001"),))
    assert changes.gone == (Gone(place("commune:01002"), "Commune 01002", ()),)


def test_a_commune_that_is_one_again_comes_from_the_one_it_was_a_part_of() -> None:
    changes = between(
        (commune("01001", None, "01002"), deleguee("01002", "01001")), (commune("01001"), commune("01002"))
    )
    assert changes.arrived == (Arrived(place("commune:01002"), "Commune 01002", places("commune:01001")),)
    assert changes.gone == (Gone(place("commune_deleguee:01002"), "Part 01002", places("commune:01002")),)


def test_a_commune_under_a_new_code_comes_from_those_it_was_made_of() -> None:
    changes = between((commune("01001"), commune("01002")), (commune("01009", None, "01001", "01002"),))
    made_of = places("commune:01001", "commune:01002")
    assert changes.arrived == (Arrived(place("commune:01009"), "Commune 01009", made_of),)
    assert [gone.now for gone in changes.gone] == [places("commune:01009")] * 2


def test_a_commune_that_changed_its_epci_is_moved() -> None:
    changes = between(
        (NORTH, SOUTH, commune("01001", NORTH), commune("01002", NORTH), commune("01003")),
        (NORTH, SOUTH, commune("01001", SOUTH), commune("01002"), commune("01003", NORTH)),
    )
    north, south = places("epci:200000001", "epci:200000002")
    assert changes == TerritoryChanges(
        moved=(
            Moved(place("commune:01001"), "Commune 01001", north, south),
            Moved(place("commune:01002"), "Commune 01002", north, None),
            Moved(place("commune:01003"), "Commune 01003", None, north),
        )
    )


def test_an_epci_that_is_gone_is_where_most_of_its_communes_are_first_merged_ones_included() -> None:
    changes = between(
        (NORTH, SOUTH, commune("01001", NORTH), commune("01002", NORTH), commune("01003", NORTH)),
        (SOUTH, WHOLE, commune("01001", SOUTH), commune("01002", WHOLE, "01003")),
    )
    assert [gone for gone in changes.gone if gone.place.type is PlaceType.EPCI] == [
        Gone(place("epci:200000001"), "North", places("epci:200000003", "epci:200000002"))
    ]
    assert [one for one in changes.arrived if one.place.type is PlaceType.EPCI] == [
        Arrived(place("epci:200000003"), "Whole", places("epci:200000001"))
    ]


def test_a_departement_that_is_gone_is_the_one_its_communes_are_in() -> None:
    def in_departement(code: str) -> tuple[Row, ...]:
        place = Departement(code, f"Departement {code}", "84")
        return (place, Commune("69123", "Lyon", code, None, None, 100, Zone.METRO, ()))

    changes = between(in_departement("69"), in_departement("70"))
    assert changes.gone == (Gone(place("departement:69"), "Departement 69", places("departement:70")),)


def test_differences_stand_in_the_order_of_the_places() -> None:
    many = tuple(commune(code) for code in ("01003", "01001", "01002"))
    assert [gone.place.code for gone in between(many, ()).gone] == ["01001", "01002", "01003"]
    assert [one.place.code for one in between((), many).arrived] == ["01001", "01002", "01003"]
