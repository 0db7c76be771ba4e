"""`hub run` and `hub check`."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Annotated

import typer
from rich.console import Console

from hub import assembly
from hub.cli.shared import carry_out, guarded, report, settings
from hub.telemetry import logs

_THREADS = 512
"""Of the loop's own pool, which looks up the names of partners' servers, with half of them."""


def add_to(whole: typer.Typer) -> None:
    whole.command()(run)
    whole.command()(check)


def run(
    roles: Annotated[
        list[assembly.Role] | None,
        typer.Argument(help="What this process does; default: all of it.", show_default=False),
    ] = None,
) -> None:
    """Start the hub, or some of its roles, in the foreground; it stops cleanly on SIGTERM or SIGINT."""
    told = settings()
    logs.configure(told.log_format)
    many_lookups()

    async def serve() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await assembly.run(told, stopping, _announce, frozenset(roles or assembly.Role))

    carry_out(serve)


def many_lookups() -> None:
    """Before a loop runs: as many names are looked up at once as lanes are served. By its own choice the pool has four
    threads, and two names whose name server does not answer would hold up all other partners."""
    os.environ.setdefault("UV_THREADPOOL_SIZE", str(_THREADS))


def _announce(running: assembly.Running) -> None:
    out = Console(soft_wrap=True)
    for notice in running.notices:
        out.print(notice, markup=False, highlight=False)
    if assembly.Role.INTAKE in running.roles:
        out.print(f"The hub answers at [bold]{running.url}[/bold] (rule book {running.snapshot}).")
        out.print(f"  description  {running.url}/openapi.json")
        out.print("  tokens       hub tokens create sender NAME --procedure CODE")
    else:
        out.print(f"At work: {', '.join(sorted(running.roles))} (rule book {running.snapshot}).")
    out.print(f"  health       {running.url}/readyz    metrics {running.url}/metrics")


def check() -> None:
    """Validate settings, rules and partners without starting anything."""
    told = settings()
    report(guarded(lambda: assembly.faults(told)), "settings, rules and partners are in order")
