"""Names can be computed again from what they name, and only from that."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from hub.domain.identity import ParcelKind, Subscriber, delivery_id, submission_id

TEXT = st.text(max_size=20)


def test_names_are_the_same_for_ever() -> None:
    """Rows in the field bear these names: a change here would deliver everything twice."""
    assert submission_id("psl", "A-9-X3UGO4V7") == UUID("646b4468-2d27-5041-8a16-f5c75ff5d7f0")
    name = delivery_id(
        submission_id("psl", "A-9-X3UGO4V7"),
        Subscriber("21740042390019", "74042"),
        ParcelKind.SUBMISSION,
        1,
    )
    assert name == UUID("3ce53a7d-ea59-55cb-b2b2-267da947909c")


@given(TEXT, TEXT, TEXT, TEXT)
def test_two_names_are_equal_only_for_equal_parts(a: str, b: str, c: str, d: str) -> None:
    assert (submission_id(a, b) == submission_id(c, d)) == ((a, b) == (c, d))


def test_a_separator_inside_a_part_names_something_else() -> None:
    assert submission_id('a","b', "c") != submission_id("a", 'b","c')


def test_another_revision_is_another_delivery() -> None:
    submission = submission_id("psl", "1")
    one = Subscriber("21740042390019", "74042")
    assert delivery_id(submission, one, ParcelKind.SUBMISSION, 1) != delivery_id(
        submission, one, ParcelKind.SUBMISSION, 2
    )


def test_a_subscriber_reads_as_it_is_written() -> None:
    one = Subscriber("21740042390019", "2A004")
    assert Subscriber.parse(str(one)) == one
