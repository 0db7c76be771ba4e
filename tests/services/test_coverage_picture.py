"""The picture of coverage: a document that any reader of SVG takes, with a tile for each département."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hub.adapters.pictures.coverage import render
from hub.adapters.rules.territory import load_territory
from hub.domain.coverage import Coverage, DepartementCoverage, Figures, coverage
from hub.domain.identity import Subscriber
from hub.domain.rule_book import RuleBook
from hub.domain.rules import Competent, FactSpec, FactType, Procedure, Rule, Subscription
from hub.domain.territory import Level, Place, PlaceType
from tests.unit.samples import RECEIVED

VINTAGES = Path(__file__).parents[2] / "routing_rules" / "territory"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def savoie_only() -> Coverage:
    """Of the whole country, where one département alone subscribes."""
    told = Procedure(
        "APA",
        "Allocation & <aide>",
        {"commune": FactSpec("commune", FactType.PLACE, required=True)},
        (Rule("departement", "departement", Competent("commune", (Level.DEPARTEMENT,))),),
    )
    savoie = Subscription("APA", Subscriber("22730001700010", "73065"), Place(PlaceType.DEPARTEMENT, "73"))
    territory = load_territory(max(VINTAGES.glob("*.tsv.gz")))
    return coverage("APA", RuleBook.build([told], [savoie], territory), RECEIVED)


def drawn(*coverages: Coverage) -> ElementTree.Element:
    return ElementTree.fromstring(render(coverages))


def tiles(picture: ElementTree.Element) -> dict[str, tuple[str, str, str]]:
    """By code: the percentage, the colour, and what is said on hover."""
    found = {}
    for group in picture.iter(f"{SVG}g"):
        code, *share = ("".join(text.itertext()) for text in group.iter(f"{SVG}text"))
        (tile,) = group.iter(f"{SVG}rect")
        title = group.findtext(f"{SVG}title") or ""
        found[code] = ("".join(share), tile.attrib["fill"], title)
    return found


def test_every_departement_has_a_tile_and_no_two_stand_on_one_place(savoie_only: Coverage) -> None:
    picture = drawn(savoie_only)
    assert tiles(picture).keys() == {one.code for one in savoie_only.departements}
    places = [
        (rect.attrib["x"], rect.attrib["y"])
        for group in picture.iter(f"{SVG}g")
        for rect in group.iter(f"{SVG}rect")
    ]
    assert len(set(places)) == len(places)


def test_a_tile_says_its_share_by_colour_by_number_and_by_name(savoie_only: Coverage) -> None:
    found = tiles(drawn(savoie_only))
    share, colour, hover = found["73"]
    assert share == "100 %"
    assert hover.startswith("Savoie (73) : ")
    assert found["74"][0] == "0 %"
    assert found["74"][1] != colour
    assert "peut n’atteindre personne" in found["74"][2]


@pytest.mark.parametrize(("covered", "says"), [(0, "0 %"), (1, "< 1 %"), (999, "99 %"), (1000, "100 %")])
def test_only_a_whole_departement_is_whole_and_only_an_empty_one_empty(
    savoie_only: Coverage, covered: int, says: str
) -> None:
    figures = Figures(1000, covered, 1000 - covered, 0, 0, 0)
    told = replace(savoie_only, departements=(DepartementCoverage("73", "Savoie", figures),))
    assert tiles(drawn(told))["73"][0] == says


def test_the_picture_can_be_read_aloud_and_asks_for_nothing_from_outside(savoie_only: Coverage) -> None:
    picture = drawn(savoie_only)
    assert picture.attrib["role"] == "img"
    named = {picture.findtext(f"{SVG}{part}") for part in ("title", "desc")}
    assert all(named)
    text = render([savoie_only])
    assert not [word for word in ("<script", "href", "url(", "<style", "@import", " on") if word in text]
    assert text.count("://") == text.count("http://www.w3.org/2000/svg") == 1


def test_what_a_rule_file_says_cannot_break_the_picture(savoie_only: Coverage) -> None:
    title = 'x</text><script>alert("é")</script>\x00\x1b\ud800' + "long " * 40
    picture = drawn(replace(savoie_only, title=title))
    assert not list(picture.iter(f"{SVG}script"))
    assert "<script>" in (picture.findtext(f"{SVG}title") or "")
    assert "& <aide>" in (drawn(savoie_only).findtext(f"{SVG}title") or "")


def test_several_procedures_are_one_picture_of_their_sum(savoie_only: Coverage) -> None:
    whole = tuple(
        replace(one, figures=replace(one.figures, covered=one.figures.communes))
        for one in savoie_only.departements
    )
    picture = drawn(savoie_only, replace(savoie_only, departements=whole))
    found = tiles(picture)
    assert (found["73"][0], found["74"][0]) == ("100 %", "50 %")
    assert "2 démarches" in (picture.findtext(f"{SVG}title") or "")


def test_a_departement_of_a_later_vintage_gets_a_tile_below(savoie_only: Coverage) -> None:
    newer = (*savoie_only.departements, DepartementCoverage("6AE", "Alsace", Figures(1, 1, 0, 0, 0, 0)))
    found = tiles(drawn(replace(savoie_only, departements=newer)))
    assert found["6AE"][0] == "100 %"


def test_without_any_coverage_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no coverage"):
        render(())
