"""`hub relocate`: from the store in this machine's folder to the servers of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hub import assembly
from hub.cli.shared import carry_out, complain, say, settings, written_settings
from hub.telemetry import logs


def add_to(whole: typer.Typer) -> None:
    whole.command()(relocate)


def relocate(
    there: Annotated[
        Path, typer.Argument(metavar="FILE", help="The settings of the hub there, in lines HUB_NAME=value.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at everything, change nothing.")] = False,
    back: Annotated[
        bool, typer.Option("--back", help="Open the folder again; refused while its store lies there.")
    ] = False,
) -> None:
    """Bring the store and the attachments of HUB_FOLDER to where FILE says, and close the folder. The hub is
    stopped meanwhile. Ended half way, it is begun again and goes on."""
    if dry_run and back:
        raise typer.BadParameter("--dry-run and --back do not go together")
    here, target = settings(), written_settings(there)
    logs.configure(here.log_format)
    if back:
        reopened = carry_out(lambda: assembly.reopen(here, target))
        say(f"{here.folder} is open again." if reopened else f"{here.folder} is open.")
        return
    told = carry_out(lambda: assembly.relocate(here, target, dry=dry_run, say=say))
    _tell(told, dry_run, target.kafka is not None)


def _tell(told: assembly.Relocated, dry: bool, kafka: bool) -> None:
    accepted = sum(line.accepted for line in told.accounts.submissions)
    undecided = sum(line.undecided for line in told.accounts.submissions)
    deliveries = sum(line.named for line in told.accounts.deliveries)
    say(f"store: {accepted} submissions, {deliveries} deliveries, " + _rows(told.rows, dry))
    if told.files is None:
        say("attachments: they stay where they are")
    else:
        before = "" if dry else f" ({told.files.before} of them were there before)"
        say(f"attachments: {told.files.files} files, {told.files.size} bytes sealed{before}")
    if told.lost:
        complain(f"{told.lost} files that submissions name were missing here, and are missing there")
    if kafka:
        say(f"log: {undecided} submissions are undecided; their letters are carried to Kafka by themselves")
    if dry:
        say(f"Nothing is against relocating to {told.to}; nothing was changed.")
    else:
        say(f"All of it is in {told.to}, and the accounts are the same. Start the roles there.")


def _rows(rows: int | None, dry: bool) -> str:
    if dry:
        return "to be carried"
    return "there already" if rows is None else f"{rows} rows carried"
