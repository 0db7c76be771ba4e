"""Multipart bodies (RFC 7578), part by part, as they come in: nothing is held, nothing touches a disk.

The parser pushes; whoever reads a part pulls. Between the two lie the pieces of one chunk of the body, so
a reader that is slow slows the sender down.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from hub.domain.errors import Flaw, Invalid

if TYPE_CHECKING:
    # A name for type checkers only: the library does not have it when it runs.
    from python_multipart.multipart import MultipartCallbacks


@dataclass(frozen=True, slots=True)
class _Began:
    name: str


@dataclass(frozen=True, slots=True)
class _Ended:
    pass


_Event = _Began | _Ended | bytes


class Parts:
    """The parts of one body. Read a part to its end before asking for the next one."""

    def __init__(self, chunks: AsyncIterator[bytes], boundary: bytes) -> None:
        """Raises Invalid for a boundary that is none."""
        if not 0 < len(boundary) <= 70:
            raise Invalid(Flaw("", "boundary", "a multipart body needs a boundary of 1 to 70 signs"))
        self._chunks = chunks
        self._events: deque[_Event] = deque()
        self._headers = _Headers()
        self._whole = False
        self._parser = MultipartParser(boundary, self._callbacks())
        # The parser writes what it did not expect, byte by byte, into its log.
        self._parser.logger = _silent()

    async def next(self) -> str | None:
        """The name of the next part, None after the last. Raises Invalid when the body is not well-formed or
        ends too early."""
        match await self._event():
            case _Began(name=name):
                return name
            case None:
                return None
            case _:
                raise AssertionError("the part before was not read to its end")

    async def body(self) -> AsyncIterator[bytes]:
        """The bytes of the part that was named last."""
        while isinstance(event := await self._event(), bytes):
            yield event

    async def _event(self) -> _Event | None:
        while not self._events:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                if not self._whole:
                    raise Invalid(Flaw("", "multipart", "the body ends before its last boundary"))
                return None
            try:
                self._parser.write(chunk)
            except FormParserError:
                raise Invalid(Flaw("", "multipart", "the body is not well-formed multipart")) from None
        return self._events.popleft()

    def _callbacks(self) -> MultipartCallbacks:
        headers = self._headers
        return {
            "on_part_begin": headers.clear,
            "on_header_field": headers.on_name,
            "on_header_value": headers.on_value,
            "on_header_end": headers.on_end,
            "on_headers_finished": lambda: self._events.append(_Began(headers.part_name())),
            "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
            "on_part_end": lambda: self._events.append(_Ended()),
            "on_end": self._on_end,
        }

    def _on_end(self) -> None:
        self._whole = True


class _Headers:
    """The headers of one part; the parser bounds their number and size."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._name = b""
        self._value = b""
        self._disposition = b""

    def on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def part_name(self) -> str:
        """Only the field's name: what the files are called stands in the submission."""
        kind, options = parse_options_header(self._disposition.decode("latin-1"))
        return options.get(b"name", b"").decode("latin-1") if kind == b"form-data" else ""


def _silent() -> logging.Logger:
    logger = logging.Logger("hub.multipart")
    logger.disabled = True
    return logger
