"""`hub deliveries …`: what operators watch, and decide by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from hub import assembly
from hub.cli import replaying
from hub.cli.shared import AsJson, Reason, complain, on_ground, printable, say, write_json
from hub.cli.shared import subscriber as named
from hub.domain.errors import Invalid
from hub.domain.lifecycle import State
from hub.ports.bounces import AddressFaults
from hub.ports.replays import Rerouted
from hub.ports.views import DeliveryFilter, Grouping
from hub.services.evidence import Answer


def commands() -> typer.Typer:
    group = typer.Typer(help="What is parked, and where deliveries stand.", invoke_without_command=True)
    group.callback()(deliveries)
    group.command()(reroute)
    group.command()(answers)
    group.command()(bounces)
    return group


def deliveries(
    context: typer.Context,
    state: Annotated[State | None, typer.Option()] = None,
    procedure: Annotated[str | None, typer.Option()] = None,
    cause: Annotated[str | None, typer.Option()] = None,
    partner: Annotated[str | None, typer.Option(help="SIRET-branch")] = None,
    most: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    by: Annotated[Grouping | None, typer.Option(help="Group what is parked by this too.")] = None,
) -> None:
    """What is parked, grouped by cause; and the deliveries that a filter chooses."""
    if context.invoked_subcommand is not None:
        return
    where = DeliveryFilter(
        state=state,
        procedure=procedure,
        cause=cause,
        subscriber=None if partner is None else named(partner),
    )

    async def read(ground: assembly.Ground) -> None:
        more = [] if by is None else [by.value]
        groups = Table(
            *more, "cause", "channel", "deliveries", "partners", "first", "last", title="Parked, by cause"
        )
        for group in await ground.views.parked(by):
            groups.add_row(
                *([] if by is None else [printable(group.of)]),
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


def reroute(
    delivery: UUID,
    to: Annotated[str, typer.Option(help="SIRET-branch")],
    reason: Reason,
) -> None:
    """Let another partner get what this delivery carries, by a decision by hand. The delivery is withdrawn, unless
    its partner received it already."""
    partner = named(to)

    async def work(ground: assembly.Ground) -> Rerouted | None:
        try:
            return await ground.replays.reroute(delivery, partner, replaying.operator(), reason)
        except Invalid as error:
            raise typer.BadParameter("; ".join(f"--to: {flaw.detail}" for flaw in error.flaws)) from None

    found = on_ground(work)
    if found is None:
        complain("there is no such delivery")
        raise typer.Exit(1)
    say(f"decision {found.decision} by hand: delivery {found.delivery} to {partner} is planned instead")
    if found.disclosed:
        say("the former partner had received it already: it is disclosed to it")


def answers(
    delivery: UUID,
    most: Annotated[int, typer.Option(min=1, max=1000, help="The newest.")] = 20,
) -> None:
    """What the partner's server answered to this delivery's attempts, word for word: it may say again what it was sent.
    That you looked is kept in the journal."""

    async def read(ground: assembly.Ground) -> Sequence[Answer]:
        return await ground.evidence.answers(delivery, replaying.operator(), most)

    found = on_ground(read)
    if not found:
        complain("nothing was answered, or there is no such delivery")
        raise typer.Exit(1)
    for answer in found:
        told = answer.told
        attempt = f"sending {told.attempt.sending}, attempt {told.attempt.number}"
        say(f"{told.at:%Y-%m-%d %H:%M:%S}  {attempt}: {told.outcome} {told.cause or ''}".rstrip())
        if answer.text is None:
            say("  its key is gone, or is not this hub's")
            continue
        for line in answer.text.decode("utf-8", "replace").splitlines():
            say(f"  {printable(line)}")


def bounces(delivery: UUID, as_json: AsJson = False) -> None:
    """Which addresses did not take this delivery's mails, and from which they came back. That you looked is kept in the
    journal."""

    async def read(ground: assembly.Ground) -> AddressFaults:
        return await ground.bounces.of(delivery, f"operator:{replaying.operator()}")

    found = on_ground(read)
    if as_json:
        write_json(asdict(found))
    if found == AddressFaults():
        complain("every address took its mails and none came back, or there is no such delivery")
        raise typer.Exit(1)
    if as_json:
        return
    for one in found.untaken:
        address = "as its partner's settings were then" if one.address is None else printable(one.address)
        attempt = f"sending {one.sending}, attempt {one.attempt}"
        say(f"{one.at:%Y-%m-%d %H:%M:%S}  {attempt}: not taken by address {one.place}: {address}")
    for back in found.bounced:
        mail = f"sending {back.sending}" if back.sending else "a digest"
        address = (
            "an address that its partner has no more" if back.address is None else printable(back.address)
        )
        line = f"{back.at:%Y-%m-%d %H:%M:%S}  {mail}, address {back.place}: {address} {back.status or ''}"
        say(line.rstrip())
