"""`hub replay …`: orders to send again, tried, given, approved, paused, and what came of them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub import assembly
from hub.cli.shared import (
    AsJson,
    complain,
    instant,
    moment,
    on_ground,
    printable,
    reason_given,
    say,
    write_json,
)
from hub.cli.shared import settings as told_settings
from hub.cli.shared import subscriber as named
from hub.domain.errors import IllegalMove, Invalid
from hub.domain.replays import Chosen, ReplayVerb, as_words
from hub.ports.replays import Replay
from hub.wire import flaws_of, read_order, read_selection
from schemas.models.questions import ReplayIn, SelectionIn

_MOST_SHOWN = 50

_OPTIONS = "cause, procedure, channel, partner, delivery, submission, vendor, state, or a period"

Period = Annotated[str | None, typer.Option(help="A day, or an instant: 2026-01-31T14:30.")]


def commands() -> typer.Typer:
    replay = typer.Typer(help="Send again what failed.", invoke_without_command=True)
    replay.callback()(order)
    replay.command("list")(show_newest)
    replay.command()(show)
    for verb in ReplayVerb:
        replay.command(verb.value, help=_HELP[verb])(_turning(verb))
    return replay


_HELP: Mapping[ReplayVerb, str] = {
    ReplayVerb.APPROVE: "Let another operator's order begin.",
    ReplayVerb.PAUSE: "Plan nothing more until it is resumed.",
    ReplayVerb.RESUME: "Go on where it was paused.",
    ReplayVerb.CANCEL: "End it where it is; what was sent again stays so.",
}


def order(
    context: typer.Context,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept.", callback=reason_given)] = None,
    cause: Annotated[str | None, typer.Option()] = None,
    procedure: Annotated[str | None, typer.Option()] = None,
    channel: Annotated[str | None, typer.Option()] = None,
    partner: Annotated[str | None, typer.Option(help="SIRET-branch")] = None,
    vendor: Annotated[str | None, typer.Option(help="The software of partners.")] = None,
    delivery: Annotated[list[UUID] | None, typer.Option()] = None,
    submission: Annotated[list[UUID] | None, typer.Option()] = None,
    state: Annotated[str | None, typer.Option(help="Default: parked; of submissions: any.")] = None,
    of: Annotated[str, typer.Option(help="deliveries or submissions")] = "deliveries",
    created_since: Period = None,
    created_until: Period = None,
    changed_since: Period = None,
    changed_until: Period = None,
    received_since: Period = None,
    received_until: Period = None,
    rules: Annotated[str | None, typer.Option(help="then, or today: decide anew.")] = None,
    rate: Annotated[float | None, typer.Option(help="Deliveries a second at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and send nothing.")] = False,
) -> None:
    """Send deliveries again, or decide submissions anew; the running hub carries it out."""
    if context.invoked_subcommand is not None:
        return
    periods = {
        "created_since": created_since,
        "created_until": created_until,
        "changed_since": changed_since,
        "changed_until": changed_until,
        "received_since": received_since,
        "received_until": received_until,
    }
    given: dict[str, Any] = {
        "of": of,
        "cause": cause,
        "procedure": procedure,
        "channel": channel,
        "subscriber": None if partner is None else str(named(partner)),
        "vendor": vendor,
        "deliveries": delivery or None,
        "state": state,
        **_submissions(of, submission),
        **{name: None if text is None else instant(text) for name, text in periods.items()},
    }
    told = {name: value for name, value in given.items() if value is not None}
    if told.keys() <= {"of"}:
        raise typer.BadParameter(f"say which: at least one of {_OPTIONS}")
    if dry_run:
        _try(_chosen(told))
        return
    if reason is None:
        raise typer.BadParameter("say why: --reason")
    _give({**told, "reason": reason, **_given(rules=rules, rate=rate)})


def _submissions(of: str, submission: list[UUID] | None) -> Mapping[str, Any]:
    """Of deliveries, those of one; else the submissions themselves."""
    if not submission:
        return {}
    if of != "deliveries":
        return {"submissions": submission}
    if len(submission) > 1:
        raise typer.BadParameter("several submissions are chosen with --of submissions")
    return {"submission": submission[0]}


def _given(**options: object) -> Mapping[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _chosen(told: Mapping[str, Any]) -> Chosen:
    try:
        chosen = read_selection(SelectionIn.model_validate(told))
        flaws = list(chosen.flaws())
    except ValidationError as error:
        flaws = flaws_of(error)
    except Invalid as error:
        flaws = list(error.flaws)
    if flaws:
        raise _refusal(Invalid(*flaws))
    return chosen


def _refusal(error: Invalid) -> typer.BadParameter:
    return typer.BadParameter("; ".join(f"{_option(flaw.field)}: {flaw.detail}" for flaw in error.flaws))


def _option(field: str) -> str:
    """A field as the option that it is given by."""
    name = field.removeprefix("/").partition("/")[0]
    words = {"deliveries": "delivery", "submissions": "submission", "subscriber": "partner"}
    return "--" + words.get(name, name).replace("_", "-")


def _try(chosen: Chosen) -> None:
    async def work(ground: assembly.Ground) -> None:
        found = await ground.replays.preview(chosen)
        say(f"{found.matched} {as_words(chosen)['of']}, {_size(found.bytes)} of files, are chosen now")
        for example in found.examples:
            say(f"  {example}")

    on_ground(work)


def _give(told: Mapping[str, Any]) -> None:
    try:
        ordered = read_order(ReplayIn.model_validate(told), operator())
    except ValidationError as error:
        raise _refusal(Invalid(*flaws_of(error))) from None
    except Invalid as error:
        raise _refusal(error) from None

    async def work(ground: assembly.Ground) -> None:
        begun = await ground.replays.begin(uuid4(), ordered, told_settings().replay_approval)
        _tell(begun)

    on_ground(work)


def operator() -> str:
    """The account that runs this, whatever the environment says: nobody approves an order of its own."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"account {os.getuid()}"


def _turning(verb: ReplayVerb) -> Any:
    def turn(replay: UUID) -> None:
        async def work(ground: assembly.Ground) -> Replay | None:
            try:
                return await ground.replays.turn(replay, verb, operator())
            except IllegalMove as error:
                complain(str(error))
                raise typer.Exit(1) from None

        _tell(_there(on_ground(work)))

    return turn


def show_newest() -> None:
    """The newest orders and how far they are."""

    async def work(ground: assembly.Ground) -> None:
        table = Table("replay", "given", "by", "state", "items", "pending", "sent", "skipped", "reason")
        # To be copied into the next command, however narrow the terminal.
        table.columns[0].no_wrap = True
        for one in await ground.replays.newest(_MOST_SHOWN):
            counts = (one.matched, one.pending, one.sent, one.skipped)
            table.add_row(
                str(one.id),
                moment(one.created_at),
                escape(printable(one.order.author)),
                one.state,
                *map(str, counts),
                escape(printable(one.order.reason)),
            )
        Console().print(table)

    on_ground(work)


def show(replay: UUID, as_json: AsJson = False) -> None:
    """How far an order is, and what was disclosed to partners that are not chosen any more."""

    async def work(ground: assembly.Ground) -> Replay | None:
        found = await ground.replays.replay(replay)
        if found is None:
            return None
        disclosed = await ground.replays.disclosures(replay, None, _MOST_SHOWN)
        if as_json:
            shown = [
                {
                    "delivery": one.delivery,
                    "submission": one.submission,
                    "subscriber": str(one.subscriber),
                    "state": one.state,
                    "certain": one.certain,
                }
                for one in disclosed
            ]
            write_json({**_counts(found), "selection": as_words(found.order.selection), "disclosures": shown})
            return found
        _tell(found)
        if disclosed:
            table = Table(
                "delivery", "submission", "partner", "state", "", title="Disclosed to a wrong partner"
            )
            for one in disclosed:
                told = "" if one.certain else "perhaps"
                table.add_row(str(one.delivery), str(one.submission), str(one.subscriber), one.state, told)
            Console().print(table)
            if found.disclosed > len(disclosed):
                say(f"… {found.disclosed} in all; GET /v1/replays/{replay}/disclosures tells each")
        return found

    _there(on_ground(work))


def _there(found: Replay | None) -> Replay:
    if found is None:
        complain("there is no such replay")
        raise typer.Exit(1)
    return found


def _tell(one: Replay) -> None:
    say(f"replay {one.id}: {one.state.replace('_', ' ')}, {one.matched} items, {_size(one.bytes)} of files")
    counts = {name: value for name, value in _counts(one).items() if isinstance(value, int) and value}
    for name in ("matched", "bytes"):
        counts.pop(name, None)
    if counts:
        say("  " + ", ".join(f"{name} {value}" for name, value in counts.items()))
    if one.state == "awaiting_approval":
        say(f"  another operator must approve it: hub replay approve {one.id}")


def _counts(one: Replay) -> dict[str, Any]:
    return {
        "id": one.id,
        "author": one.order.author,
        "reason": one.order.reason,
        "state": one.state,
        "rules": one.order.rules,
        "rate": one.order.rate,
        "approved_by": one.approved_by,
        "matched": one.matched,
        "bytes": one.bytes,
        "pending": one.pending,
        "sent": one.sent,
        "revised": one.revised,
        "planned": one.planned,
        "withdrawn": one.withdrawn,
        "unchanged": one.unchanged,
        "skipped": one.skipped,
        "disclosed": one.disclosed,
    }


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
