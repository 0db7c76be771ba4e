"""`hub reconcile` and `hub alarms`: whether everything is accounted for, and what a person should look at."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub import assembly
from hub.cli.shared import instant, moment, on_ground, printable
from hub.cli.shared import subscriber as named
from hub.domain.alarms import Alarm
from hub.domain.ledger import STANDING, Scope, Term, hour_since_epoch
from hub.ports.accounts import Accounts
from hub.ports.shelf import Unreadable
from hub.services.reconciliation import COUNTED, ReconciliationRoom

_MOST_SET_ASIDE = 50


def add_to(whole: typer.Typer) -> None:
    whole.command()(reconcile)
    whole.command()(alarms)


def reconcile(
    since: Annotated[
        str | None, typer.Option(help="Received in this hour or later: a day, or an instant.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Received before this; the hour it lies in is whole.")
    ] = None,
    procedure: Annotated[str | None, typer.Option()] = None,
    partner: Annotated[
        str | None, typer.Option(help="SIRET-branch, as decisions name it; shows deliveries alone.")
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write it there too, for programs.")] = None,
) -> None:
    """Is everything accounted for? Prints both equations, and which records of the log nobody could read; compares
    them with what was counted when it happened, and names what differs; exits with 1 if anything does."""
    scope = scope_of(since, until, procedure, partner)

    async def read(ground: assembly.Ground) -> bool:
        accounts, differences = await ReconciliationRoom(ground.ledger).read(scope)
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
        if accounts.strays:
            Console().print(f"records that name no accepted submission: {accounts.strays}")
        for sentence in differences:
            Console(soft_wrap=True).print(printable(sentence), markup=False, highlight=False, style="red")
        return not differences

    if not on_ground(read):
        raise typer.Exit(1)


def scope_of(since: str | None, until: str | None, procedure: str | None, partner: str | None) -> Scope:
    """In whole hours. Raises BadParameter."""
    whole = Scope()
    first = whole.first if since is None else hour_since_epoch(instant(since))
    # An instant within an hour belongs to it.
    end = whole.end if until is None else -int(-instant(until).timestamp() // 3600)
    if first >= end:
        raise typer.BadParameter("--until must lie after --since")
    return Scope(first, end, procedure, None if partner is None else str(named(partner)))


def account_tables(accounts: Accounts) -> Iterable[Table]:
    """The two equations, line by line, and where the deliveries are now."""
    if accounts.submissions or not accounts.deliveries:
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
            submissions.add_row(escape(line.procedure), str(line.accepted), "=", *map(str, numbers))
        yield submissions
    counted = [line for line in accounts.deliveries if line.kind == COUNTED]
    used = _used(line.terms for line in counted)
    deliveries = Table("procedure", "named", "=", *used, title="Deliveries")
    for told in counted:
        terms = (str(told.terms.get(side, 0)) for side in used)
        deliveries.add_row(escape(told.procedure), str(told.named), "=", *terms)
    yield deliveries
    used = _used(line.terms for line in accounts.standing)
    where = Table("procedure", "kind", "with", "channel", *used, title="Where they are now")
    for one in accounts.standing:
        terms = (str(one.terms.get(side, 0)) for side in used)
        where.add_row(escape(one.procedure), one.kind, one.partner, one.channel, *terms)
    yield where


def _used(lines: Iterable[Mapping[Term, int]]) -> list[Term]:
    told = list(lines)
    return [side for side in STANDING if any(terms.get(side) for terms in told)]


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


def alarms() -> None:
    """What a person should look at: with whom, how many, and since when. The running hub looks every few minutes;
    exits with 1 if there is anything."""

    async def read(ground: assembly.Ground) -> bool:
        found = await ground.alarms.standing()
        if not found:
            Console().print("nothing that a person should look at")
            return True
        Console().print(alarm_table(found))
        return False

    if not on_ground(read):
        raise typer.Exit(1)


def alarm_table(found: Sequence[Alarm]) -> Table:
    table = Table("alarm", "partner", "channel", "how many", "since", "cause", title="Alarms")
    for one in found:
        words = (one.subscriber, one.channel, str(one.number), moment(one.since), one.cause or "")
        table.add_row(one.kind.value, *(escape(printable(word)) for word in words))
    return table
