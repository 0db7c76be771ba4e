"""The published Avro schemas: each newer version reads what older ones wrote; what the hub writes, it reads."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import fastavro
import pytest

from hub.domain.decisions import Decision, Reason, Recipient, Routed, SetAside, Unroutable
from hub.domain.errors import Invalid
from hub.domain.identity import Subscriber
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.ports.log import Record
from hub.wire import read_decision_record, read_submission_record, write_decision, write_submission
from schemas.avro import published, schema

FACTS = RoutingFacts(
    uuid4(),
    "psl",
    "CERTDC",
    {"commune_deces": "74042"},
    (AttachmentFacts(1, "DD", None), AttachmentFacts(2, "VA", ("mairie",)), AttachmentFacts(3, "VA", ())),
    datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
)
RECIPIENT = Recipient(
    Subscriber("21740042390019", "74042"), (2,), (Reason("mairie", "mairie", None, ("a", "b")),)
)
DECISIONS = [
    Decision.first(FACTS.submission, 3, Routed((RECIPIENT,))),
    Decision.first(FACTS.submission, 3, Routed((RECIPIENT._replace(mailbox=True), RECIPIENT))),
    Decision.first(FACTS.submission, 3, Unroutable(("mairie: nobody",))),
    Decision.first(FACTS.submission, 0, SetAside("unreadable_record")),
]


def test_a_submission_record_reads_as_it_was_written() -> None:
    assert read_submission_record(write_submission(FACTS)) == FACTS


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_record_reads_as_it_was_written(decision: Decision) -> None:
    assert read_decision_record(write_decision(decision)) == decision


@pytest.mark.parametrize("former", ["decision.v1", "decision.v2"])
def test_a_decision_written_by_a_former_schema_is_read_still_with_the_names_it_says(former: str) -> None:
    recipient, delivery = RECIPIENT, uuid4()
    routed = Decision(FACTS.submission, 1, 3, Routed((recipient,)), (delivery,))
    reason = recipient.reasons[0]
    told = {
        "submission": str(routed.submission),
        "number": 1,
        "snapshot": 3,
        "verdict": "routed",
        "explanation": [],
        "recipients": [
            {
                "delivery": str(delivery),
                "siret": recipient.subscriber.siret,
                "branch": recipient.subscriber.branch,
                "attachments": [2],
                "reasons": [{**reason._asdict(), "steps": list(reason.steps)}],
            }
        ],
    }
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema(former), told)
    assert read_decision_record(Record(routed.submission.bytes, former, out.getvalue())) == routed


def test_a_decision_names_its_submission_by_the_key_alone() -> None:
    record = write_decision(DECISIONS[0])
    other = read_decision_record(record._replace(key=uuid4().bytes))
    assert other.verdict == DECISIONS[0].verdict
    assert set(other.deliveries).isdisjoint(DECISIONS[0].deliveries)
    with pytest.raises(Invalid):
        read_decision_record(record._replace(key=record.key[:-1]))


def _versions(name: str) -> tuple[str, int]:
    family, _, number = name.partition(".v")
    return family, int(number)


def _example(avro: Any) -> Any:
    """Something that every writer of this schema could have written."""
    match avro:
        case {"type": "record", "fields": fields}:
            return {field["name"]: _example(field["type"]) for field in fields}
        case {"type": "array", "items": items}:
            return [_example(items), _example(items)]
        case {"type": "map", "values": values}:
            return {"a": _example(values)}
        case {"type": "enum", "symbols": symbols}:
            return symbols[-1]
        case {"logicalType": "uuid"}:
            return str(UUID(int=5))
        case {"logicalType": "timestamp-micros"}:
            return datetime(2026, 1, 1, tzinfo=UTC)
        case ["null", other]:
            return _example(other)
        case [first, *_]:
            return _example(first)
        case _:
            return {"string": "é", "int": 7, "long": 7, "bytes": b"\0", "boolean": True}[avro]


@pytest.mark.parametrize("newer", sorted(published()))
def test_a_newer_version_of_a_schema_reads_what_each_older_one_wrote(newer: str) -> None:
    """With Avro's own resolution, as any reader with a schema registry does it."""
    family, number = _versions(newer)
    for older in (name for name in published() if _versions(name)[0] == family):
        if _versions(older)[1] > number:
            continue
        written = io.BytesIO()
        fastavro.schemaless_writer(written, schema(older), _example(schema(older)))
        written.seek(0)
        told = fastavro.schemaless_reader(written, schema(older), schema(newer))
        fastavro.schemaless_writer(io.BytesIO(), schema(newer), told)
        assert isinstance(told, dict)
        assert set(told) == {field["name"] for field in schema(newer)["fields"]}


def test_bytes_that_are_no_record_are_refused_without_quoting_them() -> None:
    good = write_submission(FACTS)
    hostile = [
        b"",
        b"\xff" * 40,
        good.value[:-1],
        good.value + b"\0",
        b"\x48" + good.value,
        b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f",
    ]
    for value in hostile:
        with pytest.raises(Invalid) as caught:
            read_submission_record(Record(good.key, good.schema, value))
        assert "psl" not in str(caught.value)
    with pytest.raises(Invalid):
        read_submission_record(Record(good.key, "decision.v1", good.value))
    with pytest.raises(Invalid):
        read_submission_record(good._replace(key=uuid4().bytes))
