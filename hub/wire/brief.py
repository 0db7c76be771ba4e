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
from functools import lru_cache
from sys import intern

from hub.domain.submission import AttachmentFacts, Brief, RoutingFacts

_MOST_LISTS = 5_000

Files = tuple[AttachmentFacts, ...]


def write_brief(facts: RoutingFacts) -> bytes:
    """Nothing where it cannot be said in lines."""
    files = _written_files(facts.attachments)
    if files is None:
        return b""
    lines = [facts.received_at.astimezone(UTC).isoformat(), facts.procedure, files]
    for fact in facts.facts.items():
        lines += fact
    told = "\n".join(lines)
    return told.encode() if told.count("\n") < len(lines) else b""


@lru_cache(_MOST_LISTS)
def _written_files(files: Files) -> str | None:
    """None for a list that could be taken for another one."""
    told = ";".join(map(_written_file, files))
    try:
        return told if _read_files(told) == files else None
    except ValueError:
        return None


def _written_file(file: AttachmentFacts) -> str:
    told = f"{file.number} {file.type}"
    return told if file.recipients is None else f"{told}>{','.join(file.recipients)}"


def _read_files(told: str) -> Files:
    return tuple(map(_read_file, told.split(";"))) if told else ()


def _read_file(told: str) -> AttachmentFacts:
    number, space, rest = told.partition(" ")
    type, narrowed, recipients = rest.partition(">")
    if not (space and type):
        raise ValueError("a file has a number and a type")
    names = tuple(map(intern, recipients.split(","))) if recipients else ()
    return AttachmentFacts(int(number), intern(type), names if narrowed else None)


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
            files = self._keep_files(lines[2])
        return _new(Brief, (lines[1], dict(zip(lines[3::2], lines[4::2])), files, at))  # noqa: B905

    def _keep_files(self, told: str) -> Files:
        if len(self._files) >= _MOST_LISTS:
            self._files.clear()
        files = self._files[told] = _read_files(told)
        return files


_new = tuple.__new__
"""A named tuple's own constructor costs three times as much."""
