"""Which schema the value of a record has: named in a header, or by its number before the value.

Business of this file: the two forms. With a schema registry, the hub writes values in the Confluent wire format: a
zero byte, the schema's number there (four bytes, the highest first), the value; and the header `schema` says
`registry`. Without one, the header names the schema and the value stands alone. A hub with a registry reads both.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from hub.domain.errors import SettingsError
from hub.ports.log import Record
from hub.ports.schemas import SchemaRegistry

SCHEMA = "schema"
"""The header that names the schema of a record's value."""

BRIEF = "brief"
"""The header that says in short what the value says."""

Headers = Sequence[tuple[str, bytes | None]]

_BY_NUMBER = b"registry"
_FRAME = struct.Struct(">bi")
_FRAMED = _FRAME.size
_MAGIC = 0
_UNKNOWN = ""

_AT_ONCE = 8
_MOST_STRANGERS = 10_000


_new = tuple.__new__
"""A named tuple's own constructor costs three times as much."""


class Unlearned(Exception):
    """The registry has not been asked about a number yet."""


class Framing:
    """`registry` None: schemas are named in headers, and a value that has a number is not read. What the registry
    said is kept for as long as this lives, but for numbers that say nothing to the hub when there are many."""

    def __init__(self, registry: SchemaRegistry | None = None) -> None:
        self._registry = registry
        self._forms: dict[str, tuple[bytes, Headers]] = {}
        self._names: dict[bytes, str] = {}
        self._strangers: set[int] = set()
        self._ready = registry is None
        self._learning = asyncio.Lock()

    async def prepare(self) -> None:
        """To be awaited before the first `dress`: the numbers of the hub's own schemas. Raises Unavailable,
        SettingsError."""
        async with self._learning:
            if self._ready or self._registry is None:
                return
            for name, number in (await self._registry.ids()).items():
                frame = _FRAME.pack(_MAGIC, number)
                self._forms[name] = (frame, [(SCHEMA, _BY_NUMBER)])
                self._names[frame] = name
            self._ready = True

    def form(self, schema: str) -> tuple[bytes, Headers]:
        """What stands before a value of this schema, and the headers that say so. One that was never published is
        named in the header."""
        form = self._forms.get(schema)
        if form is None:
            form = self._forms[schema] = (b"", [(SCHEMA, schema.encode())])
        return form

    def dress(self, record: Record) -> tuple[bytes, Headers]:
        """Value and headers as they are written."""
        frame, headers = self.form(record.schema)
        if record.brief:
            # A list: the library takes nothing else.
            headers = [*headers, (BRIEF, record.brief)]
        return frame + record.value if frame else record.value, headers

    def undress(self, key: bytes | None, value: bytes | None, headers: Headers) -> Record:
        """A record as it was before it was dressed; with the schema "" where what is there names none of the
        hub's. Raises Unlearned; SettingsError for one with a number, where there is no registry."""
        named: bytes | None = None
        brief = b""
        for name, said in headers:
            if name == SCHEMA:
                named = said
            elif name == BRIEF:
                brief = said or b""
        if named is not None and named != _BY_NUMBER:
            return _new(Record, (key or b"", named.decode("utf-8", "replace"), value or b"", brief))
        known = self._names.get(value[:_FRAMED]) if value else None
        if value is None or known is None:
            self._refuse_or_ask(named, value)
            return Record(key or b"", _UNKNOWN, value or b"", brief)
        return _new(Record, (key or b"", known, value[_FRAMED:], brief))

    def _refuse_or_ask(self, named: bytes | None, value: bytes | None) -> None:
        """Nothing, if this value names no schema of the hub's and never will."""
        if self._registry is not None:
            if self._numbers([value]) - self._strangers:
                raise Unlearned
        elif named is not None:
            raise SettingsError(
                "a record of the log names its schema by a number of a schema registry, and none is"
                " set: HUB_SCHEMA_REGISTRY says where it is found"
            )

    def _numbers(self, values: Iterable[bytes | None]) -> set[int]:
        """In the frames of these values, but for those that are known to stand for a schema of the hub's."""
        frames = {value[:_FRAMED] for value in values if value and len(value) >= _FRAMED}
        numbers = (_FRAME.unpack(frame) for frame in frames - self._names.keys())
        return {number for magic, number in numbers if magic == _MAGIC and number > 0}

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """Asks the registry for the numbers of these that it was not asked for yet. Raises Unavailable,
        SettingsError."""
        async with self._learning:
            turn = asyncio.Semaphore(_AT_ONCE)
            await asyncio.gather(*(self._ask(one, turn) for one in self._numbers(values) - self._strangers))

    async def _ask(self, number: int, turn: asyncio.Semaphore) -> None:
        assert self._registry is not None
        async with turn:
            name = await self._registry.name(number)
        if name is not None:
            self._names[_FRAME.pack(_MAGIC, number)] = name
            return
        if len(self._strangers) >= _MOST_STRANGERS:
            self._strangers.clear()
        self._strangers.add(number)

    async def read(self, key: bytes | None, value: bytes | None, headers: Any) -> Record:
        """One record, for who has no page to learn of. Raises Unavailable, SettingsError."""
        while True:
            try:
                return self.undress(key, value, headers or ())
            except Unlearned:
                await self.learn([value])
