"""`hub lanes …`: whose endpoint refuses or fails, and serving it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub import assembly
from hub.cli.shared import AsJson, Reason, author, moment, on_ground, say, write_json
from hub.cli.shared import subscriber as named
from hub.domain.errors import SettingsError
from hub.ports.lane_orders import LaneFilter, LaneView


def commands() -> typer.Typer:
    lanes = typer.Typer(help="Partners' endpoints that refuse or fail.")
    lanes.callback(invoke_without_command=True)(show)
    lanes.command("open")(open_again)
    return lanes


def show(
    context: typer.Context,
    closed: Annotated[bool, typer.Option("--closed", help="Only those that are closed.")] = False,
    failing: Annotated[bool, typer.Option("--failing", help="Only those that fail.")] = False,
    partner: Annotated[str | None, typer.Option(help="SIRET-branch")] = None,
    vendor: Annotated[str | None, typer.Option(help="Only of partners with this vendor's software.")] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: AsJson = False,
) -> None:
    """Those that are closed or fail, with the cause, since when, and how many deliveries wait there."""
    if context.invoked_subcommand is not None:
        return
    where = LaneFilter(closed, failing, None if partner is None else named(partner), vendor)

    async def read(ground: assembly.Ground) -> Sequence[LaneView]:
        return await ground.lane_orders.lanes(where, 0, most + 1)

    found = on_ground(read)
    if as_json:
        write_json([dataclasses.asdict(one) | {"subscriber": str(one.subscriber)} for one in found[:most]])
        return
    if not found:
        say("no lane is closed, and none fails")
        return
    Console().print(_table(found[:most]))
    if len(found) > most:
        say("… and more; --most shows them")


def _table(found: Sequence[LaneView]) -> Table:
    table = Table("partner", "name", "vendor", "channel", "", "cause", "since", "waiting")
    for one in found:
        word = "closed" if one.closed else f"failing ({one.failures})"
        if one.fell_back_at is not None:
            word += ", by mailbox"
        table.add_row(
            str(one.subscriber),
            escape(one.partner),
            escape(one.vendor or ""),
            one.channel,
            word,
            one.cause or "",
            "" if one.since is None else moment(one.since),
            str(one.waiting),
        )
    return table


def open_again(
    partner: Annotated[str, typer.Argument(metavar="PARTNER", help="SIRET-branch")],
    reason: Reason,
    channel: Annotated[str | None, typer.Argument(help="Default: all channels of it.")] = None,
) -> None:
    """Serve it as if nothing had been tried there yet; what was parked when it was closed is sent again."""
    subscriber = named(partner)

    async def work(ground: assembly.Ground) -> None:
        found = await ground.lane_orders.find(subscriber, channel)
        if not found:
            on = "" if channel is None else f" on {channel}"
            raise SettingsError(f"{subscriber} has no lane{on}: nothing was ever to be delivered there")
        for one in found:
            opened = await ground.lane_orders.open_lane(one.id, author(), reason)
            waiting = f"{one.waiting} deliveries wait there"
            say(f"{one.channel}: {f'open; {waiting}' if opened else 'nothing was the matter with it'}")

    on_ground(work)
