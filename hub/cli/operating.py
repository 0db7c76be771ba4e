"""`hub deliveries` and `hub replay`: what operators watch, and send again."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID, uuid4

import typer
from rich.console import Console
from rich.table import Table

from hub import assembly
from hub.cli.shared import Reason, author, on_ground
from hub.cli.shared import subscriber as named
from hub.domain.lifecycle import State
from hub.ports.store import Selection
from hub.ports.views import DeliveryFilter


def add_to(whole: typer.Typer) -> None:
    whole.command()(deliveries)
    whole.command()(replay)


def deliveries(
    state: Annotated[State | None, typer.Option()] = None,
    procedure: Annotated[str | None, typer.Option()] = None,
    cause: Annotated[str | None, typer.Option()] = None,
    partner: Annotated[str | None, typer.Option(help="SIRET-branch")] = None,
    most: Annotated[int, typer.Option(min=1, max=1000)] = 50,
) -> None:
    """What is parked, grouped by cause; and the deliveries that a filter chooses."""
    where = DeliveryFilter(
        state=state,
        procedure=procedure,
        cause=cause,
        subscriber=None if partner is None else named(partner),
    )

    async def read(ground: assembly.Ground) -> None:
        groups = Table(
            "cause", "channel", "deliveries", "partners", "first", "last", title="Parked, by cause"
        )
        for group in await ground.views.parked():
            groups.add_row(
                group.cause,
                group.channel,
                str(group.deliveries),
                str(group.partners),
                f"{group.first_at:%Y-%m-%d %H:%M}",
                f"{group.last_at:%Y-%m-%d %H:%M}",
            )
        Console().print(groups)
        if where == DeliveryFilter():
            return
        found = Table("delivery", "submission", "procedure", "partner", "channel", "state", "cause")
        for item in (await ground.views.deliveries(where, None, most)).items:
            found.add_row(
                str(item.id),
                str(item.submission),
                item.procedure,
                item.partner,
                item.channel,
                item.state,
                item.cause or "",
            )
        Console().print(found)

    on_ground(read)


def replay(
    reason: Reason,
    cause: Annotated[str | None, typer.Option()] = None,
    procedure: Annotated[str | None, typer.Option()] = None,
    channel: Annotated[str | None, typer.Option()] = None,
    partner: Annotated[str | None, typer.Option(help="SIRET-branch")] = None,
    delivery: Annotated[list[UUID] | None, typer.Option()] = None,
) -> None:
    """Send parked deliveries again; the running hub carries it out."""
    if not any((cause, procedure, channel, partner, delivery)):
        raise typer.BadParameter("say which: at least one of cause, procedure, channel, partner, delivery")
    selection = Selection(
        deliveries=tuple(delivery) if delivery else None,
        subscriber=None if partner is None else named(partner),
        channel=channel,
        procedure=procedure,
        cause=cause,
    )

    async def begin(ground: assembly.Ground) -> None:
        begun = await ground.replays.begin(uuid4(), selection, author(), reason)
        Console().print(f"replay {begun.id}: {begun.matched} deliveries will be sent again")

    on_ground(begin)
