"""A submission in brief: what a router needs of it, as lines of text, so that it need not decode the record.

When it was received, its procedure, its files, then a name and a value for each fact:

    2026-03-01T12:00:00.123456+00:00
    CERTDC
    1 DD;2 VA>mairie;3 VA>
    commune_deces
    74042

What the lines cannot say has no brief, and is read from the record.
"""

from __future__ import annotations

from datetime import UTC, datetime
from sys import intern

from hub.domain.submission import AttachmentFacts, Brief, RoutingFacts

_MOST_LISTS = 5_000
_IN_FILES = frozenset(" ;>,\n")

Files = tuple[AttachmentFacts, ...]


def write_brief(facts: RoutingFacts) -> bytes:
    """Nothing where it cannot be said in lines."""
    lines = [
        facts.received_at.astimezone(UTC).isoformat(),
        facts.procedure,
        ";".join(map(_file, facts.attachments)),
    ]
    for name, value in facts.facts.items():
        lines += (name, value)
    words = [word for file in facts.attachments for word in (file.type, *(file.recipients or ()))]
    if any("\n" in line for line in lines) or any(not word or _IN_FILES & set(word) for word in words):
        return b""
    return "\n".join(lines).encode()


def _file(file: AttachmentFacts) -> str:
    told = f"{file.number} {file.type}"
    return told if file.recipients is None else f"{told}>{','.join(file.recipients)}"


class BriefReader:
    """Reads briefs by the million. The lists of files it has seen are kept, for most are alike."""

    def __init__(self) -> None:
        self._files: dict[str, Files] = {}

    def read(self, brief: bytes) -> Brief:
        """Raises ValueError for what is none."""
        lines = brief.decode().split("\n")
        if len(lines) < 3 or not len(lines) & 1:
            raise ValueError("a brief has three lines, and two for each fact")
        at = datetime.fromisoformat(lines[0])
        if at.tzinfo is not UTC:
            raise ValueError("a receipt time is told in UTC")
        files = self._files.get(lines[2])
        if files is None:
            files = self._read_files(lines[2])
        return _new(Brief, (lines[1], dict(zip(lines[3::2], lines[4::2])), files, at))  # noqa: B905

    def _read_files(self, told: str) -> Files:
        files = tuple(map(_read_file, told.split(";"))) if told else ()
        if len(self._files) >= _MOST_LISTS:
            self._files.clear()
        self._files[told] = files
        return files


_new = tuple.__new__
"""A named tuple's own constructor costs three times as much."""


def _read_file(told: str) -> AttachmentFacts:
    number, space, rest = told.partition(" ")
    type, narrowed, recipients = rest.partition(">")
    if not (space and type):
        raise ValueError("a file has a number and a type")
    names = tuple(map(intern, recipients.split(","))) if recipients else ()
    return AttachmentFacts(int(number), intern(type), names if narrowed else None)
