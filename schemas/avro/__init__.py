"""The published Avro schemas: a file that was published is never edited, a new version is a new file."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from fastavro import parse_schema


@cache
def schema(name: str) -> Any:
    """The parsed schema of this name and version, for instance `submission.v1`. Raises FileNotFoundError."""
    return parse_schema(json.loads(text(name)))


def text(name: str) -> str:
    """The same as it is written, without blanks. Raises FileNotFoundError."""
    written = json.loads(files(__name__).joinpath(f"{name}.avsc").read_text("utf-8"))
    return json.dumps(written, ensure_ascii=False, separators=(",", ":"))


def published() -> list[str]:
    """The names of all published schemas."""
    return sorted(
        entry.name.removesuffix(".avsc")
        for entry in files(__name__).iterdir()
        if entry.name.endswith(".avsc")
    )
