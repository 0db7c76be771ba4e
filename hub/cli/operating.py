"""`hub deliveries`, `hub replay` and `hub reconcile`: what operators watch, and send again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub import assembly
from hub.cli.shared import Reason, author, moment, on_ground, printable
from hub.cli.shared import subscriber as named
from hub.domain.lifecycle import State
from hub.ports.shelf import Unreadable
from hub.ports.store import Accounts, Selection
from hub.ports.views import DeliveryFilter
from hub.services.reconciliation import ReconciliationRoom

_MOST_SET_ASIDE = 50


def add_to(whole: typer.Typer) -> None:
    whole.command()(deliveries)
    whole.command()(replay)
    whole.command()(reconcile)


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


def reconcile(
    as_json: Annotated[Path | None, typer.Option("--json", help="Write it there too, for programs.")] = None,
) -> None:
    """Is everything accounted for? Prints both equations, and which records of the log nobody could read; exits
    with 1 if anything is not accounted for."""

    async def read(ground: assembly.Ground) -> bool:
        accounts, differences = await ReconciliationRoom(ground.ledger).read()
        aside = await ground.shelf.newest(_MOST_SET_ASIDE)
        if as_json is not None:
            told = {
                "accounts": dataclasses.asdict(accounts),
                "differences": differences,
                "set_aside": [dataclasses.asdict(one) for one in aside],
            }
            as_json.write_text(json.dumps(told, default=str) + "\n", encoding="utf-8")
        for table in account_tables(accounts):
            Console().print(table)
        if aside:
            Console().print(shelf_table(aside))
        for sentence in differences:
            Console().print(sentence, markup=False, highlight=False, style="red")
        return not differences

    if not on_ground(read):
        raise typer.Exit(1)


def account_tables(accounts: Accounts) -> tuple[Table, Table]:
    """The two equations, line by line."""
    submissions = Table(
        "procedure",
        "accepted",
        "=",
        "routed",
        "unroutable",
        "set aside",
        "not yet routed",
        title="Submissions",
    )
    for line in accounts.submissions:
        numbers = (line.routed, line.unroutable, line.set_aside, line.undecided)
        submissions.add_row(line.procedure, str(line.accepted), "=", *map(str, numbers))
    used = [state for state in State if any(line.states.get(state) for line in accounts.deliveries)]
    deliveries = Table("procedure", "channel", "named", "=", *used, title="Deliveries")
    for told in accounts.deliveries:
        states = (str(told.states.get(state, 0)) for state in used)
        deliveries.add_row(told.procedure, told.channel, str(told.named), "=", *states)
    return submissions, deliveries


def shelf_table(aside: Sequence[Unreadable]) -> Table:
    """Beside the equations: what lies in the log and nobody could read."""
    found = Table(
        "topic",
        "partition",
        "offset",
        "reason",
        "bytes",
        "since",
        "submission",
        title="Set aside, the newest",
    )
    for one in aside:
        words = (one.topic, str(one.partition), str(one.offset), one.reason, str(one.size), moment(one.at))
        found.add_row(*(escape(printable(word)) for word in words), str(one.submission or ""))
    return found
