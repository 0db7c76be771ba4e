"""`hub partners …`: who receives, what each subscribes to, and who took whose place."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub import assembly
from hub.cli import endpoints
from hub.cli.shared import (
    AsJson,
    Reason,
    author,
    complain,
    day,
    instant,
    moment,
    on_ground,
    reason_given,
    say,
    write_json,
)
from hub.cli.shared import subscriber as named
from hub.domain.errors import SettingsError
from hub.domain.pace import Maintenance
from hub.domain.rules import SubscriptionState, Succession
from hub.services.import_plans import ImportPlan
from hub.services.listings import Remark
from hub.services.onboarding import StateChange
from hub.wire.rule_book import period

_MOST_SHOWN = 50

Number = Annotated[str, typer.Argument(metavar="PARTNER", help="SIRET-branch")]
Procedures = Annotated[
    list[str] | None, typer.Option("--procedure", help="Only these; give it several times.")
]


def commands() -> typer.Typer:
    partners = typer.Typer(help="Who receives, and what each subscribes to.", no_args_is_help=True)
    partners.command("import")(take_in)
    partners.command("export")(export)
    partners.command("list")(list_partners)
    partners.command("suspend")(suspend)
    partners.command("activate")(activate)
    partners.command("succeed")(succeed)
    partners.command("maintenance")(maintain)
    endpoints.add_to(partners)
    return partners


# --- files --------------------------------------------------------------------------------------------


def take_in(
    file: Annotated[Path, typer.Argument(help="A partners file, a table, or the directory of services.")],
    reason: Annotated[
        str | None,
        typer.Option(help="Why; it is kept. Not needed for a dry run.", callback=reason_given),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do; do nothing.")] = False,
    procedure: Annotated[
        list[str] | None, typer.Option(help="For a directory: what its counters subscribe to.")
    ] = None,
    state: Annotated[
        SubscriptionState | None, typer.Option(help="Of new subscriptions that do not say.")
    ] = None,
) -> None:
    """Take in partners and their subscriptions; who is not in the file stays as is. Lines that cannot be
    taken in are told, and left out."""
    if reason is None and not dry_run:
        raise typer.BadParameter("say why, with --reason")

    async def work(ground: assembly.Ground) -> bool:
        listing = await asyncio.to_thread(
            assembly.read_partners_file, file, procedures=procedure or (), state=state
        )
        plan = await ground.onboarding.plan(listing, procedure or ())
        _show_remarks("note", plan.notes)
        _show_remarks("refused", plan.refused)
        _show_plan(plan)
        if reason is None or dry_run:
            say("nothing was written: this was a dry run")
        elif plan.changes_nothing:
            say("all of it is known already; nothing was written")
        else:
            done = await ground.onboarding.carry_out(plan, author(), reason)
            say(f"done; the newest rule book is {done.edition}")
        return not plan.refused and bool(listing.partners or listing.successions)

    if not on_ground(work):
        raise typer.Exit(1)


def _show_plan(plan: ImportPlan) -> None:
    table = Table("", "new", "changed", "as they are")
    for label, counted in (
        ("partners", plan.partners),
        ("subscriptions", plan.subscriptions),
        ("successions", plan.successions),
    ):
        table.add_row(label, str(len(counted.added)), str(len(counted.changed)), str(counted.unchanged))
    Console().print(table)


def _show_remarks(word: str, remarks: Iterable[Remark]) -> None:
    found = list(remarks)
    for remark in found[:_MOST_SHOWN]:
        complain(f"{word}: {remark}")
    if len(found) > _MOST_SHOWN:
        complain(f"{word}: … and {len(found) - _MOST_SHOWN} more")


def export(
    file: Annotated[Path | None, typer.Argument(help="Default: what is printed.")] = None,
    form: Annotated[assembly.ExportForm, typer.Option("--format")] = assembly.ExportForm.JSON,
) -> None:
    """All partners and subscriptions, in a form that `import` takes; never a secret."""

    async def work(ground: assembly.Ground) -> None:
        found = await ground.onboarding.export()
        if file is None:
            # It is UTF-8 whatever the terminal's signs: reading it again must change nothing.
            out = getattr(sys.stdout, "buffer", None)
            for piece in assembly.written(found, form):
                sys.stdout.write(piece) if out is None else out.write(piece.encode())
            return
        try:
            await asyncio.to_thread(assembly.write_export, file, found, form)
        except OSError as error:
            raise SettingsError(f"{file} cannot be written: {error.strerror}") from error
        say(f"{len(found.partners)} partners in {file}")

    on_ground(work)


# --- one partner --------------------------------------------------------------------------------------


def list_partners(
    procedure: Procedures = None,
    most: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Partners with their channel, and how many subscriptions each has in which state."""
    wanted = frozenset(procedure or ())

    async def work(ground: assembly.Ground) -> None:
        found = await ground.onboarding.export()
        rows = []
        for partner, _, _ in found.partners:
            those = [
                one
                for one in found.subscriptions.get(partner.subscriber, ())
                if not wanted or one.procedure in wanted
            ]
            if wanted and not those:
                continue
            states = {state: sum(1 for one in those if one.state is state) for state in SubscriptionState}
            rows.append((partner, {state.value: count for state, count in states.items() if count}))
        if as_json:
            write_json(
                [
                    {
                        "subscriber": str(partner.subscriber),
                        "name": partner.name,
                        "channel": partner.endpoint.channel,
                        "subscriptions": counts,
                    }
                    for partner, counts in rows
                ]
            )
            return
        table = Table("partner", "name", "channel", "subscriptions")
        for partner, counts in rows[:most]:
            told = ", ".join(f"{count} {state}" for state, count in counts.items())
            table.add_row(str(partner.subscriber), escape(partner.name), partner.endpoint.channel, told)
        Console().print(table)
        if len(rows) > most:
            say(f"… {len(rows)} in all; --most shows more")

    on_ground(work)


def suspend(partner: Number, reason: Reason, procedure: Procedures = None) -> None:
    """Its active subscriptions receive nothing from now on, until they are activated."""
    subscriber = named(partner)

    async def work(ground: assembly.Ground) -> None:
        done = await ground.onboarding.suspend(subscriber, procedure or (), author(), reason)
        _show_change(done, SubscriptionState.SUSPENDED)

    on_ground(work)


def activate(
    partner: Number,
    reason: Reason,
    procedure: Procedures = None,
    since: Annotated[str | None, typer.Option(help="The first day.")] = None,
    until: Annotated[str | None, typer.Option(help="The last day, included.")] = None,
) -> None:
    """Its suspended subscriptions receive again; with --procedure, those to it, whatever their state. From a
    day on, or until one, where that is said."""
    subscriber = named(partner)
    begin, end = (None if told is None else day(told) for told in (since, until))
    bounds = period(begin, end)

    async def work(ground: assembly.Ground) -> None:
        done = await ground.onboarding.activate(
            subscriber,
            procedure or (),
            author(),
            reason,
            since=None if begin is None else bounds.since,
            until=None if end is None else bounds.until,
        )
        _show_change(done, SubscriptionState.ACTIVE)

    on_ground(work)


def _show_change(done: StateChange, state: SubscriptionState) -> None:
    if done.changed:
        are = "subscription is" if done.changed == 1 else "subscriptions are"
        say(f"{done.changed} {are} {state} now; the newest rule book is {done.edition}")
    else:
        say("nothing was changed")
    if done.already:
        say(f"{done.already} {'was' if done.already == 1 else 'were'} {state} already")
    if done.left:
        counts = ", ".join(f"{count} {other}" for other, count in sorted(done.left.items()))
        more = "; to activate them, name their --procedure" if state is SubscriptionState.ACTIVE else ""
        say(f"left as they were: {counts}{more}")


def succeed(
    former: Annotated[str, typer.Argument(help="SIRET-branch")],
    by: Annotated[str, typer.Option(help="SIRET-branch of the successor.")],
    reason: Reason,
    since: Annotated[str | None, typer.Option(help="The first day; default: at once.")] = None,
) -> None:
    """Another partner takes its place, also in what is still to be delivered."""
    begin = period(None if since is None else day(since), None).since
    succession = Succession(named(former), named(by), begin)

    async def work(ground: assembly.Ground) -> None:
        done = await ground.onboarding.succeed(succession, author(), reason)
        if not done.successions:
            say("that is so already; nothing was written")
            return
        say(f"{by} takes the place of {former}; the newest rule book is {done.edition}")

    on_ground(work)


def maintain(
    partner: Number,
    begin: Annotated[
        str | None, typer.Option("--from", help="A day or an instant, in Paris; default: at once.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="A day or an instant, in Paris.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept.", callback=reason_given)] = None,
    end: Annotated[bool, typer.Option("--end", help="What is under way or planned ends.")] = False,
) -> None:
    """Do not call it for a time; what is for it waits. Without options: what is planned."""
    subscriber = named(partner)
    if end and (begin or until or reason):
        raise typer.BadParameter("--end goes alone")
    if not end and (begin or until or reason) and (until is None or reason is None):
        raise typer.BadParameter("say until when, with --until, and why, with --reason")
    window = None
    if until is not None and reason is not None:
        starts = datetime.now(UTC) if begin is None else instant(begin)
        window = Maintenance(starts, instant(until), reason)

    async def work(ground: assembly.Ground) -> None:
        if end:
            ended = await ground.lane_orders.end_maintenance(subscriber, author())
            there = ended is not None
            if there:
                say(f"{ended} ended" if ended else "nothing was planned")
        elif window is not None:
            there = await ground.lane_orders.plan_maintenance(subscriber, window, author())
            if there:
                say(f"not called from {moment(window.begin)} until {moment(window.end)}")
        else:
            planned = await ground.lane_orders.maintenance(subscriber)
            there = planned is not None
            for one in planned or ():
                say(f"{moment(one.begin)} – {moment(one.end)}: {one.reason}")
            if there and not planned:
                say("nothing is planned")
        if not there:
            raise SettingsError(f"{subscriber} is no partner: import it first")

    on_ground(work)
