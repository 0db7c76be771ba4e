"""`hub topics`: the topics of the log, where it is Kafka, and the schemas of its records."""

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
    """Compare the topics that are there, who may write into them, and the schemas in the registry, with what the
    hub needs; changes nothing."""
    told = settings()

    async def differences() -> list[str]:
        return [
            *await assembly.differing_topics(told),
            *await assembly.excessive_rights(told),
            *await assembly.missing_schemas(told),
        ]

    report(carry_out(differences), "the topics are as they must be")


def create() -> None:
    """Make the topics, give senders the rights, and register the schemas, that are missing; what is there is
    compared."""
    told = settings()
    for name in carry_out(lambda: assembly.make_topics(told)):
        say(f"made {name}")
    for right in carry_out(lambda: assembly.give_rights(told)):
        say(f"from now on {right}")
    for name in carry_out(lambda: assembly.make_schemas(told)):
        say(f"registered {name}")
    check()
