"""Unmistakable values, and where they are looked for: what the journeys about personal data and secrets share."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from pathlib import Path

import asyncpg
from aiohttp import web

from hub.adapters.postgres.embedded import EmbeddedPostgres

# A word for each place, so that a find says which place it came from.
PLACES = ("firstname", "lastname", "email", "phone", "content", "contentkey", "filename", "filebytes")
MARK = "Zqxjkv-Pérégrin"
PLAIN = "Zqxjkv"
"""Where only ASCII may stand; a find of it counts as well."""


WORDS = f"{MARK}-answer"
"""What partners' servers say."""


def value_of(place: str) -> str:
    return f"{MARK}-{place}"


def signing_key(name: str, length: int = 32, kind: str = "whsec_") -> str:
    """A secret of Standard Webhooks that is a mark."""
    return kind + base64.b64encode(f"{PLAIN}-webhook-{name}".encode().ljust(length, b".")[:length]).decode()


def answer(status: int) -> web.Response:
    return web.Response(
        status=status, text=WORDS, headers={"X-Answer": f"{PLAIN}-answer"}, reason=f"{PLAIN}-reason"
    )


def _marks(place: str) -> tuple[bytes, ...]:
    """The value as it may lie somewhere: as text, JSON escaped, base64, two bytes a letter."""
    value = value_of(place)
    return (
        value.encode(),
        json.dumps(value)[1:-1].encode(),
        f"Zqxjkv-P\\xc3\\xa9r\\xc3\\xa9grin-{place}".encode(),
        value.encode("utf-16-le"),
        *_coded(value),
    )


def _coded(value: str) -> tuple[bytes, ...]:
    """What of it shows in base64, wherever in a text it begins: of six bits each, what depends on no neighbour."""
    content = value.encode()
    return tuple(
        base64.b64encode(b"xy"[:start] + content)[-(-start * 8 // 6) : (start + len(content)) * 8 // 6]
        for start in range(3)
    )


_CODED = _coded(PLAIN)


def lines_of(pem: str) -> tuple[bytes, ...]:
    """A key's own marks: the lines of its block, but the first, which begins alike in all keys of a kind."""
    return tuple(line.encode() for line in pem.splitlines()[2:] if line and not line.startswith("-"))


def finds(content: bytes, keys: Iterable[bytes] = ()) -> list[str]:
    """The places whose value stands in it. Anything that begins like one of ours is a find as well."""
    found = [place for place in PLACES if any(mark in content for mark in _marks(place))]
    if not found and (PLAIN.lower().encode() in content.lower() or any(mark in content for mark in _CODED)):
        found = ["somewhere"]
    return found + (["key"] if any(line in content for line in keys) else [])


def nothing_in_files(folder: Path, known: bytes, keys: Iterable[bytes] = ()) -> list[Path]:
    """Log, journal, logs of records, attachments, and whatever the database wrote on its way; all that was looked at.
    `known`: an id that does lie there."""
    log = (folder / "hub.log").read_bytes()
    assert known in log or b"delivery" in log
    assert finds(log, keys) == []
    files = [path for path in (folder / "hub").rglob("*") if path.is_file()]
    # Else this would look at an empty folder and find it clean.
    assert any("pg_wal" in path.parts for path in files)
    assert any("base" in path.parts for path in files)
    # Nor would it find anything in files that are compressed.
    assert any(known in path.read_bytes() for path in files if "pg_wal" in path.parts)
    assert any(known in path.read_bytes() for path in files if "base" in path.parts)
    for path in files:
        assert finds(path.read_bytes(), keys) == [], path
    return files


async def nothing_in_tables(folder: Path, known: bytes, keys: Iterable[bytes] = ()) -> None:
    """Every column of every table of the hub that runs there, as the database gives it: what lies compressed in its
    files shows here."""
    dsn = await EmbeddedPostgres(folder / "hub" / "postgres").running()
    assert dsn is not None
    connection = await asyncpg.connect(dsn)
    try:
        places = await connection.fetch(
            "SELECT schemaname, tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
        )
        knowing = set()
        for schema, table in places:
            rows = io.BytesIO()
            await connection.copy_from_table(table, schema_name=schema, output=rows, format="binary")
            assert finds(rows.getvalue(), keys) == [], table
            if known in rows.getvalue():
                knowing.add(table)
    finally:
        await connection.close()
    assert "submission" in knowing
