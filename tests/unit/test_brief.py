"""A submission in brief, and decisions written in parts: the same as what they are short for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.errors import Invalid
from hub.domain.matching import chosen, decide
from hub.domain.rule_book import Snapshot
from hub.domain.submission import AttachmentFacts, Brief, RoutingFacts
from hub.wire import DecisionWriter, SubmissionReader, write_decision, write_submission
from hub.wire.brief import write_brief
from tests.unit.random_worlds import INSTANTS, case
from tests.unit.test_matching_properties import book

WORDS = st.text("abcXYZ019_.-", min_size=1, max_size=8)
FILES = st.lists(
    st.tuples(st.integers(1, 99), WORDS, st.none() | st.lists(WORDS, max_size=3).map(tuple)), max_size=5
).map(lambda told: tuple(AttachmentFacts(*one) for one in told))
FACTS = st.builds(
    RoutingFacts,
    submission=st.uuids(),
    sender=WORDS,
    procedure=WORDS,
    facts=st.dictionaries(
        WORDS, st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), max_size=6
    ),
    attachments=FILES,
    received_at=st.datetimes(
        datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC), allow_imaginary=False
    ),
)


def brief(facts: RoutingFacts) -> Brief:
    return Brief(facts.procedure, facts.facts, facts.attachments, facts.received_at)


@given(FACTS)
def test_a_brief_says_what_matching_asks_of_the_record(facts: RoutingFacts) -> None:
    record = write_submission(facts)
    assert record.brief
    assert SubmissionReader().read(record) == brief(facts)
    assert SubmissionReader().read(record._replace(brief=b"")) == facts


@given(st.lists(FACTS, min_size=2, max_size=5))
def test_what_one_reader_kept_of_other_submissions_changes_no_brief(several: Sequence[RoutingFacts]) -> None:
    reader = SubmissionReader()
    for facts in [*several, *several]:
        assert reader.read(write_submission(facts)) == brief(facts)


PLAIN = RoutingFacts(
    UUID(int=7), "psl", "P", {"a": "b"}, (AttachmentFacts(1, "t"),), datetime(2026, 3, 1, 12, tzinfo=UTC)
)


@pytest.mark.parametrize(
    "change",
    [
        {"facts": {"a": "two\nlines"}},
        {"procedure": "P\nQ"},
        {"attachments": (AttachmentFacts(1, "a;2 b"),)},
        {"attachments": (AttachmentFacts(1, ""),)},
        {"attachments": (AttachmentFacts(1, "t", ("a,b",)),)},
        {"attachments": (AttachmentFacts(1, "t", ("",)),)},
        {"attachments": (AttachmentFacts(1, "t>"),)},
    ],
    ids=["value", "procedure", "semicolon", "no type", "comma", "no recipient", "sign"],
)
def test_what_lines_cannot_say_has_no_brief_and_is_read_from_the_record(change: dict[str, object]) -> None:
    facts = RoutingFacts(
        **{name: change.get(name, getattr(PLAIN, name)) for name in RoutingFacts.__slots__}  # type: ignore[arg-type]
    )
    record = write_submission(facts)
    assert not record.brief
    assert SubmissionReader().read(record) == facts


HOSTILE = [
    b"\xff",
    b"2026-03-01T12:00:00+00:00",
    b"2026-03-01T12:00:00+00:00\nP",
    b"2026-03-01T12:00:00\nP\n",
    b"2026-03-01T12:00:00+01:00\nP\n",
    b"then\nP\n",
    b"2026-03-01T12:00:00+00:00\nP\n\nname",
    b"2026-03-01T12:00:00+00:00\nP\none",
    b"2026-03-01T12:00:00+00:00\nP\n1 ",
    b"2026-03-01T12:00:00+00:00\nP\nx t",
]


@pytest.mark.parametrize("told", HOSTILE)
def test_a_brief_that_is_none_is_not_believed(told: bytes) -> None:
    record = write_submission(PLAIN)._replace(brief=told)
    assert SubmissionReader().read(record) == PLAIN
    with pytest.raises(Invalid):
        SubmissionReader().read(record._replace(value=b"?"))


def test_a_brief_whose_key_is_no_submissions_is_not_believed() -> None:
    with pytest.raises(Invalid):
        SubmissionReader().read(write_submission(PLAIN)._replace(key=b"7"))


def test_a_time_of_another_zone_is_told_in_utc() -> None:
    told = write_brief(PLAIN)
    there = PLAIN.received_at.astimezone(datetime.now().astimezone().tzinfo) + timedelta(0)
    assert (
        write_brief(RoutingFacts(PLAIN.submission, "psl", "P", PLAIN.facts, PLAIN.attachments, there)) == told
    )


def test_a_decision_written_in_parts_is_the_one_that_would_be_written_whole() -> None:
    """Twice each, so that parts that were kept are used; and by two snapshots in turn."""
    for seed in range(0, 300, 20):
        made = case(seed)
        those = [Snapshot(number, INSTANTS[0], book(made.world)) for number in (3, 4)]
        writer = DecisionWriter()
        for snapshot in (*those, *those):
            for one in made.submissions:
                found = chosen(one, snapshot.book)
                told = writer.write(one.submission.bytes, snapshot.number, found, one.attachments)
                assert told == write_decision(decide(one, snapshot)), f"seed {seed}"
