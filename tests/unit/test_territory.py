"""Territory, the domain value: what a code means and what lies above it, on a few made-up rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.errors import RuleBookError
from hub.domain.territory import (
    SLOT_OF,
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
    Territory,
    Zone,
)


def commune(code: str, epci: str | None = None, former: tuple[str, ...] = ()) -> Commune:
    return Commune(code, f"Commune {code}", code[:2], epci, None, 100, Zone.METRO, former)


ROWS: tuple[Row, ...] = (
    Region("84", "Auvergne-Rhône-Alpes"),
    Departement("01", "Ain", "84"),
    Departement("69", "Rhône", "84"),
    Epci("200046977", "Métropole de Lyon", "MET69"),
    Commune("69123", "Lyon", "69", "200046977", "216901231", 520_774, Zone.METRO, ()),
    commune("01015", former=("01340",)),
    commune("01033", former=("01091", "01205")),
    commune("01262", "200046977"),
    CommunePart(PlaceType.COMMUNE_DELEGUEE, "01015", "Arbignieu", "01015"),
    CommunePart(PlaceType.COMMUNE_DELEGUEE, "01340", "Saint-Bois", "01015"),
    CommunePart(PlaceType.COMMUNE_ASSOCIEE, "01120", "Cordieux", "01262"),
    CommunePart(PlaceType.ARRONDISSEMENT, "69381", "Lyon 1er Arrondissement", "69123"),
)


@pytest.fixture
def territory() -> Territory:
    return Territory.build("2026", ROWS)


def place(text: str) -> Place:
    return Place.parse(text)


def reached(resolution: Resolution | None) -> tuple[str, ...]:
    assert resolution is not None
    return (str(resolution.place), *(step.rule.value for step in resolution.steps))


@given(st.sampled_from(PlaceType), st.text(min_size=1))
def test_a_place_that_was_written_is_read_back_the_same(type: PlaceType, code: str) -> None:
    assert Place.parse(str(Place(type, code))) == Place(type, code)


@pytest.mark.parametrize("text", ["", ":", "commune", "commune:", ":64445", "Commune:64445", "ville:64445"])
def test_what_is_no_place_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a place is written as type:code$"):
        Place.parse(text)


def test_a_current_commune_is_reached_without_a_step(territory: Territory) -> None:
    assert territory.resolve("01033") == Resolution(place("commune:01033"))


def test_a_former_code_leads_to_its_successor_and_says_so(territory: Territory) -> None:
    successor = place("commune:01033")
    expected = Resolution(successor, (Step("01091", StepRule.FORMER_CODE, successor),))
    assert territory.resolve("01091") == expected
    assert territory.resolve("01091", PlaceType.COMMUNE) == expected
    assert str(expected.steps[0]) == "01091 → commune:01033 (former_code)"


def test_a_code_shared_by_a_commune_and_its_part_means_the_commune_unless_the_type_says_otherwise(
    territory: Territory,
) -> None:
    assert reached(territory.resolve("01015")) == ("commune:01015",)
    assert reached(territory.resolve("01015", PlaceType.COMMUNE)) == ("commune:01015",)
    assert reached(territory.resolve("01015", PlaceType.COMMUNE_DELEGUEE)) == ("commune:01015", "chef_lieu")


def test_the_code_of_a_part_leads_to_its_chef_lieu_rather_than_by_its_former_code(
    territory: Territory,
) -> None:
    assert reached(territory.resolve("01340")) == ("commune:01015", "chef_lieu")
    assert reached(territory.resolve("01120")) == ("commune:01262", "chef_lieu")
    assert reached(territory.resolve("01120", PlaceType.COMMUNE_ASSOCIEE)) == ("commune:01262", "chef_lieu")
    assert territory.resolve("01120", PlaceType.COMMUNE_DELEGUEE) is None


def test_a_code_that_is_again_a_current_commune_means_that_one() -> None:
    reused = Territory.build("2026", (*ROWS, commune("01091")))
    assert reached(reused.resolve("01091")) == ("commune:01091",)


def test_a_former_commune_that_is_a_part_today_is_where_that_part_is_whoever_else_claims_its_code() -> None:
    undone = (
        commune("01400", former=("01401", "01402")),
        CommunePart(PlaceType.COMMUNE_ASSOCIEE, "01401", "Moved on", "01033"),
        CommunePart(PlaceType.COMMUNE_DELEGUEE, "01402", "Moved on", "01015"),
        CommunePart(PlaceType.COMMUNE_ASSOCIEE, "01402", "Both", "01033"),
    )
    territory = Territory.build("2026", (*ROWS, *undone))
    assert reached(territory.resolve("01401")) == ("commune:01033", "chef_lieu")
    assert reached(territory.resolve("01401", PlaceType.COMMUNE)) == ("commune:01033", "former_code")
    assert reached(territory.resolve("01402")) == ("commune:01015", "chef_lieu")
    assert reached(territory.resolve("01402", PlaceType.COMMUNE)) == ("commune:01015", "former_code")


def around(resolution: Resolution | None) -> dict[str, str]:
    """By level, then `all countries`."""
    assert resolution is not None
    levels = [*map(str, Level), "all countries"]
    return {level: text for level, text in zip(levels, resolution.around, strict=True) if text is not None}


LYON = {
    "commune": "commune:69123",
    "epci": "epci:200046977",
    "departement": "departement:69",
    "region": "region:84",
    "national": "national:FR",
}
ARBOYS = {
    "commune": "commune:01015",
    "departement": "departement:01",
    "region": "region:84",
    "national": "national:FR",
}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("69123", LYON | {"arrondissements": "arrondissements:69123"}),
        ("commune:69123", LYON | {"arrondissements": "arrondissements:69123"}),
        ("commune:69381", LYON | {"arrondissement": "arrondissement:69381"}),
        ("69381", LYON | {"arrondissement": "arrondissement:69381"}),
        ("arrondissement:69381", LYON | {"arrondissement": "arrondissement:69381"}),
        ("01015", ARBOYS),
        ("commune_deleguee:01015", ARBOYS | {"commune_deleguee": "commune_deleguee:01015"}),
        ("01340", ARBOYS | {"commune_deleguee": "commune_deleguee:01340"}),
        ("commune:01340", ARBOYS),
        ("01205", ARBOYS | {"commune": "commune:01033"}),
        ("departement:01", {name: ARBOYS[name] for name in ("departement", "region", "national")}),
        ("epci:200046977", {name: LYON[name] for name in ("epci", "national")}),
        ("national:FR", {"national": "national:FR"}),
        ("99109", {"abroad": "abroad:99109", "all countries": "abroad:99", "national": "national:FR"}),
    ],
)
def test_around_a_place_stand_itself_and_what_it_lies_in(
    territory: Territory, written: str, expected: dict[str, str]
) -> None:
    assert around(territory.read(written)) == expected


def test_each_bare_code_means_the_same_whether_it_is_looked_up_or_resolved(territory: Territory) -> None:
    known = {row.code for row in ROWS if isinstance(row, (Commune, CommunePart))}
    assert set(territory.codes) == known | {"01091", "01205"}
    for code, resolution in territory.codes.items():
        resolved = territory.resolve(code)
        assert resolved is not None
        assert (resolved, resolved.around) == (resolution, resolution.around)


def test_the_slots_are_in_the_order_of_the_levels() -> None:
    assert list(SLOT_OF.values()) == list(range(len(Level)))


def test_a_municipal_arrondissement_is_a_place_of_its_own(territory: Territory) -> None:
    assert reached(territory.resolve("69381")) == ("arrondissement:69381",)
    assert reached(territory.resolve("69381", PlaceType.ARRONDISSEMENT)) == ("arrondissement:69381",)


def test_a_municipal_arrondissement_called_a_commune_means_the_commune_it_is_in(territory: Territory) -> None:
    assert reached(territory.resolve("69381", PlaceType.COMMUNE)) == ("commune:69123", "arrondissement_of")


@pytest.mark.parametrize(
    ("type", "code"),
    [(PlaceType.EPCI, "200046977"), (PlaceType.DEPARTEMENT, "01"), (PlaceType.REGION, "84")],
)
def test_what_is_larger_than_a_commune_is_found_by_its_type_only(
    territory: Territory, type: PlaceType, code: str
) -> None:
    assert territory.resolve(code, type) == Resolution(Place(type, code))
    assert territory.resolve(code) is None
    assert territory.resolve(code, PlaceType.COMMUNE) is None


def test_a_country_is_a_place_abroad_and_france_is_none(territory: Territory) -> None:
    assert territory.resolve("99109") == Resolution(place("abroad:99109"))
    assert territory.resolve("99109", PlaceType.ABROAD) == Resolution(place("abroad:99109"))
    assert territory.resolve("99109", PlaceType.COMMUNE) is None
    assert territory.resolve("99100") is None


@pytest.mark.parametrize("type", [None, *PlaceType])
@pytest.mark.parametrize(
    "code",
    [
        "",
        " ",
        "99",
        "99abc",
        "991090",
        "9910９",
        "٩٩109",
        "２Ａ004",
        "2a004",
        "01015 ",
        "01015\n",
        "\0",
        "9" * 10**6,
    ],
)
def test_a_code_that_is_none_is_no_place(territory: Territory, code: str, type: PlaceType | None) -> None:
    assert territory.resolve(code, type) is None


@given(st.text(), st.sampled_from([None, *PlaceType]))
def test_whatever_is_written_resolves_to_a_place_of_this_territory_or_to_none(
    code: str, type: PlaceType | None
) -> None:
    territory = Territory.build("2026", ROWS)
    resolution = territory.resolve(code, type)
    if resolution is not None and resolution.place.type is not PlaceType.ABROAD:
        assert territory.name(resolution.place) is not None


def test_the_chain_above_goes_from_the_nearest_to_the_largest(territory: Territory) -> None:
    lyon = ("epci:200046977", "departement:69", "region:84")
    above = {
        "arrondissement:69381": ("commune:69123", *lyon),
        "commune:69123": lyon,
        "commune_deleguee:01340": ("commune:01015", "departement:01", "region:84"),
        "commune:01015": ("departement:01", "region:84"),
        "departement:01": ("region:84",),
    }
    for text, chain in above.items():
        assert tuple(map(str, territory.above(place(text)))) == chain


@pytest.mark.parametrize(
    "text",
    [
        "region:84",
        "epci:200046977",
        "abroad:99109",
        "commune:00000",
        "arrondissement:01015",
        "departement:00",
    ],
)
def test_nothing_is_above_the_largest_the_straddling_the_foreign_and_the_unknown(
    territory: Territory, text: str
) -> None:
    assert territory.above(place(text)) == ()


def test_communes_with_the_same_surroundings_share_one_chain(territory: Territory) -> None:
    assert territory.above(place("commune:01015")) is territory.above(place("commune:01033"))


def test_a_name_belongs_to_a_type_and_a_code(territory: Territory) -> None:
    assert territory.name(place("commune:01015")) == "Commune 01015"
    assert territory.name(place("commune_deleguee:01015")) == "Arbignieu"
    assert territory.name(place("commune_associee:01015")) is None
    assert territory.name(place("epci:200046977")) == "Métropole de Lyon"
    assert territory.name(place("departement:69")) == "Rhône"
    assert territory.name(place("region:84")) == "Auvergne-Rhône-Alpes"
    assert territory.name(place("abroad:99109")) is None


def test_only_communes_and_epci_have_a_siren(territory: Territory) -> None:
    assert territory.siren(place("commune:69123")) == "216901231"
    assert territory.siren(place("commune:01015")) is None
    assert territory.siren(place("commune:00000")) is None
    assert territory.siren(place("epci:200046977")) == "200046977"
    assert territory.siren(place("epci:000000000")) is None
    assert territory.siren(place("departement:69")) is None


def test_communes_are_listed_by_departement_and_by_epci(territory: Territory) -> None:
    assert [found.code for found in territory.communes()] == ["69123", "01015", "01033", "01262"]
    assert [found.code for found in territory.communes_of("01")] == ["01015", "01033", "01262"]
    assert [found.code for found in territory.members_of("200046977")] == ["69123", "01262"]
    assert territory.communes_of("00") == territory.members_of("") == ()
    lyon = territory.commune("69123")
    assert lyon is not None
    assert (lyon.name, lyon.population) == ("Lyon", 520_774)


def test_every_place_of_a_type_is_listed(territory: Territory) -> None:
    listed = {type: [place.code for place in territory.places(type)] for type in PlaceType}
    assert listed == {
        PlaceType.COMMUNE: ["69123", "01015", "01033", "01262"],
        PlaceType.COMMUNE_DELEGUEE: ["01015", "01340"],
        PlaceType.COMMUNE_ASSOCIEE: ["01120"],
        PlaceType.ARRONDISSEMENT: ["69381"],
        PlaceType.EPCI: ["200046977"],
        PlaceType.DEPARTEMENT: ["01", "69"],
        PlaceType.REGION: ["84"],
        PlaceType.NATIONAL: ["FR"],
        PlaceType.ABROAD: [],
    }
    assert all(territory.knows(place) for type in PlaceType for place in territory.places(type))


def test_a_commune_lists_its_parts_of_each_kind(territory: Territory) -> None:
    deleguees = territory.parts_of("01015", PlaceType.COMMUNE_DELEGUEE)
    assert deleguees == (place("commune_deleguee:01015"), place("commune_deleguee:01340"))
    assert territory.parts_of("69123", PlaceType.ARRONDISSEMENT) == (place("arrondissement:69381"),)
    assert territory.parts_of("01015", PlaceType.COMMUNE_ASSOCIEE) == ()
    assert territory.divided == {"69123"}


def test_a_territory_cannot_be_changed(territory: Territory) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        territory.vintage = "2027"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (Region("84", "Again"), "region 84 stands twice"),
        (Departement("01", "Again", "84"), "departement 01 stands twice"),
        (Epci("200046977", "Again", "CC"), "epci 200046977 stands twice"),
        (commune("01015"), "commune 01015 stands twice"),
        (
            CommunePart(PlaceType.ARRONDISSEMENT, "69381", "Again", "69123"),
            "arrondissement 69381 stands twice",
        ),
        (Departement("02", "Aisne", "32"), "departement 02 names region 32, which is not there"),
        (commune("02001"), "commune 02001 names departement 02, which is not there"),
        (commune("01001", "200000000"), "commune 01001 names epci 200000000, which is not there"),
        (
            CommunePart(PlaceType.COMMUNE_DELEGUEE, "01002", "Lost", "01003"),
            "commune_deleguee 01002 names commune 01003, which is not there",
        ),
        (commune("01001", former=("01091",)), "former code 01091 leads to commune 01033 too"),
        (CommunePart(PlaceType.REGION, "01002", "Odd", "01015"), "is of a type that is no part of a commune"),
    ],
)
def test_rows_that_contradict_each_other_build_no_territory(row: Row, why: str) -> None:
    with pytest.raises(RuleBookError, match=why):
        Territory.build("2026", (*ROWS, row))


def test_the_row_that_is_refused_is_the_last_one_taken() -> None:
    taken: list[Row] = []

    def rows() -> Iterator[Row]:
        for row in (*ROWS[:4], ROWS[0], *ROWS[4:]):
            taken.append(row)
            yield row

    with pytest.raises(RuleBookError):
        Territory.build("2026", rows())
    assert len(taken) == 5
