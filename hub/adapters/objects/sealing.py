"""Sealing files of any length: the STREAM construction, laid out like Tink's AES-GCM-HKDF streaming.

Business of this module: from plain bytes to sealed bytes and back, whole or by range. It does no I/O,
and knows nothing of where sealed bytes lie; a file's name is to it a text that the sealing is bound to.

    header    version (1 byte) · salt (32) · nonce prefix (7)
    segments  AES-256-GCM of SEGMENT plain bytes each, the last one shorter or equal; it is empty only
              in an empty file. Nonce: prefix · number of the segment (4 bytes) · 1 if last, else 0

A file's key is HKDF-SHA-256 of the data key, with the salt, bound to version, segment length and name.
So a segment opens in its own file, at its own place, and as the last one only if it is: bytes that were
changed, moved, cut off or appended do not open. What is opened is right where it stands; that nothing
is missing behind it is known once the last segment is opened, and a range that reaches the end, or
would go beyond it, always opens that one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hub.domain.errors import Tampered
from hub.ports.keyring import DataKey

VERSION = b"\x01"
SALT = 32
PREFIX = 7
HEADER = len(VERSION) + SALT + PREFIX
TAG = 16

# Shorter segments cost calls, longer ones make a small range dear; throughput is flat from here on.
SEGMENT = 256 * 1024
# Segments that are opened together.
RUN = 4


class Sealer:
    """Seals one file: every `feed` gives the sealed bytes that are ready, `finish` the rest.

    `name` must be given again to open it. Holds at most one segment, beside what it is fed.
    """

    __slots__ = ("_cipher", "_finished", "_header", "_held", "_number", "_prefix", "_segment")

    def __init__(self, key: DataKey, name: str, segment: int = SEGMENT) -> None:
        salt = os.urandom(SALT)
        self._prefix = os.urandom(PREFIX)
        self._header = VERSION + salt + self._prefix
        self._cipher = _cipher(key, name, salt, segment)
        self._segment = segment
        self._held = bytearray()
        self._number = 0
        self._finished = False

    def feed(self, chunk: bytes | bytearray) -> bytes:
        if self._finished:
            raise ValueError("this file is finished")
        self._held += chunk
        # A full segment is held back until more comes: only then is it known not to be the last one.
        whole = (len(self._held) - 1) // self._segment if self._held else 0
        ready = [self._begun()]
        with memoryview(self._held) as view:
            for at in range(0, whole * self._segment, self._segment):
                with view[at : at + self._segment] as plain:
                    ready.append(self._sealed(plain, last=False))
        del self._held[: whole * self._segment]
        return b"".join(ready)

    def finish(self) -> bytes:
        if self._finished:
            raise ValueError("this file is finished")
        self._finished = True
        return self._begun() + self._sealed(self._held, last=True)

    def _begun(self) -> bytes:
        header, self._header = self._header, b""
        return header

    def _sealed(self, plain: bytearray | memoryview, *, last: bool) -> bytes:
        nonce = _nonce(self._prefix, self._number, last)
        self._number += 1
        return self._cipher.encrypt(nonce, plain, None)


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive segments to be opened together: sealed bytes [start, end) of the file. Of their plain
    bytes, [skip, until) were asked for."""

    first: int
    start: int
    end: int
    skip: int
    until: int


class Opener:
    """Opens one sealed file, whose first HEADER bytes and whole length are given. `size`: plain bytes.

    Raises Tampered for a header or a length that no sealed file has.
    """

    __slots__ = ("_cipher", "_last", "_prefix", "_sealed_size", "_segment", "size")

    def __init__(
        self, key: DataKey, name: str, header: bytes, sealed_size: int, segment: int = SEGMENT
    ) -> None:
        if len(header) != HEADER or not header.startswith(VERSION):
            raise Tampered
        self._segment = segment
        self._sealed_size = sealed_size
        self.size, self._last = _plain_size(sealed_size, segment)
        salt = header[len(VERSION) : len(VERSION) + SALT]
        self._prefix = header[len(VERSION) + SALT :]
        self._cipher = _cipher(key, name, salt, segment)

    def runs(self, start: int = 0, end: int | None = None, at_most: int = RUN) -> Iterator[Run]:
        """What must be opened for the plain bytes [start, end), in order, `at_most` segments at a time.

        Bytes beyond the end of the file are not there and no error, as in a slice.
        """
        if start < 0:
            raise ValueError("a range begins at 0 or later")
        stop = self.size if end is None else min(end, self.size)
        start = min(start, stop)
        if end is None or end >= self.size:
            until = self._last
        elif start == stop:
            return
        else:
            until = (stop - 1) // self._segment
        for first in range(min(start // self._segment, until), until + 1, at_most):
            last = min(first + at_most - 1, until)
            before = first * self._segment
            yield Run(
                first=first,
                start=HEADER + first * (self._segment + TAG),
                end=min(HEADER + (last + 1) * (self._segment + TAG), self._sealed_size),
                skip=max(0, start - before),
                until=min(stop - before, (last + 1 - first) * self._segment),
            )

    def open(self, run: Run, sealed: bytes) -> bytes:
        """The plain bytes of this run that were asked for. Raises Tampered."""
        if len(sealed) != run.end - run.start:
            raise Tampered
        step = self._segment + TAG
        opened: list[bytes] = []
        with memoryview(sealed) as view:
            for number, at in enumerate(range(0, len(sealed), step), run.first):
                nonce = _nonce(self._prefix, number, number == self._last)
                with view[at : at + step] as segment:
                    opened.append(self._opened(nonce, segment))
        plain = b"".join(opened)
        return plain[run.skip : run.until]

    def _opened(self, nonce: bytes, segment: memoryview) -> bytes:
        try:
            return self._cipher.decrypt(nonce, segment, None)
        except InvalidTag:
            raise Tampered from None


def opening(start: int, end: int | None) -> int:
    """How many of a file's first sealed bytes to ask for before anything is known of it: its header, and
    the first run where the range begins in the first segment."""
    if start >= SEGMENT or end == 0:
        return HEADER
    segments = RUN if end is None else min(-(-end // SEGMENT), RUN)
    return HEADER + segments * (SEGMENT + TAG)


def _plain_size(sealed_size: int, segment: int) -> tuple[int, int]:
    """How many plain bytes, and the number of the last segment. Raises Tampered."""
    body = sealed_size - HEADER
    if body < TAG:
        raise Tampered
    last, rest = divmod(body - 1, segment + TAG)
    # A last segment without a byte in it would be a second way to seal the same file.
    if rest + 1 < TAG or (last > 0 and rest + 1 == TAG):
        raise Tampered
    return body - (last + 1) * TAG, last


def _cipher(key: DataKey, name: str, salt: bytes, segment: int) -> AESGCM:
    info = b"aiguillage/attachment/" + VERSION + segment.to_bytes(4, "big") + name.encode()
    return AESGCM(HKDF(SHA256(), 32, salt=salt, info=info).derive(key.plain))


def _nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
