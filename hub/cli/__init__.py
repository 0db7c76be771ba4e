"""The command line: `hub …`. It reads settings, calls the assembly, and prints for a person.

Business of this room: words and tables. What a command does is done by the rooms behind the assembly. Each
file here holds the commands of one thing; this one puts them together.

Exit codes: 0 all is well; 1 something is not accounted for, or a check found a fault; 2 it could not be
tried.
"""

from __future__ import annotations

import io
import sys

import typer

from hub.cli import (
    accounting,
    covering,
    explaining,
    keys,
    lanes,
    operating,
    partners,
    relocating,
    replaying,
    rules,
    running,
    simulating,
    territory,
    tokens,
    topics,
)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot write a sign gets another one, not the end of the command.
            stream.reconfigure(errors="replace")
    app()


def _app() -> typer.Typer:
    whole = typer.Typer(
        name="hub", help="The exchange hub.", no_args_is_help=True, pretty_exceptions_show_locals=False
    )
    running.add_to(whole)
    accounting.add_to(whole)
    relocating.add_to(whole)
    whole.add_typer(operating.commands(), name="deliveries")
    whole.add_typer(replaying.commands(), name="replay")
    whole.add_typer(lanes.commands(), name="lanes")
    whole.add_typer(_rules(), name="rules")
    whole.add_typer(partners.commands(), name="partners")
    whole.add_typer(territory.commands(), name="territory")
    whole.add_typer(tokens.commands(), name="tokens")
    whole.add_typer(keys.commands(), name="keys")
    whole.add_typer(topics.commands(), name="topics")
    return whole


def _rules() -> typer.Typer:
    book = typer.Typer(help="The rule book.", no_args_is_help=True)
    for room in (rules, explaining, simulating, covering):
        room.add_to(book)
    return book


app = _app()
