"""Records of what was set aside: between what is told of an unreadable record and the published Avro schema."""

from __future__ import annotations

import dataclasses

from hub.ports.log import Record
from hub.ports.shelf import Unreadable
from hub.wire.avro import decode, encode

SET_ASIDE = "set_aside.v1"


def write_unreadable(told: Unreadable) -> Record:
    """Keyed by where it lies: what is told of one partition stays in order."""
    key = f"{told.topic} {told.partition}".encode()
    return Record(key, SET_ASIDE, encode(SET_ASIDE, dataclasses.asdict(told)))


def read_unreadable(record: Record) -> Unreadable:
    """Raises Invalid for bytes that are no such record."""
    return Unreadable(**decode(SET_ASIDE, record))
