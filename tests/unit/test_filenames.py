"""Names of files, as hostile as they come."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.filenames import safe_name, safe_names


@pytest.mark.parametrize(
    ("original", "safe"),
    [
        ("acte.pdf", "acte.pdf"),
        ("Liste des pièces jointes (2).pdf", "Liste des pièces jointes (2).pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\x00b.pdf", "ab.pdf"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("LPT1.pdf", "_LPT1.pdf"),
        ("facture\u202efdp.exe", "facturefdp.exe"),
        ("a\r\nX-Header: b.pdf", "aX-Header_ b.pdf"),
        ("..", "file"),
        ("", "file"),
        ("/", "file"),
        (". . .", "file"),
        ("nom.", "nom"),
        ("$(rm -rf ~).sh", "_(rm -rf _).sh"),
        ("e\u0301tat.xml", "état.xml"),
    ],
)
def test_a_name_becomes_safe(original: str, safe: str) -> None:
    assert safe_name(original) == safe


def test_a_name_of_300_characters_keeps_its_extension() -> None:
    name = safe_name("é" * 300 + ".pdf")
    assert name.endswith(".pdf")
    assert len(name.encode()) <= 120


@given(st.text(max_size=400))
def test_whatever_the_name_one_harmless_component_comes_out(original: str) -> None:
    name = safe_name(original)
    assert name
    assert name not in {".", ".."}
    assert not re.search(r"[/\\\x00-\x1f\x7f:*?\"<>|~$`&;]", name)
    assert not name.startswith((".", " "))
    assert not name.endswith((".", " "))
    assert len(name.encode()) <= 130
    assert all(unicodedata.category(sign) not in {"Cf", "Cc", "Cs"} for sign in name)
    assert safe_name(name) == name


@given(st.lists(st.text("aAé./", max_size=4), max_size=12))
def test_names_are_unique_in_a_parcel_whatever_the_case(originals: list[str]) -> None:
    names = safe_names(enumerate(originals, start=1))
    assert len({name.casefold() for name in names.values()}) == len(originals)
    assert names == safe_names(enumerate(originals, start=1))


def test_no_file_takes_the_name_of_the_hubs_own_description() -> None:
    assert safe_names([(1, "Submission.JSON")]) == {1: "1-Submission.JSON"}
