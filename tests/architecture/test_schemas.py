"""Avro files and pydantic models tell the same records."""

from __future__ import annotations

import io
import types
import typing
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import fastavro
import pytest
from pydantic import BaseModel

from hub.domain.decisions import Decision, Reason, Recipient, Routed, SetAside, Unroutable
from hub.domain.errors import Invalid
from hub.domain.identity import Subscriber
from hub.domain.submission import AttachmentFacts, RoutingFacts
from hub.ports.log import Record
from hub.wire import read_decision_record, read_submission_record, write_decision, write_submission
from schemas.avro import published, schema
from schemas.models.records import DecisionRecord, JournalRecord, SubmissionRecord

MODELS: dict[str, type[BaseModel]] = {
    "submission.v1": SubmissionRecord,
    "decision.v1": DecisionRecord,
    "decision.v2": DecisionRecord,
    "journal.v1": JournalRecord,
}
SUCCEEDED = {"decision.v1"}
PLAIN = {"string": str, "int": int, "boolean": bool}


def test_every_published_schema_has_a_model() -> None:
    assert set(published()) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_schema_and_model_have_the_same_fields_of_the_same_types(name: str) -> None:
    _same(schema(name), MODELS[name], name)


def _same(avro: Any, model: Any, where: str) -> None:
    origin = typing.get_origin(model)
    match avro:
        case {"type": "record", "fields": fields}:
            assert issubclass(model, BaseModel), where
            names = [field["name"] for field in fields]
            # A later version may have added fields, for which an older record has the default.
            older = where.partition(".recipients")[0] in SUCCEEDED
            assert names == [
                name
                for name, told in model.model_fields.items()
                if name in names or not older or told.is_required()
            ], where
            for field in fields:
                told = model.model_fields[field["name"]]
                _same(field["type"], told.annotation, f"{where}.{field['name']}")
                assert ("default" in field) == (not told.is_required()), f"{where}.{field['name']}"
        case {"type": "array", "items": items}:
            assert origin is list, where
            _same(items, typing.get_args(model)[0], f"{where}[]")
        case {"type": "map", "values": values}:
            assert origin is dict, where
            _same(values, typing.get_args(model)[1], f"{where}{{}}")
        case {"type": "enum", "symbols": symbols}:
            assert list(typing.get_args(model)) == symbols, where
        case {"logicalType": "uuid"}:
            assert model is UUID, where
        case {"logicalType": "timestamp-micros"}:
            assert model is datetime, where
        case ["null", other]:
            assert origin in (types.UnionType, typing.Union), where
            _same(other, next(each for each in typing.get_args(model) if each is not type(None)), where)
        case str():
            assert PLAIN[avro] is model, where
        case _:
            raise AssertionError(f"{where}: unknown construction")


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
    Decision(FACTS.submission, 1, 3, Routed((RECIPIENT,)), (uuid4(),)),
    Decision(FACTS.submission, 1, 3, Routed((RECIPIENT._replace(mailbox=True),)), (uuid4(),)),
    Decision(FACTS.submission, 1, 3, Unroutable(("mairie: nobody",))),
    Decision(FACTS.submission, 2, 0, SetAside("unreadable_record")),
]


def test_a_submission_record_reads_as_it_was_written() -> None:
    assert read_submission_record(write_submission(FACTS)) == FACTS


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_record_reads_as_it_was_written(decision: Decision) -> None:
    assert read_decision_record(write_decision(decision)) == decision


def test_a_decision_written_by_the_former_schema_is_read_still() -> None:
    routed = DECISIONS[0]
    delivery, recipient = next(routed.named())
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
    fastavro.schemaless_writer(out, schema("decision.v1"), told)
    assert read_decision_record(Record(routed.submission.bytes, "decision.v1", out.getvalue())) == routed


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
