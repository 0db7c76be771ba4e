"""Rows of a benchmark: printed as a table, written as JSON.

A row is `{"name", "value", "unit", "bar", "holds"}`; `bar` and `holds` are null where nothing is promised,
and `holds` alone where it could not be measured (the reason stands in `note`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    value: float | None
    unit: str
    bar: float | None = None
    holds: bool | None = None
    note: str = ""


def measured(name: str, value: float, unit: str) -> Row:
    """A figure that nothing is promised of."""
    return Row(name, round(float(value), 4 if value < 1 else 2), unit)


def at_least(name: str, value: float, unit: str, bar: float) -> Row:
    return Row(name, round(value, 2), unit, bar, value >= bar)


def at_most(name: str, value: float, unit: str, bar: float) -> Row:
    return Row(name, round(value, 2), unit, bar, value <= bar)


Measure = Callable[[bool], list[Row]]
"""Whether it shall be short."""


def run(title: str, measure: Measure) -> None:
    """Parse `--short` and `--json FILE`, measure, print; exits with 1 when a bar does not hold."""
    _run(title, {"": measure})


def run_one_of(title: str, modes: Mapping[str, Measure]) -> None:
    """The same with the name of a mode before."""
    _run(title, modes)


def _run(title: str, modes: Mapping[str, Measure]) -> None:
    arguments = argparse.ArgumentParser(description=title)
    if "" not in modes:
        arguments.add_argument("mode", choices=list(modes))
    arguments.add_argument("--short", action="store_true", help="a minute instead of several")
    arguments.add_argument("--json", type=Path, help="write the rows there too")
    chosen = arguments.parse_args()
    mode = getattr(chosen, "mode", "")
    finish(f"{title} {mode}".rstrip(), modes[mode](chosen.short), chosen.json)


def finish(title: str, rows: list[Row], file: Path | None) -> NoReturn:
    """Print them, and write them where they shall be written; exits with 1 when a bar does not hold."""
    _print(title, rows)
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    sys.exit(any(row.holds is False for row in rows))


def _print(title: str, rows: list[Row]) -> None:
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
    table = Table("what", "value", "unit", "bar", "holds", title=f"{title} ({machine})")
    for row in rows:
        table.add_row(
            row.name,
            "–" if row.value is None else f"{row.value:,}",
            row.unit,
            "" if row.bar is None else f"{row.bar:,}",
            row.note or {True: "yes", False: "NO", None: ""}[row.holds],
        )
    Console().print(table)
