"""Avro bytes of the published schemas. fastavro checks what it is given and what it finds against them."""

from __future__ import annotations

import io
from typing import Any

import fastavro

from hub.domain.errors import Flaw, Invalid
from hub.ports.log import Record
from schemas.avro import schema


def encode(name: str, told: Any) -> bytes:
    """By the published schema of this name."""
    return encode_part(schema(name), told)


def encode_part(avro: Any, told: Any) -> bytes:
    """By a schema that may be a part of a published one."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, avro, told)
    return out.getvalue()


def decode(name: str, record: Record) -> Any:
    """Raises Invalid for bytes that are no such record."""
    if record.schema != name:
        raise Invalid(Flaw("", "schema", f"not a {name} record"))
    source = io.BytesIO(record.value)
    try:
        told = fastavro.schemaless_reader(source, schema(name), None)
    except Exception:  # fastavro raises many kinds on hostile bytes, and quotes them
        raise Invalid(Flaw("", "avro", f"these bytes are no {name} record")) from None
    if source.read(1):
        raise Invalid(Flaw("", "avro", "bytes are left over"))
    return told
