"""The document: all that a sender said of a submission, in one canonical form.

It is what the keyed digest is taken of (two posts are the same when their documents are equal, byte for
byte), what is sealed, and what a parcel's description is made from. Pure; the form is JSON with sorted
keys, UTF-8, no white space.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class OfferedFile:
    """A file as the sender described it: `number` from 1, `size` in bytes, `sha256` in lower-case hex."""

    number: int
    name: str = field(repr=False)
    type: str
    media_type: str
    size: int
    sha256: str
    recipients: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """`applicant` and `content` are JSON values as the sender gave them."""

    procedure: str
    facts: Mapping[str, str]
    applicant: Mapping[str, Any] | None = field(repr=False)
    content: Mapping[str, Any] | None = field(repr=False)
    files: tuple[OfferedFile, ...]

    def canonical(self) -> bytes:
        return canonical(
            {
                "procedure": self.procedure,
                "facts": dict(self.facts),
                "applicant": self.applicant,
                "content": self.content,
                "files": [
                    {
                        "number": file.number,
                        "name": file.name,
                        "type": file.type,
                        "media_type": file.media_type,
                        "size": file.size,
                        "sha256": file.sha256,
                        "recipients": None if file.recipients is None else sorted(set(file.recipients)),
                    }
                    for file in self.files
                ],
            }
        )

    @classmethod
    def parse(cls, text: bytes) -> Document:
        """The inverse of `canonical`."""
        told = json.loads(text)
        return cls(
            told["procedure"],
            told["facts"],
            told["applicant"],
            told["content"],
            tuple(_file(file) for file in told["files"]),
        )


# Made once: making one takes longer than writing a short text with it.
_CANONICAL = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def canonical(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """One text for one value. A lone surrogate, which UTF-8 cannot hold, keeps its JSON escape."""
    try:
        return _CANONICAL.encode(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()


def _file(told: Mapping[str, Any]) -> OfferedFile:
    recipients = told["recipients"]
    return OfferedFile(
        told["number"],
        told["name"],
        told["type"],
        told["media_type"],
        told["size"],
        told["sha256"],
        None if recipients is None else tuple(recipients),
    )
