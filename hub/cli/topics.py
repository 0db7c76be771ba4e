"""`hub topics`: the topics of the log, where it is Kafka."""

from __future__ import annotations

import typer

from hub import assembly
from hub.cli.shared import carry_out, report, say, settings


def commands() -> typer.Typer:
    room = typer.Typer(help="The topics of the log, where it is Kafka.", no_args_is_help=True)
    room.command()(check)
    room.command()(create)
    return room


def check() -> None:
    """Compare the topics that are there with what the hub needs; changes nothing."""
    told = settings()
    report(carry_out(lambda: assembly.differing_topics(told)), "the topics are as they must be")


def create() -> None:
    """Make the topics that are missing; those that are there are compared."""
    told = settings()
    for name in carry_out(lambda: assembly.make_topics(told)):
        say(f"made {name}")
    check()
