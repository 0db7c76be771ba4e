"""Checking what a sender says, flaw by flaw."""

from __future__ import annotations

import pytest

from hub.domain.document import OfferedFile
from hub.domain.errors import Invalid
from hub.domain.facts import check
from tests.unit.samples import procedure, territory


def file(type: str = "VA", recipients: tuple[str, ...] | None = None, number: int = 1) -> OfferedFile:
    return OfferedFile(number, "acte.pdf", type, "application/pdf", 3, "ab" * 32, recipients)


def flaws(facts: dict[str, str], *files: OfferedFile) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        check(procedure(), facts, files, territory())
    for flaw in caught.value.flaws:
        for value in facts.values():
            assert value not in flaw.detail
            assert value not in str(caught.value)
    return [(flaw.field, flaw.rule) for flaw in caught.value.flaws]


def test_what_is_in_order_passes() -> None:
    checked = check(procedure(), {"commune": "74042", "nature": "a"}, [file()], territory())
    assert checked.mapped == ()
    assert checked.for_nobody == ()


def test_a_former_code_is_mapped_and_told() -> None:
    checked = check(procedure(), {"commune": "74092"}, [], territory())
    ((fact, given, resolution),) = checked.mapped
    assert (fact, given, str(resolution.place)) == ("commune", "74092", "commune:74042")


def test_a_place_abroad_is_no_error() -> None:
    assert check(procedure(), {"commune": "99109"}, [], territory()).mapped == ()


@pytest.mark.parametrize("code", ["00000", "7404", "x" * 5, "commune_deleguee:74042", "nowhere:1", "epci:"])
def test_a_code_that_never_existed_is_a_flaw(code: str) -> None:
    assert flaws({"commune": code}) == [("/facts/commune", "unknown_place")]


def test_every_flaw_is_told_at_once() -> None:
    assert flaws(
        {"loueur": "11001401600016", "nature": "zz9", "colour": "red-value"},
        file("XX"),
        file("VA", ("nobody",), 2),
    ) == [
        ("/facts/commune", "required"),
        ("/facts/loueur", "siret"),
        ("/facts/nature", "value"),
        ("/facts/colour", "unknown_fact"),
        ("/attachments/0/type", "unknown_type"),
        ("/attachments/1/recipients/0", "unknown_recipient"),
    ]


def test_a_file_that_nobody_may_get_is_told() -> None:
    files = [file("ZZ"), file("DD", ("mairie",), 2), file("VA", number=3), file("VA", (), 4)]
    assert check(procedure(), {"commune": "74042"}, files, territory()).for_nobody == (1, 2, 4)
