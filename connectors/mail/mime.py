"""A mail as bytes: headers, a text with its HTML, files (RFC 5322, 2045, 2047, 2231, 6532).

Business of this file: that whatever stands in a text or a name can add no header and no part, and that the same mail
is the same bytes. Written out here because the standard library takes as long for a mail as a server does to take it;
what is written, it reads again (see the tests). It knows no French and no parcel.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

_SHORT = 68
_PIECE = 39
"""Bytes of a text in one encoded word: with the longest header's name, less than 76 signs in a line."""
_LINE = 76
_ENCODED = 57 * 1024
"""Bytes that become whole lines."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9 _.()+-]{1,50}")
_MEDIA_TYPE = re.compile(r"(application|audio|font|image|model|text|video)/[A-Za-z0-9!#$&^_.+-]{1,100}")


@dataclass(frozen=True, slots=True)
class Attached:
    """`name` is safe on every file system. `media_type` as its sender said; one that a mail would read as more than a
    file (a mail, several parts) becomes a plain file."""

    name: str = field(repr=False)
    media_type: str
    content: bytes = field(repr=False)


def written(headers: Sequence[tuple[str, str]], entity: bytes, *, utf8: bool = False) -> bytes:
    """`headers` in their order: a value is one line, or is made one. `utf8`: for a server that takes headers in UTF-8.
    `entity`: what the mail holds, with its own headers."""
    head = [header(name, value, utf8=utf8) for name, value in headers]
    return b"\r\n".join((*head, b"MIME-Version: 1.0", entity))


def entity(text: str, html: str, files: Sequence[Attached], mark: str) -> bytes:
    """A text with its HTML, and files. `mark`: letters and digits that make the borders between parts, the same for the
    same mail."""
    alternative = _parts("alternative", f"=_a{mark}", [_text("plain", text), _text("html", html)])
    return _parts("mixed", f"=_m{mark}", [alternative, *map(_file, files)]) if files else alternative


def header(name: str, value: str, *, utf8: bool = False) -> bytes:
    line = one_line(value)
    if (utf8 or line.isascii()) and len(line) <= _SHORT:
        return f"{name}: {line}".encode()
    words = (b"=?utf-8?b?" + base64.b64encode(piece) + b"?=" for piece in _pieces(line))
    return name.encode() + b": " + b"\r\n ".join(words)


def address_list(name: str, addresses: Sequence[str]) -> bytes:
    """One address on each line, written as they are: they hold no space and no comma."""
    return f"{name}: ".encode() + ",\r\n ".join(addresses).encode()


def base64_lines(content: bytes) -> Iterator[bytes]:
    """Lines, several in one piece: each of its own would take more memory than all they say."""
    for at in range(0, len(content), _ENCODED):
        told = base64.b64encode(content[at : at + _ENCODED])
        yield b"\r\n".join(told[line : line + _LINE] for line in range(0, len(told), _LINE))


def one_line(text: str) -> str:
    """On one line, whatever the text holds: no line end can begin a header, no lone surrogate can break
    the encoding. Nor can an encoded word (RFC 2047), which mail programs would decode, line ends and all: its
    beginning is broken."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())[:500].replace("=?", "= ?")


def _pieces(text: str) -> Iterator[bytes]:
    """Cut between signs, not within one."""
    piece = b""
    for sign in text:
        told = sign.encode()
        if len(piece) + len(told) > _PIECE:
            yield piece
            piece = b""
        piece += told
    yield piece


def _parts(kind: str, border: str, parts: Sequence[bytes]) -> bytes:
    # No line of base64 or quoted-printable can begin so: neither holds “=_”.
    edge = f"--{border}".encode()
    return b"\r\n".join(
        (
            f'Content-Type: multipart/{kind}; boundary="{border}"'.encode(),
            b"",
            *(line for part in parts for line in (edge, part)),
            edge + b"--",
            b"",
        )
    )


def _text(kind: str, text: str) -> bytes:
    told = binascii.b2a_qp(text.encode("utf-8", "replace"), istext=True)
    return (
        f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Language: fr\r\n'
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    ).encode() + told.replace(b"\n", b"\r\n")


def _file(file: Attached) -> bytes:
    kind = file.media_type if _MEDIA_TYPE.fullmatch(file.media_type) else "application/octet-stream"
    return b"\r\n".join(
        (
            f"Content-Type: {kind}".encode(),
            b"Content-Transfer-Encoding: base64",
            b"Content-Disposition: attachment" + _file_name(file.name),
            b"",
            *base64_lines(file.content),
            b"",
        )
    )


def _file_name(name: str) -> bytes:
    """The parameter as RFC 2231 has it, cut where a line would become too long."""
    if _PLAIN_NAME.fullmatch(name):
        return f';\r\n filename="{name}"'.encode()
    told = "utf-8''" + quote(name, safe="")
    pieces = re.findall(r"(?:%..|[^%]){1,18}", told)
    if len(pieces) <= 2:
        return f";\r\n filename*={told}".encode()
    return "".join(f";\r\n filename*{place}*={piece}" for place, piece in enumerate(pieces)).encode()
