"""The canonical document: equal content, equal bytes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub.domain.document import Document, OfferedFile, canonical

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FILE = OfferedFile(1, "acte.pdf", "VA", "application/pdf", 3, "ab" * 32, ("mairie", "national"))


def document(content: dict[str, Any] | None = None, file: OfferedFile = FILE) -> Document:
    return Document("CERTDC", {"b": "2", "a": "1"}, {"last_name": "X"}, content, (file,))


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_document_reads_as_it_was_written(content: dict[str, Any]) -> None:
    written = document(content).canonical()
    assert Document.parse(written).canonical() == written


def test_the_order_of_names_and_recipients_says_nothing() -> None:
    other = OfferedFile(
        1, "acte.pdf", "VA", "application/pdf", 3, "ab" * 32, ("national", "mairie", "mairie")
    )
    mine = Document("CERTDC", {"a": "1", "b": "2"}, {"last_name": "X"}, None, (other,))
    assert mine.canonical() == document().canonical()


def test_any_difference_is_a_difference() -> None:
    others = [
        document({"a": 1}),
        document({}),
        document(
            file=OfferedFile(1, "acte.pdf", "VA", "application/pdf", 3, "cd" * 32, ("mairie", "national"))
        ),
        document(
            file=OfferedFile(1, "autre.pdf", "VA", "application/pdf", 3, "ab" * 32, ("mairie", "national"))
        ),
        document(file=OfferedFile(1, "acte.pdf", "VA", "application/pdf", 3, "ab" * 32)),
    ]
    assert len({each.canonical() for each in [document(), *others]}) == 6


def test_a_lone_surrogate_does_not_break_it() -> None:
    text = canonical({"a": "\ud800"})
    assert b"\\ud800" in text


def test_personal_data_does_not_show_in_a_repr() -> None:
    text = repr(document({"motif": "secret"}))
    assert "secret" not in text
    assert "acte.pdf" not in text
    assert "last_name" not in text
