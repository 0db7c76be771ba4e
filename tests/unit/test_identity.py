"""Names can be computed again from what they name, and only from that."""

from __future__ import annotations

import json
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.identity import ParcelKind, Subscriber, delivery_id, submission_id

TEXT = st.text(max_size=20)


def test_names_are_the_same_for_ever() -> None:
    """Rows in the field bear these names: a change here would deliver everything twice."""
    assert submission_id("psl", "A-9-X3UGO4V7") == UUID("646b4468-2d27-5041-8a16-f5c75ff5d7f0")
    assert submission_id('a"b\\', "é\n") == UUID("e84d6ab1-462b-55df-90ce-4fba664fc04f")
    name = delivery_id(
        submission_id("psl", "A-9-X3UGO4V7"),
        Subscriber("21740042390019", "74042"),
        ParcelKind.SUBMISSION,
        1,
    )
    assert name == UUID("3ce53a7d-ea59-55cb-b2b2-267da947909c")


@pytest.mark.parametrize(
    ("submission", "subscriber", "revision", "name"),
    [
        (0, Subscriber("35600000000048", "2A004"), 12, "d2279f00-2af8-56d3-8227-672339929a94"),
        (2**128 - 1, Subscriber("21740042390019", "74042"), 1, "baa246f6-3f46-57d8-b1eb-cfd4aced40de"),
        (0, Subscriber("21740042390019", "é-Ω\U0001f600"), 1, "8889df34-542f-5e5a-bb29-ea6cae0f8058"),
        (0, Subscriber('2"1\\4', '\x00\x1f\x7f"\\/<'), 1, "94210431-1ccc-58c2-9b72-0fcd180141f1"),
        (0, Subscriber("", ""), 12, "546fc87f-11f8-5899-95bf-e0aadabbacf9"),
        (0, Subscriber("1", "\ud800x"), 1, "296d14a0-290c-54ca-8ff8-12b2ffe20b04"),
    ],
)
def test_a_delivery_s_name_is_the_same_for_ever_whatever_its_parts_are_written_with(
    submission: int, subscriber: Subscriber, revision: int, name: str
) -> None:
    named = delivery_id(UUID(int=submission), subscriber, ParcelKind.SUBMISSION, revision)
    assert named == UUID(name)


@given(st.uuids(), TEXT, TEXT, st.integers(1, 10**6))
def test_a_delivery_s_name_is_a_uuid_of_version_5_over_a_json_list(
    submission: UUID, siret: str, branch: str, revision: int
) -> None:
    listed = json.dumps(
        ["delivery", str(submission), siret, branch, "submission", revision], separators=(",", ":")
    )
    named = delivery_id(submission, Subscriber(siret, branch), ParcelKind.SUBMISSION, revision)
    assert named == uuid5(UUID("6f1d3c0e-2a5b-5c7d-9e8f-1a2b3c4d5e6f"), listed)
    assert named.version == 5


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
